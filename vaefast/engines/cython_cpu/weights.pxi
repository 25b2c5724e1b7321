# `Weights`: the second phase of a training step, tasks that sum the gradients of some weights over all rows and let Adam change
# them, or keep them where they are clipped. Dimensions: B rows of a minibatch, k samples of the latents of each, X pixels, Z latents;
# W is (inputs, outputs) in panels, d_output (B, outputs), or (B k, outputs) in the decoder.

cdef class Weights(Rows):
    """Gradients of weights, and Adam."""

    cdef int _weights_phase(
        self, index_t s, const int64_t[:, ::1] tasks, const int64_t[::1] starts, const Adam* adam, index_t B
    ) except -1 nogil:
        """Tasks of step s until none is left, those of this worker's half first; tasks is (tasks, 4), starts (HALVES + 1,)."""
        cdef index_t turn, half, slot, task
        for turn in range(HALVES):
            half = (self.number % self.partners + turn) % HALVES
            slot = (1 + self.groups) * LINE + HALVES * s + half
            task = starts[half] + fetch_add(&self.counters[slot], 1)
            while task < starts[half + 1]:
                self._update_task(tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3], adam, B)
                task = starts[half] + fetch_add(&self.counters[slot], 1)
        return 0

    cdef int _update_task(
        self, index_t half, index_t i, index_t first, index_t last, const Adam* adam, index_t B
    ) except -1 nogil:
        """One row (half, layer, first, last) of `weight_tasks`."""
        cdef index_t panel
        if i == 0 and self.sparse:
            return self._update_pixels(half, first, last, adam, B)
        self._update_panels(i, first, last, adam, B * self.samples if i > self.heads else B)
        if i == self.top and self.likelihood == GAUSSIAN:
            for panel in range(first, last):
                self._update_x_log_std(panel, adam, B)
        elif i == self.top and self.likelihood == NEGATIVE_BINOMIAL:
            # Of two outputs a column the first comes first: the panel of a column is updated with that of its rates.
            for panel in range(first, last):
                if panel % self.twins == 0:
                    self._update_x_log_dispersion(panel // self.twins, adam, B)
        elif i == self.top and self.likelihood == BLOCKS:
            for panel in range(first, last):
                self._update_own(panel, adam, B)
        return 0

    cdef int _update_panels(self, index_t i, index_t first, index_t last, const Adam* adam, index_t B) except -1 nogil:
        """Column panels first to last - 1 of a layer: d_W = source^T @ d_output and d_b = sum over B of d_output (8)."""
        cdef index_t inputs = self.layers[i, INPUTS], w_panel = inputs * PANEL, panels = last - first
        cdef index_t w = self.layers[i, WEIGHT] + first * w_panel, stride = self._stride(i)
        cdef index_t d_output = self.layers[i, D_OUTPUT] + first * stride
        cdef const float* source = self.matrix(self.layers[i, SOURCE], stride, panels_of(inputs), B)
        cdef const float* right = self.matrix(d_output, stride, panels, B)
        cdef float* scratch = self.buffer(self.gradient, 0, panels * self.kernels.gradient_rows * PANEL)
        if self.bf16 and i > 0:
            self._rounded_update(i, first, last, adam, B)
            return self._update_bias(i, first, last, adam, B)
        self.weight(w, panels * w_panel)
        if self.clipped:
            self.kernels.gradient(
                source, stride, right, stride, self.buffer(self.whole_gradient, w, panels * w_panel), w_panel, inputs, B, panels,
                scratch,
            )
        else:
            self.kernels.update(
                source, stride, right, stride, &self.parameters[w], &self.first_moments[w], &self.second_moments[w], w_panel,
                inputs, B, panels, scratch, adam,
            )
        return self._update_bias(i, first, last, adam, B)

    cdef int _update_bias(self, index_t i, index_t first, index_t last, const Adam* adam, index_t B) except -1 nogil:
        """d_b = ones (1, B) @ d_output (B, outputs), so that rows are summed in the order of every other product."""
        cdef index_t panels = last - first, b = self.layers[i, BIAS] + first * PANEL, stride = self._stride(i)
        cdef index_t d_output = self.layers[i, D_OUTPUT] + first * stride
        cdef float* gradient = self.buffer(self.gradient, 0, panels * PANEL)
        self.kernels.product(
            self.buffer(self.ones, 0, B), PANEL, self.matrix(d_output, stride, panels, B), stride,
            self.buffer(self.zeros, 0, PANEL), 0, gradient, PANEL, B, 0, 1, panels,
        )
        self._adam(gradient, b, panels, adam)
        return 0

    cdef int _adam(self, const float* gradient, index_t w, index_t rows, const Adam* adam) except -1 nogil:
        """Adam on contiguous panel rows, or their gradient to the whole one."""
        cdef index_t row
        self.weight(w, rows * PANEL)
        if self.clipped:
            for row in range(rows):
                self._copy(gradient + row * PANEL, self.buffer(self.whole_gradient, w + row * PANEL, PANEL))
            return 0
        self.kernels.adam(gradient, &self.parameters[w], &self.first_moments[w], &self.second_moments[w], rows, adam)
        return 0

    cdef int _update_pixels(self, index_t half, index_t first, index_t last, const Adam* adam, index_t B) except -1 nogil:
        """Pixels first to last - 1 of the first layer, half of its columns: d_W[p] = sum over B of x[p] * d_output, where x[p]
        is not zero (8)."""
        cdef index_t begin = self._half_begin(0, half), end = self._half_end(0, half), panel, k, height
        k = first
        while k < last:
            height = smaller(BLOCK_PIXELS, last - k)
            self._scatter_gradient(k, begin, end, B)
            for panel in range(begin, end):
                self._adam(
                    &self.gradient[(panel - begin) * (BLOCK_PIXELS + 1) * PANEL],
                    self.layers[0, WEIGHT] + (panel * self.layers[0, INPUTS] + k) * PANEL, height, adam,
                )
            k += BLOCK_PIXELS
        if first == 0:
            for panel in range(begin, end):
                self._update_bias(0, panel, panel + 1, adam, B)
        return 0

    cdef int _scatter_gradient(self, index_t k, index_t begin, index_t end, index_t B) except -1 nogil:
        """The gradient of a block of pixels from k, image after image: each adds its d_output to the rows of its pixels."""
        cdef index_t g_panel = (BLOCK_PIXELS + 1) * PANEL, block = k // BLOCK_PIXELS, panels = end - begin, b, start, count, entry
        cdef float* gradient = self.buffer(self.gradient, 0, panels * g_panel)
        cdef const float* d_output = self.matrix(self.layers[0, D_OUTPUT] + begin * self.stride, self.stride, panels, B)
        self._zero(gradient, panels * g_panel)
        for b in range(B):
            start = self.ends[b, block - 1] if block > 0 else 0
            count = self.ends[b, block] - start
            if count == 0:
                continue
            if self.counted:
                if b + ROWS_AHEAD < B:
                    self._prefetch_entries(b + ROWS_AHEAD, block)
                entry = b * self.capacity + start
                self.kernels.scatter_columns(
                    d_output + b * PANEL, self.stride, &self.seen_columns[entry], &self.values[entry], count, k, gradient,
                    g_panel, panels,
                )
            else:
                entry = b * self.pixels + start
                self.kernels.scatter(
                    d_output + b * PANEL, self.stride, &self.indices[entry], &self.values[entry], count, k, gradient, g_panel,
                    panels,
                )
        return 0

    cdef int _update_x_log_std(self, index_t panel, const Adam* adam, index_t B) except -1 nogil:
        """d_x_log_std of one panel of pixels (20), and Adam on it."""
        cdef index_t place = self.own + panel * PANEL, stride = self.sample_stride, rows = B * self.samples
        cdef float* gradient = self.buffer(self.gradient, 0, PANEL)
        cdef const float* inverses = NULL
        if self._by_importance():
            inverses = self.buffer(self.sample_inverses, 0, rows)
        self.kernels.x_log_std_gradient(
            self.matrix(self.layers[self.top, D_OUTPUT] + panel * stride, stride, 1, rows), rows, inverses,
            <float>(B if self._by_importance() else rows), self.weight(place, PANEL),
            smaller(PANEL, self.pixels - panel * PANEL), gradient,
        )
        return self._adam(gradient, place, 1, adam)

    cdef int _update_own(self, index_t panel, const Adam* adam, index_t B) except -1 nogil:
        """What the block that has this panel of outputs learns of its columns (20), (55), and Adam on it."""
        cdef index_t b, place, stride = self.sample_stride, rows = B * self.samples
        cdef float* gradient = self.buffer(self.gradient, 0, PANEL)
        cdef const float* parts
        cdef const float* weights = self._rows_weights()
        self._check_weights(rows)
        for b in range(self.blocks.shape[0]):
            if self.blocks[b, OWN] < 0 or not 0 <= panel - self.blocks[b, FIRST_PANEL] < self.blocks[b, PANELS]:
                continue
            place, parts = self.blocks[b, OWN] + (panel - self.blocks[b, FIRST_PANEL]) * PANEL, self.matrix(
                self.target + panel * stride, stride, 1, rows
            )
            if self.blocks[b, KIND] == COUNTED_COLUMNS:
                self.kernels.dispersion_gradient(parts, rows, weights, self.weight(place, PANEL), gradient)
            else:
                self.kernels.own_gradient(parts, rows, weights, gradient)
            self._adam(gradient, place, 1, adam)
        return 0

    cdef int _update_x_log_dispersion(self, index_t panel, const Adam* adam, index_t B) except -1 nogil:
        """d_x_log_dispersion of one panel of columns (55), and Adam on it."""
        cdef index_t place = self.own + panel * PANEL, stride = self.sample_stride, rows = B * self.samples
        cdef float* gradient = self.buffer(self.gradient, 0, PANEL)
        self._check_weights(rows)
        self.kernels.dispersion_gradient(
            self.matrix(self.target + panel * stride, stride, 1, rows), rows, self._rows_weights(), self.weight(place, PANEL),
            gradient,
        )
        return self._adam(gradient, place, 1, adam)

    # ---- the arrays of a call ----

    cdef int _begin(self, int64_t[::1] counters, examples, terms) except -1:
        """Take the arrays of a call; `examples` are those of vaefast/engines/examples.py, `terms` those of credit.py or None."""
        images, self.order, self.keys, self.binarize, self.sparse, randomness, dropout, self.covariates = examples
        self.dropped_below, self.dropout_scale = dropout
        self.counters = counters
        self.image_bytes, self.image_floats, self.image_starts = images[:3]
        if self.counted:
            self.seen_columns = self.kept_columns if self.dropped_below > 0 else self.columns
            self._take_table(images)
        else:
            self.image_pixels = images[3]
        self.pixel_source.seed = self.latent_source.seed = randomness.seed
        self.pixel_source.step = self.latent_source.step = randomness.step
        self.pixel_source.purpose, self.latent_source.purpose = randomness.pixels, randomness.latents
        if terms is not None:
            self.log_likelihood, self.kl, self.ratio, self.floor = terms
        return 0

    cdef int _take_table(self, table) except -1:
        """Take what rows of counts have beside their counts; see `CountLists` of vaefast/engines/images.py."""
        columns, self.row_totals, self.row_sizes, self.row_constants, self.image_shorts, self.encoder_input = table[3:]
        self.wide = columns.itemsize == 4
        if self.wide:
            self.wide_columns = columns
        else:
            self.image_pixels = columns
        return 0

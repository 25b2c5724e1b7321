# `Rows`: the first phase of a training step, from pixels to the gradients of all activations; here is its order, and the pass
# backward. Dimensions: B rows of a minibatch, k samples of the latents of each, X pixels, Z latents; matrices of the encoder are
# (B, width) in panels, those of the decoder (B k, width), and parts of d_source^T (width, B) or (width, B k).

cdef class Rows(Objectives):
    """A worker's share of the rows of a minibatch, forward and backward."""

    cdef int _rows_phase(self, index_t s, index_t begin, index_t count) except -1 nogil:
        """A worker's share of the rows, and of the columns, of the minibatch examples[begin : begin + count], in step s of a call."""
        cdef index_t group = self.number // self.partners, place = self.number % self.partners
        cdef index_t first = self._group_begin(count, group), last = self._group_begin(count, group + 1)
        cdef index_t size = last - first, meeting = (1 + group) * LINE
        # Of its group's rows, the ones that it loads and samples for the group.
        cdef index_t own_first = first + self._own_begin(size, place), own_last = first + self._own_begin(size, place + 1)
        cdef index_t half_first = place if self.partners == HALVES else 0
        cdef index_t half_last = place + 1 if self.partners == HALVES else HALVES
        cdef float scale = self._output_scale(count)
        cdef index_t i, half, turn, k = self.samples, each
        if self.likelihood == NEGATIVE_BINOMIAL:
            self._tabulate(self.number, self.workers)
            self._meet(MEETING, self.workers)
        self._load(begin, own_first, own_last)
        for i in range(self.heads + 1):
            self._meet(meeting, self.partners)
            for half in range(half_first, half_last):
                self._layer(i, first, last, half)
        self._meet(meeting, self.partners)
        self._sample_rows(begin, own_first, own_last)
        for i in range(self.heads + 1, self.top + 1):
            self._meet(meeting, self.partners)
            for half in range(half_first, half_last):
                self._dense_layer(i, first * k, last * k, half)
        if self.likelihood == BLOCKS:
            # A category may have levels in both halves, so each worker of a group takes whole rows.
            self._meet(meeting, self.partners)
            self._score_table(scale, 1, begin, own_first, own_last)
            self._meet(meeting, self.partners)
        elif self.counted:
            self._counts_phase(scale, begin * k, first * k, last * k, half_first, half_last, meeting)
        else:
            for half in range(half_first, half_last):
                self._place_pixels(first, last, half)
                self._likelihood_rows(scale, begin * k, first * k, last * k, half)
        self._settle(s, begin, count, first, last, own_first, own_last, half_first, half_last, meeting)
        for i in range(self.top, 0, -1):
            # A part may be overwritten when its readers have met again: two sets of parts, in turn.
            turn, each = i % 2, k if i > self.heads else 1
            for half in range(half_first, half_last):
                self._partial_sources(i, turn, first * each, last * each, half)
            self._meet(meeting, self.partners)
            for half in range(half_first, half_last):
                if i == self.heads + 1:
                    self._sampling_backward(turn, count, first, last, half)
                else:
                    self._fold_sources(i, turn, first * each, last * each, half)
        return 0

    cdef int _counts_phase(
        self, float scale, index_t begin, index_t first, index_t last, index_t half_first, index_t half_last, index_t meeting
    ) except -1 nogil:
        """log p(x | z) of counts, whose outputs become their gradients; the halves of a group meet between the passes."""
        cdef index_t half, start = first
        cdef int stage
        while start < last:
            for stage in range(STAGES):
                if stage > 0:
                    self._meet(meeting, self.partners)
                for half in range(half_first, half_last):
                    self._counts_pass(stage, scale, begin, start, smaller(start + CHUNK_ROWS, last), half)
            start += CHUNK_ROWS
        return 0

    cdef index_t _group_begin(self, index_t rows, index_t group) noexcept nogil:
        """The first row of a group's share."""
        cdef index_t unit = PANEL if rows >= 2 * PANEL * self.groups else SMALL_SHARE
        if group >= self.groups:
            return rows
        return rows * group // self.groups // unit * unit

    cdef index_t _own_begin(self, index_t size, index_t place) noexcept nogil:
        """The first of a group's rows that a worker loads and samples; in bfloat16 two rows are rounded together."""
        cdef index_t begin = size * place // self.partners
        return begin // 2 * 2 if self.bf16 and place < self.partners else begin

    # ---- backward ----

    cdef int _sampling_backward(self, index_t turn, index_t B, index_t first, index_t last, index_t half) except -1 nogil:
        """d_mean (half 0) or d_log_std (half 1) of rows first to last - 1 from both parts of d_z of their samples."""
        cdef index_t panel, k = self.samples, rows = last - first, size = rows * k * PANEL, shift
        cdef index_t heads = self.layers[self.heads, OUTPUT] + half * self.latent_panels * self.stride + first * PANEL
        cdef LatentPanel latents
        if size <= 0:
            return 0
        latents.rows, latents.samples, latents.half, latents.doubly = rows, k, <int>half, self.weighting == DREG
        latents.scale, latents.scales, latents.weights = <float>(1.0 / <double>B), NULL, NULL
        if self.weighted:
            latents.weights = self.buffer(self.sample_weights, first * k, rows * k)
        for panel in range(self.latent_panels):
            shift = panel * self.sample_stride + first * k * PANEL
            latents.real = smaller(PANEL, self.latent - panel * PANEL)
            latents.d_z = self._fold_d_z(turn, panel, first * k, last * k, half)
            latents.z, latents.spread = self.space(self.z + shift, size), self.space(self.spread + shift, size)
            latents.std = self.space(self.std + panel * self.stride + first * PANEL, rows * PANEL)
            latents.head = self.space(heads + panel * self.stride, rows * PANEL)
            if self.weighted:
                self.kernels.weighted_gradient(&latents)
            else:
                latents.scales = self.buffer(self.kl_scales, panel * PANEL, PANEL)
                self.kernels.closed_gradient(&latents)
        return 0

    cdef float* _fold_d_z(self, index_t turn, index_t panel, index_t first, index_t last, index_t half) except NULL nogil:
        """A panel of d_z of samples first to last - 1, (samples, 16): this half's own copy."""
        cdef index_t own = self.d_z + (half * self.latent_panels + panel) * self.sample_stride + first * PANEL, q, j
        cdef float* d_z = self.space(own, (last - first) * PANEL)
        self._fold_panel(turn, panel, self.z_panels, own, last - first)
        if self.told > 0 and panel == self.latent_panels - 1:
            # What follows the last latent is the gradient of covariates, which nothing comes before.
            for q in range(last - first):
                for j in range(self.latent - panel * PANEL, PANEL):
                    d_z[q * PANEL + j] = 0
        return d_z

    cdef int _partial_sources(self, index_t i, index_t turn, index_t first, index_t last, index_t half) except -1 nogil:
        """This half's part of d_source^T = W @ d_output^T (8), the sum over its columns.

        The left operand is W as it stands: a transposed copy of all weights would be written by one core and read by the other
        in every step. The small d_output is transposed instead, 16 rows and TRANSPOSED_PANELS of its panels at a time.
        """
        cdef index_t begin = self._half_begin(i, half), end = self._half_end(i, half), block = begin, stop, panel, columns
        cdef index_t stride = self._stride(i)
        cdef index_t inputs = self.layers[i, INPUTS], w_panel = inputs * PANEL, t_panel
        cdef index_t out = (2 * turn + half) * self.part, p_panel = panels_of(inputs) * BLOCK, rows = panels_of(last - first)
        cdef const float* start = self.buffer(self.zeros, 0, PANEL)
        cdef float* partial
        if last <= first:
            return 0
        if CHECKED:
            inside(0, rows * p_panel, self.part)
        partial = self.buffer(self.partial, out, rows * p_panel)
        if end <= begin:
            self._zero(partial, rows * p_panel)
            return 0
        while block < end:
            stop = smaller(block + TRANSPOSED_PANELS, end)
            if self.bf16:
                self._rounded_sources(i, block, stop, first, last, start, partial)
                start, block = NULL, stop
                continue
            t_panel = (stop - block) * BLOCK
            self.buffer(self.transposed, 0, rows * t_panel)
            for panel in range(block, stop):
                self.kernels.transpose(
                    self.space(self.layers[i, D_OUTPUT] + panel * stride + first * PANEL, (last - first) * PANEL),
                    last - first, &self.transposed[(panel - block) * BLOCK], t_panel,
                )
            columns = smaller(self.layers[i, OUTPUTS], stop * PANEL) - block * PANEL
            self.kernels.product(
                self.weight(self.layers[i, WEIGHT] + block * w_panel, (stop - block) * w_panel), w_panel, &self.transposed[0],
                t_panel, start, 0, partial, p_panel, columns, 0, inputs, rows,
            )
            start = NULL  # further blocks add to what the part holds, which is exact
            block = stop
        for panel in range(rows):
            self._zero(partial + panel * p_panel + inputs * PANEL, p_panel - inputs * PANEL)
        return 0

    cdef int _fold_sources(self, index_t i, index_t turn, index_t first, index_t last, index_t half) except -1 nogil:
        """d_source, a half of its own columns: the sum of both parts, times the slope of the activation that made the source
        (9, 10)."""
        cdef index_t panels = panels_of(self.layers[i, INPUTS]), panel, shift, size = (last - first) * PANEL
        cdef index_t begin = self.layers[i, SOURCE_SPLIT] if half == 1 else 0
        cdef index_t end = panels if half == 1 else self.layers[i, SOURCE_SPLIT], stride = self._stride(i)
        if size <= 0:
            return 0
        for panel in range(begin, end):
            shift = panel * stride + first * PANEL
            self._fold_panel(turn, panel, panels, self.layers[i, D_SOURCE] + shift, last - first)
            self.kernels.slope(
                self.space(self.layers[i, D_SOURCE] + shift, size), self.space(self.layers[i, SOURCE] + shift, size), size,
                self.layers[i, SOURCE_ACTIVATION],
            )
        return 0

    cdef int _fold_panel(self, index_t turn, index_t panel, index_t panels, index_t place, index_t rows) except -1 nogil:
        """One panel of d_source, (rows, 16): the sum of both parts, transposed back."""
        cdef index_t first = 2 * turn * self.part + panel * BLOCK, p_panel = panels * BLOCK
        cdef index_t extent = (panels_of(rows) - 1) * p_panel + BLOCK
        self.kernels.fold(
            self.buffer(self.partial, first, extent), self.buffer(self.partial, first + self.part, extent), p_panel, rows,
            self.space(place, rows * PANEL),
        )
        return 0

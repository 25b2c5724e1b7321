# `Forward`: layers, the sample of the latents, and log p(x | z), which leaves d_logits in the place of the logits.
# Dimensions: B rows of a minibatch or of a block that is evaluated, X pixels, Z latents; matrices are (B, width) in panels.

cdef class Forward(Rounded):
    """The pass forward over rows first to last - 1, half of a layer's columns at a time."""

    cdef int _encode(self, index_t rows) except -1 nogil:
        cdef index_t i, half
        for i in range(self.heads + 1):
            for half in range(HALVES):
                self._layer(i, 0, rows, half)
        return 0

    cdef int _decode(self, index_t rows) except -1 nogil:
        cdef index_t i, half
        for i in range(self.heads + 1, self.top + 1):
            for half in range(HALVES):
                self._dense_layer(i, 0, rows, half)
        return 0

    cdef int _layer(self, index_t i, index_t first, index_t last, index_t half) except -1 nogil:
        if i == 0 and self.sparse:
            return self._sparse_layer(first, last, half)
        return self._dense_layer(i, first, last, half)

    cdef int _dense_layer(self, index_t i, index_t first, index_t last, index_t half) except -1 nogil:
        """output = activation(source @ W + b) (5)."""
        cdef index_t begin = self._half_begin(i, half), end = self._half_end(i, half), inputs = self.layers[i, INPUTS]
        cdef index_t w_panel = inputs * PANEL, panels = end - begin, stride = self._stride(i)
        if panels <= 0 or last <= first:
            return 0
        if self.bf16 and i > 0:
            self._rounded_product(i, first, last, begin, end)
            return self._activate(i, first, last, begin, end)
        self.kernels.product(
            self.matrix(self.layers[i, SOURCE], stride, panels_of(inputs), last), stride,
            self.weight(self.layers[i, WEIGHT] + begin * w_panel, panels * w_panel), w_panel,
            self.weight(self.layers[i, BIAS] + begin * PANEL, panels * PANEL), PANEL,
            self.matrix(self.layers[i, OUTPUT] + begin * stride, stride, panels, last), stride, inputs, first, last, panels,
        )
        return self._activate(i, first, last, begin, end)

    cdef int _sparse_layer(self, index_t first, index_t last, index_t half) except -1 nogil:
        """The first layer as sums of the rows of W that belong to non-zero pixels: the same bits as the dense product."""
        cdef index_t begin = self._half_begin(0, half), end = self._half_end(0, half), w_panel = self.layers[0, INPUTS] * PANEL
        cdef index_t r, entry, panels = end - begin
        cdef const float* W
        cdef const float* bias
        cdef float* out
        if panels <= 0 or last <= first:
            return 0
        W = self.weight(self.layers[0, WEIGHT] + begin * w_panel, panels * w_panel)
        bias = self.weight(self.layers[0, BIAS] + begin * PANEL, panels * PANEL)
        if self.counted:
            self._sum_columns(first, last, W, w_panel, bias, begin, panels)
            return self._activate(0, first, last, begin, end)
        for r in range(first, last):
            out = self.matrix(self.layers[0, OUTPUT] + begin * self.stride + r * PANEL, self.stride, panels, 1)
            entry = r * self.pixels
            self.kernels.gather(
                W, w_panel, &self.indices[entry], &self.values[entry], self.lengths[r], bias, out, self.stride, panels
            )
        return self._activate(0, first, last, begin, end)

    cdef int _sum_columns(
        self, index_t first, index_t last, const float* W, index_t w_panel, const float* bias, index_t begin, index_t panels
    ) except -1 nogil:
        """The same for rows of counts: all columns of a row at once, or GATHER_BLOCKS blocks of them where rows have enough
        entries for it. Between blocks the sums rest in the output, which is exact."""
        cdef index_t blocks = self.ends.shape[1], width = GATHER_BLOCKS, entries = 0, r, block, entry, stop, s_panel = PANEL
        cdef const float* start = bias
        cdef float* out
        for r in range(first, last):
            entries += self.seen_lengths[r]
        if entries < WORTH_A_VISIT * (last - first) * ((blocks + width - 1) // width):
            width = blocks
        block = 0
        while block < blocks:
            for r in range(first, last):
                out = self.matrix(self.layers[0, OUTPUT] + begin * self.stride + r * PANEL, self.stride, panels, 1)
                if block > 0:
                    start, s_panel = out, self.stride
                entry = self.ends[r, block - 1] if block > 0 else 0
                stop = self.ends[r, smaller(block + width, blocks) - 1]
                if width < blocks and r + ROWS_AHEAD < last:
                    self._prefetch_entries(r + ROWS_AHEAD, block)
                self.kernels.gather_columns(
                    W, w_panel, &self.seen_columns[r * self.capacity + entry], &self.values[r * self.capacity + entry],
                    stop - entry, start, s_panel, out, self.stride, panels,
                )
            block += width
        return 0

    cdef int _activate(self, index_t i, index_t first, index_t last, index_t begin, index_t end) except -1 nogil:
        cdef index_t panel, start, size = (last - first) * PANEL, stride = self._stride(i)
        for panel in range(begin, end):
            start = self.layers[i, OUTPUT] + panel * stride + first * PANEL
            self.kernels.activate(self.space(start, size), size, self.layers[i, ACTIVATION])
        if self.bf16 and i != self.heads and i != self.top:
            return self._round(self.layers[i, OUTPUT], stride, begin, end, first, last)
        return 0

    cdef int _round_latents(self, index_t first, index_t last) except -1 nogil:
        """z with its covariates, a factor of the first product of the decoder."""
        if self.bf16:
            return self._round(self.z, self.sample_stride, 0, self.z_panels, first, last)
        return 0

    # ---- the sample and the likelihood ----

    cdef int _sample_rows(self, index_t begin, index_t first, index_t last) except -1 nogil:
        """For rows first to last - 1: std, the KL in nats (4), and z = mean + std * noise of each sample (2).

        The samples of a row draw their noise under its example's key.
        """
        cdef index_t r, s, q, k = self.samples, panels = self.latent_panels, stride = self.stride, shift
        cdef index_t heads = self.layers[self.heads, OUTPUT]
        cdef uint64_t purpose = self.latent_source.purpose
        cdef float* mean
        cdef float* log_std
        cdef float* std
        cdef float* kl = NULL
        for r in range(first, last):
            shift = r * PANEL
            mean = self.matrix(heads + shift, stride, panels, 1)
            log_std = self.matrix(heads + panels * stride + shift, stride, panels, 1)
            std = self.matrix(self.std + shift, stride, panels, 1)
            if self.floored:
                kl = self.buffer(self.latent_kl, r * panels * PANEL, panels * PANEL)
            self.kl[begin + r] = self.kernels.spread_out(panels, stride, mean, log_std, std, kl)
            for s in range(k):
                q = r * k + s
                self.latent_source.purpose = purpose + (<uint64_t>s << SAMPLE_SHIFT)
                self._draw(self.keys[begin + r], q, mean, std)
                if self.weighted:
                    self.ratio[begin * k + q] = self._log_ratio(q, log_std)
                # The draw fills whole panels, and the ratio takes them, so the covariates come last.
                self._tell(self.order[begin + r], self.z, self.sample_stride, q, self.latent)
        self.latent_source.purpose = purpose
        return self._round_latents(first * k, last * k)

    cdef int _draw(self, uint64_t key, index_t q, const float* mean, const float* std) except -1 nogil:
        """z of row q of the decoder (2)."""
        cdef index_t panels = self.latent_panels, stride = self.sample_stride, shift = q * PANEL
        if CHECKED:
            inside(0, panels * PANEL, self.latent_words.shape[0])
        self.kernels.words(&self.latent_source, key, panels * PANEL, &self.latent_words[0])
        self.kernels.draw(
            &self.latent_words[0], self.buffer(self.noise, 0, panels * PANEL), panels, self.stride, stride, mean, std,
            self.matrix(self.z + shift, stride, panels, 1), self.matrix(self.spread + shift, stride, panels, 1),
        )
        return 0

    cdef double _log_ratio(self, index_t q, const float* log_std) except? -1 nogil:
        """log p(z) - log q(z | x) of the sample that was drawn last, to row q (30)."""
        cdef index_t panels = self.latent_panels, stride = self.sample_stride
        return self.kernels.log_ratio(
            self.buffer(self.noise, 0, panels * PANEL), panels, self.stride, stride, log_std,
            self.matrix(self.z + q * PANEL, stride, panels, 1),
        )

    cdef int _score(self, index_t begin, index_t rows) except -1 nogil:
        """log p(x | z) of the first rows in nats; what becomes of the outputs is not said."""
        cdef index_t half, first = 0
        cdef int stage
        if self.likelihood == BLOCKS:
            self._score_table(1.0, 0, begin, 0, rows)
        elif self.counted:
            while first < rows:
                for stage in range(GRADIENT):
                    for half in range(HALVES):
                        self._counts_pass(stage, 1.0, begin, first, smaller(first + CHUNK_ROWS, rows), half)
                first += CHUNK_ROWS
        else:
            for half in range(HALVES):
                self._place_pixels(0, rows, half)
                self._likelihood_rows(0.0, begin, 0, rows, half)
        return 0

    cdef int _likelihood_rows(self, float scale, index_t begin, index_t first, index_t last, index_t half) except -1 nogil:
        """log p(x | z) of half of the pixels in nats of rows first to last - 1 of the decoder, whose outputs become their gradients.

        begin is the number of row 0 in the call; scale is what log p(x | z) counts for in the loss, 0 where no
        gradient is wanted.
        """
        cdef index_t b = self._half_begin(self.top, half), e = self._half_end(self.top, half), rows = last - first, r
        cdef index_t stride = self.sample_stride, shift = first * PANEL, own = half * stride + shift
        cdef index_t panels = panels_of(self.pixels)
        cdef float* outputs
        cdef float* linear
        cdef float* product
        cdef const float* x
        cdef double* terms
        if rows <= 0:
            return 0
        if CHECKED:
            inside(begin + first, rows, self.log_likelihood.shape[1])
        terms = &self.log_likelihood[half, begin + first]
        outputs = self.matrix(self.layers[self.top, OUTPUT] + shift, stride, panels, rows)
        x = self.matrix(self.target + shift, stride, panels, rows)
        linear, product = self.space(self.linear + own, rows * PANEL), self.space(self.product + own, rows * PANEL)
        if self.likelihood == BERNOULLI:
            self.kernels.bernoulli(outputs, x, stride, rows, b, e, self.pixels, scale, linear, product, terms)
        elif self.likelihood == GAUSSIAN:
            self.kernels.gaussian(
                outputs, x, stride, rows, b, e, self.pixels, scale, self.weight(self.own, panels * PANEL), linear,
                product, terms,
            )
        else:
            self.kernels.continuous_bernoulli(outputs, x, stride, rows, b, e, self.pixels, scale, linear, terms)
        return 0

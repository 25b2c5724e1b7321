# `Counts`: the rows of a minibatch of whole counts, as lists of what is not zero, and the passes over log p(x | z) of counts.h.
# Dimensions: N rows of a table, B rows of a minibatch, X columns; the list of row b stands from b * capacity.

cdef class Counts(Pixels):
    """Rows of counts. Where the likelihood is not one of counts, the rows are those of `Pixels`."""

    cdef int _load_rows(self, index_t begin, index_t first, index_t last) except -1 nogil:
        """Fill rows first to last - 1 of the minibatch from `begin`."""
        cdef index_t r
        if not self.counted:
            return self._load_images(begin, first, last)
        for r in range(first, last):
            if r + AHEAD < last:
                self._prefetch_counts(self.order[begin + r + AHEAD])
            self._load_counts(self.order[begin + r], r)
            self._see_counts(self.order[begin + r], self.keys[begin + r], r)
        return 0

    cdef int _see_counts(self, index_t example, uint64_t key, index_t r) except -1 nogil:
        """What the encoder sees of row r: in a step of training only some entries, and these larger (57), and covariates.

        The other entries would be zeros. Without them the first layer has as many sums less, forward and backward.
        """
        cdef index_t place = r * self.capacity, size = self.lengths[r], i
        if CHECKED:
            inside(place, size, self.values.shape[0])
            inside(place, size, self.seen_columns.shape[0])
        if size > 0:
            self.kernels.see_counts(&self.counts[place], size, self.encoder_input, &self.values[place])
            if self.dropped_below > 0:
                if CHECKED:
                    inside(0, size, self.pixel_words.shape[0])
                self.kernels.words(&self.pixel_source, key, size, &self.pixel_words[0])
                size = self.kernels.keep_entries(
                    &self.columns[place], &self.pixel_words[0], size, self.dropped_below, self.dropout_scale,
                    &self.seen_columns[place], &self.values[place],
                )
        size += self._append_covariates(example, place + size)
        if CHECKED:
            for i in range(size):
                inside(self.seen_columns[place + i] // BLOCK_PIXELS, 1, self.ends.shape[1])
        self.seen_lengths[r] = size
        self.kernels.end_blocks(&self.seen_columns[place], size, &self.ends[r, 0], self.ends.shape[1])
        return 0

    cdef int _prefetch_counts(self, index_t example) except -1 nogil:
        """Rows are scattered over memory, too."""
        cdef index_t start = self.image_starts[example], size = self.image_starts[example + 1] - start
        if size == 0:
            return 0
        if self.wide:
            prefetch(&self.wide_columns[start], 4 * size)
        else:
            prefetch(&self.image_pixels[start], 2 * size)
        if self.image_bytes.shape[0] > 0:
            prefetch(&self.image_bytes[start], size)
        elif self.image_shorts.shape[0] > 0:
            prefetch(&self.image_shorts[start], 2 * size)
        else:
            prefetch(&self.image_floats[start], 4 * size)
        return 0

    cdef int _load_counts(self, index_t example, index_t r) except -1 nogil:
        """Row r: the counts of an example, and what is known of the whole row."""
        cdef index_t start = self.image_starts[example], size = self.image_starts[example + 1] - start
        cdef index_t place = r * self.capacity
        if CHECKED:
            inside(0, size, self.capacity)
            inside(place, self.capacity, self.columns.shape[0])
        if size > 0:
            self._copy_columns(start, size, &self.columns[place])
            self._copy_counts(start, size, &self.counts[place])
        self.totals[r], self.sizes[r] = self.row_totals[example], self.row_sizes[example]
        self.constants[r] = self.row_constants[example]
        self.lengths[r] = size
        self.middles[r] = self.kernels.count_below(
            &self.columns[place], size, self.layers[self.top, SPLIT] // self.twins * PANEL
        )
        return 0

    cdef index_t _append_covariates(self, index_t example, index_t place) except -1 nogil:
        """The covariates that the encoder sees, as entries from `place` on in columns of their own; how many there are."""
        cdef index_t c, more = self.layers[0, INPUTS] - self.pixels
        if CHECKED and more > 0:
            inside(place, more, self.seen_columns.shape[0])
            inside(example * self.told, more, self.covariates.shape[0])
        for c in range(more):
            self.seen_columns[place + c] = <uint32_t>(self.pixels + c)
            self.values[place + c] = self.covariates[example * self.told + c]
        return more

    cdef int _copy_columns(self, index_t start, index_t size, uint32_t* columns) except -1 nogil:
        """The columns of some entries of the table."""
        cdef index_t i
        if self.wide:
            if CHECKED:
                inside(start, size, self.wide_columns.shape[0])
            self.kernels.copy_columns(NULL, &self.wide_columns[start], size, columns)
        else:
            if CHECKED:
                inside(start, size, self.image_pixels.shape[0])
            self.kernels.copy_columns(&self.image_pixels[start], NULL, size, columns)
        if CHECKED:
            for i in range(size):
                inside(columns[i], 1, self.pixels)
        return 0

    cdef int _copy_counts(self, index_t start, index_t size, float* counts) except -1 nogil:
        """The counts of some entries of the table."""
        if self.image_bytes.shape[0] > 0:
            if CHECKED:
                inside(start, size, self.image_bytes.shape[0])
            self.kernels.copy_counts(&self.image_bytes[start], NULL, NULL, size, counts)
        elif self.image_shorts.shape[0] > 0:
            if CHECKED:
                inside(start, size, self.image_shorts.shape[0])
            self.kernels.copy_counts(NULL, &self.image_shorts[start], NULL, size, counts)
        else:
            if CHECKED:
                inside(start, size, self.image_floats.shape[0])
            self.kernels.copy_counts(NULL, NULL, &self.image_floats[start], size, counts)
        return 0

    cdef inline void _prefetch_entries(self, index_t r, index_t block) noexcept nogil:
        """Ask for the first entries of row r in a block of columns."""
        cdef index_t entry = r * self.capacity + (self.ends[r, block - 1] if block > 0 else 0)
        prefetch_near(&self.seen_columns[entry], 64)
        prefetch_near(&self.values[entry], 64)

    # ---- the likelihood ----

    cdef int _tabulate(self, index_t worker, index_t workers) except -1 nogil:
        """This worker's panels of what small counts need of the dispersions."""
        cdef index_t panels = panels_of(self.pixels)
        self.kernels.tabulate(
            self.weight(self.own, panels * PANEL), self.buffer(self.table, 0, panels * PANEL_OF_TABLE),
            panels * worker // workers, panels * (worker + 1) // workers,
        )
        return 0

    cdef int _counts_pass(
        self, int stage, float scale, index_t begin, index_t first, index_t last, index_t half
    ) except -1 nogil:
        """A pass over rows first to last - 1 of the decoder, CHUNK_ROWS at most, of half of the columns.

        begin is the number of row 0 in the call. scale is what log p(x | z) counts for in the loss.
        """
        cdef CountRows rows
        cdef index_t other
        rows.rows, rows.first, rows.samples, rows.half = last - first, first, self.samples, half
        rows.pixels, rows.capacity = self.pixels, self.capacity
        rows.stride, rows.twins, rows.scale = self.sample_stride, self.twins, scale
        rows.begin, rows.end = self._half_begin(self.top, half) // self.twins, self._half_end(self.top, half) // self.twins
        self._take_matrices(&rows, first)
        self._take_lists(&rows, first)
        for other in range(HALVES):
            rows.maxima[other], rows.sums[other] = &self.maxima[other, first], &self.sums[other, first]
            rows.slopes[other] = &self.slopes[other, first]
        if CHECKED:
            inside(begin + first, rows.rows, self.log_likelihood.shape[1])
        rows.log_likelihood = &self.log_likelihood[half, begin + first]
        rows.x_log_dispersion = rows.table = NULL
        if self.likelihood == NEGATIVE_BINOMIAL:
            rows.x_log_dispersion = self.weight(self.own, panels_of(self.pixels) * PANEL)
            rows.table = self.buffer(self.table, 0, panels_of(self.pixels) * PANEL_OF_TABLE)
        self.kernels.counts_pass(stage, &rows)
        return 0

    cdef int _take_matrices(self, CountRows* rows, index_t first) except -1 nogil:
        """Where the outputs, the rates and x of some rows stand."""
        cdef index_t panels = panels_of(self.pixels), shift = first * PANEL, stride = self.sample_stride
        rows.outputs = self.matrix(self.layers[self.top, OUTPUT] + shift, stride, self.twins * panels, rows.rows)
        rows.rates = self.buffer(self.rates, 0, panels * CHUNK_ROWS * PANEL)
        rows.target = NULL
        if self.likelihood == NEGATIVE_BINOMIAL:
            rows.target = self.matrix(self.target + shift, stride, panels, rows.rows)
        return 0

    cdef int _take_lists(self, CountRows* rows, index_t first) except -1 nogil:
        """Where the lists of some rows stand, and what is known of them."""
        cdef index_t images = (first + rows.rows - 1) // self.samples + 1
        if CHECKED:
            inside(0, images * self.capacity, self.columns.shape[0])
            inside(0, images, self.lengths.shape[0])
            inside(first, rows.rows, self.maxima.shape[1])
        rows.columns, rows.counts = &self.columns[0], &self.counts[0]
        rows.lengths, rows.middles = &self.lengths[0], &self.middles[0]
        rows.totals, rows.sizes, rows.constants = &self.totals[0], &self.sizes[0], &self.constants[0]
        return 0

# `Tables`: the rows of a minibatch of a table in blocks of columns, any of whose values may be missing, and their likelihood, which
# is blocks.h. Dimensions: B rows of a minibatch, X columns, V variables, C covariates.

cdef class Tables(Counts):
    """Rows of a table in blocks. Where the likelihood has none, the rows are those of `Counts` and `Pixels`."""

    cdef int _load(self, index_t begin, index_t first, index_t last) except -1 nogil:
        """Fill rows first to last - 1 of the minibatch from `begin`."""
        if self.likelihood == BLOCKS:
            return self._load_table(begin, first, last)
        return self._load_rows(begin, first, last)

    cdef int _load_table(self, index_t begin, index_t first, index_t last) except -1 nogil:
        """x with its holes, and what the encoder sees of it, with the covariates that it sees."""
        cdef index_t r, i, start, seen_panels = panels_of(self.layers[0, INPUTS]), column = self.pixels + self.indicators
        cdef float* values = self.buffer(self.levels, 0, panels_of(self.pixels) * PANEL)
        cdef const float* levels
        cdef TableRows table
        self._describe(&table)
        for r in range(first, last):
            start = self.order[begin + r] * self.pixels
            self._levels(start, self.pixels, 0, self.keys[begin + r], values)
            levels = &self.image_floats[start]
            for i in range(self.pixels):
                values[i] = values[i] if levels[i] == levels[i] else levels[i]
            self.kernels.place_table(
                &table, values, self.matrix(self.x + r * PANEL, self.stride, self.x_panels, 1),
                self.matrix(self.seen + r * PANEL, self.stride, seen_panels, 1),
            )
            if self.layers[0, INPUTS] > column:
                self._tell(self.order[begin + r], self.seen, self.stride, r, column)
        return 0

    cdef int _score_table(
        self, float scale, int gradient, index_t begin, index_t first, index_t last
    ) except -1 nogil:
        """log p(x | z) in nats of the samples of rows first to last - 1, as that of half 0; with a gradient the outputs become
        theirs."""
        cdef index_t k = self.samples, rows = last - first, place = (begin + first) * k, q
        cdef TableRows table
        if rows <= 0:
            return 0
        self._describe(&table)
        if CHECKED:
            inside(place, rows * k, self.log_likelihood.shape[1])
        table.rows, table.scale, table.gradient = rows, scale, gradient
        table.outputs = self.matrix(
            self.layers[self.top, OUTPUT] + first * k * PANEL, self.sample_stride, self.layers[self.top, OUTPUT_PANELS], rows * k
        )
        table.x = self.matrix(self.x + first * PANEL, self.stride, self.x_panels, rows)
        table.own = self.matrix(self.target + first * k * PANEL, self.sample_stride, self.x_panels, rows * k)
        table.totals = self.space(self.linear + first * k * PANEL, rows * k * PANEL)
        table.log_likelihood = &self.log_likelihood[0, place]
        self.kernels.block_rows(&table)
        for q in range(place, place + rows * k):
            self.log_likelihood[1, q] = 0
        return 0

    cdef int _describe(self, TableRows* table) except -1 nogil:
        """The columns of the table."""
        cdef index_t i
        table.stride, table.deep, table.samples = self.stride, self.sample_stride, self.samples
        table.columns, table.indicators = self.pixels, self.indicators
        table.blocks, table.x_panels = self.blocks.shape[0], self.x_panels
        table.block, table.places, table.variable = &self.blocks[0, 0], &self.places[0], &self.variables[0, 0]
        table.parameters = &self.parameters[0]
        if CHECKED:
            inside(0, self.pixels, self.places.shape[0])
            for i in range(self.pixels):
                inside(self.places[i], 1, self.x_panels * PANEL)
            for i in range(self.variables.shape[0]):
                inside(self.variables[i, 0], self.variables[i, 1] - self.variables[i, 0], self.pixels)
            for i in range(self.blocks.shape[0]):
                inside(self.blocks[i, FIRST_PANEL], self.blocks[i, PANELS], self.x_panels)
                inside(self.blocks[i, FIRST_VARIABLE], self.blocks[i, LAST_VARIABLE] - self.blocks[i, FIRST_VARIABLE],
                       self.variables.shape[0])
                if self.blocks[i, OWN] >= 0:
                    inside(self.blocks[i, OWN], self.blocks[i, PANELS] * PANEL, self.parameters.shape[0])
                if self.blocks[i, SCALE_PANEL] >= 0:
                    inside(self.blocks[i, SCALE_PANEL], self.blocks[i, PANELS], self.layers[self.top, OUTPUT_PANELS])
                    inside(self.blocks[i, FREEDOM_PANEL], self.blocks[i, PANELS], self.layers[self.top, OUTPUT_PANELS])
        return 0

# `Rounded`: factors of products in bfloat16, and these products; bfloat16.h says what the plain and the paired form of a matrix are.
# Dimensions: B rows of a minibatch or of a block; matrices are (B, width) in panels, W is (inputs, outputs).
#
# A matrix of the workspace has both forms at half its offset, as two rows of 16 columns are 16 words in either: row r of a panel, r
# even, begins at word r * 8 of it. So matrices have an even number of rows, and a share of rows begins at an even one. Weights have
# the plain form at half their offset, and the paired one at a place of its own, as a layer may have an odd number of inputs.

cdef class Rounded(Tables):
    """Where precision is bf16: both forms of all factors. The first layer has none, as its factors stay float32."""

    cdef const Bf16Kernels* rounding
    cdef bint bf16
    cdef uint32_t[::1] plain, paired, plain_weights, paired_weights
    cdef const int64_t[::1] paired_begins

    def take_bf16(self, unit, plain, paired, plain_weights, paired_weights, paired_begins):
        """Round factors from now on.

        Parameters
        ----------
        plain, paired
            uint32, half as many as the workspace has elements; paired is empty for passes forward alone.
        plain_weights, paired_weights
            uint32; what is in them is written by `round_weights`, and kept by training.
        paired_begins
            Of each layer: where its weights begin in `paired_weights`.
        """
        self.rounding, self.bf16 = choose_bf16_kernels(unit.encode()), 1
        self.plain, self.paired, self.plain_weights, self.paired_weights = plain, paired, plain_weights, paired_weights
        self.paired_begins = paired_begins

    def round_weights(self):
        """Both forms of the weights, after they have been set."""
        self._round_share(0, 1)

    cdef int _round_share(self, index_t worker, index_t workers) except -1 nogil:
        """A worker's share of both forms of the weights."""
        cdef index_t i, panel, w, inputs, paired_panel
        for i in range(1, self.top + 1):
            inputs, paired_panel, panel = self.layers[i, INPUTS], self._paired_panel(i), worker
            while panel < self.layers[i, OUTPUT_PANELS]:
                w = self.layers[i, WEIGHT] + panel * inputs * PANEL
                self.rounding.round(
                    self.weight(w, inputs * PANEL), inputs, self._words(self.plain_weights, w // 2, inputs * PANEL // 2),
                    self._words(self.paired_weights, self.paired_begins[i] + panel * paired_panel, paired_panel),
                )
                panel += workers
        return 0

    cdef inline uint32_t* _words(self, uint32_t[::1] array, index_t start, index_t extent) except NULL nogil:
        if CHECKED:
            inside(start, extent, array.shape[0])
        return &array[start]

    cdef inline index_t _paired_panel(self, index_t i) noexcept nogil:
        """Words of a panel of a layer's paired weights."""
        return (self.layers[i, INPUTS] + 1) // 2 * PANEL

    cdef int _round(
        self, index_t start, index_t stride, index_t begin, index_t end, index_t first, index_t last
    ) except -1 nogil:
        """Rows first to last - 1, first even, of panels begin to end - 1 of a matrix in the workspace to both forms."""
        cdef index_t panel, place, rows = last - first, extent = (rows + 1) // 2 * PANEL
        cdef bint training = self.paired.shape[0] > 0
        if rows <= 0:
            return 0
        for panel in range(begin, end):
            place = start + panel * stride + first * PANEL
            self.rounding.round(
                self.space(place, rows * PANEL), rows, self._words(self.plain, place // 2, rows * PANEL // 2),
                self._words(self.paired, place // 2, extent) if training else NULL,
            )
        return 0

    cdef int _rounded_product(self, index_t i, index_t first, index_t last, index_t begin, index_t end) except -1 nogil:
        """source @ W + b (74), panels begin to end - 1 of the output."""
        cdef index_t inputs = self.layers[i, INPUTS], w_panel = self._paired_panel(i), panels = end - begin
        cdef index_t stride = self._stride(i), rows = last * PANEL // 2
        self.rounding.product(
            self._words(self.plain, self.layers[i, SOURCE] // 2, (panels_of(inputs) - 1) * stride // 2 + rows), stride // 2,
            self._words(self.paired_weights, self.paired_begins[i] + begin * w_panel, panels * w_panel), w_panel,
            self.weight(self.layers[i, BIAS] + begin * PANEL, panels * PANEL), PANEL,
            self.matrix(self.layers[i, OUTPUT] + begin * stride, stride, panels, last), stride, inputs, first, last, panels,
        )
        return 0

    cdef int _rounded_sources(
        self, index_t i, index_t block, index_t stop, index_t first, index_t last, const float* start, float* partial
    ) except -1 nogil:
        """Output panels block to stop - 1 of a half's part of d_source^T = W @ d_output^T (75). d_output is rounded here, once:
        to its paired form, which the weights phase reads, and to this transposed one."""
        cdef index_t inputs = self.layers[i, INPUTS], w_panel = inputs * PANEL // 2, t_panel = (stop - block) * BLOCK // 2
        cdef index_t stride = self._stride(i), panel, place, count = last - first, rows = panels_of(count)
        cdef index_t columns = smaller(self.layers[i, OUTPUTS], stop * PANEL) - block * PANEL
        cdef uint32_t* transposed = <uint32_t*>self.buffer(self.transposed, 0, rows * t_panel)
        for panel in range(block, stop):
            place = self.layers[i, D_OUTPUT] + panel * stride + first * PANEL
            self.rounding.round_transposed(
                self.space(place, count * PANEL), count, self._words(self.paired, place // 2, (count + 1) // 2 * PANEL),
                transposed + (panel - block) * BLOCK // 2, t_panel,
            )
        self.rounding.product(
            self._words(self.plain_weights, self.layers[i, WEIGHT] // 2 + block * w_panel, (stop - block) * w_panel), w_panel,
            transposed, t_panel, start, 0, partial, panels_of(inputs) * BLOCK, columns, 0, inputs, rows,
        )
        return 0

    cdef int _rounded_update(self, index_t i, index_t first, index_t last, const Adam* adam, index_t B) except -1 nogil:
        """d_W = source^T @ d_output (75) of panels first to last - 1, and Adam, whose weights are rounded at once. With clipping the
        gradient is kept."""
        cdef index_t inputs = self.layers[i, INPUTS], w_panel = inputs * PANEL, panels = last - first, stride = self._stride(i)
        cdef index_t w = self.layers[i, WEIGHT] + first * w_panel, d_output = self.layers[i, D_OUTPUT] + first * stride
        cdef index_t pairs = (B + 1) // 2 * PANEL
        cdef Bf16Weights W
        cdef const uint32_t* source = self._words(
            self.paired, self.layers[i, SOURCE] // 2, (panels_of(inputs) - 1) * stride // 2 + pairs
        )
        cdef const uint32_t* right = self._words(self.paired, d_output // 2, (panels - 1) * stride // 2 + pairs)
        if self.clipped:
            self.rounding.gradient(
                source, stride // 2, right, stride // 2, self.buffer(self.whole_gradient, w, panels * w_panel), w_panel, inputs, B,
                panels,
            )
            return 0
        W.parameters = self.weight(w, panels * w_panel)
        W.first, W.second = &self.first_moments[w], &self.second_moments[w]
        W.w_panel, W.paired_panel = w_panel, self._paired_panel(i)
        W.plain = self._words(self.plain_weights, w // 2, panels * w_panel // 2)
        W.paired = self._words(self.paired_weights, self.paired_begins[i] + first * W.paired_panel, panels * W.paired_panel)
        self.rounding.update(source, stride // 2, right, stride // 2, &W, inputs, B, panels, adam)
        return 0

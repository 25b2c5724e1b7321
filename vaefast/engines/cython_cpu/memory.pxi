# `Memory`: which arrays a worker reads and writes, ranges of them, where workers meet, and copies into panels and back.
# Dimensions: B rows of a minibatch, n examples of a call, X pixels, Z latents, k samples of the latents an example. A matrix
# in panels is (rows, width), 16 columns a panel; element (i, j) stands at j // 16 * stride + i * 16 + j % 16
# (vaefast/models/layout.py). Its stride is that of its rows: of examples, or of samples, which are k times as many.

cdef class Memory:
    """One thread's view of a model: memory that it shares with the others, and buffers of its own.

    Parameters
    ----------
    number, workers
        Which of how many.
    unit
        The widest instruction set to use; "" for what the CPU has.
    plan
        `vaefast.engines.plan.Plan`, or `TablePlan` where the columns are in blocks.
    likelihood
        0 Bernoulli, 1 Gaussian, 2 continuous Bernoulli, 3 Poisson or multinomial, 4 negative binomial, 5 blocks of columns.
    own
        Offset of the likelihood's own parameters: x_log_std of a Gaussian, x_log_dispersion of a negative binomial.
    objective
        One of vaefast/engines/credit.py.
    clipping
        None, or a gradient in panel form, float32, sums of its squares, (chunks, 16) float64, and the largest norm.
    weights
        Parameters and both moments in panel form, float32.
    lists
        Those of the rows: see `take_lists`.
    workspace, partial, part
        float32; the parts of d_source^T that a group adds, and the elements of one.
    buffers
        Of this worker alone: transposed, gradient, zeros, ones, pixels, noise and what each latent's KL counts for, float32; pixel
        words and latent words, uint32; rates of counts, (CHUNK_ROWS, X) in panels, float32.
    """

    cdef const Kernels* kernels
    cdef index_t number, workers, groups, partners
    cdef const int64_t[:, ::1] layers
    cdef index_t heads, top, rows, samples, stride, sample_stride, pixels, latent_panels, twins
    cdef index_t x, target, z, std, spread, d_z, linear, product
    cdef index_t latent, told, seen, z_panels, x_panels, indicators
    cdef const int64_t[:, ::1] blocks, variables
    cdef const int64_t[::1] places
    cdef int likelihood
    cdef bint counted
    cdef index_t own, part, capacity
    cdef float[::1] parameters, first_moments, second_moments, workspace, partial
    cdef float[::1] transposed, gradient, zeros, ones, levels, noise, kl_scales, rates
    cdef bint weighted, floored, clipped
    cdef int weighting
    cdef double free_nats, clip_norm
    cdef float[::1] latent_kl, sample_weights, sample_inverses, whole_gradient
    cdef double[:, ::1] squares
    cdef uint32_t[::1] pixel_words, latent_words
    cdef uint16_t[::1] indices
    cdef float[::1] values
    cdef int64_t[::1] lengths, seen_lengths, middles
    cdef int32_t[:, ::1] ends
    cdef uint32_t[::1] columns, kept_columns, seen_columns
    cdef float[::1] counts, totals, sizes, table
    cdef double[::1] constants
    cdef float[:, ::1] maxima
    cdef double[:, ::1] sums, slopes
    # Of one call:
    cdef int64_t[::1] counters
    cdef const uint8_t[::1] image_bytes
    cdef const float[::1] image_floats
    cdef const uint16_t[::1] image_shorts
    cdef const int64_t[::1] image_starts
    cdef const uint16_t[::1] image_pixels
    cdef const uint32_t[::1] wide_columns
    cdef const float[::1] row_totals, row_sizes
    cdef const double[::1] row_constants
    cdef int encoder_input
    cdef const int64_t[::1] order, keys
    cdef const float[::1] covariates
    cdef int binarize
    cdef bint sparse, wide
    cdef Source pixel_source, latent_source
    cdef uint32_t dropped_below
    cdef float dropout_scale
    cdef double[:, ::1] log_likelihood
    cdef double[::1] kl, ratio, floor
    cdef float kl_weight

    def __init__(
        self, number, workers, unit, plan, likelihood, own, objective, clipping, weights, lists, workspace, partial, part, buffers,
    ):
        self.kernels = choose_kernels(unit.encode())
        if self.kernels == NULL:
            raise ValueError(f"no kernels for {unit!r} here")
        self.number, self.workers = number, workers
        self.partners = HALVES if workers % HALVES == 0 else 1
        self.groups = workers // self.partners
        self.layers, self.heads, self.top = plan.layers, plan.heads, plan.layers.shape[0] - 1
        self.rows, self.samples, self.pixels, self.latent_panels = plan.rows, plan.samples, plan.pixels, plan.latent_panels
        self.stride, self.sample_stride = plan.rows * PANEL, plan.rows * plan.samples * PANEL
        self.x, self.target, self.z, self.std = plan.x, plan.target, plan.z, plan.std
        self.spread, self.d_z, self.linear, self.product = plan.spread, plan.d_z, plan.linear, plan.product
        self.twins = plan.twins
        self.latent, self.told, self.seen, self.z_panels = plan.latent, plan.covariates, plan.seen, plan.z_panels
        if likelihood == BLOCKS:
            self.x_panels, self.indicators = plan.x_panels, plan.indicators
            self.blocks, self.places, self.variables = plan.blocks, plan.places, plan.variables
        self.likelihood, self.counted, self.own, self.part = likelihood, likelihood in (SHARES, NEGATIVE_BINOMIAL), own, part
        self.parameters, self.first_moments, self.second_moments = weights
        self.take_lists(lists)
        self.workspace, self.partial = workspace, partial
        self.transposed, self.gradient, self.zeros, self.ones, self.levels, self.noise, self.kl_scales = buffers[:7]
        self.pixel_words, self.latent_words, self.rates = buffers[7:]
        self._take_objective(objective)
        self.clipped = clipping is not None
        if self.clipped:
            self.whole_gradient, self.squares, self.clip_norm = clipping

    def _take_objective(self, objective):
        self.floored, self.weighted = isinstance(objective, _credit.FreeBits), isinstance(objective, _credit.Weighted)
        self.weighting = SAMPLED
        if self.floored:
            self.free_nats, self.latent_kl = objective.free_nats, objective.kl
        if self.weighted:
            self.weighting = objective.weighting
            self.sample_weights, self.sample_inverses = objective.weights, objective.inverses

    def take_lists(self, lists):
        """Use these lists of the rows.

        Of images: numbers of the non-zero pixels and their values, (B * X,); lengths and middles, (B,); ends, (B, blocks).

        Of counts: the entries that a row may have; the columns of these entries, (B * capacity,); where the encoder misses some,
        those that it sees, else any array; values as it sees them; how many entries a row has, (B,), and how many the encoder sees,
        with its covariates; middles of the first, ends of the second; then counts, (B * capacity,); totals, sizes and constants,
        (B,); maxima, sums and slopes, (2, B); table, (X * 32,), empty without a dispersion. kernels.h says what they are.
        """
        if self.counted:
            self.capacity, self.columns, self.kept_columns, self.values = lists[:4]
            self.lengths, self.seen_lengths, self.middles, self.ends = lists[4:8]
            self.counts, self.totals, self.sizes, self.constants, self.maxima, self.sums, self.slopes, self.table = lists[8:]
        else:
            self.indices, self.values, self.lengths, self.middles, self.ends = lists
            self.seen_lengths = self.lengths

    # ---- ranges of arrays ----

    cdef inline float* space(self, index_t start, index_t extent) except NULL nogil:
        if CHECKED:
            inside(start, extent, self.workspace.shape[0])
        return &self.workspace[start]

    cdef inline float* matrix(self, index_t start, index_t stride, index_t panels, index_t rows) except NULL nogil:
        """Rows of a matrix in the workspace."""
        return self.space(start, (panels - 1) * stride + rows * PANEL)

    cdef inline index_t _stride(self, index_t i) noexcept nogil:
        """From a panel of a layer's input, or output, to the next."""
        return self.layers[i, ROWS] * PANEL

    cdef inline float* weight(self, index_t start, index_t extent) except NULL nogil:
        if CHECKED:
            inside(start, extent, self.parameters.shape[0])
        return &self.parameters[start]

    cdef inline float* buffer(self, float[::1] array, index_t start, index_t extent) except NULL nogil:
        if CHECKED:
            inside(start, extent, array.shape[0])
        return &array[start]

    cdef inline index_t _half_begin(self, index_t i, index_t half) noexcept nogil:
        """The first panel of a half of a layer's output."""
        return self.layers[i, SPLIT] if half == 1 else 0

    cdef inline index_t _half_end(self, index_t i, index_t half) noexcept nogil:
        """The panel after the last of a half of a layer's output."""
        return self.layers[i, OUTPUT_PANELS] if half == 1 else self.layers[i, SPLIT]

    # ---- where workers meet ----

    cdef int _meet(self, index_t slot, index_t workers) except -1 nogil:
        """Wait until all workers have come here; the counter only ever grows, so it needs no reset between meetings."""
        cdef int64_t arrived, full
        cdef index_t spins = 0
        cdef int64_t* counter
        if workers == 1:
            return 0
        counter = &self.counters[slot]
        arrived = fetch_add(counter, 1)
        full = (arrived // workers + 1) * workers
        while load_acquire(counter) < full:
            spins += 1
            if spins < SPINS:
                pause_core()
            else:
                if load_acquire(&self.counters[FAILED]):
                    raise RuntimeError("another worker failed")
                yield_core()
        return 0

    cdef inline index_t _next_block(self) noexcept nogil:
        """The first example of the next block that no worker has taken."""
        return fetch_add(&self.counters[MEETING], 1) * self.rows

    # ---- copies ----

    cdef inline void _zero(self, float* target, index_t size) noexcept nogil:
        cdef index_t j
        for j in range(size):
            target[j] = 0

    cdef inline void _copy(self, const float* source, float* target) noexcept nogil:
        cdef index_t j
        for j in range(PANEL):
            target[j] = source[j]

    cdef int _tell(self, index_t example, index_t start, index_t stride, index_t row, index_t column) except -1 nogil:
        """The covariates of an example, (C,), to a row of a matrix in panels in the workspace, from this column on."""
        cdef index_t c, place
        if CHECKED:
            inside(example * self.told, self.told, self.covariates.shape[0])
        for c in range(self.told):
            place = start + ((column + c) >> 4) * stride + row * PANEL + ((column + c) & 15)
            self.space(place, 1)[0] = self.covariates[example * self.told + c]
        return 0

    cdef int _from_panels(self, index_t i, float[:, ::1] out, index_t begin, index_t rows) except -1 nogil:
        """The first rows of a layer's output, to a plain matrix whose width is whole panels."""
        cdef index_t r, panel, offset = self.layers[i, OUTPUT], stride = self._stride(i)
        for r in range(rows):
            for panel in range(out.shape[1] // PANEL):
                self._copy(self.space(offset + panel * stride + r * PANEL, PANEL), &out[begin + r, panel * PANEL])
        return 0

    cdef int _to_panels(self, const float[:, ::1] matrix, index_t begin, index_t rows) except -1 nogil:
        """Rows of a plain matrix to those of z."""
        cdef index_t r, panel, stride = self.sample_stride
        for r in range(rows):
            for panel in range(matrix.shape[1] // PANEL):
                self._copy(&matrix[begin + r, panel * PANEL], self.space(self.z + panel * stride + r * PANEL, PANEL))
        return 0

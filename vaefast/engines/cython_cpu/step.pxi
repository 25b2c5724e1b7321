# A worker's share of training steps and of forward passes. The text of both kernels.pyx and checked.pyx.
#
# A training step is two phases with a meeting of all workers after each: rows, then weights.
#
# * rows: groups of workers take a share of the minibatch each. An even number of workers makes groups of two, each of which takes
#   half of the columns of every layer: a core reads only the half of the weights that it wrote in the step before, and what the
#   two exchange are activations. They meet after each layer. An odd number makes groups of one, which take both halves.
# * weights: tasks handed out by ticket counters, first those of the worker's own half. Who computes a task changes nothing in its
#   result.
#
# Sizes, offsets and the order of every sum are those of the Numba engine (vaefast/engines/plan.py), and so are the bits. Loops over
# vectors are C (unit.h); this text decides what they read and write, and in the checked build proves that it lies inside its
# array: `space`, `weight` and their like take a start and an extent. A number in parentheses is an equation of DERIVATION.md.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from vaefast.engines import plan as _plan


cdef extern from "kernels.h" nogil:
    ctypedef int64_t index_t
    ctypedef struct Adam:
        float beta1, beta2, rest1, rest2, epsilon, size, correction
    ctypedef struct Source:
        uint64_t seed, purpose, step
    ctypedef struct Kernels:
        const char* name
        index_t group, gradient_rows
        void (*product)(const float*, index_t, const float*, index_t, const float*, index_t, float*, index_t, index_t, index_t,
                     index_t, index_t) noexcept nogil
        void (*gather)(const float*, index_t, const uint16_t*, const float*, index_t, const float*, float*, index_t,
                       index_t) noexcept nogil
        void (*scatter)(const float*, index_t, const uint16_t*, const float*, index_t, index_t, float*, index_t,
                        index_t) noexcept nogil
        void (*update)(const float*, index_t, const float*, index_t, float*, float*, float*, index_t, index_t, index_t, index_t,
                    float*, const Adam*) noexcept nogil
        void (*adam)(const float*, float*, float*, float*, index_t, const Adam*) noexcept nogil
        void (*transpose)(const float*, index_t, float*, index_t) noexcept nogil
        void (*fold)(const float*, const float*, index_t, index_t, float*) noexcept nogil
        void (*activate)(float*, index_t, int) noexcept nogil
        void (*slope)(float*, const float*, index_t, int) noexcept nogil
        void (*words)(const Source*, uint64_t, index_t, uint32_t*) noexcept nogil
        double (*sample)(const uint32_t*, float*, index_t, index_t, const float*, const float*, float*, float*,
                         float*) noexcept nogil
        void (*mean_gradient)(float*, const float*, index_t, float) noexcept nogil
        void (*log_std_gradient)(float*, const float*, const float*, const float*, index_t, float) noexcept nogil
        void (*bernoulli)(float*, const float*, index_t, index_t, index_t, index_t, index_t, float, float*, float*,
                          double*) noexcept nogil
        void (*gaussian)(float*, const float*, index_t, index_t, index_t, index_t, index_t, float, const float*, float*, float*,
                      double*) noexcept nogil
        void (*continuous_bernoulli)(float*, const float*, index_t, index_t, index_t, index_t, index_t, float, float*,
                                     double*) noexcept nogil
        void (*x_log_std_gradient)(const float*, index_t, const float*, index_t, float*) noexcept nogil
        void (*levels_of_bytes)(const uint8_t*, index_t, int, int, const uint32_t*, float*) noexcept nogil
        void (*levels_of_floats)(const float*, index_t, int, int, const uint32_t*, float*) noexcept nogil
        index_t (*list)(const float*, const uint16_t*, index_t, uint16_t*, float*) noexcept nogil
    const Kernels* choose_kernels(const char*) noexcept

cdef extern from "threads.h" nogil:
    int64_t fetch_add(int64_t*, int64_t)
    int64_t load_acquire(const int64_t*)
    void store_release(int64_t*, int64_t)
    void pause_core()
    void yield_core()
    uint64_t flush_denormals()
    void restore_mode(uint64_t)
    void prefetch(const void*, int64_t)

cdef enum:
    PANEL = 16
    BLOCK = 256  # elements of 16 rows of a panel
    HALVES = 2
    # Columns of `Plan.layers`.
    SOURCE = 0
    OUTPUT = 1
    D_SOURCE = 2
    D_OUTPUT = 3
    WEIGHT = 4
    BIAS = 5
    INPUTS = 6
    OUTPUTS = 7
    OUTPUT_PANELS = 8
    SPLIT = 9
    SOURCE_SPLIT = 10
    ACTIVATION = 11
    SOURCE_ACTIVATION = 12
    BLOCK_PIXELS = 64
    DYNAMIC = 0
    NONE = 2
    BERNOULLI = 0
    GAUSSIAN = 1
    # Slots of the counters, each group's in a cache line of its own: where all meet, whether a worker failed, where the groups
    # meet, ticket counters.
    MEETING = 0
    FAILED = 1
    LINE = 8
    # Spins before the thread gives its core away: about 20 us, longer than any wait on idle cores that is not a stall.
    SPINS = 2000
    # Images are scattered over memory: the one so many rows ahead is asked for while this one is worked on.
    AHEAD = 2
    # Shares of large minibatches begin at whole panels, as the products backward count rows; of small ones at small tiles.
    SMALL_SHARE = 4

_COLUMNS = (
    SOURCE, OUTPUT, D_SOURCE, D_OUTPUT, WEIGHT, BIAS, INPUTS, OUTPUTS, OUTPUT_PANELS, SPLIT, SOURCE_SPLIT, ACTIVATION,
    SOURCE_ACTIVATION, BLOCK_PIXELS, HALVES,
)
if _COLUMNS != (
    _plan.SOURCE, _plan.OUTPUT, _plan.D_SOURCE, _plan.D_OUTPUT, _plan.WEIGHT, _plan.BIAS, _plan.INPUTS, _plan.OUTPUTS,
    _plan.OUTPUT_PANELS, _plan.SPLIT, _plan.SOURCE_SPLIT, _plan.ACTIVATION, _plan.SOURCE_ACTIVATION, _plan.BLOCK_PIXELS,
    _plan.HALVES,
):
    raise ImportError("the extension was built from other sources than vaefast/engines/plan.py; build it again")


cdef inline index_t smaller(index_t a, index_t b) noexcept nogil:
    return a if a < b else b


cdef inline index_t panels_of(index_t width) noexcept nogil:
    return (width + PANEL - 1) // PANEL


cdef int inside(index_t start, index_t extent, index_t size) except -1 nogil:
    """Raise unless a range lies within an array of this size."""
    if start < 0 or extent < 0 or start + extent > size:
        raise IndexError(f"elements {start} to {start + extent - 1} of an array of {size}")
    return 0


def unit(limit=""):
    """The instruction set that is used where no wider one than `limit` is wanted: its name, and the panels of a tile.

    Raises
    ------
    ValueError
        This CPU or this build has no such instruction set.
    """
    cdef const Kernels* chosen = choose_kernels(limit.encode())
    if chosen == NULL:
        raise ValueError(f"no kernels for {limit!r} here")
    return chosen.name.decode(), chosen.group


def count_nonzero(const uint8_t[::1] levels, const float[::1] shades, index_t size, int64_t[::1] starts):
    """starts[n + 1] - starts[n] = the non-zero pixels of image n of `size`; one of the arrays is empty; starts is (N + 1,)."""
    cdef index_t n, p, count
    cdef bint in_bytes = levels.shape[0] > 0
    with nogil:
        starts[0] = 0
        for n in range(starts.shape[0] - 1):
            count = 0
            if in_bytes:
                for p in range(n * size, (n + 1) * size):
                    count += levels[p] != 0
            else:
                for p in range(n * size, (n + 1) * size):
                    count += shades[p] != 0
            starts[n + 1] = starts[n] + count


def list_nonzero(
    const uint8_t[::1] levels, const float[::1] shades, index_t size, const int64_t[::1] starts,
    uint8_t[::1] listed_levels, float[::1] listed_shades, uint16_t[::1] pixels,
):
    """Fill lists of the non-zero pixels of whole images."""
    cdef index_t n, p, entry
    cdef bint in_bytes = levels.shape[0] > 0
    with nogil:
        for n in range(starts.shape[0] - 1):
            entry = starts[n]
            for p in range(size):
                if in_bytes and levels[n * size + p] != 0:
                    listed_levels[entry] = levels[n * size + p]
                    pixels[entry] = <uint16_t>p
                    entry += 1
                elif not in_bytes and shades[n * size + p] != 0:
                    listed_shades[entry] = shades[n * size + p]
                    pixels[entry] = <uint16_t>p
                    entry += 1


cdef class Worker:
    """One thread's view of a model: memory that it shares with the others, and buffers of its own.

    Parameters
    ----------
    number, workers
        Which of how many.
    unit
        The widest instruction set to use; "" for what the CPU has.
    plan
        `vaefast.engines.plan.Plan`.
    likelihood
        0 Bernoulli, 1 Gaussian, 2 continuous Bernoulli.
    x_log_std
        Its offset in the parameters, under a Gaussian likelihood.
    weights
        Parameters and both moments in panel form, float32.
    lists
        Indices, values, lengths, middles and ends of the rows' non-zero pixels.
    workspace, partial, part
        float32; the parts of d_source^T that a group adds, and the elements of one.
    buffers
        Of this worker alone: transposed, gradient, zeros, ones, pixels and noise, float32; pixel words and latent words, uint32.
    """

    cdef const Kernels* kernels
    cdef index_t number, workers, groups, partners
    cdef const int64_t[:, ::1] layers
    cdef index_t heads, top, rows, stride, pixels, latent_panels, x, z, std, spread, d_z, linear, product
    cdef int likelihood
    cdef index_t x_log_std, part
    cdef float[::1] parameters, first_moments, second_moments, workspace, partial
    cdef float[::1] transposed, gradient, zeros, ones, levels, noise
    cdef uint32_t[::1] pixel_words, latent_words
    cdef uint16_t[::1] indices
    cdef float[::1] values
    cdef int64_t[::1] lengths, middles
    cdef int32_t[:, ::1] ends
    # Of one call:
    cdef int64_t[::1] counters
    cdef const uint8_t[::1] image_bytes
    cdef const float[::1] image_floats
    cdef const int64_t[::1] image_starts
    cdef const uint16_t[::1] image_pixels
    cdef const int64_t[::1] examples, keys
    cdef int binarize
    cdef bint sparse
    cdef Source pixel_source, latent_source
    cdef double[:, ::1] log_likelihood
    cdef double[::1] kl

    def __init__(self, number, workers, unit, plan, likelihood, x_log_std, weights, lists, workspace, partial, part, buffers):
        self.kernels = choose_kernels(unit.encode())
        if self.kernels == NULL:
            raise ValueError(f"no kernels for {unit!r} here")
        self.number, self.workers = number, workers
        self.partners = HALVES if workers % HALVES == 0 else 1
        self.groups = workers // self.partners
        self.layers, self.heads, self.top = plan.layers, plan.heads, plan.layers.shape[0] - 1
        self.rows, self.stride, self.pixels = plan.rows, plan.rows * PANEL, plan.pixels
        self.latent_panels, self.x, self.z, self.std = plan.latent_panels, plan.x, plan.z, plan.std
        self.spread, self.d_z, self.linear, self.product = plan.spread, plan.d_z, plan.linear, plan.product
        self.likelihood, self.x_log_std, self.part = likelihood, x_log_std, part
        self.parameters, self.first_moments, self.second_moments = weights
        self.indices, self.values, self.lengths, self.middles, self.ends = lists
        self.workspace, self.partial = workspace, partial
        self.transposed, self.gradient, self.zeros, self.ones, self.levels, self.noise = buffers[:6]
        self.pixel_words, self.latent_words = buffers[6:]

    # ---- ranges of arrays ----

    cdef inline float* space(self, index_t start, index_t extent) except NULL nogil:
        if CHECKED:
            inside(start, extent, self.workspace.shape[0])
        return &self.workspace[start]

    cdef inline float* matrix(self, index_t start, index_t panels, index_t rows) except NULL nogil:
        """Rows of a matrix in the workspace."""
        return self.space(start, (panels - 1) * self.stride + rows * PANEL)

    cdef inline float* weight(self, index_t start, index_t extent) except NULL nogil:
        if CHECKED:
            inside(start, extent, self.parameters.shape[0])
        return &self.parameters[start]

    cdef inline float* buffer(self, float[::1] array, index_t start, index_t extent) except NULL nogil:
        if CHECKED:
            inside(start, extent, array.shape[0])
        return &array[start]

    # ---- calls from Python ----

    def train(
        self, int64_t[::1] counters, images, const int64_t[::1] examples, int binarize, bint sparse, randomness, log_likelihood,
        kl, index_t batch_size, const int64_t[:, ::1] tasks, const int64_t[::1] starts, adam, const float[:, ::1] corrections,
    ):
        """Train on `examples`, (n,), in minibatches; corrections is (steps, 2): Adam's step size and second-moment factor.

        randomness is (seed, step, purpose of pixels, purpose of latents); log_likelihood (2, n), the halves of the pixels apart;
        kl (n,).
        """
        cdef index_t s, begin, end
        cdef uint64_t first_step = randomness[1], mode
        cdef Adam now
        cdef bint failed = 1
        self._begin(counters, images, examples, examples, binarize, sparse, randomness, log_likelihood, kl)
        now.beta1, now.beta2, now.rest1, now.rest2, now.epsilon = adam
        with nogil:
            mode = flush_denormals()
            try:
                for s in range(corrections.shape[0]):
                    begin = s * batch_size
                    end = smaller(begin + batch_size, self.examples.shape[0])
                    now.size, now.correction = corrections[s, 0], corrections[s, 1]
                    self.pixel_source.step = self.latent_source.step = first_step + <uint64_t>s
                    self._rows_phase(begin, end - begin)
                    self._meet(MEETING, self.workers)
                    self._weights_phase(s, tasks, starts, &now, end - begin)
                    self._meet(MEETING, self.workers)
                failed = 0
            finally:
                # The others leave their meeting, too.
                if failed:
                    store_release(&self.counters[FAILED], 1)
                restore_mode(mode)

    def evaluate(
        self, int64_t[::1] counters, images, const int64_t[::1] examples, const int64_t[::1] keys, int binarize, bint sparse,
        randomness, log_likelihood, kl,
    ):
        """The ELBO terms of `examples`, (n,), in blocks of as many rows as this worker's workspace holds.

        keys, (n,): the number under which each draws its noise.
        """
        cdef index_t begin, rows
        cdef uint64_t mode
        self._begin(counters, images, examples, keys, binarize, sparse, randomness, log_likelihood, kl)
        with nogil:
            mode = flush_denormals()
            try:
                begin = self._next_block()
                while begin < self.examples.shape[0]:
                    rows = smaller(self.rows, self.examples.shape[0] - begin)
                    self._load_rows(begin, 0, rows)
                    self._encode(rows)
                    self._sample_rows(begin, 0, rows)
                    self._decode(rows)
                    for half in range(HALVES):
                        self._likelihood_rows(1.0, begin, 0, rows, half)
                    begin = self._next_block()
            finally:
                restore_mode(mode)

    def encode(self, int64_t[::1] counters, images, const int64_t[::1] examples, bint sparse, float[:, ::1] heads):
        """[mean | log_std] of each example, heads (n, 2 * padded Z), from its grey levels as they are."""
        cdef index_t begin, rows
        cdef uint64_t mode
        self._begin(counters, images, examples, examples, NONE, sparse, (0, 0, 0, 0), None, None)
        with nogil:
            mode = flush_denormals()
            try:
                begin = self._next_block()
                while begin < self.examples.shape[0]:
                    rows = smaller(self.rows, self.examples.shape[0] - begin)
                    self._load_rows(begin, 0, rows)
                    self._encode(rows)
                    self._from_panels(self.layers[self.heads, OUTPUT], heads, begin, rows)
                    begin = self._next_block()
            finally:
                restore_mode(mode)

    def decode(self, int64_t[::1] counters, const float[:, ::1] z, float[:, ::1] logits):
        """Logits (n, padded X) of each row of z (n, padded Z)."""
        cdef index_t begin, rows
        cdef uint64_t mode
        self.counters = counters
        with nogil:
            mode = flush_denormals()
            try:
                begin = self._next_block()
                while begin < z.shape[0]:
                    rows = smaller(self.rows, z.shape[0] - begin)
                    self._to_panels(z, begin, rows)
                    self._decode(rows)
                    self._from_panels(self.layers[self.top, OUTPUT], logits, begin, rows)
                    begin = self._next_block()
            finally:
                restore_mode(mode)

    cdef int _begin(
        self, int64_t[::1] counters, images, const int64_t[::1] examples, const int64_t[::1] keys, int binarize, bint sparse,
        randomness, log_likelihood, kl,
    ) except -1:
        self.counters, self.examples, self.keys, self.binarize, self.sparse = counters, examples, keys, binarize, sparse
        self.image_bytes, self.image_floats, self.image_starts, self.image_pixels = images
        self.pixel_source.seed = self.latent_source.seed = randomness[0]
        self.pixel_source.step = self.latent_source.step = randomness[1]
        self.pixel_source.purpose, self.latent_source.purpose = randomness[2], randomness[3]
        if kl is not None:
            self.log_likelihood, self.kl = log_likelihood, kl
        return 0

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

    # ---- phases ----

    cdef int _rows_phase(self, index_t begin, index_t count) except -1 nogil:
        """A worker's share of the rows, and of the columns, of the minibatch examples[begin : begin + count]."""
        cdef index_t group = self.number // self.partners, place = self.number % self.partners
        cdef index_t first = self._group_begin(count, group), last = self._group_begin(count, group + 1)
        cdef index_t size = last - first, meeting = (1 + group) * LINE
        # Of its group's rows, the ones that it loads and samples for the group.
        cdef index_t own_first = first + size * place // self.partners, own_last = first + size * (place + 1) // self.partners
        cdef index_t half_first = place if self.partners == HALVES else 0
        cdef index_t half_last = place + 1 if self.partners == HALVES else HALVES
        cdef float scale = <float>(1.0 / <double>count)
        cdef index_t i, half, turn
        self._load_rows(begin, own_first, own_last)
        for i in range(self.heads + 1):
            self._meet(meeting, self.partners)
            for half in range(half_first, half_last):
                self._layer(i, first, last, half)
        self._meet(meeting, self.partners)
        self._sample_rows(begin, own_first, own_last)
        for i in range(self.heads + 1, self.top + 1):
            self._meet(meeting, self.partners)
            for half in range(half_first, half_last):
                self._dense_layer(i, first, last, half)
        for half in range(half_first, half_last):
            self._likelihood_rows(scale, begin, first, last, half)
        for i in range(self.top, 0, -1):
            # A part may be overwritten when its readers have met again: two sets of parts, in turn.
            turn = i % 2
            for half in range(half_first, half_last):
                self._partial_sources(i, turn, first, last, half)
            self._meet(meeting, self.partners)
            for half in range(half_first, half_last):
                if i == self.heads + 1:
                    self._sampling_backward(turn, scale, first, last, half)
                else:
                    self._fold_sources(i, turn, first, last, half)
        return 0

    cdef int _weights_phase(
        self, index_t s, const int64_t[:, ::1] tasks, const int64_t[::1] starts, const Adam* adam, index_t B
    ) except -1 nogil:
        cdef index_t turn, half, slot, task
        for turn in range(HALVES):
            half = (self.number % self.partners + turn) % HALVES
            slot = (1 + self.groups) * LINE + HALVES * s + half
            task = starts[half] + fetch_add(&self.counters[slot], 1)
            while task < starts[half + 1]:
                self._update_task(tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3], adam, B)
                task = starts[half] + fetch_add(&self.counters[slot], 1)
        return 0

    cdef index_t _group_begin(self, index_t rows, index_t group) noexcept nogil:
        """The first row of a group's share."""
        cdef index_t unit = PANEL if rows >= 2 * PANEL * self.groups else SMALL_SHARE
        if group >= self.groups:
            return rows
        return rows * group // self.groups // unit * unit

    # ---- pixels ----

    cdef int _load_rows(self, index_t begin, index_t first, index_t last) except -1 nogil:
        """Fill rows first to last - 1 of the minibatch from `begin`: the lists of their pixels if `sparse`, else x.

        The n-th non-zero pixel of row r takes word n of its example's key; a black pixel, which is never on, takes none.
        """
        cdef bint lists = self.image_starts.shape[0] > 0
        cdef index_t r, example, start, size, panel, number
        cdef float* levels = self.buffer(self.levels, 0, panels_of(self.pixels) * PANEL)
        for r in range(first, last):
            example = self.examples[begin + r]
            start, size, number = example * self.pixels, self.pixels, 0
            if lists:
                if r + AHEAD < last:
                    self._prefetch_image(self.examples[begin + r + AHEAD])
                start = number = self.image_starts[example]
                size = self.image_starts[example + 1] - start
            if size > 0:
                self._levels(start, size, lists, self.keys[begin + r], levels)
            if self.sparse:
                self._list(r, number, size, levels)
            else:
                for panel in range(panels_of(self.pixels)):
                    self._copy(levels + panel * PANEL, self.space(self.x + panel * self.stride + r * PANEL, PANEL))
        return 0

    cdef int _levels(self, index_t start, index_t size, bint lists, uint64_t key, float* levels) except -1 nogil:
        """What the levels of an image become."""
        cdef uint32_t* words = &self.pixel_words[0]
        if self.binarize == DYNAMIC:
            if CHECKED:
                inside(0, size, self.pixel_words.shape[0])
            self.kernels.words(&self.pixel_source, key, size, words)
        if self.image_bytes.shape[0] > 0:
            if CHECKED:
                inside(start, size, self.image_bytes.shape[0])
            self.kernels.levels_of_bytes(&self.image_bytes[start], size, lists, self.binarize, words, levels)
        else:
            if CHECKED:
                inside(start, size, self.image_floats.shape[0])
            self.kernels.levels_of_floats(&self.image_floats[start], size, lists, self.binarize, words, levels)
        return 0

    cdef int _prefetch_image(self, index_t example) except -1 nogil:
        cdef index_t start = self.image_starts[example], size = self.image_starts[example + 1] - start
        if size == 0:
            return 0
        prefetch(&self.image_pixels[start], 2 * size)
        if self.image_bytes.shape[0] > 0:
            prefetch(&self.image_bytes[start], size)
        else:
            prefetch(&self.image_floats[start], 4 * size)
        return 0

    cdef int _list(self, index_t r, index_t number, index_t size, const float* levels) except -1 nogil:
        """The pixels of row r that are not zero, ascending; how many belong to half 0 of the logits; and where blocks end."""
        cdef index_t count = 0, middle = 0, i, block, blocks = self.ends.shape[1], start = r * self.pixels
        cdef index_t boundary = self.layers[self.top, SPLIT] * PANEL
        cdef int32_t end = 0
        if size > 0:
            if CHECKED:
                inside(start, size, self.indices.shape[0])
                inside(number, size, self.image_pixels.shape[0])
            count = self.kernels.list(levels, &self.image_pixels[number], size, &self.indices[start], &self.values[start])
        for i in range(count):
            middle += self.indices[start + i] < boundary
        self.lengths[r], self.middles[r] = count, middle
        for block in range(blocks):
            self.ends[r, block] = 0
        for i in range(count):
            self.ends[r, self.indices[start + i] // BLOCK_PIXELS] = <int32_t>(i + 1)
        for block in range(blocks):
            end = max(end, self.ends[r, block])
            self.ends[r, block] = end
        return 0

    cdef int _place_pixels(self, index_t first, index_t last, index_t half) except -1 nogil:
        """x, half of its columns, from the lists: what the likelihood compares the logits with."""
        cdef index_t panel, r, i, p, start, stop
        for panel in range(self._half_begin(self.top, half), self._half_end(self.top, half)):
            self._zero(self.space(self.x + panel * self.stride + first * PANEL, (last - first) * PANEL), (last - first) * PANEL)
        for r in range(first, last):
            start = self.middles[r] if half == 1 else 0
            stop = self.lengths[r] if half == 1 else self.middles[r]
            for i in range(r * self.pixels + start, r * self.pixels + stop):
                p = self.indices[i]
                self.workspace[self.x + r * PANEL + (p >> 4) * self.stride + (p & 15)] = self.values[i]
        return 0

    # ---- layers forward ----

    cdef inline index_t _half_begin(self, index_t i, index_t half) noexcept nogil:
        """The first panel of a half of a layer's output."""
        return self.layers[i, SPLIT] if half == 1 else 0

    cdef inline index_t _half_end(self, index_t i, index_t half) noexcept nogil:
        """The panel after the last of a half of a layer's output."""
        return self.layers[i, OUTPUT_PANELS] if half == 1 else self.layers[i, SPLIT]

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
        cdef index_t w_panel = inputs * PANEL, panels = end - begin
        if panels <= 0 or last <= first:
            return 0
        self.kernels.product(
            self.matrix(self.layers[i, SOURCE], panels_of(inputs), last), self.stride,
            self.weight(self.layers[i, WEIGHT] + begin * w_panel, panels * w_panel), w_panel,
            self.weight(self.layers[i, BIAS] + begin * PANEL, panels * PANEL), PANEL,
            self.matrix(self.layers[i, OUTPUT] + begin * self.stride, panels, last), self.stride, inputs, first, last, panels,
        )
        return self._activate(i, first, last, begin, end)

    cdef int _sparse_layer(self, index_t first, index_t last, index_t half) except -1 nogil:
        """The first layer as sums of the rows of W that belong to non-zero pixels: the same bits as the dense product."""
        cdef index_t begin = self._half_begin(0, half), end = self._half_end(0, half), w_panel = self.layers[0, INPUTS] * PANEL
        cdef index_t r, panels = end - begin
        cdef const float* W
        cdef const float* bias
        if panels <= 0 or last <= first:
            return 0
        W = self.weight(self.layers[0, WEIGHT] + begin * w_panel, panels * w_panel)
        bias = self.weight(self.layers[0, BIAS] + begin * PANEL, panels * PANEL)
        for r in range(first, last):
            self.kernels.gather(
                W, w_panel, &self.indices[r * self.pixels], &self.values[r * self.pixels], self.lengths[r], bias,
                self.matrix(self.layers[0, OUTPUT] + begin * self.stride + r * PANEL, panels, 1), self.stride, panels,
            )
        return self._activate(0, first, last, begin, end)

    cdef int _activate(self, index_t i, index_t first, index_t last, index_t begin, index_t end) except -1 nogil:
        cdef index_t panel, start, size = (last - first) * PANEL
        for panel in range(begin, end):
            start = self.layers[i, OUTPUT] + panel * self.stride + first * PANEL
            self.kernels.activate(self.space(start, size), size, self.layers[i, ACTIVATION])
        return 0

    # ---- the sample and the likelihood ----

    cdef int _sample_rows(self, index_t begin, index_t first, index_t last) except -1 nogil:
        """z = mean + exp(log_std) * noise (2), and the KL of each row in nats (4)."""
        cdef index_t r, panels = self.latent_panels, heads = self.layers[self.heads, OUTPUT], shift
        cdef float* noise = self.buffer(self.noise, 0, panels * PANEL)
        for r in range(first, last):
            shift = r * PANEL
            self.kernels.words(&self.latent_source, self.keys[begin + r], panels * PANEL, &self.latent_words[0])
            self.kl[begin + r] = self.kernels.sample(
                &self.latent_words[0], noise, panels, self.stride, self.matrix(heads + shift, panels, 1),
                self.matrix(heads + panels * self.stride + shift, panels, 1), self.matrix(self.z + shift, panels, 1),
                self.matrix(self.std + shift, panels, 1), self.matrix(self.spread + shift, panels, 1),
            )
        return 0

    cdef int _likelihood_rows(self, float scale, index_t begin, index_t first, index_t last, index_t half) except -1 nogil:
        """log p(x | z) of half of the pixels in nats; the decoder's outputs become their gradients; scale is 1 / B."""
        cdef index_t b = self._half_begin(self.top, half), e = self._half_end(self.top, half), rows = last - first, r
        cdef index_t shift = first * PANEL, panels = panels_of(self.pixels), own = half * self.stride + first * PANEL
        cdef float* outputs
        cdef float* linear
        cdef float* product
        cdef const float* x
        cdef double* terms
        if rows <= 0:
            return 0
        if self.sparse:
            self._place_pixels(first, last, half)
        if CHECKED:
            inside(begin + first, rows, self.log_likelihood.shape[1])
        terms = &self.log_likelihood[half, begin + first]
        outputs = self.matrix(self.layers[self.top, OUTPUT] + shift, panels, rows)
        x = self.matrix(self.x + shift, panels, rows)
        linear, product = self.space(self.linear + own, rows * PANEL), self.space(self.product + own, rows * PANEL)
        if self.likelihood == BERNOULLI:
            self.kernels.bernoulli(outputs, x, self.stride, rows, b, e, self.pixels, scale, linear, product, terms)
        elif self.likelihood == GAUSSIAN:
            self.kernels.gaussian(
                outputs, x, self.stride, rows, b, e, self.pixels, scale, self.weight(self.x_log_std, panels * PANEL), linear,
                product, terms,
            )
        else:
            self.kernels.continuous_bernoulli(outputs, x, self.stride, rows, b, e, self.pixels, scale, linear, terms)
        return 0

    cdef int _sampling_backward(self, index_t turn, float scale, index_t first, index_t last, index_t half) except -1 nogil:
        """d_mean (half 0) or d_log_std (half 1) from both parts of d_z; scale is 1 / B."""
        cdef index_t panel, shift, own, size = (last - first) * PANEL
        cdef index_t heads = self.layers[self.heads, OUTPUT] + half * self.latent_panels * self.stride
        cdef float* d_z
        if size <= 0:
            return 0
        for panel in range(self.latent_panels):
            shift = panel * self.stride + first * PANEL
            own = self.d_z + half * self.latent_panels * self.stride + shift
            self._fold_panel(turn, panel, self.latent_panels, own, last - first)
            d_z = self.space(own, size)
            if half == 0:
                self.kernels.mean_gradient(self.space(heads + shift, size), d_z, size, scale)
            else:
                self.kernels.log_std_gradient(
                    self.space(heads + shift, size), d_z, self.space(self.spread + shift, size),
                    self.space(self.std + shift, size), size, scale,
                )
        return 0

    # ---- layers backward ----

    cdef int _partial_sources(self, index_t i, index_t turn, index_t first, index_t last, index_t half) except -1 nogil:
        """This half's part of d_source^T = W @ d_output^T (8), the sum over its columns.

        The left operand is W as it stands: a transposed copy of all weights would be written by one core and read by the other
        in every step. The small d_output is transposed instead, 16 rows at a time.
        """
        cdef index_t begin = self._half_begin(i, half), end = self._half_end(i, half), panels = end - begin, panel
        cdef index_t inputs = self.layers[i, INPUTS], w_panel = inputs * PANEL, t_panel = panels * BLOCK
        cdef index_t columns = self.layers[i, OUTPUTS] - begin * PANEL if half == 1 else end * PANEL
        cdef index_t out = (2 * turn + half) * self.part, p_panel = panels_of(inputs) * BLOCK, rows = panels_of(last - first)
        cdef float* partial
        if last <= first:
            return 0
        if CHECKED:
            inside(0, rows * p_panel, self.part)
        partial = self.buffer(self.partial, out, rows * p_panel)
        if panels <= 0:
            self._zero(partial, rows * p_panel)
            return 0
        self.buffer(self.transposed, 0, rows * t_panel)
        for panel in range(panels):
            self.kernels.transpose(
                self.space(self.layers[i, D_OUTPUT] + (begin + panel) * self.stride + first * PANEL, (last - first) * PANEL),
                last - first, &self.transposed[panel * BLOCK], t_panel,
            )
        self.kernels.product(
            self.weight(self.layers[i, WEIGHT] + begin * w_panel, panels * w_panel), w_panel, &self.transposed[0], t_panel,
            self.buffer(self.zeros, 0, PANEL), 0, partial, p_panel, columns, 0, inputs, rows,
        )
        for panel in range(rows):
            self._zero(partial + panel * p_panel + inputs * PANEL, p_panel - inputs * PANEL)
        return 0

    cdef int _fold_sources(self, index_t i, index_t turn, index_t first, index_t last, index_t half) except -1 nogil:
        """d_source, a half of its own columns: the sum of both parts, times the slope of the activation that made the source
        (9, 10)."""
        cdef index_t panels = panels_of(self.layers[i, INPUTS]), panel, shift, size = (last - first) * PANEL
        cdef index_t begin = self.layers[i, SOURCE_SPLIT] if half == 1 else 0
        cdef index_t end = panels if half == 1 else self.layers[i, SOURCE_SPLIT]
        if size <= 0:
            return 0
        for panel in range(begin, end):
            shift = panel * self.stride + first * PANEL
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

    # ---- weights ----

    cdef int _update_task(
        self, index_t half, index_t i, index_t first, index_t last, const Adam* adam, index_t B
    ) except -1 nogil:
        """One row (half, layer, first, last) of `weight_tasks`."""
        cdef index_t panel
        if i == 0 and self.sparse:
            return self._update_pixels(half, first, last, adam, B)
        self._update_panels(i, first, last, adam, B)
        if i == self.top and self.likelihood == GAUSSIAN:
            for panel in range(first, last):
                self._update_x_log_std(panel, adam, B)
        return 0

    cdef int _update_panels(self, index_t i, index_t first, index_t last, const Adam* adam, index_t B) except -1 nogil:
        """Column panels first to last - 1 of a layer: d_W = source^T @ d_output and d_b = sum over B of d_output (8)."""
        cdef index_t inputs = self.layers[i, INPUTS], w_panel = inputs * PANEL, panels = last - first
        cdef index_t w = self.layers[i, WEIGHT] + first * w_panel
        cdef index_t d_output = self.layers[i, D_OUTPUT] + first * self.stride
        self.weight(w, panels * w_panel)
        self.kernels.update(
            self.matrix(self.layers[i, SOURCE], panels_of(inputs), B), self.stride,
            self.matrix(d_output, panels, B), self.stride, &self.parameters[w], &self.first_moments[w],
            &self.second_moments[w], w_panel, inputs, B, panels,
            self.buffer(self.gradient, 0, panels * self.kernels.gradient_rows * PANEL), adam,
        )
        return self._update_bias(i, first, last, adam, B)

    cdef int _update_bias(self, index_t i, index_t first, index_t last, const Adam* adam, index_t B) except -1 nogil:
        """d_b = ones (1, B) @ d_output (B, outputs), so that rows are summed in the order of every other product."""
        cdef index_t panels = last - first, b = self.layers[i, BIAS] + first * PANEL
        cdef index_t d_output = self.layers[i, D_OUTPUT] + first * self.stride
        cdef float* gradient = self.buffer(self.gradient, 0, panels * PANEL)
        self.kernels.product(
            self.buffer(self.ones, 0, B), PANEL, self.matrix(d_output, panels, B), self.stride,
            self.buffer(self.zeros, 0, PANEL), 0, gradient, PANEL, B, 0, 1, panels,
        )
        self._adam(gradient, b, panels, adam)
        return 0

    cdef int _adam(self, const float* gradient, index_t w, index_t rows, const Adam* adam) except -1 nogil:
        """Adam on contiguous panel rows."""
        self.weight(w, rows * PANEL)
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
                    &self.gradient[(panel - begin) * BLOCK_PIXELS * PANEL],
                    self.layers[0, WEIGHT] + (panel * self.layers[0, INPUTS] + k) * PANEL, height, adam,
                )
            k += BLOCK_PIXELS
        if first == 0:
            for panel in range(begin, end):
                self._update_bias(0, panel, panel + 1, adam, B)
        return 0

    cdef int _scatter_gradient(self, index_t k, index_t begin, index_t end, index_t B) except -1 nogil:
        """The gradient of a block of pixels from k, image after image: each adds its d_output to the rows of its pixels."""
        cdef index_t g_panel = BLOCK_PIXELS * PANEL, block = k // BLOCK_PIXELS, panels = end - begin, b, start, count, entry
        cdef float* gradient = self.buffer(self.gradient, 0, panels * g_panel)
        cdef const float* d_output = self.matrix(self.layers[0, D_OUTPUT] + begin * self.stride, panels, B)
        self._zero(gradient, panels * g_panel)
        for b in range(B):
            start = self.ends[b, block - 1] if block > 0 else 0
            count = self.ends[b, block] - start
            if count == 0:
                continue
            entry = b * self.pixels + start
            self.kernels.scatter(
                d_output + b * PANEL, self.stride, &self.indices[entry], &self.values[entry], count, k, gradient, g_panel,
                panels,
            )
        return 0

    cdef int _update_x_log_std(self, index_t panel, const Adam* adam, index_t B) except -1 nogil:
        """d_x_log_std of one panel of pixels (20), and Adam on it."""
        cdef index_t place = self.x_log_std + panel * PANEL
        cdef float* gradient = self.buffer(self.gradient, 0, PANEL)
        self.kernels.x_log_std_gradient(
            self.matrix(self.layers[self.top, D_OUTPUT] + panel * self.stride, 1, B), B, self.weight(place, PANEL),
            smaller(PANEL, self.pixels - panel * PANEL), gradient,
        )
        return self._adam(gradient, place, 1, adam)

    # ---- copies ----

    cdef inline void _zero(self, float* target, index_t size) noexcept nogil:
        cdef index_t j
        for j in range(size):
            target[j] = 0

    cdef inline void _copy(self, const float* source, float* target) noexcept nogil:
        cdef index_t j
        for j in range(PANEL):
            target[j] = source[j]

    cdef int _from_panels(self, index_t offset, float[:, ::1] out, index_t begin, index_t rows) except -1 nogil:
        """The first rows of a matrix in panels, to a plain one whose width is whole panels."""
        cdef index_t r, panel
        for r in range(rows):
            for panel in range(out.shape[1] // PANEL):
                self._copy(self.space(offset + panel * self.stride + r * PANEL, PANEL), &out[begin + r, panel * PANEL])
        return 0

    cdef int _to_panels(self, const float[:, ::1] matrix, index_t begin, index_t rows) except -1 nogil:
        cdef index_t r, panel
        for r in range(rows):
            for panel in range(matrix.shape[1] // PANEL):
                self._copy(&matrix[begin + r, panel * PANEL], self.space(self.z + panel * self.stride + r * PANEL, PANEL))
        return 0

# `Importance`: log p(x) by importance sampling, and the means of what is missing in a table; the order of all sums is that of
# vaefast/engines/numba_cpu/importance.py and imputation.py. Dimensions: n examples, C samples a chunk, S samples, Z latents.
#
# The rows of the workspace are samples of one example, which is loaded into each of them once and encoded once.


cdef class Importance(Clipping):
    """Examples one by one, their samples in chunks, sums kept relative to the largest weight so far."""

    cdef int64_t[::1] repeated_order, repeated_keys

    def importance(self, int64_t[::1] counters, examples, index_t samples, double[::1] log_likelihood, double[::1] effective):
        """log p(x) of each example from so many samples and how many of them count (26); both (n,)."""
        cdef const int64_t[::1] order = examples.order, keys = examples.keys
        cdef index_t n, begin, count
        cdef double sums[3]
        cdef uint64_t mode
        self._begin_chunks(counters, examples)
        with nogil:
            mode = flush_denormals()
            try:
                n = fetch_add(&self.counters[MEETING], 1)
                while n < order.shape[0]:
                    self._take_example(order[n], keys[n])
                    sums[0], sums[1], sums[2] = -INFINITY, 0, 0
                    begin = 0
                    while begin < samples:
                        count = smaller(self.rows, samples - begin)
                        self._score_chunk(order[n], keys[n], begin, count)
                        self._add_chunk(count, sums)
                        begin += count
                    log_likelihood[n] = sums[0] + log_of_double(sums[1] / <double>samples)
                    effective[n] = sums[1] * sums[1] / sums[2]
                    n = fetch_add(&self.counters[MEETING], 1)
            finally:
                restore_mode(mode)

    def impute(self, int64_t[::1] counters, examples, index_t samples, double[:, ::1] log_w, double[:, ::1] means):
        """log w (70) of each sample of each example, log_w (n, S), and the means of its columns (71), means (n, padded X); NaN
        where no weight can be told from zero."""
        cdef const int64_t[::1] order = examples.order, keys = examples.keys
        cdef index_t n, begin, count, j
        cdef double largest, higher, total, shrink
        cdef uint64_t mode
        self._begin_chunks(counters, examples)
        with nogil:
            mode = flush_denormals()
            try:
                n = fetch_add(&self.counters[MEETING], 1)
                while n < order.shape[0]:
                    self._take_example(order[n], keys[n])
                    largest, total = -INFINITY, 0
                    for j in range(means.shape[1]):
                        means[n, j] = 0
                    begin = 0
                    while begin < samples:
                        count = smaller(self.rows, samples - begin)
                        self._score_chunk(order[n], keys[n], begin, count)
                        higher = self._weigh(count, &log_w[n, begin], largest)
                        if higher > -INFINITY:
                            shrink = exp_of_double(largest - higher)
                            total *= shrink
                            for j in range(count):
                                total += exp_of_double(log_w[n, begin + j] - higher)
                            self._add_means(count, &log_w[n, begin], higher, shrink, &means[n, 0])
                            largest = higher
                        begin += count
                    for j in range(means.shape[1]):
                        means[n, j] = means[n, j] / total if total > 0 else NAN
                    n = fetch_add(&self.counters[MEETING], 1)
            finally:
                restore_mode(mode)

    cdef int _begin_chunks(self, int64_t[::1] counters, examples) except -1:
        self._begin(counters, examples, (np.zeros((HALVES, self.rows)), np.zeros(self.rows), np.zeros(self.rows), np.zeros(0)))
        self.repeated_order, self.repeated_keys = np.zeros(self.rows, np.int64), np.zeros(self.rows, np.int64)
        self.order, self.keys = self.repeated_order, self.repeated_keys
        if self.likelihood == NEGATIVE_BINOMIAL:
            self._tabulate(0, 1)
        return 0

    cdef int _take_example(self, index_t example, index_t key) except -1 nogil:
        """This example to every row, and the first row through the encoder, up to std."""
        cdef index_t r, panels = self.latent_panels, heads = self.layers[self.heads, OUTPUT]
        for r in range(self.rows):
            self.repeated_order[r], self.repeated_keys[r] = example, key
        self._load(0, 0, self.rows)
        self._encode(1)
        self.kernels.spread_out(
            panels, self.stride, self.matrix(heads, self.stride, panels, 1),
            self.matrix(heads + panels * self.stride, self.stride, panels, 1), self.matrix(self.std, self.stride, panels, 1), NULL,
        )
        return 0

    cdef int _score_chunk(self, index_t example, index_t key, index_t begin, index_t count) except -1 nogil:
        """z of samples begin to begin + count - 1 (2), each with noise of its own number; log p(z) - log q(z | x) of each to
        `ratio`, log p(x | z) to `log_likelihood`."""
        cdef index_t s, panels = self.latent_panels, heads = self.layers[self.heads, OUTPUT]
        cdef float* mean = self.matrix(heads, self.stride, panels, 1)
        cdef float* log_std = self.matrix(heads + panels * self.stride, self.stride, panels, 1)
        cdef float* std = self.matrix(self.std, self.stride, panels, 1)
        for s in range(count):
            self.latent_source.step = <uint64_t>(begin + s)
            self._draw(<uint64_t>key, s, mean, std)
            self.ratio[s] = self._log_ratio(s, log_std)
            self._tell(example, self.z, self.sample_stride, s, self.latent)
        self._round_latents(0, count)
        self._decode(count)
        return self._score(0, count)

    cdef int _add_chunk(self, index_t count, double* sums) noexcept nogil:
        """log w = log p(x | z) + log p(z) - log q(z | x) (30) of a chunk, added to the sums: the largest, then those of
        exp(log w - largest) and of its square."""
        cdef index_t s
        cdef double largest = sums[0], shrink, w
        for s in range(count):
            self.ratio[s] += self.log_likelihood[0, s] + self.log_likelihood[1, s]
            largest = self.ratio[s] if self.ratio[s] > largest else largest
        shrink = exp_of_double(sums[0] - largest)
        sums[0], sums[1], sums[2] = largest, sums[1] * shrink, sums[2] * shrink * shrink
        for s in range(count):
            w = exp_of_double(self.ratio[s] - largest)
            sums[1] += w
            sums[2] += w * w
        return 0

    cdef double _weigh(self, index_t count, double* log_w, double largest) noexcept nogil:
        """log w of a chunk; returns the largest so far. What is not a number weighs nothing."""
        cdef index_t s
        cdef double value
        for s in range(count):
            value = self.ratio[s] + self.log_likelihood[0, s] + self.log_likelihood[1, s]
            log_w[s] = value if value == value else -INFINITY
            largest = log_w[s] if log_w[s] > largest else largest
        return largest

    cdef int _add_means(self, index_t count, const double* log_w, double largest, double shrink, double* means) except -1 nogil:
        """means += w times the means of each sample's columns."""
        cdef index_t s, j
        cdef TableRows table
        self._describe(&table)
        table.rows = count
        table.outputs = self.matrix(
            self.layers[self.top, OUTPUT], self._stride(self.top), self.layers[self.top, OUTPUT_PANELS], count
        )
        self.kernels.expect_rows(&table)
        for j in range(count):
            self.ratio[j] = exp_of_double(log_w[j] - largest)
        self.kernels.add_means(&table, &self.ratio[0], shrink, means)
        return 0

# `Objectives`: between the two networks' passes, what each sample and each latent counts for. The order of all sums is that of
# vaefast/engines/numba_cpu/objectives.py. Dimensions: B rows of a minibatch, k samples of the latents of each, which lie together,
# Z latents; q counts samples.

from libc.math cimport exp as exp_of_double, log as log_of_double, sqrt as root_of_double

cdef extern from "math.h" nogil:
    double INFINITY
    double NAN


cdef class Objectives(Forward):
    """Weights of samples, and factors of each latent's KL divergence."""

    cdef inline bint _by_importance(self) noexcept nogil:
        """Whether samples are weighted by their importance."""
        return self.weighted and self.weighting != SAMPLED

    cdef inline float _output_scale(self, index_t B) noexcept nogil:
        """What the gradient of log p(x | z) is multiplied by where it is made: 1 / (B k), or 1 / B before weights come to it."""
        return <float>(1.0 / <double>(B if self._by_importance() else B * self.samples))

    cdef inline const float* _rows_weights(self) noexcept nogil:
        """What rows of the decoder count for beside what their gradients were scaled with; NULL for 1.

        It raises nothing, as NULL would then have to be told from an error, for which each call takes Python's lock.
        """
        return &self.sample_weights[0] if self._by_importance() else NULL

    cdef inline int _check_weights(self, index_t rows) except -1 nogil:
        """In the build that checks its bounds: refuse more rows than there are weights."""
        if CHECKED and self._by_importance():
            inside(0, rows, self.sample_weights.shape[0])
        return 0

    cdef int _settle(
        self, index_t s, index_t begin, index_t B, index_t first, index_t last, index_t own_first, index_t own_last,
        index_t half_first, index_t half_last, index_t meeting,
    ) except -1 nogil:
        """After the likelihood and before the pass backward, in step s of a call; rows are those of the encoder."""
        cdef index_t j, half, width = self.latent_panels * PANEL
        cdef float* scales = self.buffer(self.kl_scales, 0, width)
        cdef float scale
        if self._by_importance():
            self._meet(meeting, self.partners)
            self._weigh_samples(begin, own_first, own_last)
            self._meet(meeting, self.partners)
            for half in range(half_first, half_last):
                self._weigh_outputs(first, last, half)
        elif self.floored:
            # Every worker adds all B rows in the same order.
            self._meet(MEETING, self.workers)
            self.floor[s] = self.kernels.floor_latents(
                self.buffer(self.latent_kl, 0, B * width), B, self.latent, self.latent_panels, self.free_nats, scales
            )
        else:
            scale = <float>(1.0 / <double>B) * self.kl_weight
            for j in range(width):
                scales[j] = scale
        return 0

    cdef int _weigh_samples(self, index_t begin, index_t first, index_t last) except -1 nogil:
        """Each weight w over the sum of its row's k (32), relative to the largest: nothing overflows."""
        cdef index_t r, s, place, k = self.samples
        cdef double largest, total, weight
        for r in range(first, last):
            place, largest, total = (begin + r) * k, -INFINITY, 0
            for s in range(k):
                weight = self._log_weight(place + s)
                largest = weight if weight > largest else largest
            for s in range(k):
                total += exp_of_double(self._log_weight(place + s) - largest)
            for s in range(k):
                weight = exp_of_double(self._log_weight(place + s) - largest) / total
                self.sample_weights[r * k + s] = <float>weight
                self.sample_inverses[r * k + s] = <float>(1.0 / weight) if weight > SMALLEST_WEIGHT else 0
        return 0

    cdef inline double _log_weight(self, index_t q) noexcept nogil:
        """log w = log p(x | z) + log p(z) - log q(z | x) (30)."""
        return self.log_likelihood[0, q] + self.log_likelihood[1, q] + self.ratio[q]

    cdef int _weigh_outputs(self, index_t first, index_t last, index_t half) except -1 nogil:
        """The outputs' gradient of each sample times its weight (33), in place."""
        cdef index_t panel, begin = first * self.samples, rows = (last - first) * self.samples, start
        if rows <= 0:
            return 0
        for panel in range(self._half_begin(self.top, half), self._half_end(self.top, half)):
            start = self.layers[self.top, D_OUTPUT] + panel * self.sample_stride + begin * PANEL
            self.kernels.weigh_rows(self.space(start, rows * PANEL), rows, self.buffer(self.sample_weights, begin, rows))
        return 0

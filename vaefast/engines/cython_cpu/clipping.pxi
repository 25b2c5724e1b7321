# `Clipping`: the end of a step whose gradient may be clipped by the norm of all of it. The order of all sums is that of
# vaefast/engines/numba_cpu/gradients.py.

cdef class Clipping(Weights):
    """A gradient that the weights phase has kept, and Adam with it."""

    cdef int _finish_step(self, const Adam* adam) except -1 nogil:
        """Nothing, or Adam with the clipped gradient (42) on this worker's share of the panel rows."""
        cdef index_t chunk = self.number, row, rows, first, last, size
        cdef float scale
        if not self.clipped:
            return 0
        rows = self.whole_gradient.shape[0] // PANEL
        while chunk < self.squares.shape[0]:
            row = chunk * NORM_ROWS
            size = smaller(NORM_ROWS, rows - row)
            self.kernels.add_squares(
                self.buffer(self.whole_gradient, row * PANEL, size * PANEL), size, &self.squares[chunk, 0]
            )
            chunk += self.workers
        self._meet(MEETING, self.workers)
        scale = self._clip_scale()
        first, last = rows * self.number // self.workers, rows * (self.number + 1) // self.workers
        if last > first:
            self.weight(first * PANEL, (last - first) * PANEL)
            self.kernels.scaled_adam(
                &self.whole_gradient[first * PANEL], scale, &self.parameters[first * PANEL], &self.first_moments[first * PANEL],
                &self.second_moments[first * PANEL], last - first, adam,
            )
        self._meet(MEETING, self.workers)
        if self.bf16:
            # A panel may lie in several shares.
            self._round_share(self.number, self.workers)
            self._meet(MEETING, self.workers)
        return 0

    cdef float _clip_scale(self) noexcept nogil:
        """min(1, clip_norm / norm) (41); not a number where the norm is none, so that the guard sees it."""
        cdef index_t chunk, j
        cdef double total = 0, norm
        for chunk in range(self.squares.shape[0]):
            for j in range(PANEL):
                total += self.squares[chunk, j]
        norm = root_of_double(total)
        return <float>(1.0 if norm <= self.clip_norm else self.clip_norm / norm)

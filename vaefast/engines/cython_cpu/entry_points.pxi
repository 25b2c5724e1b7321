# What Python calls: the name of the instruction set, and `Worker`, whose methods train, evaluate, encode and decode. Each is
# called by all workers at once, and gives the GIL away. Dimensions: n examples of a call, X pixels, Z latents.

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


# What `Worker.piece` runs, by number.
PIECES = (
    "load", "tabulate", "layer", "sample", "likelihood", "backward", "fold", "task", "counts 0", "counts 1", "counts 2", "counts 3",
)
cdef enum:
    LOAD_PIECE = 0
    TABULATE_PIECE = 1
    LAYER_PIECE = 2
    SAMPLE_PIECE = 3
    LIKELIHOOD_PIECE = 4
    PARTIAL_PIECE = 5
    FOLD_PIECE = 6
    TASK_PIECE = 7
    COUNTS_PIECE = 8


cdef class Worker(Importance):
    """One thread that works on a model; see `Memory` for the parameters."""

    def train(
        self, int64_t[::1] counters, examples, tasks, index_t batch_size, adam, const float[:, ::1] pace, terms,
    ):
        """Train on `examples` in minibatches; pace is (steps, 3): Adam's step size and second-moment factor, and the weight of the
        KL divergence."""
        cdef index_t s, begin, end
        cdef uint64_t first_step = examples.randomness.step, mode
        cdef const int64_t[:, ::1] task_rows = tasks.rows
        cdef const int64_t[::1] starts = tasks.starts
        cdef Adam now
        cdef bint failed = 1
        self._begin(counters, examples, terms)
        now.beta1, now.beta2, now.rest1, now.rest2, now.epsilon = adam
        with nogil:
            mode = flush_denormals()
            try:
                for s in range(pace.shape[0]):
                    begin = s * batch_size
                    end = smaller(begin + batch_size, self.order.shape[0])
                    now.size, now.correction, self.kl_weight = pace[s, 0], pace[s, 1], pace[s, 2]
                    self.pixel_source.step = self.latent_source.step = first_step + <uint64_t>s
                    self._rows_phase(s, begin, end - begin)
                    self._meet(MEETING, self.workers)
                    self._weights_phase(s, task_rows, starts, &now, end - begin)
                    self._meet(MEETING, self.workers)
                    self._finish_step(&now)
                failed = 0
            finally:
                # The others leave their meeting, too.
                if failed:
                    store_release(&self.counters[FAILED], 1)
                restore_mode(mode)

    def evaluate(self, int64_t[::1] counters, examples, terms):
        """The ELBO terms of `examples` in blocks of as many rows as this worker's workspace holds."""
        cdef index_t begin, rows
        cdef uint64_t mode
        self._begin(counters, examples, terms)
        with nogil:
            mode = flush_denormals()
            try:
                if self.likelihood == NEGATIVE_BINOMIAL:
                    self._tabulate(0, 1)
                begin = self._next_block()
                while begin < self.order.shape[0]:
                    rows = smaller(self.rows, self.order.shape[0] - begin)
                    self._load(begin, 0, rows)
                    self._encode(rows)
                    self._sample_rows(begin, 0, rows)
                    self._decode(rows)
                    self._score(begin, rows)
                    begin = self._next_block()
            finally:
                restore_mode(mode)

    def encode(self, int64_t[::1] counters, examples, float[:, ::1] heads):
        """[mean | log_std] of each example, heads (n, 2 * padded Z)."""
        cdef index_t begin, rows
        cdef uint64_t mode
        self._begin(counters, examples, None)
        with nogil:
            mode = flush_denormals()
            try:
                begin = self._next_block()
                while begin < self.order.shape[0]:
                    rows = smaller(self.rows, self.order.shape[0] - begin)
                    self._load(begin, 0, rows)
                    self._encode(rows)
                    self._from_panels(self.heads, heads, begin, rows)
                    begin = self._next_block()
            finally:
                restore_mode(mode)

    def decode(self, int64_t[::1] counters, const float[:, ::1] z, float[:, ::1] logits):
        """Logits (n, outputs a column * padded X) of each row of z and its covariates, (n, padded Z + C)."""
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
                    self._round_latents(0, rows)
                    self._decode(rows)
                    self._from_panels(self.top, logits, begin, rows)
                    begin = self._next_block()
            finally:
                restore_mode(mode)

    def begin(self, examples, terms):
        """Take the arrays of `train` for the pieces of its steps."""
        self._begin(np.zeros(2 * LINE, np.int64), examples, terms)

    def piece(self, int name, index_t begin, index_t count, index_t i, index_t last, index_t s, adam, tasks):
        """One piece of step s on examples[begin : begin + count], which a worker that is alone takes in the order of `train`, for
        the ELBO of one sample.

        name is one of `PIECES`. i and last are: of a layer its number; of the likelihood of counts the first row and the one
        after the last, and one of its passes each, `counts 0` to `counts 3`; of `task` the number of a row of tasks. adam: its
        seven scalars.
        """
        cdef index_t half
        cdef float scale = self._output_scale(count)
        cdef uint64_t mode
        cdef Adam now
        cdef const int64_t[:, ::1] rows = tasks
        now.beta1, now.beta2, now.rest1, now.rest2, now.epsilon, now.size, now.correction = adam
        self.pixel_source.step = self.latent_source.step = <uint64_t>s
        with nogil:
            mode = flush_denormals()
            try:
                if name == TASK_PIECE:
                    self._update_task(rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3], &now, count)
                elif name == LOAD_PIECE:
                    self._load(begin, 0, count)
                elif name == TABULATE_PIECE:
                    self._tabulate(0, 1)
                elif name == SAMPLE_PIECE:
                    self._sample_rows(begin, 0, count)
                else:
                    for half in range(HALVES):
                        if name == LAYER_PIECE:
                            self._layer(i, 0, count, half)
                        elif name == LIKELIHOOD_PIECE:
                            self._place_pixels(0, count, half)
                            self._likelihood_rows(scale, begin, 0, count, half)
                        elif name == PARTIAL_PIECE:
                            self._partial_sources(i, i % 2, 0, count, half)
                        elif name == FOLD_PIECE and i == self.heads + 1:
                            self.kl_weight = 1
                            self._settle(s, begin, count, 0, count, 0, count, 0, HALVES, LINE)
                            self._sampling_backward(i % 2, count, 0, count, half)
                        elif name == FOLD_PIECE:
                            self._fold_sources(i, i % 2, 0, count, half)
                        else:
                            self._counts_pass(name - COUNTS_PIECE, scale, begin, i, last, half)
            finally:
                restore_mode(mode)

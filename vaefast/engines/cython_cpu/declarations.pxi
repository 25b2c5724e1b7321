# What all pieces use: the C functions of kernels.h and threads.h, constants, and functions of sizes. Columns of `Plan.layers`
# must be those of vaefast/engines/plan.py, which importing the extension checks.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy as np

from vaefast.engines import credit as _credit
from vaefast.engines import plan as _plan


cdef extern from "kernels.h" nogil:
    enum:
        BLOCK_PIXELS
        CHUNK_ROWS
        TABLED
        PANEL_OF_TABLE
    ctypedef int64_t index_t
    ctypedef struct Adam:
        float beta1, beta2, rest1, rest2, epsilon, size, correction
    ctypedef struct Source:
        uint64_t seed, purpose, step
    ctypedef struct CountRows:
        index_t rows, first, samples, begin, end, half, pixels, capacity, stride, twins
        float scale
        float* outputs
        float* rates
        float* target
        const uint32_t* columns
        const float* counts
        const int64_t* lengths
        const int64_t* middles
        const float* totals
        const float* sizes
        const double* constants
        float* maxima[2]
        double* sums[2]
        double* slopes[2]
        double* log_likelihood
        const float* x_log_dispersion
        const float* table
    enum:
        KIND
        FIRST_PANEL
        PANELS
        SCALE_PANEL
        FREEDOM_PANEL
        OWN
        FIRST_VARIABLE
        LAST_VARIABLE
        BLOCK_FIELDS
        COUNTED_COLUMNS
    ctypedef struct TableRows:
        index_t rows, samples, stride, deep, columns, indicators, blocks, x_panels
        const int64_t* block
        const int64_t* places
        const int64_t* variable
        const float* parameters
        float scale
        int gradient
        float* outputs
        const float* x
        float* own
        float* totals
        double* log_likelihood
    ctypedef struct LatentPanel:
        index_t rows, samples, real
        int half, doubly
        float scale
        const float* scales
        const float* weights
        float* d_z
        const float* z
        const float* spread
        const float* std
        float* head
    ctypedef struct Kernels:
        const char* name
        index_t group, gradient_rows
        void (*product)(const float*, index_t, const float*, index_t, const float*, index_t, float*, index_t, index_t, index_t,
                     index_t, index_t) noexcept nogil
        void (*gather)(const float*, index_t, const uint16_t*, const float*, index_t, const float*, float*, index_t,
                       index_t) noexcept nogil
        void (*gather_columns)(const float*, index_t, const uint32_t*, const float*, index_t, const float*, index_t, float*,
                               index_t, index_t) noexcept nogil
        void (*scatter)(const float*, index_t, const uint16_t*, const float*, index_t, index_t, float*, index_t,
                        index_t) noexcept nogil
        void (*scatter_columns)(const float*, index_t, const uint32_t*, const float*, index_t, index_t, float*, index_t,
                                index_t) noexcept nogil
        void (*update)(const float*, index_t, const float*, index_t, float*, float*, float*, index_t, index_t, index_t, index_t,
                    float*, const Adam*) noexcept nogil
        void (*adam)(const float*, float*, float*, float*, index_t, const Adam*) noexcept nogil
        void (*gradient)(const float*, index_t, const float*, index_t, float*, index_t, index_t, index_t, index_t,
                         float*) noexcept nogil
        void (*scaled_adam)(const float*, float, float*, float*, float*, index_t, const Adam*) noexcept nogil
        void (*add_squares)(const float*, index_t, double*) noexcept nogil
        void (*transpose)(const float*, index_t, float*, index_t) noexcept nogil
        void (*fold)(const float*, const float*, index_t, index_t, float*) noexcept nogil
        void (*activate)(float*, index_t, int) noexcept nogil
        void (*slope)(float*, const float*, index_t, int) noexcept nogil
        void (*words)(const Source*, uint64_t, index_t, uint32_t*) noexcept nogil
        double (*spread_out)(index_t, index_t, const float*, const float*, float*, float*) noexcept nogil
        void (*draw)(const uint32_t*, float*, index_t, index_t, index_t, const float*, const float*, float*,
                     float*) noexcept nogil
        double (*log_ratio)(const float*, index_t, index_t, index_t, const float*, const float*) noexcept nogil
        double (*floor_latents)(const float*, index_t, index_t, index_t, double, float*) noexcept nogil
        void (*weigh_rows)(float*, index_t, const float*) noexcept nogil
        void (*closed_gradient)(const LatentPanel*) noexcept nogil
        void (*weighted_gradient)(const LatentPanel*) noexcept nogil
        void (*bernoulli)(float*, const float*, index_t, index_t, index_t, index_t, index_t, float, float*, float*,
                          double*) noexcept nogil
        void (*gaussian)(float*, const float*, index_t, index_t, index_t, index_t, index_t, float, const float*, float*, float*,
                      double*) noexcept nogil
        void (*continuous_bernoulli)(float*, const float*, index_t, index_t, index_t, index_t, index_t, float, float*,
                                     double*) noexcept nogil
        void (*x_log_std_gradient)(const float*, index_t, const float*, float, const float*, index_t, float*) noexcept nogil
        void (*levels_of_bytes)(const uint8_t*, index_t, int, int, const uint32_t*, float*) noexcept nogil
        void (*levels_of_floats)(const float*, index_t, int, int, const uint32_t*, float*) noexcept nogil
        index_t (*list)(const float*, const uint16_t*, index_t, uint16_t*, float*) noexcept nogil
        void (*see_counts)(const float*, index_t, int, float*) noexcept nogil
        void (*tabulate)(const float*, float*, index_t, index_t) noexcept nogil
        void (*counts_pass)(int, const CountRows*) noexcept nogil
        void (*dispersion_gradient)(const float*, index_t, const float*, const float*, float*) noexcept nogil
        void (*copy_columns)(const uint16_t*, const uint32_t*, index_t, uint32_t*) noexcept nogil
        void (*copy_counts)(const uint8_t*, const uint16_t*, const float*, index_t, float*) noexcept nogil
        index_t (*keep_entries)(const uint32_t*, const uint32_t*, index_t, uint32_t, float, uint32_t*, float*) noexcept nogil
        index_t (*count_below)(const uint32_t*, index_t, index_t) noexcept nogil
        void (*end_blocks)(const uint32_t*, index_t, int32_t*, index_t) noexcept nogil
        void (*place_table)(const TableRows*, const float*, float*, float*) noexcept nogil
        void (*block_rows)(const TableRows*) noexcept nogil
        void (*own_gradient)(const float*, index_t, const float*, float*) noexcept nogil
        void (*expect_rows)(const TableRows*) noexcept nogil
        void (*add_means)(const TableRows*, const double*, double, double*) noexcept nogil
    ctypedef struct Bf16Weights:
        float* parameters
        float* first
        float* second
        uint32_t* plain
        uint32_t* paired
        index_t w_panel, paired_panel
    ctypedef struct Bf16Kernels:
        void (*product)(const uint32_t*, index_t, const uint32_t*, index_t, const float*, index_t, float*, index_t, index_t,
                        index_t, index_t, index_t) noexcept nogil
        void (*round)(const float*, index_t, uint32_t*, uint32_t*) noexcept nogil
        void (*round_transposed)(const float*, index_t, uint32_t*, uint32_t*, index_t) noexcept nogil
        void (*update)(const uint32_t*, index_t, const uint32_t*, index_t, const Bf16Weights*, index_t, index_t, index_t,
                       const Adam*) noexcept nogil
        void (*gradient)(const uint32_t*, index_t, const uint32_t*, index_t, float*, index_t, index_t, index_t,
                         index_t) noexcept nogil
    const Kernels* choose_kernels(const char*) noexcept
    const Bf16Kernels* choose_bf16_kernels(const char*) noexcept

cdef extern from "threads.h" nogil:
    int64_t fetch_add(int64_t*, int64_t)
    int64_t load_acquire(const int64_t*)
    void store_release(int64_t*, int64_t)
    void pause_core()
    void yield_core()
    uint64_t flush_denormals()
    void restore_mode(uint64_t)
    void prefetch(const void*, int64_t)
    void prefetch_near(const void*, int64_t)

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
    ROWS = 13
    DYNAMIC = 0
    # Likelihoods; SHARES and NEGATIVE_BINOMIAL are those of counts, BLOCKS that of tables in blocks of columns.
    BERNOULLI = 0
    GAUSSIAN = 1
    SHARES = 3
    NEGATIVE_BINOMIAL = 4
    BLOCKS = 5
    # Passes over the likelihood of counts that have a meeting before them, and GRADIENT, which only training takes.
    GRADIENT = 3
    STAGES = 4
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
    # Blocks of columns that a row is summed over before the next row is, and the entries that it must have in them on average.
    # Four panels of such weights, 32 KB, come from the first-level cache; a visit costs as much as some six entries.
    GATHER_BLOCKS = 2
    WORTH_A_VISIT = 16
    # The entries of rows so far ahead are asked for.
    ROWS_AHEAD = 4
    # Output panels whose gradient is transposed at a time, and panel rows of a gradient whose squares one worker adds;
    # vaefast/engines/plan.py.
    TRANSPOSED_PANELS = 128
    NORM_ROWS = 256
    # Weightings of vaefast/engines/credit.py.
    SAMPLED = 0
    DREG = 2
    # Where the number of a sample stands beside the purpose in the noise's counter.
    SAMPLE_SHIFT = 16

_COLUMNS = (
    SOURCE, OUTPUT, D_SOURCE, D_OUTPUT, WEIGHT, BIAS, INPUTS, OUTPUTS, OUTPUT_PANELS, SPLIT, SOURCE_SPLIT, ACTIVATION,
    SOURCE_ACTIVATION, ROWS, BLOCK_PIXELS, HALVES, KIND, FIRST_PANEL, PANELS, SCALE_PANEL, FREEDOM_PANEL, OWN, FIRST_VARIABLE,
    LAST_VARIABLE, BLOCK_FIELDS, TRANSPOSED_PANELS, NORM_ROWS, SAMPLED, DREG,
)
if _COLUMNS != (
    _plan.SOURCE, _plan.OUTPUT, _plan.D_SOURCE, _plan.D_OUTPUT, _plan.WEIGHT, _plan.BIAS, _plan.INPUTS, _plan.OUTPUTS,
    _plan.OUTPUT_PANELS, _plan.SPLIT, _plan.SOURCE_SPLIT, _plan.ACTIVATION, _plan.SOURCE_ACTIVATION, _plan.ROWS,
    _plan.BLOCK_PIXELS, _plan.HALVES, _plan.KIND, _plan.FIRST_PANEL, _plan.PANELS, _plan.SCALE_PANEL, _plan.FREEDOM_PANEL, _plan.OWN,
    _plan.FIRST_VARIABLE, _plan.LAST_VARIABLE, _plan.BLOCK_FIELDS, _plan.TRANSPOSED_PANELS, _plan.NORM_ROWS, _credit.SAMPLED,
    _credit.DREG,
):
    raise ImportError("the extension was built from other sources than vaefast/engines/plan.py; build it again")

cdef double SMALLEST_WEIGHT = _credit.SMALLEST_WEIGHT


cdef inline index_t smaller(index_t a, index_t b) noexcept nogil:
    return a if a < b else b


cdef inline index_t panels_of(index_t width) noexcept nogil:
    return (width + PANEL - 1) // PANEL


cdef int inside(index_t start, index_t extent, index_t size) except -1 nogil:
    """Raise unless a range lies within an array of this size."""
    if start < 0 or extent < 0 or start + extent > size:
        raise IndexError(f"elements {start} to {start + extent - 1} of an array of {size}")
    return 0

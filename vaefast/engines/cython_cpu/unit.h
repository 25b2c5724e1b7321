/* Every kernel for one instruction set; see kernels.h for what each does. The including file says which, and its name. */
#include "kernels.h"

#include "tiles.h"

#include "elementwise.h"

#define HALF_LANES (LANES / 2)

static inline index_t smaller(index_t a, index_t b) { return a < b ? a : b; }

static inline void fill(float *target, index_t size, float value) {
    for (index_t j = 0; j < size; j++) target[j] = value;
}

/* ---- products ---- */

#define TILES(rows, panels)                                                                                                 \
    for (; r + rows <= last; r += rows)                                                                                     \
        product_tile(rows, panels, A + r * PANEL, a_panel, W, w_panel, S + r * s_row, s_row, s_panel, C + r * PANEL, c_panel, K);

static void block(const float *A, index_t a_panel, const float *W, index_t w_panel, const float *S, index_t s_row,
                  index_t s_panel, float *C, index_t c_panel, index_t K, index_t first, index_t last, index_t width) {
    index_t r = first;
#if GROUP > 1
    if (width == GROUP) {
        TILES(ROWS, GROUP)
        TILES(SMALL_ROWS, GROUP)
        TILES(1, GROUP)
        return;
    }
#endif
    TILES(ROWS, 1)
#if SMALL_ROWS < ROWS
    TILES(SMALL_ROWS, 1)
#endif
    TILES(1, 1)
}

/* A tile reads its right operand, DEPTH rows of one or two panels, once for every ten rows of the left one, so those 32 KB stay
 * in the first-level cache. Between blocks the sums rest in the output as float32, which is exact. */
static void product(const float *A, index_t a_panel, const float *W, index_t w_panel, const float *start, index_t s_panel,
                    float *C, index_t c_panel, index_t K, index_t first, index_t last, index_t panels) {
    for (index_t panel = 0; panel < panels; panel += GROUP) {
        index_t width = smaller(GROUP, panels - panel);
        const float *right = W + panel * w_panel;
        float *out = C + panel * c_panel;
        if (start)
            block(A, a_panel, right, w_panel, start + panel * s_panel, 0, s_panel, out, c_panel, smaller(DEPTH, K), first, last,
                  width);
        else
            block(A, a_panel, right, w_panel, out, PANEL, c_panel, out, c_panel, smaller(DEPTH, K), first, last, width);
        for (index_t k = DEPTH; k < K; k += DEPTH)
            block(A + k / PANEL * a_panel, a_panel, right + k * PANEL, w_panel, out, PANEL, c_panel, out, c_panel,
                  smaller(DEPTH, K - k), first, last, width);
    }
}

INLINE void gather_of(const int wide, const float *W, index_t w_panel, const void *index, const float *value, index_t count,
                      const float *start, index_t s_panel, float *C, index_t c_panel, index_t panels) {
    index_t panel = 0;
#define GATHER(n)                                                                                                           \
    for (; panel + n <= panels; panel += n)                                                                                 \
        gather_tile(n, wide, W + panel * w_panel, w_panel, index, value, count, start + panel * s_panel, s_panel,               \
                    C + panel * c_panel, c_panel);
    GATHER(GATHER_WIDEST)
#if GATHER_WIDEST > 4
    GATHER(4)
#endif
    GATHER(2)
    GATHER(1)
}

static void gather(const float *W, index_t w_panel, const uint16_t *index, const float *value, index_t count,
                   const float *start, float *C, index_t c_panel, index_t panels) {
    gather_of(0, W, w_panel, index, value, count, start, PANEL, C, c_panel, panels);
}

static void gather_columns(const float *W, index_t w_panel, const uint32_t *index, const float *value, index_t count,
                           const float *start, index_t s_panel, float *C, index_t c_panel, index_t panels) {
    gather_of(1, W, w_panel, index, value, count, start, s_panel, C, c_panel, panels);
}

INLINE void scatter_of(const int wide, const float *D, index_t d_panel, const void *index, const float *value, index_t count,
                       index_t base, float *G, index_t g_panel, index_t panels) {
    index_t panel = 0;
#define SCATTER(n)                                                                                                          \
    for (; panel + n <= panels; panel += n)                                                                                 \
        scatter_tile(n, wide, D + panel * d_panel, d_panel, index, value, count, base, G + panel * g_panel, g_panel);
    SCATTER(GATHER_WIDEST)
#if GATHER_WIDEST > 4
    SCATTER(4)
#endif
    SCATTER(2)
    SCATTER(1)
}

static void scatter(const float *D, index_t d_panel, const uint16_t *index, const float *value, index_t count, index_t base,
                    float *G, index_t g_panel, index_t panels) {
    scatter_of(0, D, d_panel, index, value, count, base, G, g_panel, panels);
}

static void scatter_columns(const float *D, index_t d_panel, const uint32_t *index, const float *value, index_t count,
                            index_t base, float *G, index_t g_panel, index_t panels) {
    scatter_of(1, D, d_panel, index, value, count, base, G, g_panel, panels);
}

/* ---- weights ---- */

static void adam_rows(const float *gradient, float *parameters, float *first, float *second, index_t count, const Adam *adam) {
    for (index_t place = 0; place < count * PANEL; place += LANES)
        adam_vector(parameters + place, first + place, second + place, load(gradient + place), adam);
}

INLINE void update_panels(const int panels, const float *A, index_t a_panel, const float *D, index_t d_panel,
                          float *parameters, float *first, float *second, index_t w_panel, index_t inputs, index_t B,
                          float *scratch, const Adam *adam) {
    for (index_t k = 0; k < inputs; k += PANEL) {
        const float *a = A + k / PANEL * a_panel;
        index_t height = smaller(PANEL, inputs - k), row = 0;
        for (; row + GRADIENT_ROWS <= height; row += GRADIENT_ROWS) {
            index_t w = (k + row) * PANEL;
            update_tile(GRADIENT_ROWS, panels, a + row, D, d_panel, parameters + w, first + w, second + w, w_panel, B, adam);
        }
        if (row < height) {
            /* A tile has more rows than are left here: its gradient goes by way of memory. */
            gradient_tile(GRADIENT_ROWS, panels, a + row, D, d_panel, scratch, GRADIENT_ROWS * PANEL, B);
            for (int q = 0; q < panels; q++) {
                index_t w = (k + row) * PANEL + q * w_panel;
                adam_rows(scratch + q * GRADIENT_ROWS * PANEL, parameters + w, first + w, second + w, height - row, adam);
            }
        }
    }
}

static void update(const float *A, index_t a_panel, const float *D, index_t d_panel, float *parameters, float *first,
                   float *second, index_t w_panel, index_t inputs, index_t B, index_t panels, float *scratch,
                   const Adam *adam) {
    if (panels == GROUP)
        update_panels(GROUP, A, a_panel, D, d_panel, parameters, first, second, w_panel, inputs, B, scratch, adam);
    else
        update_panels(1, A, a_panel, D, d_panel, parameters, first, second, w_panel, inputs, B, scratch, adam);
}

static void scaled_adam(const float *gradient, float scale, float *parameters, float *first, float *second, index_t count,
                        const Adam *adam) {
    for (index_t place = 0; place < count * PANEL; place += LANES)
        adam_vector(parameters + place, first + place, second + place, load(gradient + place) * splat(scale), adam);
}

INLINE void gradient_panels(const int panels, const float *A, index_t a_panel, const float *D, index_t d_panel, float *G,
                            index_t g_panel, index_t inputs, index_t B, float *scratch) {
    for (index_t k = 0; k < inputs; k += PANEL) {
        const float *a = A + k / PANEL * a_panel;
        index_t height = smaller(PANEL, inputs - k), row = 0;
        for (; row + GRADIENT_ROWS <= height; row += GRADIENT_ROWS)
            gradient_tile(GRADIENT_ROWS, panels, a + row, D, d_panel, G + (k + row) * PANEL, g_panel, B);
        if (row < height) {
            gradient_tile(GRADIENT_ROWS, panels, a + row, D, d_panel, scratch, GRADIENT_ROWS * PANEL, B);
            for (int q = 0; q < panels; q++)
                memcpy(G + (k + row) * PANEL + q * g_panel, scratch + q * GRADIENT_ROWS * PANEL,
                       (size_t)(height - row) * PANEL * sizeof(float));
        }
    }
}

static void gradient_of(const float *A, index_t a_panel, const float *D, index_t d_panel, float *G, index_t g_panel,
                        index_t inputs, index_t B, index_t panels, float *scratch) {
    if (panels == GROUP)
        gradient_panels(GROUP, A, a_panel, D, d_panel, G, g_panel, inputs, B, scratch);
    else
        gradient_panels(1, A, a_panel, D, d_panel, G, g_panel, inputs, B, scratch);
}

/* A product of two float32 is exact in float64 (41). */
static void add_squares(const float *restrict gradient, index_t count, double *restrict lanes) {
    for (int j = 0; j < PANEL; j++) lanes[j] = 0.0;
    for (index_t row = 0; row < count; row++)
        for (int j = 0; j < PANEL; j++) {
            double value = (double)gradient[row * PANEL + j];
            lanes[j] += value * value;
        }
}

/* ---- transposition ---- */

static void transpose(const float *source, index_t rows, float *out, index_t out_panel) {
    for (index_t r = 0; r < rows; r += PANEL, source += PANEL * PANEL, out += out_panel) {
        if (r + PANEL <= rows) {
            transpose_block(source, 0, out);
            continue;
        }
        fill(out, PANEL * PANEL, 0.0f);
        for (index_t row = 0; row < rows - r; row++)
            for (index_t j = 0; j < PANEL; j++) out[j * PANEL + row] = source[row * PANEL + j];
    }
}

static void fold(const float *P, const float *Q, index_t p_panel, index_t rows, float *out) {
    for (index_t r = 0; r < rows; r += PANEL, P += p_panel, Q += p_panel, out += PANEL * PANEL) {
        if (r + PANEL <= rows) {
            transpose_block(P, Q, out);
            continue;
        }
        for (index_t row = 0; row < rows - r; row++)
            for (index_t j = 0; j < PANEL; j++) out[row * PANEL + j] = P[j * PANEL + row] + Q[j * PANEL + row];
    }
}

/* ---- activations ---- */

static void activate(float *h, index_t size, int activation) {
    if (activation == RELU)
        /* NaN is neither below nor above zero and goes through, for the guard to see. */
        for (index_t j = 0; j < size; j++) h[j] = h[j] < 0.0f ? 0.0f : h[j];
    else if (activation == TANH)
        for (index_t j = 0; j < size; j++) h[j] = tanh_of(h[j]);
}

static void slope(float *restrict d_h, const float *restrict h, index_t size, int activation) {
    if (activation == RELU) /* h = relu(a) (9) */
        for (index_t j = 0; j < size; j++) d_h[j] = h[j] > 0.0f ? d_h[j] : 0.0f;
    else if (activation == TANH) /* h = tanh(a) (10) */
        for (index_t j = 0; j < size; j++) d_h[j] = d_h[j] * fused(-h[j], h[j], 1.0f);
}

/* ---- noise: vaefast/models/noise.py ---- */

typedef uint64_t counters __attribute__((vector_size(LANES * 4)));
typedef uint64_t counters_anywhere __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#if LANES == 16
#define LANE_NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#define PAIRS_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define PAIRS_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif LANES == 8
#define LANE_NUMBERS 0, 1, 2, 3
#define PAIRS_LOW 0, 4, 1, 5
#define PAIRS_HIGH 2, 6, 3, 7
#else
#define LANE_NUMBERS 0, 1
#define PAIRS_LOW 0, 2
#define PAIRS_HIGH 1, 3
#endif

/* The product of the low 32 bits of each lane. */
INLINE counters low_product(counters a, counters b) {
#if defined(UNIT_AVX512)
    return (counters)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(UNIT_AVX2)
    return (counters)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
    return (counters)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

/* Philox4x32-10 on vectors of counters, a 64-bit lane each. */
static void fill_words(const Source *source, uint64_t example, index_t count, uint32_t *words) {
    const counters zero = {0}, low = zero + 0xFFFFFFFFu, multiplier_0 = zero + 0xD2511F53u, multiplier_1 = zero + 0xCD9E8D57u;
    for (index_t place = 0; place < count; place += 2 * LANES) {
        counters c0 = (counters){LANE_NUMBERS} + (uint64_t)(place / 4), c1 = zero + example;
        counters c2 = zero + source->step, c3 = zero + source->purpose;
        uint64_t key_0 = source->seed & 0xFFFFFFFFu, key_1 = source->seed >> 32;
        UNROLL for (int round = 0; round < 10; round++) {
            counters product_0 = low_product(multiplier_0, c0), product_1 = low_product(multiplier_1, c2);
            c0 = (product_1 >> 32) ^ c1 ^ (zero + key_0);
            c1 = product_1 & low;
            c2 = (product_0 >> 32) ^ c3 ^ (zero + key_1);
            c3 = product_0 & low;
            key_0 = (key_0 + 0x9E3779B9u) & 0xFFFFFFFFu;
            key_1 = (key_1 + 0xBB67AE85u) & 0xFFFFFFFFu;
        }
        counters first = c0 | c1 << 32, second = c2 | c3 << 32;
        *(counters_anywhere *)(words + place) = __builtin_shufflevector(first, second, PAIRS_LOW);
        *(counters_anywhere *)(words + place + LANES) = __builtin_shufflevector(first, second, PAIRS_HIGH);
    }
}

static inline float uniform(uint32_t word) { return ((float)(int32_t)(word >> 9) + 0.5f) * 0x1p-23f; }

/* Standard normals by Box & Muller's transform of words 2 i and 2 i + 1. */
static void fill_normals(const uint32_t *restrict words, index_t size, float *restrict normals) {
    for (index_t i = 0; i < size / 2; i++) {
        float radius = __builtin_sqrtf(-2.0f * log_of(uniform(words[2 * i])));
        float turn = uniform(words[2 * i + 1]);
        normals[2 * i] = radius * sine_of_turns(turn, 1);
        normals[2 * i + 1] = radius * sine_of_turns(turn, 0);
    }
}

#include "sampling.h"

/* ---- likelihoods ---- */

#include "likelihoods.h"

#include "rising.h"

#include "counts.h"

#include "blocks.h"

/* ---- pixels ---- */

/* The last word that turns a level from 1 to 255 on: floor(level * 2^32 / 255) - 1, and 2^32 = 255 * 16843009 + 1. */
static inline uint32_t last_on(uint8_t level) { return (uint32_t)level * 16843009u - (level == 255 ? 0u : 1u); }

static void levels_of_bytes(const uint8_t *restrict levels, index_t size, int lists, int binarize,
                            const uint32_t *restrict words, float *restrict row) {
    if (binarize == DYNAMIC && lists)
        for (index_t i = 0; i < size; i++) row[i] = words[i] <= last_on(levels[i]) ? 1.0f : 0.0f;
    else if (binarize == DYNAMIC)
        for (index_t i = 0, n = 0; i < size; i++) {
            row[i] = levels[i] != 0 && words[n] <= last_on(levels[i]) ? 1.0f : 0.0f;
            n += levels[i] != 0;
        }
    else if (binarize == THRESHOLD)
        for (index_t i = 0; i < size; i++) row[i] = levels[i] >= 128 ? 1.0f : 0.0f;
    else
        for (index_t i = 0; i < size; i++) row[i] = (float)levels[i] / 255.0f;
}

static void levels_of_floats(const float *restrict levels, index_t size, int lists, int binarize,
                             const uint32_t *restrict words, float *restrict row) {
    if (binarize == DYNAMIC)
        for (index_t i = 0, n = 0; i < size; i++) {
            /* word < floor(level * 2^32), exact in float64 */
            row[i] = (double)words[n] + 1.0 <= (double)levels[i] * 0x1p32 ? 1.0f : 0.0f;
            n += lists || levels[i] != 0.0f;
        }
    else if (binarize == THRESHOLD)
        for (index_t i = 0; i < size; i++) row[i] = levels[i] >= 0.5f ? 1.0f : 0.0f;
    else
        memcpy(row, levels, (size_t)size * sizeof(float));
}

/* No branch: each is written, and overwritten by the next unless it counts. */
static index_t list_pixels(const float *restrict row, const uint16_t *restrict pixel, index_t size,
                           uint16_t *restrict indices, float *restrict values) {
    index_t count = 0;
    for (index_t i = 0; i < size; i++) {
        indices[count] = pixel[i];
        values[count] = row[i];
        count += row[i] != 0.0f;
    }
    return count;
}

const Kernels UNIT_KERNELS = {
    UNIT_NAME, GROUP, GRADIENT_ROWS, product, gather, gather_columns, scatter, scatter_columns, update, adam_rows, gradient_of,
    scaled_adam, add_squares, transpose, fold, activate, slope, fill_words, spread_out, draw, log_ratio, floor_latents,
    weigh_rows, closed_gradient, weighted_gradient, bernoulli, gaussian, continuous_bernoulli, x_log_std_gradient,
    levels_of_bytes, levels_of_floats, list_pixels, see_counts, tabulate, counts_pass, dispersion_gradient, copy_columns,
    copy_counts, keep_entries, count_below, end_blocks, place_table, block_rows, own_gradient, expect_rows, add_means,
};

/* Products whose factors are bfloat16 and whose sums are float32 (74), (75), for one instruction set; Bf16Kernels of kernels.h
 * says what each function does. The including file says which set; UNIT_BF16 is AVX-512 with vdpbf16ps.
 *
 * Two bfloat16 make a word of 32 bits, the first in its low half. A matrix (rows, width) in panels of 16 columns has two forms:
 *
 *   plain   word (i, q) = columns 2 q and 2 q + 1 of row i, 8 words a row: what a product broadcasts on its left;
 *   paired  word (p, j) = rows 2 p and 2 p + 1 of column j, 16 words a pair of rows: what a product reads on its right, and
 *           both factors of a weight gradient. A last row without a partner is paired with zeros.
 *
 * Every output element is one chain of `dot_pair` in ascending order of the pairs (76), whatever the tile's shape and the vector
 * width. A product of two bfloat16 has 16 bits, which float32 holds: so multiply and add round once even without a fused
 * multiply-add, and all instruction sets have the same bits as vdpbf16ps on a Zen 4.
 */
#include "kernels.h"

#include "tiles.h"

#include <string.h>

#define PAIR_WORDS (PANEL / 2) /* of a row of a panel, or rows of a transposed one */
/* Pairs of the inner index that are summed before a tile goes on to the next ones: 256 pairs of two panels are 32 KB. */
#define PAIR_DEPTH 256

#if defined(UNIT_BF16)
#define BF16_ROWS 10
#elif defined(UNIT_AVX512)
/* Both halves of two right vectors take 4 registers, the left factors 2. */
#define BF16_ROWS 10
#elif defined(UNIT_AVX2)
#define BF16_ROWS 4
#elif defined(__aarch64__)
#define BF16_ROWS 4
#else
#define BF16_ROWS 2
#endif

typedef uint32_t words __attribute__((vector_size(LANES * 4)));
typedef uint32_t words_anywhere __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

INLINE words load_words(const uint32_t *p) { return *(const words_anywhere *)p; }

INLINE void store_words(uint32_t *p, words v) { *(words_anywhere *)p = v; }

INLINE words splat_word(uint32_t x) {
    words zero = {0};
    return zero + x;
}

static inline index_t least(index_t a, index_t b) { return a < b ? a : b; }

#if defined(UNIT_BF16)
/* Words as the instruction takes them. */
typedef words factors;

INLINE factors factors_of(words w) { return w; }

INLINE vec dot_pair(vec sum, factors left, factors right) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
}
#else
/* Both halves of words as float32. */
typedef struct {
    vec low, high;
} factors;

INLINE factors factors_of(words w) { return (factors){(vec)(w << 16), (vec)(w & 0xFFFF0000u)}; }

INLINE vec dot_pair(vec sum, factors left, factors right) {
    return multiply_add(left.low, right.low, multiply_add(left.high, right.high, sum));
}
#endif

/* ---- products ---- */

/* rows x (panels * 16) elements of C = S + A @ W over so many pairs; the first two are constants. A is plain, W paired. */
INLINE void paired_tile(const int rows, const int panels, const uint32_t *A, index_t a_panel, const uint32_t *W,
                        index_t w_panel, const float *S, index_t s_row, index_t s_panel, float *C, index_t c_panel,
                        index_t pairs) {
    vec sums[BF16_ROWS][GROUP * VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < panels * VECTORS; j++)
            sums[i][j] = load(S + i * s_row + j / VECTORS * s_panel + j % VECTORS * LANES);
    for (index_t first = 0; first < pairs; first += PAIR_WORDS) {
        index_t depth = least(PAIR_WORDS, pairs - first);
        for (index_t k = 0; k < depth; k++) {
            factors right[GROUP * VECTORS];
            UNROLL for (int j = 0; j < panels * VECTORS; j++)
                right[j] = factors_of(load_words(W + (first + k) * PANEL + j / VECTORS * w_panel + j % VECTORS * LANES));
            UNROLL for (int i = 0; i < rows; i++) {
                factors left = factors_of(splat_word(A[i * PAIR_WORDS + k]));
                UNROLL for (int j = 0; j < panels * VECTORS; j++) sums[i][j] = dot_pair(sums[i][j], left, right[j]);
            }
        }
        A += a_panel;
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < panels * VECTORS; j++)
            store(C + i * PANEL + j / VECTORS * c_panel + j % VECTORS * LANES, sums[i][j]);
}

#define PAIRED_TILES(rows, panels)                                                                                          \
    for (; r + rows <= last; r += rows)                                                                                     \
        paired_tile(rows, panels, A + r * PAIR_WORDS, a_panel, W, w_panel, S + r * s_row, s_row, s_panel, C + r * PANEL,        \
                    c_panel, pairs);

static void paired_block(const uint32_t *A, index_t a_panel, const uint32_t *W, index_t w_panel, const float *S, index_t s_row,
                         index_t s_panel, float *C, index_t c_panel, index_t pairs, index_t first, index_t last,
                         index_t width) {
    index_t r = first;
    (void)width;
#if GROUP > 1
    if (width == GROUP) {
        PAIRED_TILES(BF16_ROWS, GROUP)
        PAIRED_TILES(SMALL_ROWS, GROUP)
        PAIRED_TILES(1, GROUP)
        return;
    }
#endif
    PAIRED_TILES(BF16_ROWS, 1)
#if SMALL_ROWS < BF16_ROWS
    PAIRED_TILES(SMALL_ROWS, 1)
#endif
    PAIRED_TILES(1, 1)
}

static void paired_product(const uint32_t *A, index_t a_panel, const uint32_t *W, index_t w_panel, const float *start,
                           index_t s_panel, float *C, index_t c_panel, index_t K, index_t first, index_t last,
                           index_t panels) {
    index_t pairs = (K + 1) / 2;
    for (index_t panel = 0; panel < panels; panel += GROUP) {
        index_t width = least(GROUP, panels - panel);
        const uint32_t *right = W + panel * w_panel;
        float *out = C + panel * c_panel;
        if (start)
            paired_block(A, a_panel, right, w_panel, start + panel * s_panel, 0, s_panel, out, c_panel,
                         least(PAIR_DEPTH, pairs), first, last, width);
        else
            paired_block(A, a_panel, right, w_panel, out, PANEL, c_panel, out, c_panel, least(PAIR_DEPTH, pairs), first, last,
                         width);
        for (index_t k = PAIR_DEPTH; k < pairs; k += PAIR_DEPTH)
            paired_block(A + k / PAIR_WORDS * a_panel, a_panel, right + k * PANEL, w_panel, out, PANEL, c_panel, out, c_panel,
                         least(PAIR_DEPTH, pairs - k), first, last, width);
    }
}

/* ---- rounding ---- */

#if defined(UNIT_BF16)
/* Rows 2 p and 2 p + 1 of a panel, plain: 16 words. */
INLINE words plain_pair(const float *row, const int both) {
    __m512 first = (__m512)load(row), second = both ? (__m512)load(row + PANEL) : _mm512_setzero_ps();
    return (words)_mm512_cvtne2ps_pbh(second, first);
}

INLINE words paired_of_plain(words plain) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                           20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (words)_mm512_permutexvar_epi16(order, (__m512i)plain);
}

INLINE void round_pair(const float *row, const int both, uint32_t *plain, uint32_t *paired) {
    words rounded = plain_pair(row, both);
    if (plain && both)
        store_words(plain, rounded);
    else if (plain)
        _mm256_storeu_si256((__m256i *)plain, _mm512_castsi512_si256((__m512i)rounded));
    if (paired) store_words(paired, paired_of_plain(rounded));
}
#else
/* The bits of the nearest bfloat16, of two the even one, in the high half of a word; as vdpbf16ps has it, numbers below 2^-126
 * become zero. */
static inline uint32_t rounded_bits(const float *x) {
    uint32_t bits;
    memcpy(&bits, x, 4);
    uint32_t magnitude = bits & 0x7FFFFFFFu, nearest = bits + 0x7FFFu + (bits >> 16 & 1u);
    nearest = magnitude < 0x00800000u ? bits & 0x80000000u : nearest;
    nearest = magnitude > 0x7F800000u ? bits | 0x00400000u : nearest;
    return nearest & 0xFFFF0000u;
}

INLINE void round_pair(const float *row, const int both, uint32_t *plain, uint32_t *paired) {
    uint32_t first[PANEL], second[PANEL] = {0};
    for (int j = 0; j < PANEL; j++) first[j] = rounded_bits(row + j);
    if (both)
        for (int j = 0; j < PANEL; j++) second[j] = rounded_bits(row + PANEL + j);
    if (plain)
        for (int q = 0; q < PAIR_WORDS; q++) {
            plain[q] = first[2 * q] >> 16 | first[2 * q + 1];
            if (both) plain[PAIR_WORDS + q] = second[2 * q] >> 16 | second[2 * q + 1];
        }
    if (paired)
        for (int j = 0; j < PANEL; j++) paired[j] = first[j] >> 16 | second[j];
}
#endif

INLINE void round_rows_of(const float *source, index_t rows, uint32_t *plain, uint32_t *paired, const int has_plain,
                          const int has_paired) {
    for (index_t r = 0; r < rows; r += 2) {
        uint32_t *p = has_plain ? plain + r * PAIR_WORDS : 0, *q = has_paired ? paired + r * PAIR_WORDS : 0;
        if (r + 1 < rows)
            round_pair(source + r * PANEL, 1, p, q);
        else
            round_pair(source + r * PANEL, 0, p, q);
    }
}

static void round_rows(const float *source, index_t rows, uint32_t *plain, uint32_t *paired) {
    if (paired)
        round_rows_of(source, rows, plain, paired, 1, 1);
    else
        round_rows_of(source, rows, plain, 0, 1, 0);
}

#if LANES == 16
#define PAIR_STAGES 4
/* 16 rows of 8 words, two rows a vector, to 8 rows of 16: interleaving vector i with vector i + 4, four times. */
INLINE void transpose_pairs(words pairs[PAIR_WORDS], uint32_t *out) {
    words next[PAIR_WORDS];
    UNROLL for (int stage = 0; stage < PAIR_STAGES; stage++) {
        UNROLL for (int i = 0; i < PAIR_WORDS / 2; i++) {
            next[2 * i] = __builtin_shufflevector(pairs[i], pairs[i + PAIR_WORDS / 2], INTERLEAVE_LOW);
            next[2 * i + 1] = __builtin_shufflevector(pairs[i], pairs[i + PAIR_WORDS / 2], INTERLEAVE_HIGH);
        }
        UNROLL for (int i = 0; i < PAIR_WORDS; i++) pairs[i] = next[i];
    }
    UNROLL for (int q = 0; q < PAIR_WORDS; q++) store_words(out + q * PANEL, pairs[q]);
}
#endif

static void round_transposed(const float *source, index_t rows, uint32_t *paired, uint32_t *out, index_t out_panel) {
    for (index_t r = 0; r < rows; r += PANEL, source += PANEL * PANEL, paired += PANEL * PAIR_WORDS, out += out_panel) {
#if defined(UNIT_BF16)
        if (r + PANEL <= rows) {
            words pairs[PAIR_WORDS];
            UNROLL for (int p = 0; p < PAIR_WORDS; p++) {
                pairs[p] = plain_pair(source + 2 * p * PANEL, 1);
                store_words(paired + p * PANEL, paired_of_plain(pairs[p]));
            }
            transpose_pairs(pairs, out);
            continue;
        }
#endif
        uint32_t plain[PANEL * PAIR_WORDS] = {0};
        round_rows_of(source, least(PANEL, rows - r), plain, paired, 1, 1);
        for (int q = 0; q < PAIR_WORDS; q++)
            for (int row = 0; row < PANEL; row++) out[q * PANEL + row] = plain[row * PAIR_WORDS + q];
    }
}

/* ---- weights ---- */

/* The sums of rows x (panels * 16) elements of A^T @ D over so many pairs of rows, both paired, i within one panel of A. */
INLINE void paired_sums(const int rows, const int panels, const uint32_t *A, const uint32_t *D, index_t d_panel, index_t pairs,
                        vec sums[GRADIENT_ROWS][GROUP * VECTORS]) {
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < panels * VECTORS; j++) sums[i][j] = splat(0.0f);
    for (index_t p = 0; p < pairs; p++) {
        factors right[GROUP * VECTORS];
        UNROLL for (int j = 0; j < panels * VECTORS; j++)
            right[j] = factors_of(load_words(D + p * PANEL + j / VECTORS * d_panel + j % VECTORS * LANES));
        UNROLL for (int i = 0; i < rows; i++) {
            factors left = factors_of(splat_word(A[p * PANEL + i]));
            UNROLL for (int j = 0; j < panels * VECTORS; j++) sums[i][j] = dot_pair(sums[i][j], left, right[j]);
        }
    }
}

/* rows x (panels * 16) weights by Adam, of which `kept` rows are there; the gradient never leaves the registers. */
INLINE void paired_update_tile(const int rows, const int panels, const uint32_t *A, const uint32_t *D, index_t d_panel,
                               float *parameters, float *first, float *second, index_t w_panel, index_t pairs, index_t kept,
                               const Adam *adam) {
    vec sums[GRADIENT_ROWS][GROUP * VECTORS];
    paired_sums(rows, panels, A, D, d_panel, pairs, sums);
    UNROLL for (int i = 0; i < rows; i++) {
        if (i >= kept) break;
        UNROLL for (int j = 0; j < panels * VECTORS; j++) {
            index_t place = i * PANEL + j / VECTORS * w_panel + j % VECTORS * LANES;
            adam_vector(parameters + place, first + place, second + place, sums[i][j], adam);
        }
    }
}

INLINE void paired_update_panels(const int panels, const uint32_t *A, index_t a_panel, const uint32_t *D, index_t d_panel,
                                 const Bf16Weights *W, index_t inputs, index_t pairs, const Adam *adam) {
    for (index_t k = 0; k < inputs; k += GRADIENT_ROWS) {
        const uint32_t *a = A + k / PANEL * a_panel + k % PANEL;
        index_t w = k * PANEL, kept = least(GRADIENT_ROWS, inputs - k);
        if (kept == GRADIENT_ROWS)
            paired_update_tile(GRADIENT_ROWS, panels, a, D, d_panel, W->parameters + w, W->first + w, W->second + w, W->w_panel,
                               pairs, GRADIENT_ROWS, adam);
        else
            paired_update_tile(GRADIENT_ROWS, panels, a, D, d_panel, W->parameters + w, W->first + w, W->second + w, W->w_panel,
                               pairs, kept, adam);
        for (int q = 0; q < panels; q++)
            round_rows(W->parameters + w + q * W->w_panel, kept, W->plain + w / 2 + q * W->w_panel / 2,
                       W->paired + w / 2 + q * W->paired_panel);
    }
}

static void paired_update(const uint32_t *A, index_t a_panel, const uint32_t *D, index_t d_panel, const Bf16Weights *W,
                          index_t inputs, index_t B, index_t panels, const Adam *adam) {
    if (panels == GROUP)
        paired_update_panels(GROUP, A, a_panel, D, d_panel, W, inputs, (B + 1) / 2, adam);
    else
        paired_update_panels(1, A, a_panel, D, d_panel, W, inputs, (B + 1) / 2, adam);
}

INLINE void paired_gradient_panels(const int panels, const uint32_t *A, index_t a_panel, const uint32_t *D, index_t d_panel,
                                   float *G, index_t g_panel, index_t inputs, index_t pairs) {
    for (index_t k = 0; k < inputs; k += GRADIENT_ROWS) {
        vec sums[GRADIENT_ROWS][GROUP * VECTORS];
        index_t kept = least(GRADIENT_ROWS, inputs - k);
        paired_sums(GRADIENT_ROWS, panels, A + k / PANEL * a_panel + k % PANEL, D, d_panel, pairs, sums);
        UNROLL for (int i = 0; i < GRADIENT_ROWS; i++) {
            if (i >= kept) break;
            UNROLL for (int j = 0; j < panels * VECTORS; j++)
                store(G + (k + i) * PANEL + j / VECTORS * g_panel + j % VECTORS * LANES, sums[i][j]);
        }
    }
}

static void paired_gradient(const uint32_t *A, index_t a_panel, const uint32_t *D, index_t d_panel, float *G, index_t g_panel,
                            index_t inputs, index_t B, index_t panels) {
    if (panels == GROUP)
        paired_gradient_panels(GROUP, A, a_panel, D, d_panel, G, g_panel, inputs, (B + 1) / 2);
    else
        paired_gradient_panels(1, A, a_panel, D, d_panel, G, g_panel, inputs, (B + 1) / 2);
}

const Bf16Kernels UNIT_KERNELS = {paired_product, round_rows, round_transposed, paired_update, paired_gradient};

/* Register tiles: the inner loops of every product.
 *
 * A tile computes a small block of the output with all its accumulators in vector registers, in one loop over the inner
 * dimension, and touches memory once at the end. Every output element is one chain of fused multiply-adds in ascending order of
 * the inner index, whatever the tile's shape or the vector width, so tiles of all shapes and the Numba engine's agree bit for bit.
 *
 * An including file defines UNIT_AVX512, UNIT_AVX2, or neither.
 */
#if defined(UNIT_AVX512) || defined(UNIT_AVX2) || defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(UNIT_AVX512)
/* 32 registers: 10 x 2 accumulators + 2 right vectors + 1 broadcast; gradients 8 x 2. */
#define UNIT_NAME "AVX-512"
#define LANES 16
#define HAS_FMA
#define ROWS 10
#define GROUP 2
#define GRADIENT_ROWS 8
#define GATHER_WIDEST 7
#elif defined(UNIT_AVX2)
/* 16 registers: 6 x 2 accumulators + 2 right vectors + 1 broadcast; gradients 4 x 2. */
#define UNIT_NAME "AVX2"
#define LANES 8
#define HAS_FMA
#define ROWS 6
#define GROUP 1
#define GRADIENT_ROWS 4
#define GATHER_WIDEST 6
#elif defined(__aarch64__)
/* 32 registers of 4 lanes: 6 x 4 accumulators + 4 right vectors + 1 broadcast. */
#define UNIT_NAME "base"
#define LANES 4
#define HAS_FMA
#define ROWS 6
#define GROUP 1
#define GRADIENT_ROWS 4
#define GATHER_WIDEST 6
#else
/* 16 registers of 4 lanes and no fused multiply-add. */
#define UNIT_NAME "base"
#define LANES 4
#define ROWS 3
#define GROUP 1
#define GRADIENT_ROWS 2
#define GATHER_WIDEST 3
#endif

#define VECTORS (PANEL / LANES) /* of one panel */
#define SMALL_ROWS 4
#define DEPTH 256
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float vec_anywhere __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const vec_anywhere *)p; }

INLINE void store(float *p, vec v) { *(vec_anywhere *)p = v; }

INLINE vec splat(float x) {
#if LANES == 16
    return (vec){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#elif LANES == 8
    return (vec){x, x, x, x, x, x, x, x};
#else
    return (vec){x, x, x, x};
#endif
}

INLINE vec multiply_add(vec a, vec b, vec c) {
#if defined(UNIT_AVX512)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(UNIT_AVX2)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

INLINE vec square_root(vec a) {
#if defined(UNIT_AVX512)
    return (vec)_mm512_sqrt_ps((__m512)a);
#elif defined(UNIT_AVX2)
    return (vec)_mm256_sqrt_ps((__m256)a);
#elif defined(__x86_64__)
    return (vec)_mm_sqrt_ps((__m128)a);
#else
    vec root;
    for (int i = 0; i < LANES; i++) root[i] = __builtin_sqrtf(a[i]);
    return root;
#endif
}

/* rows x (panels * 16) elements of C = S + A @ W; both sizes are constants. */
INLINE void product_tile(const int rows, const int panels, const float *A, index_t a_panel, const float *W, index_t w_panel,
                         const float *S, index_t s_row, index_t s_panel, float *C, index_t c_panel, index_t K) {
    vec sums[ROWS][GROUP * VECTORS];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < panels * VECTORS; j++)
            sums[i][j] = load(S + i * s_row + j / VECTORS * s_panel + j % VECTORS * LANES);
    for (index_t first = 0; first < K; first += PANEL) {
        index_t depth = K - first < PANEL ? K - first : PANEL;
        for (index_t k = 0; k < depth; k++) {
            vec right[GROUP * VECTORS];
            UNROLL for (int j = 0; j < panels * VECTORS; j++)
                right[j] = load(W + (first + k) * PANEL + j / VECTORS * w_panel + j % VECTORS * LANES);
            UNROLL for (int i = 0; i < rows; i++) {
                vec left = splat(A[i * PANEL + k]);
                UNROLL for (int j = 0; j < panels * VECTORS; j++) sums[i][j] = multiply_add(left, right[j], sums[i][j]);
            }
        }
        A += a_panel;
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < panels * VECTORS; j++)
            store(C + i * PANEL + j / VECTORS * c_panel + j % VECTORS * LANES, sums[i][j]);
}

/* The sums of rows x (panels * 16) elements of A^T @ D over B rows, i within one panel of A. */
INLINE void gradient_sums(const int rows, const int panels, const float *A, const float *D, index_t d_panel, index_t B,
                          vec sums[GRADIENT_ROWS][GROUP * VECTORS]) {
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < panels * VECTORS; j++) sums[i][j] = splat(0.0f);
    for (index_t b = 0; b < B; b++) {
        vec right[GROUP * VECTORS];
        UNROLL for (int j = 0; j < panels * VECTORS; j++)
            right[j] = load(D + b * PANEL + j / VECTORS * d_panel + j % VECTORS * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            vec left = splat(A[b * PANEL + i]);
            UNROLL for (int j = 0; j < panels * VECTORS; j++) sums[i][j] = multiply_add(left, right[j], sums[i][j]);
        }
    }
}

/* Kingma & Ba (2015), algorithm 1, for one vector of weights: (14), (15) and (16). Padded columns have gradient 0 and stay 0. */
INLINE void adam_vector(float *parameter, float *first, float *second, vec g, const Adam *adam) {
    vec m = multiply_add(splat(adam->beta1), load(first), splat(adam->rest1) * g);
    vec v = multiply_add(splat(adam->beta2), load(second), splat(adam->rest2) * (g * g));
    store(first, m);
    store(second, v);
    vec root = square_root(v * splat(adam->correction));
    vec change = (splat(adam->size) * m) / (root + splat(adam->epsilon));
    store(parameter, load(parameter) - change);
}

/* rows x (panels * 16) weights by Adam; the gradient never leaves the registers. */
INLINE void update_tile(const int rows, const int panels, const float *A, const float *D, index_t d_panel, float *parameters,
                        float *first, float *second, index_t w_panel, index_t B, const Adam *adam) {
    vec sums[GRADIENT_ROWS][GROUP * VECTORS];
    gradient_sums(rows, panels, A, D, d_panel, B, sums);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < panels * VECTORS; j++) {
            index_t place = i * PANEL + j / VECTORS * w_panel + j % VECTORS * LANES;
            adam_vector(parameters + place, first + place, second + place, sums[i][j], adam);
        }
}

INLINE void gradient_tile(const int rows, const int panels, const float *A, const float *D, index_t d_panel, float *G,
                          index_t g_panel, index_t B) {
    vec sums[GRADIENT_ROWS][GROUP * VECTORS];
    gradient_sums(rows, panels, A, D, d_panel, B, sums);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < panels * VECTORS; j++)
            store(G + i * PANEL + j / VECTORS * g_panel + j % VECTORS * LANES, sums[i][j]);
}

/* Entry n of a list of indices, uint32_t if `wide`, a constant, else uint16_t. */
INLINE index_t entry_of(const int wide, const void *index, index_t n) {
    return wide ? (index_t)((const uint32_t *)index)[n] : (index_t)((const uint16_t *)index)[n];
}

/* panels * 16 elements of C = start + sum_n value[n] * W[index[n]]. */
INLINE void gather_tile(const int panels, const int wide, const float *W, index_t w_panel, const void *index,
                        const float *value, index_t count, const float *start, index_t s_panel, float *C, index_t c_panel) {
    vec sums[GATHER_WIDEST * VECTORS];
    UNROLL for (int j = 0; j < panels * VECTORS; j++) sums[j] = load(start + j / VECTORS * s_panel + j % VECTORS * LANES);
    for (index_t n = 0; n < count; n++) {
        const float *row = W + entry_of(wide, index, n) * PANEL;
        vec left = splat(value[n]);
        UNROLL for (int j = 0; j < panels * VECTORS; j++)
            sums[j] = multiply_add(left, load(row + j / VECTORS * w_panel + j % VECTORS * LANES), sums[j]);
    }
    UNROLL for (int j = 0; j < panels * VECTORS; j++) store(C + j / VECTORS * c_panel + j % VECTORS * LANES, sums[j]);
}

/* Rows index[n] - base of G += value[n] * D; D's panels * 16 elements stay in registers. */
INLINE void scatter_tile(const int panels, const int wide, const float *D, index_t d_panel, const void *index,
                         const float *value, index_t count, index_t base, float *G, index_t g_panel) {
    vec right[GATHER_WIDEST * VECTORS];
    UNROLL for (int j = 0; j < panels * VECTORS; j++) right[j] = load(D + j / VECTORS * d_panel + j % VECTORS * LANES);
    for (index_t n = 0; n < count; n++) {
        float *row = G + (entry_of(wide, index, n) - base) * PANEL;
        vec left = splat(value[n]);
        UNROLL for (int j = 0; j < panels * VECTORS; j++) {
            float *target = row + j / VECTORS * g_panel + j % VECTORS * LANES;
            store(target, multiply_add(left, right[j], load(target)));
        }
    }
}

#if LANES == 16
#define INTERLEAVE_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define INTERLEAVE_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define STAGES 4
#elif LANES == 8
#define INTERLEAVE_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define INTERLEAVE_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define STAGES 3
#else
#define INTERLEAVE_LOW 0, 4, 1, 5
#define INTERLEAVE_HIGH 2, 6, 3, 7
#define STAGES 2
#endif

/* Interleaving row i with row i + LANES / 2, log2(LANES) times, transposes a square. */
INLINE void transpose_square(vec rows[LANES]) {
    vec next[LANES];
    UNROLL for (int stage = 0; stage < STAGES; stage++) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], INTERLEAVE_LOW);
            next[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + LANES / 2], INTERLEAVE_HIGH);
        }
        UNROLL for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
}

/* Element (i, j) of the 16 x 16 block P, or of P + Q, to T[16 j + i]. */
INLINE void transpose_block(const float *P, const float *Q, float *T) {
    for (int top = 0; top < PANEL; top += LANES)
        for (int left = 0; left < PANEL; left += LANES) {
            vec rows[LANES];
            UNROLL for (int i = 0; i < LANES; i++) {
                index_t place = (top + i) * PANEL + left;
                rows[i] = Q ? load(P + place) + load(Q + place) : load(P + place);
            }
            transpose_square(rows);
            UNROLL for (int j = 0; j < LANES; j++) store(T + (left + j) * PANEL + top, rows[j]);
        }
}

/* Instructions of PTX as functions of C, named as in PTX; PTX ISA, "Instruction Set". */
#ifndef STANDIN_ARITHMETIC_H
#define STANDIN_ARITHMETIC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef __int128 wide_signed;
typedef unsigned __int128 wide_unsigned;

#define CAST(name, to, from)               \
    static inline to name(from value) {    \
        to result;                         \
        memcpy(&result, &value, sizeof result); \
        return result;                     \
    }
CAST(float_of, float, uint32_t)
CAST(bits_of, uint32_t, float)
CAST(double_of, double, uint64_t)
CAST(wide_bits_of, uint64_t, double)

/* ---- integers; the result of a division by zero is all ones, as on the device ---- */

#define INTEGERS(s, u, bits, wide_s, wide_u)                                                                                  \
    static inline u add_u##bits(u a, u b) { return (u)(a + b); }                                                              \
    static inline u sub_u##bits(u a, u b) { return (u)(a - b); }                                                              \
    static inline u mul_lo_u##bits(u a, u b) { return (u)((wide_u)a * b); }                                                   \
    static inline u mul_hi_u##bits(u a, u b) { return (u)(((wide_u)a * b) >> bits); }                                         \
    static inline s mul_hi_s##bits(s a, s b) { return (s)(((wide_s)a * b) >> bits); }                                         \
    static inline wide_u mul_wide_u##bits(u a, u b) { return (wide_u)a * b; }                                                 \
    static inline wide_s mul_wide_s##bits(s a, s b) { return (wide_s)a * b; }                                                 \
    static inline u div_u##bits(u a, u b) { return b ? (u)(a / b) : (u)~(u)0; }                                               \
    static inline s div_s##bits(s a, s b) { return b == 0 ? (s)-1 : b == -1 ? (s)(0 - (u)a) : (s)(a / b); }                   \
    static inline u rem_u##bits(u a, u b) { return b ? (u)(a % b) : a; }                                                      \
    static inline s rem_s##bits(s a, s b) { return b == 0 ? a : b == -1 ? 0 : (s)(a % b); }                                   \
    static inline u min_u##bits(u a, u b) { return a < b ? a : b; }                                                           \
    static inline s min_s##bits(s a, s b) { return a < b ? a : b; }                                                           \
    static inline u max_u##bits(u a, u b) { return a > b ? a : b; }                                                           \
    static inline s max_s##bits(s a, s b) { return a > b ? a : b; }                                                           \
    static inline s abs_s##bits(s a) { return a < 0 ? (s)(0 - (u)a) : a; }                                                    \
    static inline u neg_u##bits(u a) { return (u)(0 - a); }                                                                   \
    static inline u and_b##bits(u a, u b) { return a & b; }                                                                   \
    static inline u or_b##bits(u a, u b) { return a | b; }                                                                    \
    static inline u xor_b##bits(u a, u b) { return a ^ b; }                                                                   \
    static inline u not_b##bits(u a) { return (u)~a; }                                                                        \
    static inline u cnot_b##bits(u a) { return a == 0; }                                                                      \
    static inline u shl_b##bits(u a, uint32_t n) { return n >= bits ? 0 : (u)(a << n); }                                      \
    static inline u shr_u##bits(u a, uint32_t n) { return n >= bits ? 0 : (u)(a >> n); }                                      \
    static inline s shr_s##bits(s a, uint32_t n) { return (s)(a >> (n >= bits ? bits - 1 : n)); }

INTEGERS(int16_t, uint16_t, 16, int32_t, uint32_t)
INTEGERS(int32_t, uint32_t, 32, int64_t, uint64_t)
INTEGERS(int64_t, uint64_t, 64, wide_signed, wide_unsigned)

static inline uint32_t popc_b32(uint32_t a) { return (uint32_t)__builtin_popcount(a); }
static inline uint32_t popc_b64(uint64_t a) { return (uint32_t)__builtin_popcountll(a); }
static inline uint32_t clz_b32(uint32_t a) { return a ? (uint32_t)__builtin_clz(a) : 32; }
static inline uint32_t clz_b64(uint64_t a) { return a ? (uint32_t)__builtin_clzll(a) : 64; }
static inline uint32_t bfind_u32(uint32_t a) { return a ? 31 - clz_b32(a) : ~0u; }
static inline uint32_t bfind_u64(uint64_t a) { return a ? 63 - clz_b64(a) : ~0u; }
static inline uint32_t bfind_s32(int32_t a) { return bfind_u32((uint32_t)(a < 0 ? ~a : a)); }
static inline uint32_t bfind_s64(int64_t a) { return bfind_u64((uint64_t)(a < 0 ? ~a : a)); }

static inline uint64_t reversed(uint64_t a, int bits) {
    uint64_t result = 0;
    for (int i = 0; i < bits; i++) result |= ((a >> i) & 1) << (bits - 1 - i);
    return result;
}
static inline uint32_t brev_b32(uint32_t a) { return (uint32_t)reversed(a, 32); }
static inline uint64_t brev_b64(uint64_t a) { return reversed(a, 64); }

static inline uint32_t lop3_b32(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
    uint32_t result = 0;
    for (uint32_t i = 0; i < 8; i++)
        if (table >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return result;
}

static inline uint32_t shf_l_b32(uint32_t low, uint32_t high, uint32_t n) {
    return n >= 32 ? low : (uint32_t)(((uint64_t)high << 32 | low) >> (32 - n));
}
static inline uint32_t shf_r_b32(uint32_t low, uint32_t high, uint32_t n) {
    return n >= 32 ? high : (uint32_t)(((uint64_t)high << 32 | low) >> n);
}
static inline uint32_t shf_l_wrap_b32(uint32_t low, uint32_t high, uint32_t n) { return shf_l_b32(low, high, n & 31); }
static inline uint32_t shf_r_wrap_b32(uint32_t low, uint32_t high, uint32_t n) { return shf_r_b32(low, high, n & 31); }
static inline uint32_t shf_l_clamp_b32(uint32_t low, uint32_t high, uint32_t n) { return shf_l_b32(low, high, n > 32 ? 32 : n); }
static inline uint32_t shf_r_clamp_b32(uint32_t low, uint32_t high, uint32_t n) { return shf_r_b32(low, high, n > 32 ? 32 : n); }

#define FIELDS(s, u, bits)                                                                                                    \
    static inline u bfe_u##bits(u a, uint32_t place, uint32_t length) {                                                       \
        place &= 255, length &= 255;                                                                                          \
        u field = place >= bits ? 0 : a >> place;                                                                             \
        return length >= bits ? field : field & (((u)1 << length) - 1);                                                       \
    }                                                                                                                         \
    static inline u bfe_s##bits(s a, uint32_t place, uint32_t length) {                                                       \
        place &= 255, length &= 255;                                                                                          \
        if (length == 0) return 0;                                                                                            \
        uint32_t last = place + length - 1 < bits - 1 ? place + length - 1 : bits - 1;                                        \
        u sign = ((u)a >> last & 1) ? ~(u)0 : 0, result = 0;                                                                  \
        for (uint32_t i = 0; i < bits; i++)                                                                                   \
            result |= (u)((i < length && place + i < bits ? (u)a >> (place + i) : sign) & 1) << i;                            \
        return result;                                                                                                        \
    }                                                                                                                         \
    static inline u bfi_b##bits(u a, u b, uint32_t place, uint32_t length) {                                                  \
        place &= 255, length &= 255;                                                                                          \
        if (length == 0 || place >= bits) return b;                                                                           \
        u mask = (length >= bits ? ~(u)0 : ((u)1 << length) - 1) << place;                                                    \
        return (b & ~mask) | ((a << place) & mask);                                                                           \
    }
FIELDS(int32_t, uint32_t, 32)
FIELDS(int64_t, uint64_t, 64)

static inline uint32_t prmt_b32(uint32_t a, uint32_t b, uint32_t selection) {
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t select = selection >> (4 * i), byte = (uint32_t)(bytes >> (8 * (select & 7))) & 255;
        if (select & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << (8 * i);
    }
    return result;
}

#define CARRIES(u, bits)                                                                                                      \
    static inline u add_cc_u##bits(u a, u b, uint32_t in, uint32_t *out) {                                                    \
        u sum = a + b, total = sum + in;                                                                                      \
        *out = (sum < a) | (total < sum);                                                                                     \
        return total;                                                                                                         \
    }                                                                                                                         \
    static inline u sub_cc_u##bits(u a, u b, uint32_t in, uint32_t *out) {                                                    \
        u less = a - b, total = less - in;                                                                                    \
        *out = (a < b) | (less < in);                                                                                         \
        return total;                                                                                                         \
    }
CARRIES(uint32_t, 32)
CARRIES(uint64_t, 64)

/* ---- floats ---- */

#define CANONICAL_NAN 0x7FFFFFFFu
static inline float flushed(float a) { return fabsf(a) < 0x1p-126f ? copysignf(0, a) : a; }
static inline float saturated_f32(float a) { return a > 1 ? 1 : a > 0 ? a : 0; } /* NaN becomes 0 */
static inline double saturated_f64(double a) { return a > 1 ? 1 : a > 0 ? a : 0; }

/* high + low, exact, to float32: toward zero, down or up. */
static inline float directed(double high, double low, int mode) {
    float near = (float)high;
    double excess = (double)near - high; /* exact where finite */
    int above = isinf(near) && !isinf(high) ? near > 0 : excess > low;
    int below = isinf(near) && !isinf(high) ? near < 0 : excess < low;
    if (isnan(near) || isinf(high)) return near;
    int down = mode == 'm' || (mode == 'z' && (high > 0 || (high == 0 && low > 0)));
    if (down && above) return nextafterf(near, -INFINITY);
    if (!down && below) return nextafterf(near, INFINITY);
    return near;
}
static inline double sum_error(double a, double b, double sum) {
    double part = sum - a;
    return (a - (sum - part)) + (b - part);
}
static inline float fma_directed(float a, float b, float c, int mode) {
    double product = (double)a * b, sum = product + c;
    if (sum == 0 && (product != 0 || signbit(product) != signbit(c))) return mode == 'm' ? -0.0f : 0.0f; /* x - x */
    return directed(sum, isfinite(sum) ? sum_error(product, c, sum) : 0, mode);
}
static inline float fma_rn_f32(float a, float b, float c) { return fmaf(a, b, c); }
static inline float fma_rz_f32(float a, float b, float c) { return fma_directed(a, b, c, 'z'); }
static inline float fma_rm_f32(float a, float b, float c) { return fma_directed(a, b, c, 'm'); }
static inline float fma_rp_f32(float a, float b, float c) { return fma_directed(a, b, c, 'p'); }
static inline float add_rn_f32(float a, float b) { return a + b; }
static inline float add_rz_f32(float a, float b) { return fma_directed(a, 1, b, 'z'); }
static inline float add_rm_f32(float a, float b) { return fma_directed(a, 1, b, 'm'); }
static inline float add_rp_f32(float a, float b) { return fma_directed(a, 1, b, 'p'); }
static inline float sub_rn_f32(float a, float b) { return a - b; }
static inline float sub_rz_f32(float a, float b) { return fma_directed(a, 1, -b, 'z'); }
static inline float sub_rm_f32(float a, float b) { return fma_directed(a, 1, -b, 'm'); }
static inline float sub_rp_f32(float a, float b) { return fma_directed(a, 1, -b, 'p'); }
static inline float mul_rn_f32(float a, float b) { return a * b; }
static inline float mul_rz_f32(float a, float b) { return directed((double)a * b, 0, 'z'); }
static inline float mul_rm_f32(float a, float b) { return directed((double)a * b, 0, 'm'); }
static inline float mul_rp_f32(float a, float b) { return directed((double)a * b, 0, 'p'); }
static inline float div_rn_f32(float a, float b) { return a / b; }
static inline float div_full_f32(float a, float b) { return a / b; }
static inline float div_approx_f32(float a, float b) { return a / b; }
static inline float rcp_rn_f32(float a) { return 1 / a; }
static inline float rcp_approx_f32(float a) { return 1 / a; }
static inline float sqrt_rn_f32(float a) { return sqrtf(a); }
static inline float sqrt_approx_f32(float a) { return sqrtf(a); }
static inline float rsqrt_approx_f32(float a) { return (float)(1 / sqrt((double)a)); }
static inline float ex2_approx_f32(float a) { return (float)exp2((double)a); }
static inline float lg2_approx_f32(float a) { return (float)log2((double)a); }
static inline float sin_approx_f32(float a) { return (float)sin((double)a); }
static inline float cos_approx_f32(float a) { return (float)cos((double)a); }
static inline float tanh_approx_f32(float a) { return (float)tanh((double)a); }
static inline float abs_f32(float a) { return fabsf(a); }
static inline float neg_f32(float a) { return float_of(bits_of(a) ^ 0x80000000u); }
static inline float copysign_f32(float sign, float size) { return copysignf(size, sign); }
/* A NaN loses against a number, and -0 is less than +0. */
static inline float min_f32(float a, float b) {
    if (isnan(a) || isnan(b)) return isnan(a) ? isnan(b) ? float_of(CANONICAL_NAN) : b : a;
    return a < b || (a == b && signbit(a)) ? a : b;
}
static inline float max_f32(float a, float b) {
    if (isnan(a) || isnan(b)) return isnan(a) ? isnan(b) ? float_of(CANONICAL_NAN) : b : a;
    return a > b || (a == b && !signbit(a)) ? a : b;
}
static inline float min_NaN_f32(float a, float b) { return isnan(a) || isnan(b) ? float_of(CANONICAL_NAN) : min_f32(a, b); }
static inline float max_NaN_f32(float a, float b) { return isnan(a) || isnan(b) ? float_of(CANONICAL_NAN) : max_f32(a, b); }

static inline double fma_rn_f64(double a, double b, double c) { return fma(a, b, c); }
static inline double add_rn_f64(double a, double b) { return a + b; }
static inline double sub_rn_f64(double a, double b) { return a - b; }
static inline double mul_rn_f64(double a, double b) { return a * b; }
static inline double div_rn_f64(double a, double b) { return a / b; }
static inline double rcp_rn_f64(double a) { return 1 / a; }
static inline double sqrt_rn_f64(double a) { return sqrt(a); }
static inline double abs_f64(double a) { return fabs(a); }
static inline double neg_f64(double a) { return double_of(wide_bits_of(a) ^ 0x8000000000000000ull); }
static inline double copysign_f64(double sign, double size) { return copysign(size, sign); }
static inline double min_f64(double a, double b) {
    return isnan(a) ? b : isnan(b) ? a : a < b || (a == b && signbit(a)) ? a : b;
}
static inline double max_f64(double a, double b) {
    return isnan(a) ? b : isnan(b) ? a : a > b || (a == b && !signbit(a)) ? a : b;
}

/* ---- conversions ---- */

static inline double integral(double a, int mode) {
    return mode == 'n' ? nearbyint(a) : mode == 'z' ? trunc(a) : mode == 'm' ? floor(a) : ceil(a);
}
/* Of a float to an integer of these bounds; NaN becomes zero, or the top bit where either is 64 bits long. */
static inline int64_t to_signed(double a, int mode, int bits, int from_wide) {
    if (isnan(a)) return bits == 64 ? INT64_MIN : from_wide ? -((int64_t)1 << (bits - 1)) : 0;
    a = integral(a, mode);
    double limit = ldexp(1, bits - 1);
    if (a < -limit) return bits == 64 ? INT64_MIN : -((int64_t)1 << (bits - 1));
    if (a >= limit) return bits == 64 ? INT64_MAX : ((int64_t)1 << (bits - 1)) - 1;
    return (int64_t)a;
}
static inline uint64_t to_unsigned(double a, int mode, int bits, int from_wide) {
    if (isnan(a)) return bits == 64 || from_wide ? (uint64_t)1 << (bits - 1) : 0;
    a = integral(a, mode);
    if (a <= 0) return 0;
    if (a >= ldexp(1, bits)) return bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
    return (uint64_t)a;
}
/* An integer to float32 other than to the nearest: its halves are exact. */
static inline float from_unsigned(uint64_t a, int mode) {
    double high = (double)(a & ~0xFFFFFFFFull), low = (double)(a & 0xFFFFFFFFull), sum = high + low;
    return directed(sum, sum_error(high, low, sum), mode);
}
static inline float from_signed(int64_t a, int mode) {
    if (a >= 0) return from_unsigned((uint64_t)a, mode);
    return -from_unsigned(0 - (uint64_t)a, mode == 'm' ? 'p' : mode == 'p' ? 'm' : 'z');
}
static inline uint32_t cvt_rna_tf32_f32(float a) { /* 10 bits of mantissa, ties away from zero */
    uint32_t bits = bits_of(a);
    if ((bits & 0x7F800000u) == 0x7F800000u) return isnan(a) ? CANONICAL_NAN : bits;
    return (bits + 0x1000u) & 0xFFFFE000u;
}
static inline uint32_t cvt_rn_tf32_f32(float a) {
    uint32_t bits = bits_of(a);
    if ((bits & 0x7F800000u) == 0x7F800000u) return isnan(a) ? CANONICAL_NAN : bits;
    return (bits + 0xFFFu + (bits >> 13 & 1)) & 0xFFFFE000u;
}

#endif

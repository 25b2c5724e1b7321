/* Scalar float32 functions without branches and calls, so that the compiler turns the loops around them into vector code.
 *
 * The polynomials are minimax fits (Lawson's algorithm in float64, then rounded); the operations and their order are those of
 * vaefast/engines/numba_cpu/elementwise.py, and so are the bits.
 */
#include <math.h>
#include <string.h>

/* a * b + c, rounded once where the CPU can. */
static inline float fused(float a, float b, float c) {
#ifdef HAS_FMA
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

static inline int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float float_of(int32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

#define LOG2_E 1.4426950408889634f
/* ln 2 in two parts: the first has 12 trailing zero bits, so n * LN2_HIGH is exact for |n| < 2^12. */
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.1219444005469057e-4f
/* Adding 1.5 * 2^23 rounds a float32 of magnitude under 2^22 to an integer, held in the low bits of the sum. */
#define ROUNDER 12582912.0f
#define ROUNDER_BITS 0x4B400000
/* exp(-87.3) is the smallest normal float32. */
#define EXP_LOWEST -87.33654f
#define EXP_HIGHEST 200.0f
#define SQRT_HALF_BITS 0x3F3504F3
#define TWO_PI 6.283185307179586f
#define TANH_SMALL 0.625f
/* LOG_STD_BOUNDS of settings.py, and their exponentials; a test holds them equal. */
#define LOWEST_LOG_STD -40.0f
#define HIGHEST_LOG_STD 5.0f
#define NARROWEST 4.248354255291589e-18f
#define WIDEST 148.4131591025766f

/* exp(r) = 1 + r + r^2 * q(r) on |r| <= ln(2) / 2. */
static inline float exp_reduced(float r) {
    float q = fused(1.3814467238262296e-3f, r, 8.368780836462975e-3f);
    q = fused(q, r, 0.04166839271783829f);
    q = fused(q, r, 0.1666651964187622f);
    q = fused(q, r, 0.4999999403953552f);
    return fused(r * r, q, r) + 1.0f;
}

/* 2^n for a normal result, by its exponent bits. */
static inline float power_of_two(int32_t n) { return float_of((int32_t)((uint32_t)(n + 127) << 23)); }

/* exp(x) for x <= 0, relative error under 1.2e-7; below -87.3 it stays at 1.2e-38. NaN stays NaN. */
static inline float exp_of_negative(float x) {
    x = x < EXP_LOWEST ? EXP_LOWEST : x;
    float shifted = fused(x, LOG2_E, ROUNDER);
    float n = shifted - ROUNDER;
    float r = fused(n, -(LN2_LOW), fused(n, -LN2_HIGH, x));
    return exp_reduced(r) * power_of_two(bits_of(shifted) - ROUNDER_BITS);
}

/* exp(x), relative error under 1.2e-7 where the result is a normal float32; overflows to infinity. NaN stays NaN. */
static inline float exp_of(float x) {
    x = x < -EXP_HIGHEST ? -EXP_HIGHEST : x;
    x = x > EXP_HIGHEST ? EXP_HIGHEST : x;
    float shifted = fused(x, LOG2_E, ROUNDER);
    float n = shifted - ROUNDER;
    float r = fused(n, -(LN2_LOW), fused(n, -LN2_HIGH, x));
    /* |n| goes past the exponent range of one float32, so 2^n is applied in four factors. */
    int32_t whole = (int32_t)((uint32_t)bits_of(shifted) - (uint32_t)ROUNDER_BITS);
    int32_t fourth = whole >> 2;
    float scale = power_of_two(fourth);
    float rest = power_of_two(whole - fourth - fourth - fourth);
    return exp_reduced(r) * scale * scale * scale * rest;
}

/* log(x) for a positive normal x, relative error under 2e-7: log(m) = 2 s + s^3 * q(s^2), s = (m - 1) / (m + 1). */
static inline float log_of(float x) {
    int32_t bits = bits_of(x);
    int32_t exponent = (bits - SQRT_HALF_BITS) >> 23;
    float m = float_of((int32_t)((uint32_t)bits - ((uint32_t)exponent << 23)));
    float s = (m - 1.0f) / (m + 1.0f);
    float square = s * s;
    float q = fused(0.23584306240081787f, square, 0.2853720784187317f);
    q = fused(q, square, 0.4000033736228943f);
    q = fused(q, square, 0.6666666269302368f);
    float mantissa = fused(s * square, q, 2.0f * s);
    float n = (float)exponent;
    return fused(n, LN2_HIGH, fused(n, LN2_LOW, mantissa));
}

/* log(1 + r) for 0 <= r < 2^126, relative error under 3e-7, without a division: with 2^n near 1 + r it is n log(2) + log(1 + f),
 * where f = (1 + r) / 2^n - 1 is rounded once; f + f^2 q(f), f in [sqrt(1/2) - 1, sqrt(2) - 1]. NaN stays NaN. */
static inline float log_of_one_and(float r) {
    int32_t n = (bits_of(1.0f + r) - SQRT_HALF_BITS) >> 23;
    float scale = float_of((int32_t)(0x3F800000u - ((uint32_t)n << 23)));
    float f = fused(r, scale, scale - 1.0f);
    float q = fused(0.08734838664531708f, f, -0.14307935535907745f);
    q = fused(q, f, 0.14918147027492523f);
    q = fused(q, f, -0.1657046526670456f);
    q = fused(q, f, 0.19962053000926971f);
    q = fused(q, f, -0.25001755356788635f);
    q = fused(q, f, 0.33333951234817505f);
    q = fused(q, f, -0.49999991059303284f);
    float mantissa = fused(f * f, q, f);
    float whole = (float)n;
    return fused(whole, LN2_HIGH, fused(whole, LN2_LOW, mantissa));
}

/* sin(2 pi (u + quarter / 4)) for u in [0, 1], absolute error under 1.2e-7: the nearest quarter turn picks sine or cosine of
 * the rest, and the sign. */
static inline float sine_of_turns(float u, int32_t quarter) {
    float shifted = fused(u, 4.0f, ROUNDER);
    int32_t quadrant = bits_of(shifted) - ROUNDER_BITS + quarter;
    float t = fused(shifted - ROUNDER, -0.25f, u);
    float square = t * t;
    float p = fused(fused(-75.44358825683594f, square, 81.5937271118164f), square, -41.341670989990234f);
    float sine = fused(t * square, p, TWO_PI * t);
    float q = fused(59.22760009765625f, square, -85.44319152832031f);
    q = fused(fused(q, square, 64.93932342529297f), square, -19.739208221435547f);
    float cosine = fused(square, q, 1.0f);
    float value = quadrant & 1 ? cosine : sine;
    return quadrant & 2 ? -value : value;
}

/* tanh(x), relative error under 3e-7: x + x^3 * P(x^2) on |x| <= 0.625, else by exp(-2 |x|). NaN stays NaN. */
static inline float tanh_of(float x) {
    float magnitude = __builtin_fabsf(x);
    float square = x * x;
    float p = fused(-5.697384011000395e-3f, square, 0.0206325463950634f);
    p = fused(p, square, -0.05373779684305191f);
    p = fused(p, square, 0.13331420719623566f);
    p = fused(p, square, -0.3333328068256378f);
    float small = fused(x * square, p, x);
    float e = exp_of_negative(-2.0f * magnitude);
    float large = (1.0f - e) / (1.0f + e);
    large = x < 0.0f ? -large : large;
    return magnitude < TANH_SMALL ? small : large;
}

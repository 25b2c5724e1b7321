/* What the negative binomial needs of a count and a dispersion: a part of unit.h.
 *
 * R(x, theta) = log of theta (theta + 1) ... (theta + x - 1) / theta^x (47), and S = theta times the sum of 1 / (theta + k) over
 * k < x (55). Counts up to TABLED take both from a table, made anew for each step. What larger ones have beyond it is a
 * difference of Stirling series in which nothing large cancels. The operations and their order are those of
 * vaefast/engines/numba_cpu/rising.py.
 */

/* Where S begins among the elements of the table for a panel of columns. */
#define SLOPES (TABLED * PANEL)
/* Of float64: the bits of sqrt(1/2), of 1 and of 2^52, whose low bits hold an integer, and log(2) in two parts, of which the first
 * has 20 trailing zero bits. */
#define SQRT_HALF_BITS_DOUBLE 0x3FE6A09E667F3BCD
#define ONE_BITS_DOUBLE 0x3FF0000000000000
#define WHOLE_BITS_DOUBLE 0x4330000000000000
#define LN2_HIGH_DOUBLE 6.93147180369123816490e-01
#define LN2_LOW_DOUBLE 1.90821492927058770002e-10
/* LOG_DISPERSION_BOUNDS of settings.py; a test holds them equal. */
#define LOWEST_LOG_DISPERSION -9.21f
#define HIGHEST_LOG_DISPERSION 13.81f

/* theta = exp(t), with t held between its bounds (47). */
static inline float dispersion(float t) {
    t = t < LOWEST_LOG_DISPERSION ? LOWEST_LOG_DISPERSION : t;
    t = t > HIGHEST_LOG_DISPERSION ? HIGHEST_LOG_DISPERSION : t;
    return exp_of(t);
}

/* log(1 + r) for r >= 0, with u = 1 + r and inverse = 1 / u, relative error under 3e-7: what rounding took from u comes back by
 * its first-order term. */
static inline float log_of_one_more(float r, float u, float inverse) { return log_of(u) + (r - (u - 1.0f)) * inverse; }

/* R and S of the counts 1 to TABLED of a panel of columns, (2, TABLED, 16): the same count of neighbouring columns lies
 * together, for most counts are the smallest. */
static void tabulate_panel(const float *restrict t, float *restrict logarithms, float *restrict slopes) {
    float theta[PANEL];
    for (int j = 0; j < PANEL; j++) theta[j] = dispersion(t[j]);
    for (int j = 0; j < PANEL; j++) logarithms[j] = 0.0f;
    for (int j = 0; j < PANEL; j++) slopes[j] = 1.0f;
    for (int k = 1; k < TABLED; k++) {
        const float *summed = logarithms + (k - 1) * PANEL, *added = slopes + (k - 1) * PANEL;
        for (int j = 0; j < PANEL; j++) {
            float of_theta = (float)k / theta[j];
            float u = 1.0f + of_theta;
            float slope = 1.0f / u;
            logarithms[k * PANEL + j] = summed[j] + log_of_one_more(of_theta, u, slope);
            slopes[k * PANEL + j] = added[j] + slope;
        }
    }
}

static void tabulate(const float *x_log_dispersion, float *table, index_t first, index_t last) {
    for (index_t panel = first; panel < last; panel++) {
        float *logarithms = table + panel * PANEL_OF_TABLE;
        tabulate_panel(x_log_dispersion + panel * PANEL, logarithms, logarithms + SLOPES);
    }
}

/* log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2, of 1 / z. */
static inline double stirling_rest(double inverse) {
    double square = inverse * inverse;
    return inverse * (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260)));
}

/* digamma(z) - log z, of 1 / z. */
static inline double digamma_rest(double inverse) {
    double square = inverse * inverse;
    return -0.5 * inverse - square * (1.0 / 12 - square * (1.0 / 120 - square * (1.0 / 252)));
}

typedef struct {
    double logarithm, slope;
} Rising;

/* log(1 + r) for 0 <= r < 2^1022 in float64, relative error under 4e-16, without a call, so that a loop becomes vector code.
 *
 * With 2^n near 1 + r and f = (1 + r) / 2^n - 1, rounded once, log(1 + f) = 2 s + 2 s^3 / 3 + 2 s^5 / 5 ... and s = f / (2 + f),
 * at most 0.172: the first term left out is under 3e-17 of the sum. */
static inline double log_of_one_and_double(double r) {
    double u = 1.0 + r;
    int64_t bits;
    memcpy(&bits, &u, 8);
    int64_t n = (int64_t)((uint64_t)(bits - SQRT_HALF_BITS_DOUBLE) >> 52);
    int64_t scale_bits = ONE_BITS_DOUBLE - (int64_t)((uint64_t)n << 52), whole_bits = n + WHOLE_BITS_DOUBLE;
    double scale, whole;
    memcpy(&scale, &scale_bits, 8);
    memcpy(&whole, &whole_bits, 8);
    whole -= 0x1p52;
    double f = r * scale + (scale - 1.0), s = f / (2.0 + f), z = s * s;
    double q = z * (2.0 / 19) + 2.0 / 17;
    q = z * q + 2.0 / 15;
    q = z * q + 2.0 / 13;
    q = z * q + 2.0 / 11;
    q = z * q + 2.0 / 9;
    q = z * q + 2.0 / 7;
    q = z * q + 2.0 / 5;
    q = z * q + 2.0 / 3;
    /* 2 s = f - s f, in which f is exact. */
    double mantissa = f - s * (f - z * q);
    return whole * LN2_HIGH_DOUBLE + (whole * LN2_LOW_DOUBLE + mantissa);
}

/* What R and S of a count above TABLED have beyond those of TABLED.
 *
 * With z = theta + TABLED and d = x - TABLED, R grows by log Gamma(z + d) - log Gamma(z) - d log theta, and S by theta times
 * digamma(z + d) - digamma(z). Both are differences of Stirling series, whose leading terms share one logarithm; z is at least
 * 16, where the first terms left out are under 1e-11. */
static inline Rising beyond_table(double x, double theta) {
    double z = theta + TABLED, d = x - TABLED;
    double end = z + d, growth = log_of_one_and_double(d / z);
    double inverse = 1.0 / z, inverse_end = 1.0 / end;
    double raised = (end - 0.5) * growth - d + stirling_rest(inverse_end) - stirling_rest(inverse);
    double slope = theta * (growth + digamma_rest(inverse_end) - digamma_rest(inverse));
    return (Rising){raised + d * log_of_one_and_double(TABLED / theta), slope};
}

/* What the negative binomial needs of a count and a dispersion: a part of unit.h.
 *
 * R(x, theta) = log of theta (theta + 1) ... (theta + x - 1) / theta^x (47), and S = theta times the sum of 1 / (theta + k) over
 * k < x (55). Counts up to TABLED take both from a table, made anew for each step. Larger ones take Stirling's series, as a
 * difference in which nothing large cancels. The operations and their order are those of vaefast/engines/numba_cpu/rising.py.
 */

/* Counts that have an entry in the table, and R and S of one. */
#define TABLED 16
#define PAIR 2
/* LOG_DISPERSION_BOUNDS of settings.py; a test holds them equal. */
#define LOWEST_LOG_DISPERSION -9.21f
#define HIGHEST_LOG_DISPERSION 13.81f
/* Stirling's series is taken from here on: the first terms left out are under 1e-10 there. */
#define STIRLING_FROM 8.0

/* theta = exp(t), with t held between its bounds (47). */
static inline float dispersion(float t) {
    t = t < LOWEST_LOG_DISPERSION ? LOWEST_LOG_DISPERSION : t;
    t = t > HIGHEST_LOG_DISPERSION ? HIGHEST_LOG_DISPERSION : t;
    return exp_of(t);
}

/* log(1 + r) for r >= 0, with u = 1 + r and inverse = 1 / u, relative error under 3e-7: what rounding took from u comes back by
 * its first-order term. */
static inline float log_of_one_more(float r, float u, float inverse) { return log_of(u) + (r - (u - 1.0f)) * inverse; }

/* R and S of the counts 1 to TABLED in columns first to last - 1; table is (X * TABLED * PAIR,). */
static void tabulate(const float *x_log_dispersion, float *table, index_t first, index_t last) {
    for (index_t column = first; column < last; column++) {
        float inverse_theta = 1.0f / dispersion(x_log_dispersion[column]);
        float logarithms[TABLED], slopes[TABLED], *row = table + column * TABLED * PAIR;
        for (int k = 0; k < TABLED; k++) {
            float ratio = (float)k * inverse_theta;
            float u = 1.0f + ratio;
            slopes[k] = 1.0f / u;
            logarithms[k] = log_of_one_more(ratio, u, slopes[k]);
        }
        double logarithm = 0.0, slope = 0.0;
        for (int k = 0; k < TABLED; k++) {
            logarithm += (double)logarithms[k];
            slope += (double)slopes[k];
            row[PAIR * k] = (float)logarithm;
            row[PAIR * k + 1] = (float)slope;
        }
    }
}

/* log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2. */
static inline double stirling_rest(double z) {
    double inverse = 1.0 / z;
    double square = inverse * inverse;
    return inverse * (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260)));
}

/* digamma(z) - log z. */
static inline double digamma_rest(double z) {
    double inverse = 1.0 / z;
    double square = inverse * inverse;
    return -0.5 * inverse - square * (1.0 / 12 - square * (1.0 / 120 - square * (1.0 / 252)));
}

/* R of a count above TABLED. */
static double log_rising(double x, double theta) {
    double below = 0.0, n = 0.0;
    for (; theta + n < STIRLING_FROM; n += 1.0) below += log((theta + n) / theta);
    double z = theta + n, d = x - n;
    /* log Gamma(z + d) - log Gamma(z) - d log z; what is left of d log z - x log theta is zero where nothing was raised */
    double raised = (z + d - 0.5) * log1p(d / z) - d + stirling_rest(z + d) - stirling_rest(z);
    return raised + below + (n > 0.0 ? d * log(z / theta) : 0.0);
}

/* S of a count above TABLED. */
static double rising_slope(double x, double theta) {
    double below = 0.0, n = 0.0;
    for (; theta + n < STIRLING_FROM; n += 1.0) below += 1.0 / (theta + n);
    double z = theta + n, d = x - n;
    return theta * (log1p(d / z) + digamma_rest(z + d) - digamma_rest(z) + below);
}

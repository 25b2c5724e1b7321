/* What the negative binomial needs of a count and a dispersion: a part of unit.h.
 *
 * R(x, theta) = log of theta (theta + 1) ... (theta + x - 1) / theta^x (47), and S = theta times the sum of 1 / (theta + k) over
 * k < x (55). Counts up to TABLED take both from a table, made anew for each step. What larger ones have beyond it is a
 * difference of Stirling series in which nothing large cancels. The operations and their order are those of
 * vaefast/engines/numba_cpu/rising.py.
 */

/* Where S begins among the elements of the table for a panel of columns. */
#define SLOPES (TABLED * PANEL)
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

/* Where R of a count from 1 to TABLED stands in the table; S stands SLOPES behind it. */
static inline index_t place_in_table(uint32_t column, index_t x) {
    return (index_t)(column / PANEL) * PANEL_OF_TABLE + (x - 1) * PANEL + column % PANEL;
}

typedef struct {
    double logarithm, slope;
} Rising;

/* What R and S of a count above TABLED have beyond those of TABLED.
 *
 * With z = theta + TABLED and d = x - TABLED, R grows by log Gamma(z + d) - log Gamma(z) - d log theta, and S by theta times
 * digamma(z + d) - digamma(z). Both are differences of Stirling series, whose leading terms share one logarithm; z is at least
 * 16, where the first terms left out are under 1e-11. */
static Rising beyond_table(double x, double theta) {
    double z = theta + TABLED, d = x - TABLED;
    double end = z + d, growth = log1p(d / z);
    double inverse = 1.0 / z, inverse_end = 1.0 / end;
    double raised = (end - 0.5) * growth - d + stirling_rest(inverse_end) - stirling_rest(inverse);
    double slope = theta * (growth + digamma_rest(inverse_end) - digamma_rest(inverse));
    return (Rising){raised + d * log1p(TABLED / theta), slope};
}

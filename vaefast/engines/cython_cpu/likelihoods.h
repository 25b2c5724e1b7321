/* log p(x | z) of each likelihood and its gradients: a part of unit.h, whose vectors and functions it takes; see kernels.h. */

/* 1 + exp(-|a|) is at most 2, so a float32 holds the product of this many panels' factors: 2^64 < 3.4e38. */
#define FACTORS 64
/* ... and a float64 that of half the lanes' products: (2^64)^8 = 2^512 < 1.8e308. */
#define LANES_A_LOGARITHM 8

static void subtract_logarithms(const float *product, index_t rows, double *log_likelihood) {
    for (index_t r = 0; r < rows; r++)
        for (int lane = 0; lane < PANEL; lane += LANES_A_LOGARITHM) {
            double factor = 1.0;
            for (int j = 0; j < LANES_A_LOGARITHM; j++) factor *= (double)product[r * PANEL + lane + j];
            log_likelihood[r] -= log(factor);
        }
}

static void add_lanes(const float *linear, index_t rows, double *log_likelihood) {
    for (index_t r = 0; r < rows; r++) {
        double total = 0.0;
        for (int j = 0; j < PANEL; j++) total += (double)linear[r * PANEL + j];
        log_likelihood[r] += total;
    }
}

INLINE void bernoulli_panel_of(const int gradient, float *restrict a, const float *restrict x, index_t size,
                               float *restrict linear, float *restrict product, float scale) {
    for (index_t j = 0; j < size; j++) {
        float logit = a[j];
        float e = exp_of_negative(-__builtin_fabsf(logit));
        float factor = 1.0f + e;
        float positive = logit < 0.0f ? 0.0f : logit;
        linear[j] += fused(x[j], logit, -positive);
        product[j] *= factor;
        if (!gradient) continue;
        float sigmoid = (logit < 0.0f ? e : 1.0f) / factor;
        /* log p(x | z) = sum(x * a - softplus(a)) (3) */
        a[j] = (sigmoid - x[j]) * scale; /* d_logits (7), in place */
    }
}

static void bernoulli_panel(float *a, const float *x, index_t size, float *linear, float *product, float scale) {
    if (scale == 0.0f)
        bernoulli_panel_of(0, a, x, size, linear, product, scale);
    else
        bernoulli_panel_of(1, a, x, size, linear, product, scale);
}

/* softplus(a) = max(a, 0) + log(1 + exp(-|a|)). The factors are multiplied over up to 64 panels, then over eight lanes in
 * float64, so that one logarithm serves hundreds of pixels. */
static void bernoulli(float *logits, const float *x, index_t stride, index_t rows, index_t begin, index_t end, index_t pixels,
                      float scale, float *linear, float *product, double *log_likelihood) {
    fill(linear, rows * PANEL, 0.0f);
    fill(product, rows * PANEL, 1.0f);
    for (index_t r = 0; r < rows; r++) log_likelihood[r] = 0.0;
    for (index_t panel = begin; panel < end; panel++) {
        float *a = logits + panel * stride;
        const float *seen = x + panel * stride;
        index_t real = smaller(PANEL, pixels - panel * PANEL);
        if (real == PANEL)
            bernoulli_panel(a, seen, rows * PANEL, linear, product, scale);
        else
            for (index_t r = 0; r < rows * PANEL; r += PANEL)
                bernoulli_panel(a + r, seen + r, real, linear + r, product + r, scale);
        if ((panel - begin + 1) % FACTORS == 0) {
            subtract_logarithms(product, rows, log_likelihood);
            fill(product, rows * PANEL, 1.0f);
        }
    }
    subtract_logarithms(product, rows, log_likelihood);
    add_lanes(linear, rows, log_likelihood);
}

/* v = 1e-4 + exp(2 x_log_std) (17) */
static inline float variance(float x_log_std) { return exp_of(2.0f * x_log_std) + 1e-4f; }

/* precision, (rows, 16) = 1 / v of a panel in each row; returns the sum of log(2 pi v) over its real pixels. */
static double precisions(const float *x_log_std, index_t real, index_t rows, float *precision) {
    float head[PANEL];
    double logarithms = 0.0;
    if (rows == 0) return 0.0;
    for (int j = 0; j < PANEL; j++) head[j] = log_of(TWO_PI * variance(x_log_std[j]));
    for (int j = 0; j < PANEL; j++) logarithms += j < real ? (double)head[j] : 0.0;
    for (int j = 0; j < PANEL; j++) head[j] = 1.0f / variance(x_log_std[j]);
    for (index_t r = 0; r < rows; r++) memcpy(precision + r * PANEL, head, sizeof head);
    return logarithms;
}

/* log p(x | z) = -0.5 * sum(log(2 pi v) + (x - a)^2 / v) (18); padded columns hold a = x = 0 and add nothing but a logarithm,
 * which is left out. */
static void gaussian(float *means, const float *x, index_t stride, index_t rows, index_t begin, index_t end, index_t pixels,
                     float scale, const float *x_log_std, float *restrict linear, float *restrict precision,
                     double *log_likelihood) {
    double logarithms = 0.0;
    fill(linear, rows * PANEL, 0.0f);
    for (index_t panel = begin; panel < end; panel++) {
        float *restrict a = means + panel * stride;
        const float *restrict seen = x + panel * stride;
        logarithms += precisions(x_log_std + panel * PANEL, smaller(PANEL, pixels - panel * PANEL), rows, precision);
        for (index_t j = 0; j < rows * PANEL; j++) {
            float error = a[j] - seen[j];
            float weighted = error * precision[j];
            linear[j] = fused(error * -0.5f, weighted, linear[j]);
            a[j] = weighted * scale; /* d_a (19), in place */
        }
    }
    for (index_t r = 0; r < rows; r++) log_likelihood[r] = -0.5 * logarithms;
    add_lanes(linear, rows, log_likelihood);
}

/* From d_a = w (a - x) / v (19) as the rows phase left it, in which w is what a row counts for: the sum of w (x - a)^2 / v is v
 * times that of d_a^2 / w, taken in ascending order of the rows. */
static void x_log_std_gradient(const float *d_means, index_t rows, const float *inverses, float count, const float *x_log_std,
                               index_t real, float *gradient) {
    float squares[PANEL] = {0};
    for (index_t r = 0; r < rows; r++) {
        const float *d_a = d_means + r * PANEL;
        float inverse = inverses ? inverses[r] : 1.0f;
        for (int j = 0; j < PANEL; j++) squares[j] = fused(d_a[j] * inverse, d_a[j], squares[j]);
    }
    for (int j = 0; j < PANEL; j++) {
        float v = variance(x_log_std[j]);
        float slope_of_log = exp_of(2.0f * x_log_std[j]) / v;
        float value = slope_of_log * fused(-squares[j] * v, count, 1.0f);
        gradient[j] = j < real ? value : 0.0f;
    }
}

/* kappa(a) = max(a, 0) + log((1 - exp(-|a|)) / |a|) and its slope 1 / (1 - exp(-a)) - 1 / a (22, 23) where |a| >= 1, and their
 * series (24) below: both are computed and one is taken, so that nothing is divided by zero and nothing branches. */
static inline float kappa_and_mean(float logit, float *mean) {
    float u = __builtin_fabsf(logit);
    float large = u < 1.0f ? 1.0f : u;
    float growth = 1.0f - exp_of_negative(-large), inverse = 1.0f / large;
    float positive = logit < 0.0f ? 0.0f : logit;
    float closed = positive + log_of(growth * inverse);
    float above = 1.0f / growth - inverse;
    float far = logit < 0.0f ? 1.0f - above : above;
    float square = logit * logit;
    float p = fused((float)(-1.0 / 9676800), square, (float)(1.0 / 181440));
    p = fused(fused(p, square, (float)(-1.0 / 2880)), square, (float)(1.0 / 24));
    float series = fused(square, p, 0.5f * logit);
    float q = fused((float)(1.0 / 47900160), square, (float)(-1.0 / 1209600));
    q = fused(fused(q, square, (float)(1.0 / 30240)), square, (float)(-1.0 / 720));
    q = fused(q, square, (float)(1.0 / 12));
    *mean = u < 1.0f ? fused(logit, q, 0.5f) : far;
    return u < 1.0f ? series : closed;
}

static void continuous_panel(float *restrict a, const float *restrict x, index_t size, float *restrict linear, float scale) {
    for (index_t j = 0; j < size; j++) {
        float logit = a[j], mean;
        float kappa = kappa_and_mean(logit, &mean);
        linear[j] += fused(x[j], logit, -kappa);
        /* log p(x | z) = sum(x * a - kappa(a)) (21) */
        a[j] = (mean - x[j]) * scale; /* d_logits (25), in place */
    }
}

static void continuous_bernoulli(float *logits, const float *x, index_t stride, index_t rows, index_t begin, index_t end,
                                 index_t pixels, float scale, float *linear, double *log_likelihood) {
    fill(linear, rows * PANEL, 0.0f);
    for (index_t panel = begin; panel < end; panel++) {
        float *a = logits + panel * stride;
        const float *seen = x + panel * stride;
        index_t real = smaller(PANEL, pixels - panel * PANEL);
        if (real == PANEL)
            continuous_panel(a, seen, rows * PANEL, linear, scale);
        else
            for (index_t r = 0; r < rows * PANEL; r += PANEL) continuous_panel(a + r, seen + r, real, linear + r, scale);
    }
    for (index_t r = 0; r < rows; r++) log_likelihood[r] = 0.0;
    add_lanes(linear, rows, log_likelihood);
}

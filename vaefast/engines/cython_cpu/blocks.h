/* log p(x | z) of a table in blocks of columns, any of whose values may be missing, and its gradient: a part of unit.h. The
 * operations and their order are those of vaefast/engines/numba_cpu/blocks.py.
 *
 * B images, k samples of each, which lie together. A value that is missing, NaN, adds exactly zero to the density and to every
 * gradient. What a block learns of its columns is a sum over rows: the rows leave their parts of it in `own`, which for one sample is
 * the place of x.
 */

/* Degrees of freedom and scale of a Student-t stay above these; vaefast/models/blocks.py. */
#define SCALE_FLOOR 1e-3f
#define FREEDOM_FLOOR 3.0f
/* Steps of the recurrence of the Gamma function that bring every z from 3/2 on where its series holds (63). */
#define GAMMA_STEPS 4

/* What a row needs of the columns of a panel: of a Gaussian 1 / v, -log(2 pi v) / 2 and the slope exp(2 x_log_std) / v; of counts
 * t within its bounds, and theta. */
typedef struct {
    float first[PANEL], second[PANEL], third[PANEL];
} PanelColumns;

static void write_columns(index_t kind, const float *learned, PanelColumns *columns) {
    if (kind == GAUSSIAN_COLUMNS)
        for (int j = 0; j < PANEL; j++) {
            float v = variance(learned[j]);
            columns->first[j] = 1.0f / v;
            columns->second[j] = -0.5f * log_of(TWO_PI * v);
            columns->third[j] = exp_of(2.0f * learned[j]) / v;
        }
    else if (kind == COUNTED_COLUMNS)
        for (int j = 0; j < PANEL; j++) {
            float t = learned[j] < LOWEST_LOG_DISPERSION ? LOWEST_LOG_DISPERSION : learned[j];
            columns->first[j] = t > HIGHEST_LOG_DISPERSION ? HIGHEST_LOG_DISPERSION : t;
            columns->second[j] = dispersion(t);
        }
}

/* log p = -0.5 * (log(2 pi v) + (x - a)^2 / v) (18); a becomes d_a (19), own the gradient of x_log_std (20). */
static void gaussian_lanes(float *restrict a, const float *restrict x, float *restrict own, float *restrict total,
                           const PanelColumns *restrict columns, float scale, int gradient) {
    for (int j = 0; j < PANEL; j++) {
        float value = x[j];
        int known = value == value;
        float error = known ? a[j] - value : 0.0f;
        float square = error * error * columns->first[j];
        total[j] += known ? fused(-0.5f, square, columns->second[j]) : 0.0f;
        if (gradient) {
            a[j] = error * columns->first[j] * scale;
            own[j] = known ? (1.0f - square) * columns->third[j] * scale : 0.0f;
        }
    }
}

/* log(1 + exp(b)) from e = exp(-|b|) and u = 1 + e. */
static inline float softplus_of(float b, float e, float u) {
    float positive = b < 0.0f ? 0.0f : b;
    return positive + log_of_one_more(e, u, 1.0f / u);
}

/* log p of a Student-t with scale s = softplus(b) + 0.001 and degrees of freedom nu = softplus(c) + 3 (62), (63); a, b and c become
 * their gradients (64), (65). log Gamma(z + 1/2) - log Gamma(z) is log(z) / 2 and a series in 1 / z, whose first term left out is
 * under 1e-8 at z = 5.5. */
static void student_t_lanes(float *restrict a, float *restrict b, float *restrict c, const float *restrict x, float *restrict total,
                            float scale, int gradient) {
    for (int j = 0; j < PANEL; j++) {
        float value = x[j];
        int known = value == value;
        float e_b = exp_of_negative(-__builtin_fabsf(b[j])), e_c = exp_of_negative(-__builtin_fabsf(c[j]));
        float u_b = 1.0f + e_b, u_c = 1.0f + e_c;
        float s = softplus_of(b[j], e_b, u_b) + SCALE_FLOOR, nu = softplus_of(c[j], e_c, u_c) + FREEDOM_FLOOR;
        float one_over_s = 1.0f / s, one_over_nu = 1.0f / nu;
        float r = known ? (value - a[j]) * one_over_s : 0.0f;
        float u = r * r * one_over_nu;
        float above = 1.0f + u;
        float inverse = 1.0f / above;
        float more = log_of_one_more(u, above, inverse);
        float z = 0.5f * nu, product = 1.0f, slopes = 0.0f;
        for (int i = 0; i < GAMMA_STEPS; i++) {
            float lower = z + (float)i;
            float upper = lower + 0.5f;
            float quotient = 1.0f / (lower * upper);
            product *= lower * lower * quotient;
            slopes += 0.5f * quotient;
        }
        float far = z + (float)GAMMA_STEPS;
        float near = 1.0f / far;
        float square = near * near;
        float gammas = near * fused(fused((float)(-1.0 / 640), square, (float)(1.0 / 192)), square, (float)(-1.0 / 8));
        float constant = 0.5f * log_of(product * product * (far * one_over_nu) / (float)3.141592653589793) + gammas - log_of(s);
        total[j] += known ? fused(-0.5f * (nu + 1.0f), more, constant) : 0.0f;
        if (gradient) {
            float counted = known ? scale : 0.0f;
            float share = u * inverse;
            float ratio = (nu + 1.0f) * one_over_nu;
            float psi = fused(fused((float)(1.0 / 128), square, (float)(-1.0 / 64)), square, (float)(1.0 / 8));
            psi = slopes + fused(psi, square, 0.5f * near);
            float d_nu = 0.5f * (psi - one_over_nu - more + ratio * share);
            float d_s = fused(nu + 1.0f, share, -1.0f) * one_over_s;
            float rising_b = (b[j] < 0.0f ? e_b : 1.0f) / u_b, rising_c = (c[j] < 0.0f ? e_c : 1.0f) / u_c;
            a[j] = -(ratio * one_over_s * r * inverse) * counted;
            b[j] = -(d_s * rising_b) * counted;
            c[j] = -(d_nu * rising_c) * counted;
        }
    }
}

/* R (47) of a whole number x, and S (55) to `slope`. */
static double rising_of(double x, double theta, double *slope) {
    double product = 1.0, sum = 0.0;
    index_t steps = smaller((index_t)x, TABLED);
    for (index_t n = 0; n < steps; n++) {
        double ratio = 1.0 + (double)n / theta;
        product *= ratio;
        sum += 1.0 / ratio;
    }
    double raised = log(product);
    if (x > (double)TABLED) {
        Rising more = beyond_table(x, theta);
        raised = raised + more.logarithm;
        sum = sum + more.slope;
    }
    *slope = sum;
    return raised;
}

/* log p of counts with means exp(a) (66); a becomes d_a (53), own the gradient of x_log_dispersion (55). */
static void count_lanes(float *a, const float *x, float *own, float *total, const PanelColumns *columns, float scale,
                        int gradient) {
    for (int j = 0; j < PANEL; j++) {
        float value = x[j];
        if (value != value) {
            if (gradient) a[j] = own[j] = 0.0f;
            continue;
        }
        float t = columns->first[j], theta = columns->second[j];
        float difference = a[j] - t;
        float e = exp_of_negative(-__builtin_fabsf(difference));
        float above = 1.0f + e;
        float more = softplus_of(difference, e, above);
        double exact = (double)value, wide = (double)theta, slope, unused;
        double raised = rising_of(exact, wide, &slope), factorial = rising_of(exact, 1.0, &unused);
        total[j] += (float)(exact * (double)a[j] - (exact + wide) * (double)more + raised - factorial);
        if (gradient) {
            float upper = 1.0f / above, lower = e / above;
            float falling = difference > 0.0f ? lower : upper, rising = difference > 0.0f ? upper : lower;
            float g = value * falling - theta * rising;
            a[j] = -g * scale;
            own[j] = -((float)(slope - wide * (double)more) - g) * scale;
        }
    }
}

/* log p = x * a - softplus(a) (3); a becomes d_a (7). */
static void bernoulli_lanes(float *restrict a, const float *restrict x, float *restrict total, float scale, int gradient) {
    for (int j = 0; j < PANEL; j++) {
        float value = x[j], logit = a[j];
        int known = value == value;
        float e = exp_of_negative(-__builtin_fabsf(logit));
        float above = 1.0f + e;
        total[j] += known ? value * logit - softplus_of(logit, e, above) : 0.0f;
        if (gradient) {
            float sigmoid = (logit < 0.0f ? e : 1.0f) / above;
            a[j] = known ? (sigmoid - value) * scale : 0.0f;
        }
    }
}

/* log p = x * a - kappa(a) (21); a becomes d_a (25). */
static void continuous_lanes(float *restrict a, const float *restrict x, float *restrict total, float scale, int gradient) {
    for (int j = 0; j < PANEL; j++) {
        float value = x[j], logit = a[j], mean;
        int known = value == value;
        float kappa = kappa_and_mean(logit, &mean);
        total[j] += known ? fused(value, logit, -kappa) : 0.0f;
        if (gradient) a[j] = known ? (mean - value) * scale : 0.0f;
    }
}

/* Element p of a row of a matrix in panels. */
static inline index_t lane_of(index_t p, index_t stride) { return p / PANEL * stride + p % PANEL; }

/* log p of one variable in every row: the softmax over its levels, which stand at begin to end - 1 (67), (68); the logits become
 * theirs (69). */
static void categories(const TableRows *table, index_t v, index_t begin, index_t end) {
    index_t stride = table->stride, deep = table->deep;
    for (index_t q = 0; q < table->rows * table->samples; q++) {
        float *a = table->outputs + q * PANEL;
        const float *x = table->x + q / table->samples * PANEL;
        float known = x[lane_of(begin, stride)];
        if (known != known) {
            if (table->gradient)
                for (index_t p = begin; p < end; p++) a[lane_of(p, deep)] = 0.0f;
            continue;
        }
        float largest = -__builtin_inff(), chosen = 0.0f, total = 0.0f;
        for (index_t p = begin; p < end; p++) {
            float logit = a[lane_of(p, deep)];
            largest = logit > largest ? logit : largest;
        }
        for (index_t p = begin; p < end; p++) {
            float shifted = a[lane_of(p, deep)] - largest;
            total += exp_of_negative(shifted);
            chosen = fused(x[lane_of(p, stride)], shifted, chosen);
        }
        table->totals[q * PANEL + v % PANEL] += chosen - log_of(total);
        if (table->gradient)
            for (index_t p = begin; p < end; p++) {
                float share = exp_of_negative(a[lane_of(p, deep)] - largest) / total;
                a[lane_of(p, deep)] = (share - x[lane_of(p, stride)]) * table->scale;
            }
    }
}

/* Row q of a panel of a block, whose x is `seen`. */
static inline void block_row(const TableRows *table, const int64_t *block, index_t at, const PanelColumns *columns, index_t q,
                             const float *seen) {
    index_t deep = table->deep, place = (block[FIRST_PANEL] + at) * deep + q * PANEL, kind = block[KIND];
    float *a = table->outputs + place, *total = table->totals + q * PANEL;
    if (kind == GAUSSIAN_COLUMNS)
        gaussian_lanes(a, seen, table->own + place, total, columns, table->scale, table->gradient);
    else if (kind == STUDENT_T_COLUMNS)
        student_t_lanes(a, table->outputs + (block[SCALE_PANEL] + at) * deep + q * PANEL,
                        table->outputs + (block[FREEDOM_PANEL] + at) * deep + q * PANEL, seen, total, table->scale,
                        table->gradient);
    else if (kind == COUNTED_COLUMNS)
        count_lanes(a, seen, table->own + place, total, columns, table->scale, table->gradient);
    else if (kind == BERNOULLI_COLUMNS)
        bernoulli_lanes(a, seen, total, table->scale, table->gradient);
    else
        continuous_lanes(a, seen, total, table->scale, table->gradient);
}

static void block_panel(const TableRows *table, const int64_t *block, index_t at, const PanelColumns *columns) {
    const float *x = table->x + (block[FIRST_PANEL] + at) * table->stride;
    for (index_t r = 0; r < table->rows; r++) {
        float seen[PANEL]; /* of one sample, what it adds to the gradient of own parameters takes the place of x */
        memcpy(seen, x + r * PANEL, sizeof seen);
        for (index_t q = r * table->samples; q < (r + 1) * table->samples; q++) block_row(table, block, at, columns, q, seen);
    }
}

static void block_rows(const TableRows *table) {
    PanelColumns columns;
    index_t rows = table->rows * table->samples;
    fill(table->totals, rows * PANEL, 0.0f);
    for (index_t b = 0; b < table->blocks; b++) {
        const int64_t *block = table->block + b * BLOCK_FIELDS;
        if (block[KIND] == CATEGORICAL_COLUMNS) {
            for (index_t v = block[FIRST_VARIABLE]; v < block[LAST_VARIABLE]; v++) {
                index_t begin = table->places[table->variable[2 * v]];
                categories(table, v, begin, begin + table->variable[2 * v + 1] - table->variable[2 * v]);
            }
            continue;
        }
        for (index_t at = 0; at < block[PANELS]; at++) {
            if (block[OWN] >= 0) write_columns(block[KIND], table->parameters + block[OWN] + at * PANEL, &columns);
            block_panel(table, block, at, &columns);
        }
    }
    for (index_t q = 0; q < rows; q++) {
        double value = 0.0;
        for (int j = 0; j < PANEL; j++) value += (double)table->totals[q * PANEL + j];
        table->log_likelihood[q] = value;
    }
}

/* One row, (columns,): to x, in which what pads a block is missing, and to what the encoder sees: zero where nothing was observed,
 * of counts log(1 + x) (61), and which variables are missing. */
static void place_table(const TableRows *table, const float *values, float *x, float *seen) {
    index_t stride = table->stride;
    for (index_t panel = 0; panel < table->x_panels; panel++) fill(x + panel * stride, PANEL, __builtin_nanf(""));
    for (index_t column = 0; column < table->columns; column++) {
        float value = values[column];
        x[lane_of(table->places[column], stride)] = value;
        seen[lane_of(column, stride)] = value == value ? value : 0.0f;
    }
    for (index_t b = 0; b < table->blocks; b++) {
        const int64_t *block = table->block + b * BLOCK_FIELDS;
        if (block[KIND] == COUNTED_COLUMNS)
            for (index_t v = block[FIRST_VARIABLE]; v < block[LAST_VARIABLE]; v++) {
                float *place = seen + lane_of(table->variable[2 * v], stride);
                *place = log_of(1.0f + *place);
            }
    }
    for (index_t v = 0; v < table->indicators; v++) {
        float value = values[table->variable[2 * v]];
        seen[lane_of(table->columns + v, stride)] = value == value ? 0.0f : 1.0f;
    }
}

/* The gradient of what is learned of a panel of columns (20), (55): the rows of `own`, as block_rows left them, in ascending
 * order. */
static void own_gradient(const float *parts, index_t rows, const float *weights, float *gradient) {
    add_weighted_rows(parts, rows, weights, gradient);
}

/* The first outputs of every row become the means of their columns: of a category the probability of each level. */
static void expect_rows(const TableRows *table) {
    index_t stride = table->deep;
    for (index_t b = 0; b < table->blocks; b++) {
        const int64_t *block = table->block + b * BLOCK_FIELDS;
        float *a = table->outputs + block[FIRST_PANEL] * stride;
        for (index_t v = block[FIRST_VARIABLE]; v < block[LAST_VARIABLE] && block[KIND] == CATEGORICAL_COLUMNS; v++) {
            index_t begin = table->places[table->variable[2 * v]];
            index_t end = begin + table->variable[2 * v + 1] - table->variable[2 * v];
            for (index_t q = 0; q < table->rows; q++) {
                float *row = table->outputs + q * PANEL, largest = -__builtin_inff(), total = 0.0f;
                for (index_t p = begin; p < end; p++) {
                    float logit = row[lane_of(p, stride)];
                    largest = logit > largest ? logit : largest;
                }
                for (index_t p = begin; p < end; p++) {
                    float e = exp_of_negative(row[lane_of(p, stride)] - largest);
                    row[lane_of(p, stride)] = e;
                    total += e;
                }
                for (index_t p = begin; p < end; p++) row[lane_of(p, stride)] /= total;
            }
        }
        for (index_t panel = 0; panel < block[PANELS]; panel++, a += stride)
            for (index_t j = 0; j < table->rows * PANEL; j++) {
                float mean = a[j];
                if (block[KIND] == COUNTED_COLUMNS) mean = exp_of(mean);
                if (block[KIND] == BERNOULLI_COLUMNS) {
                    float e = exp_of_negative(-__builtin_fabsf(mean));
                    mean = (mean < 0.0f ? e : 1.0f) / (1.0f + e);
                }
                if (block[KIND] == CONTINUOUS_COLUMNS) kappa_and_mean(a[j], &mean);
                a[j] = mean;
            }
    }
}

/* means = shrink times means, and the sum over rows of w times their means, (padded X,). */
static void add_means(const TableRows *table, const double *w, double shrink, double *means) {
    for (index_t panel = 0; panel < table->x_panels; panel++) {
        double *total = means + panel * PANEL;
        for (int j = 0; j < PANEL; j++) total[j] *= shrink;
        for (index_t q = 0; q < table->rows; q++) {
            const float *mean = table->outputs + panel * table->deep + q * PANEL;
            for (int j = 0; j < PANEL; j++) total[j] += w[q] * (double)mean[j];
        }
    }
}

/* Likelihoods of whole counts: log p(x | z) of each row and its gradient, in passes between which the halves of the columns
 * meet: a part of unit.h, whose functions it takes; see `CountRows` in kernels.h for what a pass reads and writes.
 *
 * B rows, X columns; a number in parentheses is an equation of DERIVATION.md, section 13. The rates of a row are a softmax over
 * all of its columns, of which two workers may have a half each. So a row takes four passes over its half, and after each but the
 * last the halves meet and add up what they have found, half 0 first:
 *
 *     MAXIMUM   the largest output of the row
 *     SUM       e = exp(a - maximum), to the rates, and its sum
 *     DENSITY   log p(x | z) of the counts, and with a dispersion g (53), its sum, and the gradient of the dispersion (55)
 *     GRADIENT  the gradient of the outputs (52), (54)
 *
 * Loops run over the lanes of some rows of a panel, which lie together, so that they become vector code; what belongs to a row
 * or to a column is written out for all of them first. The operations and their order are those of
 * vaefast/engines/numba_cpu/counts.py, and so are the bits.
 */

#define CHUNK_LANES (CHUNK_ROWS * PANEL)
#define SMALLEST -3e38f

/* The image whose sample row q is. */
static inline index_t image_of(const CountRows *c, index_t q) { return (c->first + q) / c->samples; }

/* The entries of an image in a half of the columns: the first of them, and the one after the last. */
typedef struct {
    index_t begin, end;
} Entries;

static inline Entries entries_of(const CountRows *c, index_t r) {
    index_t start = r * c->capacity, middle = start + c->middles[r];
    return c->half == 1 ? (Entries){middle, start + c->lengths[r]} : (Entries){start, middle};
}

/* Where a column of row q stands in a matrix that has one element a column. */
static inline index_t place_of(const CountRows *c, index_t q, uint32_t column) {
    return (index_t)(column / PANEL) * c->stride + q * PANEL + column % PANEL;
}

static inline float *outputs_of(const CountRows *c, index_t panel) { return c->outputs + panel * c->twins * c->stride; }

static inline float *rates_of(const CountRows *c, index_t panel) { return c->rates + panel * CHUNK_LANES; }

static inline float largest_of(const CountRows *c, index_t q) {
    return c->maxima[0][q] > c->maxima[1][q] ? c->maxima[0][q] : c->maxima[1][q];
}

static inline double sum_of(const CountRows *c, index_t q) { return c->sums[0][q] + c->sums[1][q]; }

/* sums[r] = the sum of the lanes of row r, in ascending order. */
static void add_up(const float *lanes, index_t rows, double *sums) {
    for (index_t r = 0; r < rows; r++) {
        double value = 0.0;
        for (int j = 0; j < PANEL; j++) value += (double)lanes[r * PANEL + j];
        sums[r] = value;
    }
}

/* ---- the shares of the columns ---- */

static inline void larger_lanes(const float *restrict a, index_t size, float *restrict lanes) {
    for (index_t j = 0; j < size; j++) lanes[j] = a[j] > lanes[j] ? a[j] : lanes[j];
}

static void find_maxima(const CountRows *c) {
    float lanes[CHUNK_LANES];
    fill(lanes, c->rows * PANEL, SMALLEST);
    for (index_t panel = c->begin; panel < c->end; panel++) {
        const float *a = outputs_of(c, panel);
        index_t real = smaller(PANEL, c->pixels - panel * PANEL);
        if (real == PANEL)
            larger_lanes(a, c->rows * PANEL, lanes);
        else
            for (index_t r = 0; r < c->rows * PANEL; r += PANEL) larger_lanes(a + r, real, lanes + r);
    }
    for (index_t r = 0; r < c->rows; r++) {
        float largest = SMALLEST;
        for (int j = 0; j < PANEL; j++) largest = lanes[r * PANEL + j] > largest ? lanes[r * PANEL + j] : largest;
        c->maxima[c->half][r] = largest;
    }
}

static inline void exponentials(const float *restrict a, const float *restrict largest, index_t size, float *restrict e) {
    for (index_t j = 0; j < size; j++) e[j] = exp_of_negative(a[j] - largest[j]);
}

static inline void add_lanes_to(const float *restrict e, index_t size, float *restrict total) {
    for (index_t j = 0; j < size; j++) total[j] += e[j];
}

static void sum_exponentials(const CountRows *c) {
    float total[CHUNK_LANES], largest[CHUNK_LANES];
    fill(total, c->rows * PANEL, 0.0f);
    for (index_t r = 0; r < c->rows; r++) fill(largest + r * PANEL, PANEL, largest_of(c, r));
    for (index_t panel = c->begin; panel < c->end; panel++) {
        float *e = rates_of(c, panel);
        index_t real = smaller(PANEL, c->pixels - panel * PANEL);
        exponentials(outputs_of(c, panel), largest, c->rows * PANEL, e);
        if (real < PANEL) /* Padded columns have a = 0, and would count. */
            for (index_t r = 0; r < c->rows * PANEL; r += PANEL) fill(e + r + real, PANEL - real, 0.0f);
        add_lanes_to(e, c->rows * PANEL, total);
    }
    add_up(total, c->rows, c->sums[c->half]);
}

/* ---- counts of which only the shares depend on z: poisson and multinomial, which differ in their constants ---- */

static inline void multiply(const float *restrict e, const float *restrict factor, index_t size, float *restrict a) {
    for (index_t j = 0; j < size; j++) a[j] = e[j] * factor[j];
}

/* log p(x | z) = sum(x log s) + constant of row q (50), (51), this half's part. */
static double share_log_likelihood(const CountRows *c, index_t q) {
    index_t r = image_of(c, q);
    double log_sum = (double)largest_of(c, q) + log(sum_of(c, q)), value = c->half == 0 ? c->constants[r] : 0.0;
    Entries entries = entries_of(c, r);
    for (index_t i = entries.begin; i < entries.end; i++)
        value += (double)c->counts[i] * ((double)c->outputs[place_of(c, q, c->columns[i])] - log_sum);
    return value;
}

/* The same of all rows, whose outputs become d_a = (l s - x) scale (52). */
static void share_density(const CountRows *c) {
    float factor[CHUNK_LANES];
    for (index_t q = 0; q < c->rows; q++) {
        c->log_likelihood[q] = share_log_likelihood(c, q);
        double share = (double)c->totals[image_of(c, q)] / sum_of(c, q);
        fill(factor + q * PANEL, PANEL, (float)(share * (double)c->scale));
    }
    for (index_t panel = c->begin; panel < c->end; panel++)
        multiply(rates_of(c, panel), factor, c->rows * PANEL, outputs_of(c, panel));
    for (index_t q = 0; q < c->rows; q++) {
        Entries entries = entries_of(c, image_of(c, q));
        for (index_t i = entries.begin; i < entries.end; i++)
            c->outputs[place_of(c, q, c->columns[i])] -= c->counts[i] * c->scale;
    }
}

/* ---- counts with a dispersion a column: the negative binomial, with zero inflation or without ---- */

/* Panels of columns whose counts are written out together: 64 columns, in which a row of cells has some 17 counts. */
#define WRITTEN_PANELS 4
/* 1 + exp(-|h|) is at most 2, so a float32 holds the product of this many panels' factors. */
#define FACTORS 64

/* What is written out for the lanes of a chunk, and the sums and products over its columns. */
typedef struct {
    float total[CHUNK_LANES], slope[CHUNK_LANES], factor[CHUNK_LANES], shift[CHUNK_LANES];
    float theta[CHUNK_LANES], inverse_theta[CHUNK_LANES], above[CHUNK_LANES], below[CHUNK_LANES];
    float more[CHUNK_LANES], e_gap[CHUNK_LANES], e_b[CHUNK_LANES];
} Lanes;

/* The counts of some panels: x, S (55), and those above TABLED as a list, in float64 of what the table leaves out. */
typedef struct {
    float x[WRITTEN_PANELS * CHUNK_LANES], rising[WRITTEN_PANELS * CHUNK_LANES];
    double large[WRITTEN_PANELS * CHUNK_LANES], theta[WRITTEN_PANELS * CHUNK_LANES];
    float log_theta[WRITTEN_PANELS * CHUNK_LANES];
    int32_t place[WRITTEN_PANELS * CHUNK_LANES];
} Written;

/* mu = e * factor, and log mu = a + shift (45); a row of zeros has no rates, and nothing to multiply their logarithms by. */
static void write_rates(const CountRows *c, Lanes *lanes) {
    for (index_t q = 0; q < c->rows; q++) {
        double sum = sum_of(c, q), size = (double)c->sizes[image_of(c, q)];
        double log_size = size > 0.0 ? log(size) : 0.0, log_share = -(double)largest_of(c, q) - log(sum);
        fill(lanes->factor + q * PANEL, PANEL, (float)(size / sum));
        fill(lanes->shift + q * PANEL, PANEL, (float)(log_size + log_share));
    }
}

/* theta and 1 / theta of a panel, in every row. */
static void write_dispersions(const float *t, index_t rows, Lanes *lanes) {
    for (int j = 0; j < PANEL; j++) lanes->theta[j] = dispersion(t[j]);
    for (int j = 0; j < PANEL; j++) lanes->inverse_theta[j] = 1.0f / lanes->theta[j];
    for (index_t r = 1; r < rows; r++) {
        memcpy(lanes->theta + r * PANEL, lanes->theta, PANEL * sizeof(float));
        memcpy(lanes->inverse_theta + r * PANEL, lanes->inverse_theta, PANEL * sizeof(float));
    }
}

/* R and S of counts above TABLED: what they have beyond the table. */
static void add_large(Written *restrict written, index_t size, double *restrict values) {
    for (index_t i = 0; i < size; i++) written->theta[i] = (double)dispersion(written->log_theta[i]);
    for (index_t i = 0; i < size; i++) {
        Rising more = beyond_table(written->large[i], written->theta[i]);
        written->large[i] = more.logarithm;
        written->theta[i] = more.slope;
    }
    for (index_t i = 0; i < size; i++) {
        values[written->place[i] % CHUNK_LANES / PANEL] += written->large[i];
        written->rising[written->place[i]] += (float)written->theta[i];
    }
}

/* x and S of panels first to last - 1, from entry next[q] of each row on; R (48) is added to the row's value. A panel of the table
 * is as long as one of a chunk. */
static void write_counts(const CountRows *c, index_t first, index_t last, const index_t *ends, index_t *next,
                         Written *restrict written, double *restrict values) {
    const uint32_t *restrict columns = c->columns, begin = (uint32_t)(first * PANEL), end = (uint32_t)(last * PANEL);
    const float *restrict counts = c->counts, *restrict table = c->table + first * PANEL_OF_TABLE - PANEL;
    const float *restrict log_theta = c->x_log_dispersion + first * PANEL;
    index_t large = 0;
    for (index_t panel = 0; panel < last - first; panel++) {
        fill(written->x + panel * CHUNK_LANES, c->rows * PANEL, 0.0f);
        fill(written->rising + panel * CHUNK_LANES, c->rows * PANEL, 0.0f);
    }
    for (index_t q = 0; q < c->rows; q++) {
        float *restrict x = written->x + q * PANEL, *restrict rising = written->rising + q * PANEL;
        double value = values[q];
        index_t i = next[q], stop = ends[q];
        for (; i < stop && columns[i] < end; i++) {
            uint32_t column = columns[i] - begin, place = column + column / PANEL * (CHUNK_LANES - PANEL);
            float count = counts[i];
            int32_t whole = (int32_t)count;
            if (whole > TABLED) {
                written->large[large] = (double)count;
                written->log_theta[large] = log_theta[column];
                written->place[large++] = (int32_t)(place + q * PANEL);
                whole = TABLED;
            }
            const float *entry = table + place + whole * PANEL;
            x[place] = count;
            rising[place] = entry[SLOPES];
            value += (double)entry[0];
        }
        values[q] = value;
        next[q] = i;
    }
    add_large(written, large, values);
}

/* log(1 + mu / theta), which costs most, in a loop of its own: a processor looks some hundred operations ahead, and the more rows
 * these are of, the less it waits for results. */
static void write_logarithms(const float *restrict e, index_t size, Lanes *restrict lanes) {
    for (index_t j = 0; j < size; j++)
        lanes->more[j] = log_of_one_and(e[j] * lanes->factor[j] * lanes->inverse_theta[j]);
}

/* log p = x (log mu - log(1 + mu / theta)) - theta log(1 + mu / theta) + R (48). */
static void negative_binomial(float *restrict a, const float *restrict x, const float *restrict s, const float *restrict e,
                              index_t size, float scale, Lanes *restrict lanes, float *restrict target) {
    for (index_t j = 0; j < size; j++) {
        float mu = e[j] * lanes->factor[j], more = lanes->more[j];
        float zero = lanes->theta[j] * more;
        float g = (x[j] - mu) / (1.0f + mu * lanes->inverse_theta[j]); /* (53) */
        lanes->total[j] += fused(x[j], (a[j] + lanes->shift[j]) - more, -zero);
        lanes->slope[j] += g;
        a[j] = g;
        target[j] = ((zero + g) - s[j]) * scale; /* (55) */
    }
}

/* exp(-|u - h|) and exp(-|h|). */
static void write_exponentials(const float *restrict h, index_t size, Lanes *restrict lanes) {
    for (index_t j = 0; j < size; j++)
        lanes->e_gap[j] = exp_of_negative(-__builtin_fabsf(lanes->theta[j] * lanes->more[j] + h[j]));
    for (index_t j = 0; j < size; j++) lanes->e_b[j] = exp_of_negative(-__builtin_fabsf(h[j]));
}

/* With u = -theta log(1 + mu / theta): log p(0) = softplus(u - h) - softplus(-h), and log p(x) loses softplus(h) (49).
 *
 * softplus(b) = max(b, 0) + log(1 + exp(-|b|)). The factors 1 + exp(-|b|) are multiplied over many panels, so that one logarithm
 * serves them all. u is never above zero, so of a zero's maxima max(u, min(h, 0)) is left. One quotient serves the three sigmoids:
 * the two factors beside u + 1 are at most 2. */
static void zero_inflated(float *restrict a, float *restrict h, const float *restrict x, const float *restrict s,
                          const float *restrict e, index_t size, float scale, Lanes *restrict lanes, float *restrict target) {
    for (index_t j = 0; j < size; j++) {
        float mu = e[j] * lanes->factor[j], b = h[j], count = x[j], more = lanes->more[j];
        float zero = lanes->theta[j] * more;
        float e_gap = lanes->e_gap[j], e_b = lanes->e_b[j];
        float one_gap = 1.0f + e_gap, one_b = 1.0f + e_b, one_ratio = 1.0f + mu * lanes->inverse_theta[j];
        float both = one_gap * one_b;
        float quotient = 1.0f / (both * one_ratio);
        float of_factors = quotient * one_ratio;
        int is_zero = count == 0.0f;
        float own = (zero + b <= 0.0f ? 1.0f : e_gap) * (of_factors * one_b);
        float w = is_zero ? own : 1.0f;                                     /* sigmoid(u - h) */
        float not_zero = (b <= 0.0f ? 1.0f : e_b) * (of_factors * one_gap); /* sigmoid(-h) */
        float g = w * ((count - mu) * (quotient * both));                   /* (53) */
        float below = b > 0.0f ? 0.0f : b, above = b < 0.0f ? 0.0f : b;
        float at_zero = below < -zero ? -zero : below;
        float positive = fused(count, (a[j] + lanes->shift[j]) - more, -zero) - above;
        lanes->total[j] += is_zero ? at_zero : positive;
        lanes->above[j] *= is_zero ? one_gap : 1.0f;
        lanes->below[j] *= one_b;
        lanes->slope[j] += g;
        a[j] = g;
        target[j] = (fused(w, zero, g) - s[j]) * scale; /* (55) */
        h[j] = (w - not_zero) * scale;                  /* (56) */
    }
}

/* The logarithms of the factors' quotients, to the totals. */
static void take_logarithms(index_t size, Lanes *restrict lanes) {
    for (index_t j = 0; j < size; j++) lanes->total[j] += log_of(lanes->above[j] / lanes->below[j]);
    fill(lanes->above, size, 1.0f);
    fill(lanes->below, size, 1.0f);
}

/* log p(x | z) (48), (49) and its slopes (53), (55), (56): the outputs become g, or with zero inflation w g, the target the gradient
 * of x_log_dispersion for each row, the zero_logits theirs. */
static void dispersed_density(const CountRows *c) {
    Lanes lanes;
    Written written;
    index_t next[CHUNK_ROWS], ends[CHUNK_ROWS], size = c->rows * PANEL;
    double values[CHUNK_ROWS];
    fill(lanes.total, size, 0.0f);
    fill(lanes.slope, size, 0.0f);
    fill(lanes.above, size, 1.0f);
    fill(lanes.below, size, 1.0f);
    write_rates(c, &lanes);
    for (index_t q = 0; q < c->rows; q++) {
        Entries entries = entries_of(c, image_of(c, q));
        next[q] = entries.begin;
        ends[q] = entries.end;
        values[q] = 0.0;
    }
    for (index_t first = c->begin; first < c->end; first += WRITTEN_PANELS) {
        index_t last = smaller(first + WRITTEN_PANELS, c->end);
        write_counts(c, first, last, ends, next, &written, values);
        for (index_t panel = first; panel < last; panel++) {
            float *a = outputs_of(c, panel), *target = c->target + panel * c->stride;
            const float *x = written.x + (panel - first) * CHUNK_LANES, *s = written.rising + (panel - first) * CHUNK_LANES;
            write_dispersions(c->x_log_dispersion + panel * PANEL, c->rows, &lanes);
            write_logarithms(rates_of(c, panel), size, &lanes);
            if (c->twins == 1) {
                negative_binomial(a, x, s, rates_of(c, panel), size, c->scale, &lanes, target);
            } else {
                write_exponentials(a + c->stride, size, &lanes);
                zero_inflated(a, a + c->stride, x, s, rates_of(c, panel), size, c->scale, &lanes, target);
            }
        }
        if (c->twins > 1 && (last - c->begin) % FACTORS == 0) take_logarithms(size, &lanes);
    }
    if (c->twins > 1) take_logarithms(size, &lanes);
    for (index_t q = 0; q < c->rows; q++) {
        double value = c->half == 0 ? c->constants[image_of(c, q)] : 0.0;
        for (int j = 0; j < PANEL; j++) value += (double)lanes.total[q * PANEL + j];
        c->log_likelihood[q] = value + values[q];
    }
    add_up(lanes.slope, c->rows, c->slopes[c->half]);
}

static inline void share_out(float *restrict a, const float *restrict e, const float *restrict factor, index_t size, float scale) {
    for (index_t j = 0; j < size; j++) a[j] = fused(e[j], factor[j], -a[j]) * scale;
}

/* The outputs become d_a = (s sum(g) - g) scale (54). */
static void dispersed_gradient(const CountRows *c) {
    float factor[CHUNK_LANES];
    for (index_t q = 0; q < c->rows; q++) {
        fill(factor + q * PANEL, PANEL, (float)((c->slopes[0][q] + c->slopes[1][q]) / sum_of(c, q)));
    }
    for (index_t panel = c->begin; panel < c->end; panel++) {
        share_out(outputs_of(c, panel), rates_of(c, panel), factor, c->rows * PANEL, c->scale);
    }
}

/* ---- what the engine calls ---- */

static void counts_pass(int stage, const CountRows *c) {
    if (stage == MAXIMUM) {
        find_maxima(c);
    } else if (stage == SUM) {
        sum_exponentials(c);
    } else if (stage == DENSITY && !c->x_log_dispersion) {
        share_density(c);
    } else if (stage == DENSITY) {
        dispersed_density(c);
    } else if (c->x_log_dispersion) {
        dispersed_gradient(c);
    }
}

/* The sum of rows of 16 in ascending order, each times its weight, or 1. */
static void add_weighted_rows(const float *restrict parts, index_t rows, const float *restrict weights, float *restrict total) {
    fill(total, PANEL, 0.0f);
    for (index_t q = 0; q < rows; q++) {
        float weight = weights ? weights[q] : 1.0f;
        for (int j = 0; j < PANEL; j++) total[j] = fused(parts[q * PANEL + j], weight, total[j]);
    }
}

/* d_x_log_dispersion of one panel of columns (55): the rows of the target, as GRADIENT left them, in ascending order; zero where
 * a step would lead further out of the bounds. */
static void dispersion_gradient(const float *slopes, index_t rows, const float *weights, const float *x_log_dispersion,
                                float *gradient) {
    float total[PANEL];
    add_weighted_rows(slopes, rows, weights, total);
    for (int j = 0; j < PANEL; j++) {
        float t = x_log_dispersion[j];
        int outward = (t <= LOWEST_LOG_DISPERSION && total[j] > 0.0f) || (t >= HIGHEST_LOG_DISPERSION && total[j] < 0.0f);
        gradient[j] = outward ? 0.0f : total[j];
    }
}

/* What the encoder sees of the counts of a row, (size,): log(1 + x), x over the row's norm, or x. */
static void see_counts(const float *restrict x, index_t size, int encoder_input, float *restrict values) {
    if (encoder_input == SEEN_AS_LOGARITHMS) {
        for (index_t i = 0; i < size; i++) values[i] = log_of(1.0f + x[i]);
        return;
    }
    double squares = 0.0;
    if (encoder_input == SEEN_OVER_THEIR_NORM)
        for (index_t i = 0; i < size; i++) squares += (double)x[i] * (double)x[i];
    float factor = squares > 0.0 ? (float)(1.0 / __builtin_sqrt(squares)) : 1.0f;
    for (index_t i = 0; i < size; i++) values[i] = x[i] * factor;
}

/* The columns of some entries, of one width or the other; the other array is NULL. */
static void copy_columns(const uint16_t *restrict narrow, const uint32_t *restrict wide, index_t size, uint32_t *restrict columns) {
    if (narrow)
        for (index_t i = 0; i < size; i++) columns[i] = narrow[i];
    else
        memcpy(columns, wide, (size_t)size * sizeof(uint32_t));
}

/* Their counts, of one type or the other. */
static void copy_counts(const uint8_t *restrict bytes, const uint16_t *restrict shorts, const float *restrict floats, index_t size,
                        float *restrict counts) {
    if (bytes)
        for (index_t i = 0; i < size; i++) counts[i] = (float)bytes[i];
    else if (shorts)
        for (index_t i = 0; i < size; i++) counts[i] = (float)shorts[i];
    else
        memcpy(counts, floats, (size_t)size * sizeof(float));
}

/* No branch: each is written, and overwritten by the next unless it is kept. No value moves to the place of a later one. */
static index_t keep_entries(const uint32_t *restrict columns, const uint32_t *restrict words, index_t size, uint32_t below,
                            float scale, uint32_t *restrict kept, float *values) {
    index_t count = 0;
    for (index_t i = 0; i < size; i++) {
        kept[count] = columns[i];
        values[count] = values[i] * scale;
        count += words[i] >= below;
    }
    return count;
}

static index_t count_below(const uint32_t *columns, index_t size, index_t boundary) {
    int32_t count = 0, last = (int32_t)boundary;
    for (index_t i = 0; i < size; i++) count += (int32_t)columns[i] < last;
    return count;
}

/* How many entries of a row lie in each block of columns and those before it. */
static void end_blocks(const uint32_t *restrict columns, index_t size, int32_t *restrict ends, index_t blocks) {
    memset(ends, 0, (size_t)blocks * sizeof(int32_t));
    for (index_t i = 0; i < size; i++) ends[columns[i] / BLOCK_PIXELS] = (int32_t)(i + 1);
    for (index_t block = 1; block < blocks; block++)
        ends[block] = ends[block] > ends[block - 1] ? ends[block] : ends[block - 1];
}

/* The samples of the latents, what they count for, and the pass backward through them: a part of unit.h, whose functions it takes.
 *
 * B images, k samples of the latents of each, which lie together; Z latents, padded to panels. A number in parentheses is an
 * equation of DERIVATION.md. The operations and their order are those of vaefast/engines/numba_cpu/sampling.py,
 * sampling_backward.py and objectives.py, and so are the bits.
 */

/* Of a head s: c (43), std = exp(c), and whether c moves with s. NaN stays NaN. */
static inline float bounded(float s) {
    float c = s < LOWEST_LOG_STD ? LOWEST_LOG_STD : s;
    return s > HIGHEST_LOG_STD ? HIGHEST_LOG_STD : c;
}

static inline float deviation_of(float s) {
    float std = s < LOWEST_LOG_STD ? NARROWEST : exp_of(s);
    return s > HIGHEST_LOG_STD ? WIDEST : std;
}

static inline float moving(float std, float value) { return std == NARROWEST || std == WIDEST ? 0.0f : value; }

/* Twice the KL divergence of a latent, exp(2 c) + mean^2 - 1 - 2 c (4), and beyond the bounds its tangent (44). */
static inline float twice_divergence(float mean, float s, float std) {
    float c = bounded(s);
    return (fused(std, std, mean * mean) - 1.0f - 2.0f * c) + 2.0f * (s - c) * fused(std, std, -1.0f);
}

static double sum_of_lanes(const float *lanes) {
    double total = 0.0;
    for (int j = 0; j < PANEL; j++) total += (double)lanes[j];
    return total;
}

/* ---- forward ---- */

static double spread_out(index_t panels, index_t stride, const float *mean, const float *log_std, float *std, float *kl) {
    float lanes[PANEL] = {0};
    for (index_t panel = 0; panel < panels; panel++) {
        index_t place = panel * stride;
        float divergence[PANEL];
        for (int j = 0; j < PANEL; j++) {
            float m = mean[place + j], s = log_std[place + j], deviation = deviation_of(s);
            std[place + j] = deviation;
            divergence[j] = twice_divergence(m, s, deviation);
            lanes[j] += divergence[j];
        }
        if (kl)
            for (int j = 0; j < PANEL; j++) kl[panel * PANEL + j] = 0.5f * divergence[j];
    }
    return 0.5 * sum_of_lanes(lanes);
}

/* z = mean + exp(c) * noise (2) */
static void draw(const uint32_t *words, float *noise, index_t panels, index_t stride, index_t z_stride, const float *mean,
                 const float *std, float *z, float *spread) {
    fill_normals(words, panels * PANEL, noise);
    for (index_t panel = 0; panel < panels; panel++) {
        index_t place = panel * stride, target = panel * z_stride;
        for (int j = 0; j < PANEL; j++) {
            float shift = std[place + j] * noise[panel * PANEL + j];
            spread[target + j] = shift;
            z[target + j] = mean[place + j] + shift;
        }
    }
}

/* sum(0.5 * (noise^2 - z^2) + c) (30); padded latents have z = noise and add 0. */
static double log_ratio(const float *noise, index_t panels, index_t stride, index_t z_stride, const float *log_std,
                        const float *z) {
    float lanes[PANEL] = {0};
    for (index_t panel = 0; panel < panels; panel++)
        for (int j = 0; j < PANEL; j++) {
            float epsilon = noise[panel * PANEL + j], drawn = z[panel * z_stride + j];
            lanes[j] += fused(0.5f, fused(epsilon, epsilon, -(drawn * drawn)), bounded(log_std[panel * stride + j]));
        }
    return sum_of_lanes(lanes);
}

/* ---- what latents and samples count for ---- */

/* NaN is not at most the free nats, and goes on into the gradient. */
static double floor_latents(const float *kl, index_t B, index_t latent, index_t panels, double free_nats, float *scales) {
    float fraction = (float)(1.0 / (double)B);
    double total = 0.0;
    fill(scales, panels * PANEL, 0.0f);
    for (index_t r = 0; r < B; r++)
        for (index_t j = 0; j < panels * PANEL; j++) scales[j] += kl[r * panels * PANEL + j];
    for (index_t j = 0; j < latent; j++) {
        double mean = (double)scales[j] / (double)B;
        total += mean <= free_nats ? free_nats : mean;
        scales[j] = mean <= free_nats ? 0.0f : fraction;
    }
    return total;
}

static void weigh_rows(float *restrict d_outputs, index_t rows, const float *restrict weights) {
    for (index_t q = 0; q < rows; q++)
        for (int j = 0; j < PANEL; j++) d_outputs[q * PANEL + j] *= weights[q];
}

/* ---- backward ---- */

/* z = mean + exp(c) * noise (2); KL = 0.5 * sum(exp(2 c) + mean^2 - 1 - 2 c) (4), with its tangents beyond (44) */
static void closed_gradient(const LatentPanel *p) {
    const float *restrict scales = p->scales;
    for (index_t r = 0; r < p->rows; r++) {
        float *restrict head = p->head + r * PANEL;
        const float *restrict std = p->std + r * PANEL;
        if (p->half == 1)
            for (int j = 0; j < PANEL; j++) head[j] = fused(std[j], std[j], -1.0f) * scales[j];
        for (index_t q = r * p->samples; q < (r + 1) * p->samples; q++) {
            const float *restrict d_z = p->d_z + q * PANEL, *restrict spread = p->spread + q * PANEL;
            if (p->half == 1)
                for (int j = 0; j < PANEL; j++)
                    head[j] = fused(d_z[j], moving(std[j], spread[j]), head[j]); /* d_log_std (12), in place */
            else if (q == r * p->samples)
                for (int j = 0; j < PANEL; j++) head[j] = fused(head[j], scales[j], d_z[j]); /* d_mean (11), in place */
            else
                for (int j = 0; j < PANEL; j++) head[j] += d_z[j];
        }
    }
}

/* log w = log p(x | z) + 0.5 * sum(noise^2 - z^2) + sum(c) (30) */
static void weighted_gradient(const LatentPanel *p) {
    for (index_t r = 0; r < p->rows; r++) {
        float *restrict head = p->head + r * PANEL;
        const float *restrict std = p->std + r * PANEL;
        for (int j = 0; j < PANEL; j++) head[j] = p->half == 1 && !p->doubly ? moving(std[j], -p->scale) : 0.0f;
        for (index_t q = r * p->samples; q < (r + 1) * p->samples; q++) {
            float weight = p->weights[q], share = weight * p->scale, *restrict d_z = p->d_z + q * PANEL;
            const float *restrict z = p->z + q * PANEL, *restrict spread = p->spread + q * PANEL;
            if (p->doubly) /* noise / std = spread / std^2; d_z (36) */
                for (int j = 0; j < PANEL; j++) d_z[j] = weight * fused(share, z[j] - spread[j] / std[j] / std[j], d_z[j]);
            else
                for (int j = 0; j < PANEL; j++) d_z[j] = fused(share, z[j], d_z[j]); /* d_z (34) */
            if (p->half == 0)
                for (int j = 0; j < PANEL; j++) head[j] += d_z[j]; /* d_mean (35), in place */
            else
                for (int j = 0; j < PANEL; j++)
                    head[j] = fused(d_z[j], moving(std[j], spread[j]), head[j]); /* d_log_std (35), in place */
        }
        /* Padded latents have z = noise, and would learn. */
        for (index_t j = p->real; j < PANEL; j++) head[j] = 0.0f;
    }
}

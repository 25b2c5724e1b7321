/* What the inner loops offer, once for every instruction set: one struct of functions each, of which one is picked at run time.
 *
 * Layouts (PANEL = 16; vaefast/models/layout.py): element (i, j) of a matrix in panels stands at (j / 16) * panel_stride + i * 16 + j % 16.
 * Strides count elements. B minibatch, X pixels, Z latents; a number in parentheses is an equation of DERIVATION.md.
 */
#ifndef VAEFAST_KERNELS_H
#define VAEFAST_KERNELS_H

#include <stdint.h>

#define PANEL 16
/* Pixels whose weight gradients are summed together (vaefast/engines/plan.py). */
#define BLOCK_PIXELS 64
/* Rows of counts that take all passes before the next do: at 2,000 columns what the passes leave to each other is 0.5 MB, which
 * stays in a second-level cache. */
#define CHUNK_ROWS 32
/* Counts that have an entry in the table of a dispersion, and the elements of the table for a panel of columns. */
#define TABLED 16
#define PANEL_OF_TABLE (2 * TABLED * PANEL)

typedef int64_t index_t;

/* The scalars of one step of Adam. */
typedef struct {
    float beta1, beta2, rest1, rest2, epsilon;
    float size;       /* learning rate / (1 - beta1^t) */
    float correction; /* 1 / (1 - beta2^t) */
} Adam;

/* Where a run's random numbers come from (vaefast/models/noise.py). */
typedef struct {
    uint64_t seed, purpose, step;
} Source;

/* Some rows of counts and a half of their columns, as the passes of counts.h see them; pointers are to the first of the rows, those
 * of images to the first of all images. A matrix of B rows has one element a column, in panels, but for the outputs, of which a
 * column may have two. */
typedef struct {
    index_t rows;       /* B, CHUNK_ROWS at most, of the decoder: k samples of an image lie together */
    index_t first;      /* the number of the first of them, and k: row q is a sample of image (first + q) / k */
    index_t samples;
    index_t begin, end; /* the panels of columns of this half: the first, and the one after the last */
    index_t half, pixels, capacity;
    index_t stride; /* from a panel of a matrix to the next */
    index_t twins;  /* outputs a column, whose panels take turns */
    float scale;    /* what the gradient of log p(x | z) counts for in the loss */
    float *outputs; /* of the decoder; after GRADIENT their gradients */
    float *rates;   /* exp(a - the largest output of the row), CHUNK_ROWS rows a panel */
    float *target;  /* x; after GRADIENT the gradient of x_log_dispersion for each row; NULL without a dispersion */
    const uint32_t *columns;         /* (images * capacity,): the entries of image r from r * capacity */
    const float *counts;             /* (images * capacity,) */
    const int64_t *lengths;          /* (images,): how many entries */
    const int64_t *middles;          /* (images,): how many of them belong to half 0 of the columns */
    const float *totals;             /* (images,): the sum of an image's counts */
    const float *sizes;              /* (images,): what its rates add up to */
    const double *constants;         /* (images,): what of log p(x | z) does not depend on z, nats */
    float *maxima[2];                /* (B,) of each half: the largest output */
    double *sums[2];                 /* (B,) of each half: of exp(a - maximum) */
    double *slopes[2];               /* (B,) of each half: of g (53) */
    double *log_likelihood;          /* (B,): of this half, nats */
    const float *x_log_dispersion;   /* NULL where there is none */
    const float *table;              /* `tabulate` */
} CountRows;

/* Rows of a table in blocks of columns, as the functions of blocks.h see them; pointers are to the first of the rows. */
typedef struct {
    index_t rows;    /* B, images */
    index_t samples; /* k of each; outputs, own and totals have k rows an image */
    index_t stride;  /* from a panel of a matrix of images to the next */
    index_t deep;    /* the same of a matrix of samples */
    index_t columns; /* X */
    index_t indicators, blocks, x_panels;
    const int64_t *block;    /* (blocks, BLOCK_FIELDS) */
    const int64_t *places;   /* (X,): of each column in x */
    const int64_t *variable; /* (V, 2): the columns of each variable */
    const float *parameters;
    float scale;    /* what the gradient of log p(x | z) counts for in the loss */
    int gradient;   /* whether it is wanted */
    float *outputs; /* of the decoder; their gradients, if wanted */
    const float *x; /* in panels, NaN where a value is missing */
    float *own;     /* what each row adds to the gradient of own parameters, if wanted; for one sample the place of x */
    float *totals;  /* (B k, 16) */
    double *log_likelihood; /* (B k,): nats */
} TableRows;

/* A panel of latents of some images in the pass backward; k samples of each. */
typedef struct {
    index_t rows;    /* B, images */
    index_t samples; /* k */
    index_t real;    /* latents of the panel that are no padding */
    int half;        /* 0: of the means, 1: of the log standard deviations */
    int doubly;      /* whether the gradient is the doubly reparameterised one */
    float scale;     /* 1 / B */
    const float *scales;  /* (16,): what each latent's KL counts for in the loss */
    const float *weights; /* (B k,): what each sample counts for */
    float *d_z;           /* (B k, 16) */
    const float *z, *spread; /* (B k, 16) */
    const float *std;        /* (B, 16) */
    float *head;             /* (B, 16); becomes its gradient */
} LatentPanel;

typedef struct {
    const char *name;
    index_t group;         /* panels of weights in a product or weight-gradient tile */
    index_t gradient_rows; /* rows of a weight matrix in a weight-gradient tile; divides PANEL */

    /* Rows first to last - 1 of C = start + A @ W, `panels` panels wide; start is one row, or NULL for C as it is. */
    void (*product)(const float *A, index_t a_panel, const float *W, index_t w_panel, const float *start, index_t s_panel,
                    float *C, index_t c_panel, index_t K, index_t first, index_t last, index_t panels);
    /* C = start + sum_n value[n] * W[index[n]], one row. */
    void (*gather)(const float *W, index_t w_panel, const uint16_t *index, const float *value, index_t count,
                   const float *start, float *C, index_t c_panel, index_t panels);
    /* The same of the columns of counts, which may be more than 65,536; start is in panels, as C is. */
    void (*gather_columns)(const float *W, index_t w_panel, const uint32_t *index, const float *value, index_t count,
                           const float *start, index_t s_panel, float *C, index_t c_panel, index_t panels);
    /* Rows index[n] - base of G += value[n] * D, where D is one row. */
    void (*scatter)(const float *D, index_t d_panel, const uint16_t *index, const float *value, index_t count, index_t base,
                    float *G, index_t g_panel, index_t panels);
    void (*scatter_columns)(const float *D, index_t d_panel, const uint32_t *index, const float *value, index_t count,
                            index_t base, float *G, index_t g_panel, index_t panels);
    /* Adam on `panels` panels (at most a group) of a weight matrix, whose gradient is A^T @ D over B rows (8). */
    void (*update)(const float *A, index_t a_panel, const float *D, index_t d_panel, float *parameters, float *first_moments,
                   float *second_moments, index_t w_panel, index_t inputs, index_t B, index_t panels, float *scratch,
                   const Adam *adam);
    /* Adam on `count` contiguous panel rows. */
    void (*adam)(const float *gradient, float *parameters, float *first_moments, float *second_moments, index_t count,
                 const Adam *adam);
    /* G, in panels as the weights are, = A^T @ D over B rows (8). */
    void (*gradient)(const float *A, index_t a_panel, const float *D, index_t d_panel, float *G, index_t g_panel, index_t inputs,
                     index_t B, index_t panels, float *scratch);
    /* Adam with `scale` times the gradient (42). */
    void (*scaled_adam)(const float *gradient, float scale, float *parameters, float *first_moments, float *second_moments,
                        index_t count, const Adam *adam);
    /* lanes, (16,) = the sums of the squares of `count` panel rows, lane by lane in ascending order. */
    void (*add_squares)(const float *gradient, index_t count, double *lanes);
    /* A panel (rows, 16) to 16 rows of `out`, (16, rows) in panels; a ragged last panel is padded with zeros. */
    void (*transpose)(const float *source, index_t rows, float *out, index_t out_panel);
    /* (rows, 16) = the sum of P and Q, each (16, rows) in panels, transposed back. */
    void (*fold)(const float *P, const float *Q, index_t p_panel, index_t rows, float *out);
    void (*activate)(float *h, index_t size, int activation);
    void (*slope)(float *d_h, const float *h, index_t size, int activation);
    /* Words 0 to count - 1 of an example, rounded up to whole vectors, for which `words` must have room. */
    void (*words)(const Source *source, uint64_t example, index_t count, uint32_t *words);
    /* std = exp(c) of one image (43); returns its KL in nats (4), and leaves that of each latent in kl, (panels * 16,), unless it is
     * NULL. */
    double (*spread_out)(index_t panels, index_t stride, const float *mean, const float *log_std, float *std, float *kl);
    /* z = mean + std * noise of a sample of an image (2), and its second term; z_stride is that of both. */
    void (*draw)(const uint32_t *words, float *noise, index_t panels, index_t stride, index_t z_stride, const float *mean,
                 const float *std, float *z, float *spread);
    /* log p(z) - log q(z | x) of a sample in nats (30). */
    double (*log_ratio)(const float *noise, index_t panels, index_t stride, index_t z_stride, const float *log_std,
                        const float *z);
    /* scales, (padded Z,) = 1 / B for a latent whose mean KL over B images is above its free nats, else 0 (29); returns the sum of
     * what they count for. kl is (B, padded Z). */
    double (*floor_latents)(const float *kl, index_t B, index_t latent, index_t panels, double free_nats, float *scales);
    /* A panel of rows, each times its weight (33). */
    void (*weigh_rows)(float *d_outputs, index_t rows, const float *weights);
    /* d_mean (11) or d_log_std (12) where the KL is in closed form; (35) where it is that of the samples. */
    void (*closed_gradient)(const LatentPanel *panel);
    void (*weighted_gradient)(const LatentPanel *panel);
    /* log p(x | z) of rows of pixel panels begin to end - 1, nats; their logits become gradients, but where scale is 0,
     * as nobody wants them. linear and product are (rows, 16). */
    void (*bernoulli)(float *logits, const float *x, index_t stride, index_t rows, index_t begin, index_t end, index_t pixels,
                      float scale, float *linear, float *product, double *log_likelihood);
    void (*gaussian)(float *means, const float *x, index_t stride, index_t rows, index_t begin, index_t end, index_t pixels,
                     float scale, const float *x_log_std, float *linear, float *precision, double *log_likelihood);
    void (*continuous_bernoulli)(float *logits, const float *x, index_t stride, index_t rows, index_t begin, index_t end,
                                 index_t pixels, float scale, float *linear, double *log_likelihood);
    /* d_x_log_std of one panel with `real` pixels (20) from d_a of all rows. inverses, (rows,), is one over what each row counts
     * for, NULL for 1; count is one over what a row of weight 1 counts for in the loss. */
    void (*x_log_std_gradient)(const float *d_means, index_t rows, const float *inverses, float count, const float *x_log_std,
                               index_t real, float *gradient);
    /* row[i] = what level i becomes; where `lists`, no level is zero. */
    void (*levels_of_bytes)(const uint8_t *levels, index_t size, int lists, int binarize, const uint32_t *words, float *row);
    void (*levels_of_floats)(const float *levels, index_t size, int lists, int binarize, const uint32_t *words, float *row);
    /* The entries of `row` that are not zero, with the pixel that each belongs to; returns how many. */
    index_t (*list)(const float *row, const uint16_t *pixel, index_t size, uint16_t *indices, float *values);
    /* What the encoder sees of the counts of a row. */
    void (*see_counts)(const float *x, index_t size, int encoder_input, float *values);
    /* What counts up to TABLED need of a dispersion (47), (55), for panels first to last - 1 of columns; the table is
     * (panels, PANEL_OF_TABLE). */
    void (*tabulate)(const float *x_log_dispersion, float *table, index_t first, index_t last);
    /* One pass over rows of counts: MAXIMUM to GRADIENT. */
    void (*counts_pass)(int stage, const CountRows *counts);
    /* d_x_log_dispersion of one panel of columns (55) from what GRADIENT left in the target; weights, (rows,), are what rows count
     * for beside it, NULL for 1. */
    void (*dispersion_gradient)(const float *slopes, index_t rows, const float *weights, const float *x_log_dispersion,
                                float *gradient);
    /* Entries of a table of counts to the lists of a row: columns, counts; all arrays but one are NULL. */
    void (*copy_columns)(const uint16_t *narrow, const uint32_t *wide, index_t size, uint32_t *columns);
    void (*copy_counts)(const uint8_t *bytes, const uint16_t *shorts, const float *floats, index_t size, float *counts);
    /* The entries of a row whose word is not below a number: their columns to `kept`, and in values, which holds those of all
     * entries, `scale` times theirs; returns how many. */
    index_t (*keep_entries)(const uint32_t *columns, const uint32_t *words, index_t size, uint32_t below, float scale,
                            uint32_t *kept, float *values);
    /* How many entries of a row have a column below `boundary`. */
    index_t (*count_below)(const uint32_t *columns, index_t size, index_t boundary);
    /* ends[k] = the entries of a row in blocks 0 to k of BLOCK_PIXELS. */
    void (*end_blocks)(const uint32_t *columns, index_t size, int32_t *ends, index_t blocks);
    /* The values of a row of a table, (X,), to row x of x and to row `seen` of what the encoder sees. */
    void (*place_table)(const TableRows *table, const float *values, float *x, float *seen);
    /* log p(x | z) of rows of a table. */
    void (*block_rows)(const TableRows *table);
    /* The sum of what the rows have left for a panel of own parameters. */
    void (*own_gradient)(const float *parts, index_t rows, const float *weights, float *gradient);
    /* The first outputs of rows of a table become the means of their columns. */
    void (*expect_rows)(const TableRows *table);
    /* means, (padded X,) = shrink times means and the sum of w times what `expect_rows` left. */
    void (*add_means)(const TableRows *table, const double *w, double shrink, double *means);
} Kernels;

/* Some panels of a weight matrix, (inputs, 16) each, with Adam's moments and both forms in bfloat16 (bfloat16.h). */
typedef struct {
    float *parameters, *first, *second;
    uint32_t *plain, *paired;
    index_t w_panel;      /* elements from a panel to the next; half as many words in the plain form */
    index_t paired_panel; /* words: of an odd number of inputs the paired form has one row more */
} Bf16Weights;

/* Products of factors in bfloat16: words of two, see bfloat16.h for the plain and the paired form. */
typedef struct {
    /* Rows first to last - 1 of C = start + A @ W, as `product` of Kernels; A is plain, W paired, K counts single columns. */
    void (*product)(const uint32_t *A, index_t a_panel, const uint32_t *W, index_t w_panel, const float *start, index_t s_panel,
                    float *C, index_t c_panel, index_t K, index_t first, index_t last, index_t panels);
    /* Rows of a panel, (rows, 16), to both forms, of which the first row is even; paired may be NULL. A last
     * row without a partner is paired with zeros. */
    void (*round)(const float *source, index_t rows, uint32_t *plain, uint32_t *paired);
    /* Rows of a panel to the paired form, and to 8 rows of pairs of columns of `out`, 16 rows a panel; a ragged last panel of
     * `out` is padded with zeros. */
    void (*round_transposed)(const float *source, index_t rows, uint32_t *paired, uint32_t *out, index_t out_panel);
    /* Adam on `panels` panels (at most a group) of a weight matrix, whose gradient is A^T @ D over B rows (75), both paired. */
    void (*update)(const uint32_t *A, index_t a_panel, const uint32_t *D, index_t d_panel, const Bf16Weights *W, index_t inputs,
                   index_t B, index_t panels, const Adam *adam);
    /* The same gradient to G, in panels as the weights are. */
    void (*gradient)(const uint32_t *A, index_t a_panel, const uint32_t *D, index_t d_panel, float *G, index_t g_panel,
                     index_t inputs, index_t B, index_t panels);
} Bf16Kernels;

/* Columns of `Plan.blocks`, and kinds of columns; vaefast/engines/plan.py. */
enum { KIND, FIRST_PANEL, PANELS, SCALE_PANEL, FREEDOM_PANEL, OWN, FIRST_VARIABLE, LAST_VARIABLE, BLOCK_FIELDS };
enum {
    GAUSSIAN_COLUMNS, STUDENT_T_COLUMNS, COUNTED_COLUMNS, BERNOULLI_COLUMNS, CATEGORICAL_COLUMNS, CONTINUOUS_COLUMNS
};

enum { LINEAR, RELU, TANH };
enum { DYNAMIC, THRESHOLD, NONE };
enum { SEEN_AS_THEY_ARE, SEEN_AS_LOGARITHMS, SEEN_OVER_THEIR_NORM };
enum { MAXIMUM, SUM, DENSITY, GRADIENT };

/* The widest instruction set that this CPU has and no wider than `limit` asks for: "AVX512-BF16", "AVX-512", "AVX2", "base", or ""
 * for no limit; NULL where no such name is built. The first is AVX-512 for all but products of bfloat16. */
const Kernels *choose_kernels(const char *limit);
const Bf16Kernels *choose_bf16_kernels(const char *limit);

#endif

/* td.h: the contract between the C bodies and everything above them.
 *
 * One body (body.c) is compiled once per instruction set and, inside, once per
 * dtype; each compilation yields one td_kernels table. Python picks a table at
 * import. Nothing here allocates, starts a thread, or touches Python.
 *
 * Fixed order: every reduction adds in an order that depends on nothing but the
 * length that it reduces over, so the same input gives the same bits on AVX2 and
 * AVX-512, for any number of rows beside it, on any thread. A sum of more than
 * TD_CHAIN terms is the sum of its left part and of the rest (td_left), each summed
 * likewise: a fixed binary tree over blocks of TD_CHAIN terms. So the error of a sum
 * of n terms is at most (min(n, TD_CHAIN) + td_partials(n) + 1) eps / 2 times the sum of
 * their magnitudes, to first order in eps: it grows as log n.
 */
#ifndef TD_H
#define TD_H
#include <stddef.h>
#include <stdint.h>
#include "schema_types.h"

typedef int64_t i64;
typedef uint64_t u64;

/* ------------------------------------------------------------------ long sums */
enum { TD_CHAIN = 4096 };
/* Of a sum of n > TD_CHAIN terms, how many the left part has: the largest TD_CHAIN 2^i below n. */
static inline i64 td_left(i64 n) {
    i64 left = TD_CHAIN;
    while (2 * left < n) left *= 2;
    return left;
}
/* How many partial sums wait at once, beside the sum itself: the depth of the tree over n terms. */
static inline i64 td_partials(i64 n) {
    i64 depth = 0;
    for (; n > TD_CHAIN; n = td_left(n)) depth++;
    return depth;
}

/* ------------------------------------------------------------------ status */
enum td_status {
    TD_OK = 0,
    TD_CANCELLED,       /* told to end between two operations, or in a long one */
    TD_PYTHON,          /* a Python layer raised; the exception waits in the run's owner */
    TD_BAD_VALUE,       /* an integer (a class label) outside its range; ctx->detail holds it */
    TD_BAD_INDEX,       /* a row index outside the source; ctx->detail holds the value */
    TD_BAD_NUMBER,      /* the loss is not finite */
    TD_BAD_GRADIENT,    /* a gradient is not finite */
    TD_TOO_FEW,         /* batch norm over fewer than 2 values; ctx->detail holds their number */
    TD_NO_PATH          /* labels that do not fit into a sample's steps: the loss is infinite; ctx->detail holds the row */
};

/* ------------------------------------------------------------------ matmul
 * c := act(op(a) op(b) + bias)        accumulate = 0
 * c := act(op(a) op(b) + bias + c)    accumulate = 1
 * then, where `grad` is set:  c := c * act'(grad)  (grad: m x n, the saved y or x of the activation)
 *
 * Element (i, j) is one chain of fused multiply-adds over p = 0..k-1 in that order, started from
 * c + bias (what of them there is); with k > TD_CHAIN one chain for each block of p, which meet as said
 * above, and c + bias begin the first one. a: m x k at (a_row, a_col) strides, b: k x n at (b_row, b_col)
 * strides, one of each pair being 1; c, grad: row major with row strides c_row, grad_row.
 */
/* Rows that the next batch will gather: while this batch computes, products ask for them a few lines a tile. */
typedef struct td_ahead {
    const char *data;
    i64 row_bytes, rows;
    const i64 *index;               /* n rows of data; NULL: nothing to fetch */
    i64 n, row, byte;               /* how far it is */
} td_ahead;

/* Memory that this thread will write next and others have read: taking its lines from them when they are written is slow
   (8 GB/s between two CCXs of a Zen 5), and a processor drops most of many requests at once. So a product that computes
   meanwhile asks for them, a few a tile. */
typedef struct td_own { char *at; i64 bytes; } td_own;
/* A product of one of several pieces: op(a) packed, m k + 16 elements (at most 2^16; k <= 400), by this product or, with
   `packed`, by one before it; and rows of up to four arrays that whoever uses c will update next: asked for on the way. */
typedef struct td_piece { void *panel; int packed; char *at[4]; i64 bytes, stride, rows, byte; } td_piece;

typedef struct td_matmul {
    i64 m, n, k;
    const void *a; i64 a_row, a_col;
    const void *b; i64 b_row, b_col;
    void *c; i64 c_row;
    const void *bias;               /* n, or NULL */
    const void *grad; i64 grad_row; /* m x n, or NULL */
    int accumulate;
    int activation;                 /* enum td_activation; with grad set, whose derivative */
    double alpha, beta;             /* the activation's parameters */
    void *scratch;                  /* td_kernels.matmul_scratch bytes, 64-byte aligned */
    td_ahead *ahead;                /* or NULL */
    const td_own *own;              /* or NULL */
    td_piece *piece;                /* or NULL */
    int *suspect;                   /* or NULL: set to 1 where c may hold what is not finite, never left 0 where it does */
    int (*stop)(void *);            /* or NULL: asked again and again; where it says so, c is left unfinished */
    void *owner;                    /* its argument */
    /* or NULL; else, instead of a, where each of its rows begins (a_col == 1), or each of its columns (a_row == 1):
       in products that `apart` in matmul.h allows */
    const void *const *rows;
    void *partial;                  /* td_partials(k) m n elements; NULL where that is none */
    i64 beyond;                     /* so many p come behind these k, in another product */
} td_matmul;

/* ------------------------------------------------------------------ plans */
/* TD_GRAD: one vector per slot: the gradients of all parameters, then the batch statistics of all layers
   that keep running ones. TD_STATE: those running statistics. TD_IN, TD_OUT: the batch's rows and results.
   TD_ADDRESS: an address in memory (kernels.call). */
enum td_space { TD_NONE = 0, TD_PARAM, TD_GRAD, TD_WORK, TD_STATE, TD_IN, TD_OUT, TD_ADDRESS, TD_SPACES };

typedef struct td_ref { i64 space; i64 offset; } td_ref;        /* offset in bytes */
typedef struct td_dim { i64 fixed, per_sample; } td_dim;        /* fixed + per_sample * n */
/* One of schema.py's CHANGES, with its numbers. */
typedef struct td_change { i64 kind; double number[TD_MAX_CHANGE]; } td_change;
enum { TD_MIX = 1024 };
/* What is done to rows that are pictures (C, H, W) when they are gathered: pictures.h. */
typedef struct td_pictures {
    i64 C, H, W;
    const double *scale, *shift;    /* C each, or NULL: x as it is */
    const td_change *change;        /* n, one after the other */
    i64 n;
    const double *mix;              /* or NULL; quantiles 0, 1 / TD_MIX, ..., 1 of the share that a picture has in its mixture */
    const i64 *rows;                /* n_rows: those to mix with; NULL: all */
    i64 n_rows;
} td_pictures;
/* rows that batches are gathered from: the inputs, then the targets; dtype: enum td_dtype. offsets: of sequences, NULL of rows
   that are all as long; row r is elements offsets[r]..offsets[r + 1] - 1, of which those beyond row_items are left out, and
   `padding` where there are fewer. pictures: of rows that are such, else NULL; key: of the draws for them */
typedef struct td_source {
    const void *data;
    i64 rows, row_items, dtype;
    const i64 *offsets;
    double padding;
    const td_pictures *pictures;
    u64 key;
} td_source;
/* where row r begins, in elements, and how many of its first n are there */
static inline i64 td_row(const td_source *s, i64 r, i64 n, i64 *there) {
    const i64 at = s->offsets ? s->offsets[r] : r * s->row_items;
    *there = s->offsets && s->offsets[r + 1] - at < n ? s->offsets[r + 1] - at : n;
    return at;
}
enum { TD_MAX_SOURCES = 16 };

struct td_op;

typedef struct td_ctx {
    char *base[TD_SPACES];
    i64 n;                      /* samples in this batch */
    const i64 *index;           /* row of each sample in the sources; NULL: rows 0..n-1 */
    i64 first_id;               /* sample number of row 0 where index is NULL */
    td_source source[TD_MAX_SOURCES];
    u64 seed, step;             /* keys of the random masks */
    double number;              /* the loss: the mean over the batch's samples (and outputs) */
    double weight;              /* of that mean among the batches of an update: n, or the sum of the weights that counted */
    i64 detail;                 /* the offending value of a status */
    void *scratch;
    void *owner;                /* the Python side's business */
    int (*stop)(void *owner);   /* for long operations: whether to end now, whatever the result */
    int (*hook)(i64 hook, struct td_ctx *ctx);      /* runs a Python layer's part */
    const void *const *rows;    /* where each of the batch's rows of x lies, while TD_IN is not one array; else NULL */
    td_ahead ahead;
    td_own own;
    int suspect;                /* a product of this run may have left a gradient that is not finite */
    uint8_t *marks;             /* of TD_GRAD: which rows of tables may hold other than 0 (embedding.h); NULL: nobody says */
} td_ctx;

/* The first of marks i..n - 1 that is set in any of k rows of marks; n: none is. */
static inline i64 td_marked(uint8_t *const *marks, i64 k, i64 i, i64 n) {
    for (; i < n; i++) {
        for (u64 eight; i + 8 <= n; i += 8) {
            u64 any = 0;
            for (i64 s = 0; s < k; s++) {
                __builtin_memcpy(&eight, marks[s] + i, 8);
                any |= eight;
            }
            if (any) break;
        }
        for (i64 s = 0; i < n && s < k; s++)
            if (marks[s][i]) return i;
    }
    return n;
}
/* The first that is set in none. */
static inline i64 td_unmarked(uint8_t *const *marks, i64 k, i64 i, i64 n) {
    for (i64 s = 0; i < n; i++) {
        for (s = 0; s < k && !marks[s][i]; s++);
        if (s == k) return i;
    }
    return n;
}

typedef int (*td_op_fn)(const struct td_op *op, td_ctx *ctx);
/* An operation of a plan: operands, sizes and reals in the schema's order; schema_table.h makes structs of them. */
typedef struct td_op {
    td_op_fn fn;
    td_ref ref[TD_MAX_REFS];
    td_dim dim[TD_MAX_SIZES];
    double real[TD_MAX_REALS];
} td_op;
typedef struct td_opdef { const char *name; td_op_fn fn; } td_opdef;

static inline void *td_at(const td_op *op, const td_ctx *ctx, int i) {
    const td_ref r = op->ref[i];
    return r.space == TD_NONE ? 0 : (void *)((uintptr_t)ctx->base[r.space] + (uintptr_t)r.offset);
}
static inline i64 td_size(const td_op *op, const td_ctx *ctx, int i) { return op->dim[i].fixed + op->dim[i].per_sample * ctx->n; }

/* A gradient: a; or, where b is set, fma(wb, b, wa a), which is written to mean on the way (a, b, or apart from both).
   It is `rows` times n elements: side by side here, each n `stride` after those before in parameters and state. */
typedef struct td_gradient { const void *a, *b; double wa, wb; void *mean; i64 rows, stride; } td_gradient;

/* p: parameters, g: their gradient, state: the optimizer's vectors, h: its numbers (both in the schema's order),
   t: update number from 1 */
typedef void (*td_update_fn)(void *p, const td_gradient *g, void *const *state, i64 n, const double *h, i64 t);
typedef struct td_updatedef { const char *name; td_update_fn fn; } td_updatedef;

/* ------------------------------------------------------------------ the table
 * One for each instruction set and dtype T: what plans and updates are made of, and the few kernels that the engine calls
 * itself, n elements each. */
typedef struct td_kernels {
    const char *isa;                /* "avx512", "avx2", "generic" */
    i64 itemsize;
    i64 matmul_scratch;             /* bytes */
    void (*matmul)(const td_matmul *);
    void (*weighted_mean)(const void *a, const void *b, void *out, i64 n, double wa, double wb); /* out := fma(wb, b, wa a) */
    double (*squared_norm)(const void *x, i64 n);
    void (*clamp)(void *x, i64 n, double most);         /* x := max(-most, min(x, most)); NaN stays NaN */
    const td_opdef *ops;            /* end with a NULL name */
    const td_updatedef *updates;
} td_kernels;

/* one per compiled instruction set: [0] float32, [1] float64 */
extern const td_kernels td_avx512[2], td_avx2[2], td_generic[2];
#endif

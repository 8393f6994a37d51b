/* ops.h: the operations that plans are made of: each fetches its arguments and calls one kernel.
 *
 * The comment before each gives its refs (reads -> writes), dims and reals, in order. R rows, C columns.
 * A new operation is one function here and one row in `ops` below; plans find it by its name.
 */
#define P(i) NAME(at)(op, ctx, i)
#define D(i) (op->dim[i].fixed + op->dim[i].per_sample * ctx->n)
#define OP(name) static int NAME(op_##name)(const td_op *op, td_ctx *ctx)

static inline void *NAME(at)(const td_op *op, const td_ctx *ctx, int i) {
    const td_ref r = op->ref[i];
    return r.space == TD_NONE ? 0 : ctx->base[r.space] + r.offset;
}

/* -> buffer, addresses (or none); dims: columns of the products that alone read them. The batch's rows of x become TD_IN:
   where they lie, if they lie together, else copied; or their addresses become ctx->rows */
OP(gather) {
    const td_source *x = &ctx->x;
    const int as_is = x->dtype == (TD_SINGLE ? TD_F32 : TD_F64);
    const i64 bytes = x->row_items * (i64)sizeof(T);
    const char **rows = P(1);
    i64 bad = -1;
    ctx->rows = 0;
    if (as_is && !ctx->index) {
        ctx->base[TD_IN] = (char *)x->data;
    } else if (as_is && rows && NAME(apart)(ctx->n, D(0), bytes)) {
        for (i64 r = 0; r < ctx->n && bad < 0; r++) {
            if (ctx->index[r] < 0 || ctx->index[r] >= x->rows) bad = r;
            else rows[r] = (const char *)x->data + ctx->index[r] * bytes;
        }
        ctx->rows = (const void *const *)rows;
    } else {
        ctx->base[TD_IN] = P(0);
        bad = NAME(gather_rows)(x, ctx->index, P(0), ctx->n);
    }
    if (bad < 0) return TD_OK;
    ctx->detail = ctx->index[bad];
    return TD_BAD_INDEX;
}
/* -> targets (T) */
OP(gather_targets) {
    const i64 bad = NAME(gather_rows)(&ctx->y, ctx->index, P(0), ctx->n);
    if (bad < 0) return TD_OK;
    ctx->detail = ctx->index[bad];
    return TD_BAD_INDEX;
}
/* -> labels (int64); dims: classes */
OP(gather_labels) {
    const i64 *y = ctx->y.data, classes = D(0);
    i64 *out = P(0);
    for (i64 i = 0; i < ctx->n; i++) {
        const i64 row = ctx->index ? ctx->index[i] : i;
        if (row < 0 || row >= ctx->y.rows) { ctx->detail = row; return TD_BAD_INDEX; }
        if (y[row] < 0 || y[row] >= classes) { ctx->detail = y[row]; return TD_BAD_TARGET; }
        out[i] = y[row];
    }
    return TD_OK;
}
/* a, b, bias, saved -> c, partial sums (or none); dims: m, n, k, a_row, a_col, b_row, b_col, accumulate, activation, watched (2: and no
   operation after it reads parameters); reals: alpha */
OP(matmul) {
    const td_matmul t = {D(0), D(1), D(2), P(0), D(3), D(4), P(1), D(5), D(6), P(4), D(1), P(2), P(3), D(1),
                         (int)D(7), (int)D(8), op->real[0], ctx->scratch, &ctx->ahead, D(9) == 2 ? &ctx->own : 0, 0,
                         D(9) ? &ctx->suspect : 0,
                         (double)D(0) * (double)D(1) * (double)D(2) > TD_LONG ? ctx->stop : 0, ctx->owner,
                         op->ref[0].space == TD_IN ? ctx->rows : 0, P(5)};
    NAME(matmul)(&t);
    return TD_OK;
}
/* x -> y; dims: n, kind; reals: alpha */
OP(activation) { NAME(activation)((int)D(1), op->real[0], P(0), P(1), D(0)); return TD_OK; }
/* dy, saved -> dx; dims: n, kind; reals: alpha */
OP(activation_backward) { NAME(activation_backward)((int)D(1), op->real[0], P(0), P(1), P(2), D(0)); return TD_OK; }
/* x -> y; dims: R, C */
OP(softmax) { NAME(softmax)(P(0), P(1), D(0), D(1)); return TD_OK; }
OP(log_softmax) { NAME(log_softmax)(P(0), P(1), D(0), D(1)); return TD_OK; }
/* dy, y -> dx; dims: R, C */
OP(softmax_backward) { NAME(softmax_backward)(P(0), P(1), P(2), D(0), D(1)); return TD_OK; }
OP(log_softmax_backward) { NAME(log_softmax_backward)(P(0), P(1), P(2), D(0), D(1)); return TD_OK; }

static int NAME(set_loss)(td_ctx *ctx, double loss) {
    ctx->loss = loss;
    return loss - loss == 0 ? TD_OK : TD_BAD_LOSS;
}
/* x, labels -> dx (or none); dims: R, C */
OP(softmax_cross_entropy) { return NAME(set_loss)(ctx, NAME(softmax_cross_entropy)(P(0), P(1), P(2), D(0), D(1))); }
/* x, targets -> dx (or none); dims: n; reals: delta */
OP(sigmoid_cross_entropy) { return NAME(set_loss)(ctx, NAME(sigmoid_cross_entropy)(P(0), P(1), P(2), D(0))); }
OP(mean_squared_error) { return NAME(set_loss)(ctx, NAME(mean_squared_error)(P(0), P(1), P(2), D(0))); }
OP(mean_absolute_error) { return NAME(set_loss)(ctx, NAME(mean_absolute_error)(P(0), P(1), P(2), D(0))); }
OP(huber) { return NAME(set_loss)(ctx, NAME(huber)(P(0), P(1), P(2), D(0), op->real[0])); }

/* a, b -> out; dims: n */
OP(add) { NAME(add)(P(0), P(1), P(2), D(0)); return TD_OK; }
/* x -> y; dims: n */
OP(copy) { memmove(P(1), P(0), (size_t)D(0) * sizeof(T)); return TD_OK; }
/* x -> sums; dims: R, C, accumulate */
OP(column_sum) { NAME(column_sum)(P(0), P(1), D(0), D(1), (int)D(2)); return TD_OK; }
/* x, gamma, beta -> y, mean, rstd; dims: R, C; reals: eps */
OP(layer_norm) { NAME(layer_norm)(P(0), P(1), P(2), P(3), P(4), P(5), D(0), D(1), op->real[0]); return TD_OK; }
/* dy, x, gamma, mean, rstd -> dx, dgamma, dbeta, partial sums (or none); dims: R, C, accumulate */
OP(layer_norm_backward) {
    NAME(layer_norm_backward)(P(0), P(1), P(2), P(3), P(4), P(5), P(6), P(7), D(0), D(1), (int)D(2), P(8));
    return TD_OK;
}
/* x, gamma, beta -> y, mean, rstd, batch mean, batch variance; dims: R, C; reals: eps */
OP(batch_norm) {
    NAME(batch_norm)(P(0), P(1), P(2), P(3), P(4), P(5), P(6), P(7), D(0), D(1), op->real[0]);
    return TD_OK;
}
/* x, gamma, beta, running mean, running variance -> y; dims: R, C; reals: eps */
OP(batch_norm_inference) {
    NAME(batch_norm_inference)(P(0), P(1), P(2), P(3), P(4), P(5), D(0), D(1), op->real[0]);
    return TD_OK;
}
/* dy, x, gamma, mean, rstd -> dx, dgamma, dbeta; dims: R, C, accumulate */
OP(batch_norm_backward) {
    NAME(batch_norm_backward)(P(0), P(1), P(2), P(3), P(4), P(5), P(6), P(7), D(0), D(1), (int)D(2));
    return TD_OK;
}
/* x -> y; dims: C, layer; reals: rate */
OP(dropout) {
    NAME(dropout)(P(0), P(1), ctx->n, D(0), op->real[0], ctx->seed, ctx->step, (u64)D(1), ctx->index, ctx->first_id);
    return TD_OK;
}
/* whatever a Python layer takes; dims: its hook */
OP(python) { return ctx->hook(op, ctx); }
/* gradients; dims: n, suspected: only where a watched product left a suspicion. Fails where one is not finite. */
OP(check_gradient) { return (D(1) && !ctx->suspect) || NAME(all_finite)(P(0), D(0)) ? TD_OK : TD_BAD_GRADIENT; }

#define ROW(name) {#name, NAME(op_##name)}
static const td_opdef NAME(ops)[] = {
    ROW(gather), ROW(gather_targets), ROW(gather_labels), ROW(matmul), ROW(activation), ROW(activation_backward),
    ROW(softmax), ROW(log_softmax), ROW(softmax_backward), ROW(log_softmax_backward), ROW(softmax_cross_entropy),
    ROW(sigmoid_cross_entropy), ROW(mean_squared_error), ROW(mean_absolute_error), ROW(huber), ROW(add), ROW(copy),
    ROW(column_sum), ROW(layer_norm), ROW(layer_norm_backward), ROW(batch_norm), ROW(batch_norm_inference),
    ROW(batch_norm_backward), ROW(dropout), ROW(python), ROW(check_gradient), {0, 0},
};
#undef P
#undef D
#undef OP
#undef ROW

/* losses.h: mean losses and their gradients, PyTorch's definitions. Each number's loss is a T, their sum is a double. */

static int NAME(set_loss)(td_ctx *ctx, double loss) {
    ctx->number = loss;
    return loss - loss == 0 ? TD_OK : TD_BAD_NUMBER;
}

KERNEL(softmax_cross_entropy) {
    const i64 R = o->R, C = o->C, *labels = o->labels;
    const T *x = o->logits, share = (T)(1 / (double)R);
    T *dx = o->grad, max[TD_BLOCK], sum[TD_BLOCK], at[TD_BLOCK], logs[TD_BLOCK];
    const i64 step = NAME(rows_in_block)(C);
    double total = 0;
    for (i64 r0 = 0; r0 < R; r0 += step) {
        const i64 rows = TD_MIN(step, R - r0), *label = labels + r0;
        for (i64 r = 0; r < rows; r++) {
            if (label[r] < 0 || label[r] >= C) { ctx->detail = label[r]; return TD_BAD_VALUE; }
            at[r] = x[(r0 + r) * C + label[r]];
        }
        NAME(exp_rows)(x + r0 * C, dx ? dx + r0 * C : 0, max, sum, rows, C);
        for (i64 r = 0; r < rows; r++) logs[r] = NAME(vm_log)(sum[r]);
        for (i64 r = 0; r < rows; r++) total += (double)logs[r] - (double)(at[r] - max[r]);
        if (!dx) continue;
        for (i64 r = 0; r < rows; r++) {
            const T inverse = 1 / sum[r], each = inverse * share;
            T *d = dx + (r0 + r) * C;
            const T hit = d[label[r]];
            for (i64 c = 0; c < C; c++) d[c] *= each;
            d[label[r]] = FMA(hit, inverse, (T)-1) * share;
        }
    }
    return NAME(set_loss)(ctx, total / (double)R);
}

/* mean over n of LOSS; grad := GRADIENT / n. v = x[i], w = targets[i], d = v - w, k = K */
#define MEAN_LOSS(name, K, LOCALS, LOSS, GRADIENT) \
    KERNEL(name) { \
        const i64 n = o->n; \
        const T *x = o->x, *t = o->targets, share = (T)(1 / (double)n), k = (T)(K); \
        T *dx = o->grad; \
        double total = 0; \
        (void)k; \
        for (i64 i0 = 0; i0 < n; i0 += TD_BLOCK) { \
            T loss[TD_BLOCK], unwanted[TD_BLOCK]; \
            const i64 m = TD_MIN(TD_BLOCK, n - i0); \
            const T *xs = x + i0, *ts = t + i0; \
            T *ds = dx ? dx + i0 : unwanted; \
            TD_EACH(i, m) { \
                const T v = xs[i], w = ts[i], d = v - w; \
                LOCALS; \
                (void)v; (void)w; (void)d; \
                loss[i] = (LOSS); \
                ds[i] = (GRADIENT) * share; \
            } \
            total += NAME(double_sum)(loss, m); \
        } \
        return NAME(set_loss)(ctx, total / (double)n); \
    }
MEAN_LOSS(sigmoid_cross_entropy, 0, const T e = NAME(vm_exp)(-NAME(magnitude)(v)),
          ((v > 0 ? v : (T)0) - v * w) + NAME(vm_log1p)(e), (v < 0 ? e : (T)1) / (1 + e) - w)
MEAN_LOSS(mean_squared_error, 0, , d * d, 2 * d)
MEAN_LOSS(mean_absolute_error, 0, , NAME(magnitude)(d), (T)(d > 0) - (T)(d < 0))
MEAN_LOSS(huber, o->delta, const T z = NAME(magnitude)(d),
          z < k ? (T)0.5 * d * d : k * (z - (T)0.5 * k), d > k ? k : d < -k ? -k : d)
#undef MEAN_LOSS

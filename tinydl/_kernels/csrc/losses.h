/* losses.h: mean losses and their gradients by x, PyTorch's definitions. Each number's loss is a T,
 * their sum is a double. dx may be NULL, or x. */

/* mean over R of log(sum(exp(x))) - x[label]; dx := (softmax(x) - onehot(label)) / R. Labels are in range. */
static double NAME(softmax_cross_entropy)(const void *x_, const i64 *labels, void *dx_, i64 R, i64 C) {
    const T *x = x_, share = (T)(1 / (double)R);
    T *dx = dx_, max[TD_BLOCK], sum[TD_BLOCK], at[TD_BLOCK], logs[TD_BLOCK];
    const i64 step = NAME(rows_in_block)(C);
    double total = 0;
    for (i64 r0 = 0; r0 < R; r0 += step) {
        const i64 rows = TD_MIN(step, R - r0), *label = labels + r0;
        for (i64 r = 0; r < rows; r++) at[r] = x[(r0 + r) * C + label[r]];
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
    return total / (double)R;
}

/* mean over n of LOSS; dx := GRADIENT / n. v = x[i], w = t[i], d = v - w, k: a constant */
#define MEAN_LOSS(name, LOCALS, LOSS, GRADIENT) \
    static double NAME(name)(const T *x, const T *t, T *dx, i64 n, const T k) { \
        const T share = (T)(1 / (double)n); \
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
        return total / (double)n; \
    }
MEAN_LOSS(each_sigmoid, const T e = NAME(vm_exp)(-NAME(magnitude)(v)),
          ((v > 0 ? v : (T)0) - v * w) + NAME(vm_log1p)(e), (v < 0 ? e : (T)1) / (1 + e) - w)
MEAN_LOSS(each_square, , d * d, 2 * d)
MEAN_LOSS(each_absolute, , NAME(magnitude)(d), (T)(d > 0) - (T)(d < 0))
MEAN_LOSS(each_huber, const T z = NAME(magnitude)(d),
          z < k ? (T)0.5 * d * d : k * (z - (T)0.5 * k), d > k ? k : d < -k ? -k : d)
#undef MEAN_LOSS

static double NAME(sigmoid_cross_entropy)(const void *x, const void *t, void *dx, i64 n) {
    return NAME(each_sigmoid)(x, t, dx, n, 0);
}
static double NAME(mean_squared_error)(const void *x, const void *t, void *dx, i64 n) {
    return NAME(each_square)(x, t, dx, n, 0);
}
static double NAME(mean_absolute_error)(const void *x, const void *t, void *dx, i64 n) {
    return NAME(each_absolute)(x, t, dx, n, 0);
}
static double NAME(huber)(const void *x, const void *t, void *dx, i64 n, double delta) {
    return NAME(each_huber)(x, t, dx, n, (T)delta);
}

/* softmax.h: softmax and its logarithm over each row. Rows are taken in blocks of about TD_BLOCK numbers,
 * so that exp runs over many short rows at once. R rows, C columns. */

static inline i64 NAME(rows_in_block)(i64 C) { return C < TD_BLOCK ? TD_BLOCK / C : 1; }

/* the largest of x; NaN is passed over, it comes back through x - max */
static inline T NAME(largest)(const T *x, i64 n) {
    enum { LANES = NAME(VL) };
    T max = -(T)INFINITY;
    i64 i = 0;
    if (n >= LANES) {
        T m[LANES];
        NAME(V) top = NAME(vload)(x);
        for (i = LANES; i + LANES <= n; i += LANES) {
            const NAME(V) v = NAME(vload)(x + i);
            const __typeof__(v > top) more = (v > top) | (top != top);
            top = (NAME(V))(((__typeof__(more))v & more) | ((__typeof__(more))top & ~more));
        }
        memcpy(m, &top, sizeof m);
        for (i64 j = 0; j < LANES; j++) max = m[j] > max ? m[j] : max;
    }
    for (; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}

/* sum of exp(x - max), the same as NAME(sum) of these numbers */
static T NAME(exp_sum)(const T *x, T max, i64 n) {
    T e[TD_BLOCK], total = 0;
    if (n > TD_CHAIN) {
        const i64 left = td_left(n);
        return NAME(exp_sum)(x, max, left) + NAME(exp_sum)(x + left, max, n - left);
    }
    for (i64 c = 0; c < n; c += TD_BLOCK) {
        const i64 some = TD_MIN(n - c, TD_BLOCK);
        for (i64 i = 0; i < some; i++) e[i] = NAME(vm_exp_below)(x[c + i] - max);
        total += NAME(sum)(e, some);
    }
    return total;
}

/* one block: max[r] := the row's maximum, e := exp(x - max), sum[r] := the row's sum of e.
   e may be x, or NULL where only the sums are wanted. */
static void NAME(exp_rows)(const T *x, T *e, T *max, T *sum, i64 rows, i64 C) {
    T buffer[TD_BLOCK];
    for (i64 r = 0; r < rows; r++) max[r] = NAME(largest)(x + r * C, C);
    if (!e && C > TD_BLOCK) {
        sum[0] = NAME(exp_sum)(x, max[0], C);
        return;
    }
    if (!e) e = buffer;
    for (i64 r = 0; r < rows; r++) {
        const T *xr = x + r * C, m = max[r];
        T *er = e + r * C;
        TD_EACH(c, C) er[c] = xr[c] - m;
    }
    for (i64 i = 0; i < rows * C; i++) e[i] = NAME(vm_exp_below)(e[i]);
    for (i64 r = 0; r < rows; r++) sum[r] = NAME(sum)(e + r * C, C);
}

KERNEL(softmax) {
    const i64 R = o->R, C = o->C;
    (void)ctx;
    const T *x = o->x;
    T *y = o->out, max[TD_BLOCK], sum[TD_BLOCK];
    if (C == 0) return TD_OK;
    const i64 step = NAME(rows_in_block)(C);
    for (i64 r0 = 0; r0 < R; r0 += step) {
        const i64 rows = TD_MIN(step, R - r0);
        NAME(exp_rows)(x + r0 * C, y + r0 * C, max, sum, rows, C);
        for (i64 r = 0; r < rows; r++) {
            const T inverse = 1 / sum[r];
            T *yr = y + (r0 + r) * C;
            for (i64 c = 0; c < C; c++) yr[c] *= inverse;
        }
    }
    return TD_OK;
}

/* dx := y (dy - sum(dy y)) */
KERNEL(softmax_backward) {
    const i64 R = o->R, C = o->C;
    (void)ctx;
    for (i64 r = 0; r < R; r++) {
        const T *dy = o->dy + r * C, *y = o->y + r * C;
        T *dx = o->out + r * C;
        const T s = NAME(sum_products)(dy, y, 0, 0, C);
        TD_EACH(c, C) dx[c] = y[c] * (dy[c] - s);
    }
    return TD_OK;
}

/* y := x - max - log(sum(exp(x - max))) */
KERNEL(log_softmax) {
    const i64 R = o->R, C = o->C;
    (void)ctx;
    const T *x = o->x;
    T *y = o->out, max[TD_BLOCK], sum[TD_BLOCK];
    if (C == 0) return TD_OK;
    const i64 step = NAME(rows_in_block)(C);
    for (i64 r0 = 0; r0 < R; r0 += step) {
        const i64 rows = TD_MIN(step, R - r0);
        NAME(exp_rows)(x + r0 * C, 0, max, sum, rows, C);
        for (i64 r = 0; r < rows; r++) sum[r] = NAME(vm_log)(sum[r]);
        for (i64 r = 0; r < rows; r++) {
            const T *xr = x + (r0 + r) * C, m = max[r], s = sum[r];
            T *yr = y + (r0 + r) * C;
            TD_EACH(c, C) yr[c] = (xr[c] - m) - s;
        }
    }
    return TD_OK;
}

/* dx := dy - exp(y) sum(dy) */
KERNEL(log_softmax_backward) {
    const i64 R = o->R, C = o->C;
    (void)ctx;
    for (i64 r = 0; r < R; r++) {
        const T *dy = o->dy + r * C, *y = o->y + r * C;
        T *dx = o->out + r * C;
        const T s = NAME(sum)(dy, C);
        TD_EACH(c, C) dx[c] = FMA(-NAME(vm_exp)(y[c]), s, dy[c]);
    }
    return TD_OK;
}

/* norm.h: layer norm (statistics of each row) and batch norm (of each column). R rows, C columns.
 * Variances are biased, except the batch_var that running statistics are made of. Sums of more than TD_CHAIN terms are
 * trees, in a row and down a column: vector.h and td.h have their bounds. */

static inline T NAME(rstd)(T var, double eps) { return (T)(1 / __builtin_sqrt((double)var + eps)); }

/* y := (x - m) s gamma + beta for one row with numbers m, s (layer norm) */
static inline void NAME(affine_row)(const T *x, const T m, const T s, const T *gamma, const T *beta, T *y, i64 C) {
    if (gamma && beta) TD_EACH(c, C) y[c] = FMA((x[c] - m) * s, gamma[c], beta[c]);
    else if (gamma) TD_EACH(c, C) y[c] = (x[c] - m) * s * gamma[c];
    else if (beta) TD_EACH(c, C) y[c] = FMA(x[c] - m, s, beta[c]);
    else TD_EACH(c, C) y[c] = (x[c] - m) * s;
}

KERNEL(layer_norm) {
    const i64 C = o->C;
    (void)ctx;
    for (i64 r = 0; r < o->R; r++) {
        const T *x = o->x + r * C;
        const T m = NAME(sum)(x, C) / (T)C;
        const T s = NAME(rstd)(NAME(sum_deviations)(x, x, m, 0, C) / (T)C, o->eps);
        NAME(affine_row)(x, m, s, o->gamma, o->beta, o->out + r * C, C);
        o->mean[r] = m;
        o->rstd[r] = s;
    }
    return TD_OK;
}

/* *sum_g += sum of g = dy gamma, *sum_gh += sum of g (x - m) s, of n numbers */
static void NAME(sums_gained)(const T *dy, const T *x, const T *gamma, T m, T s, i64 n, T *sum_g, T *sum_gh) {
    if (n > TD_CHAIN) {
        const i64 left = td_left(n);
        T g = 0, gh = 0;
        NAME(sums_gained)(dy, x, gamma, m, s, left, sum_g, sum_gh);
        NAME(sums_gained)(dy + left, x + left, gamma + left, m, s, n - left, &g, &gh);
        *sum_g += g;
        *sum_gh += gh;
        return;
    }
    for (i64 c = 0; c < n; c += TD_BLOCK) {
        T g[TD_BLOCK];
        const i64 some = TD_MIN(TD_BLOCK, n - c);
        for (i64 i = 0; i < some; i++) g[i] = dy[c + i] * gamma[c + i];
        *sum_g += NAME(sum)(g, some);
        *sum_gh += NAME(sum_normalised)(g, x + c, m, s, some);
    }
}

/* h := (x - mean) rstd, g := dy gamma, dx := rstd (g - mean(g) - h mean(g h)) for R rows from `first` on; dgamma, dbeta += sums
   of dy h, dy; partial: room for td_partials(R) sums of both */
static void NAME(layer_norm_slopes)(const NAME(layer_norm_backward_args) *const o, T *restrict dgamma, T *restrict dbeta,
                                    const i64 first, const i64 R, T *partial) {
    const i64 C = o->C;
    const T *gamma = o->gamma;
    if (R > TD_CHAIN && (dgamma || dbeta)) {
        const i64 left = td_left(R);
        T *rest_gamma = dgamma ? partial : 0, *rest_beta = dbeta ? partial + C : 0;
        NAME(layer_norm_slopes)(o, dgamma, dbeta, first, left, partial);
        memset(partial, 0, 2 * (size_t)C * sizeof(T));
        NAME(layer_norm_slopes)(o, rest_gamma, rest_beta, first + left, R - left, partial + 2 * C);
        if (dgamma) TD_EACH(c, C) dgamma[c] += rest_gamma[c];
        if (dbeta) TD_EACH(c, C) dbeta[c] += rest_beta[c];
        return;
    }
    for (i64 r = first; r < first + R; r++) {
        const T *x = o->x + r * C, *dy = o->dy + r * C;
        const T m = o->mean[r], s = o->rstd[r];
        T *dx = o->out + r * C, sum_g = 0, sum_gh = 0;
        if (dgamma) TD_EACH(c, C) dgamma[c] = FMA(dy[c], (x[c] - m) * s, dgamma[c]);
        if (dbeta) TD_EACH(c, C) dbeta[c] += dy[c];
        if (!gamma) {
            sum_g = NAME(sum)(dy, C) / (T)C;
            sum_gh = NAME(sum_normalised)(dy, x, m, s, C) / (T)C;
            TD_EACH(c, C) dx[c] = s * FMA(-((x[c] - m) * s), sum_gh, dy[c] - sum_g);
            continue;
        }
        NAME(sums_gained)(dy, x, gamma, m, s, C, &sum_g, &sum_gh);
        sum_g /= (T)C;
        sum_gh /= (T)C;
        TD_EACH(c, C) dx[c] = s * FMA(-((x[c] - m) * s), sum_gh, FMA(dy[c], gamma[c], -sum_g));
    }
}

KERNEL(layer_norm_backward) {
    (void)ctx;
    if (o->dgamma && !o->more) memset(o->dgamma, 0, (size_t)o->C * sizeof(T));
    if (o->dbeta && !o->more_beta) memset(o->dbeta, 0, (size_t)o->C * sizeof(T));
    NAME(layer_norm_slopes)(o, o->dgamma, o->dbeta, 0, o->R, o->partial);
    return TD_OK;
}

/* y := (x - m) s gamma + beta for one row with a number m[c], s[c] for each column (batch norm) */
static inline void NAME(affine_columns)(const T *x, const T *m, const T *s, const T *gamma, const T *beta, T *y, i64 C) {
    if (gamma && beta) TD_EACH(c, C) y[c] = FMA((x[c] - m[c]) * s[c], gamma[c], beta[c]);
    else if (gamma) TD_EACH(c, C) y[c] = (x[c] - m[c]) * s[c] * gamma[c];
    else if (beta) TD_EACH(c, C) y[c] = FMA(x[c] - m[c], s[c], beta[c]);
    else TD_EACH(c, C) y[c] = (x[c] - m[c]) * s[c];
}

/* sum[c] := sum over the rows of (x - m[c])^2, for the n columns from x on */
static void NAME(squares_down)(const T *x, const T *m, T *restrict sum, i64 R, i64 C, i64 n) {
    if (R > TD_CHAIN) {
        T more[TD_WIDE];
        const i64 left = td_left(R);
        NAME(squares_down)(x, m, sum, left, C, n);
        NAME(squares_down)(x + left * C, m, more, R - left, C, n);
        for (i64 c = 0; c < n; c++) sum[c] += more[c];
        return;
    }
    for (i64 c = 0; c < n; c++) sum[c] = 0;
    for (i64 r = 0; r < R; r++)
        TD_EACH(c, n) {
            const T d = x[r * C + c] - m[c];
            sum[c] = FMA(d, d, sum[c]);
        }
}

KERNEL(batch_norm) {
    const i64 R = o->R, C = o->C;
    const T *x = o->x;
    T *restrict mean = o->mean, *restrict rstd = o->rstd, *restrict batch_var = o->batch_var;
    if (R < 2) { ctx->detail = R; return TD_TOO_FEW; }
    NAME(column_sum)(x, mean, R, C, 0);
    for (i64 c = 0; c < C; c++) mean[c] /= (T)R;
    for (i64 c = 0; c < C; c += TD_WIDE) NAME(squares_down)(x + c, mean + c, rstd + c, R, C, TD_MIN(TD_WIDE, C - c));
    if (o->batch_mean) memcpy(o->batch_mean, mean, (size_t)C * sizeof(T));
    if (batch_var)
        for (i64 c = 0; c < C; c++) batch_var[c] = rstd[c] / (T)(R - 1);
    for (i64 c = 0; c < C; c++) rstd[c] = NAME(rstd)(rstd[c] / (T)R, o->eps);
    for (i64 r = 0; r < R; r++) NAME(affine_columns)(x + r * C, mean, rstd, o->gamma, o->beta, o->out + r * C, C);
    return TD_OK;
}

KERNEL(batch_norm_inference) {
    const i64 C = o->C;
    const T *gamma = o->gamma, *beta = o->beta, *mean = o->running_mean, *var = o->running_var;
    (void)ctx;
    for (i64 c = 0; c < C; c += TD_BLOCK) {
        T rstd[TD_BLOCK];
        const i64 n = TD_MIN(TD_BLOCK, C - c);
        for (i64 i = 0; i < n; i++) rstd[i] = NAME(rstd)(var[c + i], o->eps);
        for (i64 r = 0; r < o->R; r++)
            NAME(affine_columns)(o->x + r * C + c, mean + c, rstd, gamma ? gamma + c : 0, beta ? beta + c : 0,
                                 o->out + r * C + c, n);
    }
    return TD_OK;
}

/* sum[c] := sum over the rows of dy, sum_h[c] := of dy (x - m[c]) s[c], for the n columns from dy and x on */
static void NAME(sums_down)(const T *dy, const T *x, const T *m, const T *s, T *restrict sum, T *restrict sum_h, i64 R, i64 C,
                            i64 n) {
    if (R > TD_CHAIN) {
        T more[TD_WIDE], more_h[TD_WIDE];
        const i64 left = td_left(R);
        NAME(sums_down)(dy, x, m, s, sum, sum_h, left, C, n);
        NAME(sums_down)(dy + left * C, x + left * C, m, s, more, more_h, R - left, C, n);
        for (i64 c = 0; c < n; c++) sum[c] += more[c], sum_h[c] += more_h[c];
        return;
    }
    for (i64 c = 0; c < n; c++) sum[c] = sum_h[c] = 0;
    for (i64 r = 0; r < R; r++)
        for (i64 c = 0; c < n; c++) {
            sum[c] += dy[r * C + c];
            sum_h[c] = FMA(dy[r * C + c], (x[r * C + c] - m[c]) * s[c], sum_h[c]);
        }
}

/* h := (x - mean) rstd, dx := gamma rstd (dy - mean(dy) - h mean(dy h)); dgamma, dbeta := sums of dy h, dy */
KERNEL(batch_norm_backward) {
    const i64 R = o->R, C = o->C;
    (void)ctx;
    for (i64 c0 = 0; c0 < C; c0 += TD_WIDE) {
        const T *m = o->mean + c0, *s = o->rstd + c0;
        T *restrict dgamma = o->dgamma ? o->dgamma + c0 : 0, *restrict dbeta = o->dbeta ? o->dbeta + c0 : 0;
        T sum[TD_WIDE], sum_h[TD_WIDE], gain[TD_WIDE];
        const i64 n = TD_MIN(TD_WIDE, C - c0);
        NAME(sums_down)(o->dy + c0, o->x + c0, m, s, sum, sum_h, R, C, n);
        if (dgamma) for (i64 c = 0; c < n; c++) dgamma[c] = o->more ? dgamma[c] + sum_h[c] : sum_h[c];
        if (dbeta) for (i64 c = 0; c < n; c++) dbeta[c] = o->more_beta ? dbeta[c] + sum[c] : sum[c];
        for (i64 c = 0; c < n; c++) {
            gain[c] = o->gamma ? s[c] * o->gamma[c0 + c] : s[c];
            sum[c] /= (T)R;
            sum_h[c] /= (T)R;
        }
        for (i64 r = 0; r < R; r++) {
            const T *x = o->x + r * C + c0, *dy = o->dy + r * C + c0;
            T *dx = o->out + r * C + c0;
            TD_EACH(c, n) dx[c] = gain[c] * FMA(-((x[c] - m[c]) * s[c]), sum_h[c], dy[c] - sum[c]);
        }
    }
    return TD_OK;
}

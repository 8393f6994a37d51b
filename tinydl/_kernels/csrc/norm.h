/* norm.h: layer norm (statistics of each row) and batch norm (of each column). R rows, C columns.
 * Variances are biased, except the batch_var that running statistics are made of. */

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

/* h := (x - mean) rstd, g := dy gamma, dx := rstd (g - mean(g) - h mean(g h)); dgamma, dbeta := sums of dy h, dy */
KERNEL(layer_norm_backward) {
    const i64 R = o->R, C = o->C;
    const T *gamma = o->gamma;
    T *restrict dgamma = o->dgamma, *restrict dbeta = o->dbeta;
    (void)ctx;
    if (dgamma && !o->more) memset(dgamma, 0, (size_t)C * sizeof(T));
    if (dbeta && !o->more_beta) memset(dbeta, 0, (size_t)C * sizeof(T));
    for (i64 r = 0; r < R; r++) {
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
        for (i64 c = 0; c < C; c += TD_BLOCK) {
            T g[TD_BLOCK];
            const i64 n = TD_MIN(TD_BLOCK, C - c);
            for (i64 i = 0; i < n; i++) g[i] = dy[c + i] * gamma[c + i];
            sum_g += NAME(sum)(g, n);
            sum_gh += NAME(sum_normalised)(g, x + c, m, s, n);
        }
        sum_g /= (T)C;
        sum_gh /= (T)C;
        TD_EACH(c, C) dx[c] = s * FMA(-((x[c] - m) * s), sum_gh, FMA(dy[c], gamma[c], -sum_g));
    }
    return TD_OK;
}

/* y := (x - m) s gamma + beta for one row with a number m[c], s[c] for each column (batch norm) */
static inline void NAME(affine_columns)(const T *x, const T *m, const T *s, const T *gamma, const T *beta, T *y, i64 C) {
    if (gamma && beta) TD_EACH(c, C) y[c] = FMA((x[c] - m[c]) * s[c], gamma[c], beta[c]);
    else if (gamma) TD_EACH(c, C) y[c] = (x[c] - m[c]) * s[c] * gamma[c];
    else if (beta) TD_EACH(c, C) y[c] = FMA(x[c] - m[c], s[c], beta[c]);
    else TD_EACH(c, C) y[c] = (x[c] - m[c]) * s[c];
}

KERNEL(batch_norm) {
    const i64 R = o->R, C = o->C;
    const T *x = o->x;
    T *restrict mean = o->mean, *restrict rstd = o->rstd, *restrict batch_var = o->batch_var;
    if (R < 2) { ctx->detail = R; return TD_TOO_FEW; }
    NAME(column_sum)(x, mean, R, C, 0);
    for (i64 c = 0; c < C; c++) mean[c] /= (T)R, rstd[c] = 0;
    for (i64 r = 0; r < R; r++)
        TD_EACH(c, C) {
            const T d = x[r * C + c] - mean[c];
            rstd[c] = FMA(d, d, rstd[c]);
        }
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

/* h := (x - mean) rstd, dx := gamma rstd (dy - mean(dy) - h mean(dy h)); dgamma, dbeta := sums of dy h, dy */
KERNEL(batch_norm_backward) {
    enum { WIDE = 128 };
    const i64 R = o->R, C = o->C;
    (void)ctx;
    for (i64 c0 = 0; c0 < C; c0 += WIDE) {
        const T *m = o->mean + c0, *s = o->rstd + c0;
        T *restrict dgamma = o->dgamma ? o->dgamma + c0 : 0, *restrict dbeta = o->dbeta ? o->dbeta + c0 : 0;
        T sum[WIDE] = {0}, sum_h[WIDE] = {0}, gain[WIDE];
        const i64 n = TD_MIN(WIDE, C - c0);
        for (i64 r = 0; r < R; r++) {
            const T *x = o->x + r * C + c0, *dy = o->dy + r * C + c0;
            for (i64 c = 0; c < n; c++) {
                sum[c] += dy[c];
                sum_h[c] = FMA(dy[c], (x[c] - m[c]) * s[c], sum_h[c]);
            }
        }
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

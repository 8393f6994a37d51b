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

static void NAME(layer_norm)(const void *x_, const void *gamma, const void *beta, void *y_, void *mean_, void *rstd_,
                             i64 R, i64 C, double eps) {
    T *mean = mean_, *rstd = rstd_;
    for (i64 r = 0; r < R; r++) {
        const T *x = (const T *)x_ + r * C;
        const T m = NAME(sum)(x, C) / (T)C;
        const T s = NAME(rstd)(NAME(sum_deviations)(x, x, m, 0, C) / (T)C, eps);
        NAME(affine_row)(x, m, s, gamma, beta, (T *)y_ + r * C, C);
        mean[r] = m;
        rstd[r] = s;
    }
}

/* more, more_beta: add to dgamma, dbeta instead of overwriting them.
 * h := (x - mean) rstd, g := dy gamma, dx := rstd (g - mean(g) - h mean(g h)); dgamma, dbeta := sums of dy h, dy */
static void NAME(layer_norm_backward)(const void *dy_, const void *x_, const void *gamma_, const void *mean,
                                      const void *rstd, void *dx_, void *dgamma_, void *dbeta_, i64 R, i64 C,
                                      int more, int more_beta) {
    const T *gamma = gamma_;
    T *restrict dgamma = dgamma_, *restrict dbeta = dbeta_;
    if (dgamma && !more) memset(dgamma, 0, (size_t)C * sizeof(T));
    if (dbeta && !more_beta) memset(dbeta, 0, (size_t)C * sizeof(T));
    for (i64 r = 0; r < R; r++) {
        const T *x = (const T *)x_ + r * C, *dy = (const T *)dy_ + r * C;
        const T m = ((const T *)mean)[r], s = ((const T *)rstd)[r];
        T *dx = (T *)dx_ + r * C, sum_g = 0, sum_gh = 0;
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
}

/* y := (x - m) s gamma + beta for one row with a number m[c], s[c] for each column (batch norm) */
static inline void NAME(affine_columns)(const T *x, const T *m, const T *s, const T *gamma, const T *beta, T *y, i64 C) {
    if (gamma && beta) TD_EACH(c, C) y[c] = FMA((x[c] - m[c]) * s[c], gamma[c], beta[c]);
    else if (gamma) TD_EACH(c, C) y[c] = (x[c] - m[c]) * s[c] * gamma[c];
    else if (beta) TD_EACH(c, C) y[c] = FMA(x[c] - m[c], s[c], beta[c]);
    else TD_EACH(c, C) y[c] = (x[c] - m[c]) * s[c];
}

static void NAME(batch_norm)(const void *x_, const void *gamma, const void *beta, void *y_, void *mean_, void *rstd_,
                             void *batch_mean, void *batch_var_, i64 R, i64 C, double eps) {
    const T *x = x_;
    T *restrict mean = mean_, *restrict rstd = rstd_, *restrict batch_var = batch_var_;
    NAME(column_sum)(x, mean, R, C, 0);
    for (i64 c = 0; c < C; c++) mean[c] /= (T)R, rstd[c] = 0;
    for (i64 r = 0; r < R; r++)
        TD_EACH(c, C) {
            const T d = x[r * C + c] - mean[c];
            rstd[c] = FMA(d, d, rstd[c]);
        }
    if (batch_mean) memcpy(batch_mean, mean, (size_t)C * sizeof(T));
    if (batch_var)      /* one row has no spread: 0 */
        for (i64 c = 0; c < C; c++) batch_var[c] = rstd[c] / (T)(R > 1 ? R - 1 : 1);
    for (i64 c = 0; c < C; c++) rstd[c] = NAME(rstd)(rstd[c] / (T)R, eps);
    for (i64 r = 0; r < R; r++) NAME(affine_columns)(x + r * C, mean, rstd, gamma, beta, (T *)y_ + r * C, C);
}

static void NAME(batch_norm_inference)(const void *x_, const void *gamma_, const void *beta_, const void *mean_,
                                       const void *var_, void *y_, i64 R, i64 C, double eps) {
    const T *gamma = gamma_, *beta = beta_, *mean = mean_, *var = var_;
    for (i64 c = 0; c < C; c += TD_BLOCK) {
        T rstd[TD_BLOCK];
        const i64 n = TD_MIN(TD_BLOCK, C - c);
        for (i64 i = 0; i < n; i++) rstd[i] = NAME(rstd)(var[c + i], eps);
        for (i64 r = 0; r < R; r++)
            NAME(affine_columns)((const T *)x_ + r * C + c, mean + c, rstd, gamma ? gamma + c : 0, beta ? beta + c : 0,
                                 (T *)y_ + r * C + c, n);
    }
}

/* h := (x - mean) rstd, dx := gamma rstd (dy - mean(dy) - h mean(dy h)); dgamma, dbeta := sums of dy h, dy */
static void NAME(batch_norm_backward)(const void *dy_, const void *x_, const void *gamma, const void *mean_,
                                      const void *rstd_, void *dx_, void *dgamma_, void *dbeta_, i64 R, i64 C,
                                      int more, int more_beta) {
    enum { WIDE = 128 };
    for (i64 c0 = 0; c0 < C; c0 += WIDE) {
        const T *m = (const T *)mean_ + c0, *s = (const T *)rstd_ + c0;
        T *restrict dgamma = dgamma_ ? (T *)dgamma_ + c0 : 0, *restrict dbeta = dbeta_ ? (T *)dbeta_ + c0 : 0;
        T sum[WIDE] = {0}, sum_h[WIDE] = {0}, gain[WIDE];
        const i64 n = TD_MIN(WIDE, C - c0);
        for (i64 r = 0; r < R; r++) {
            const T *x = (const T *)x_ + r * C + c0, *dy = (const T *)dy_ + r * C + c0;
            for (i64 c = 0; c < n; c++) {
                sum[c] += dy[c];
                sum_h[c] = FMA(dy[c], (x[c] - m[c]) * s[c], sum_h[c]);
            }
        }
        if (dgamma) for (i64 c = 0; c < n; c++) dgamma[c] = more ? dgamma[c] + sum_h[c] : sum_h[c];
        if (dbeta) for (i64 c = 0; c < n; c++) dbeta[c] = more_beta ? dbeta[c] + sum[c] : sum[c];
        for (i64 c = 0; c < n; c++) {
            gain[c] = gamma ? s[c] * ((const T *)gamma)[c0 + c] : s[c];
            sum[c] /= (T)R;
            sum_h[c] /= (T)R;
        }
        for (i64 r = 0; r < R; r++) {
            const T *x = (const T *)x_ + r * C + c0, *dy = (const T *)dy_ + r * C + c0;
            T *dx = (T *)dx_ + r * C + c0;
            TD_EACH(c, n) dx[c] = gain[c] * FMA(-((x[c] - m[c]) * s[c]), sum_h[c], dy[c] - sum[c]);
        }
    }
}

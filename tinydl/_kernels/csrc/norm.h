/* norm.h: layer norm, whose statistics are those of each row. R rows, C columns. Variances are biased. Sums of more than TD_CHAIN
 * terms are trees, in a row and down a column: vector.h and td.h have their bounds. */
#define V NAME(V)
#define VL NAME(VL)

static inline T NAME(rstd)(T var, double eps) { return (T)(1 / __builtin_sqrt((double)var + eps)); }

/* y := (x - m) s gamma + beta for one row with numbers m, s (layer norm) */
static inline void NAME(affine_row)(const T *x, const T m, const T s, const T *gamma, const T *beta, T *y, i64 C) {
    if (gamma && beta) TD_EACH(c, C) y[c] = FMA((x[c] - m) * s, gamma[c], beta[c]);
    else if (gamma) TD_EACH(c, C) y[c] = (x[c] - m) * s * gamma[c];
    else if (beta) TD_EACH(c, C) y[c] = FMA(x[c] - m, s, beta[c]);
    else TD_EACH(c, C) y[c] = (x[c] - m) * s;
}

/* Rows of so many columns are gone through TD_ROWS at a time (vector.h): 1024 x 64 took half of the time so forward, a sixth
   backward. */
#define BY_ROWS(C) ((C) % TD_LANES == 0 && (C) <= TD_BLOCK)

/* layer norm of TD_ROWS rows from row r on */
static void NAME(layer_norm_rows)(const NAME(layer_norm_args) *const o, i64 r) {
    const i64 C = o->C;
    const T *x = o->x + r * C;
    T *mean = o->mean + r, *rstd = o->rstd + r, t[TD_ROWS][TD_LANES], sum[TD_ROWS];
    for (int i = 0; i < TD_ROWS; i++) {
        V lanes[TD_LANES / VL] = {{0}};
        for (i64 c = 0; c < C; c += TD_LANES)
            _Pragma("GCC unroll 8") for (int k = 0; k < TD_LANES / VL; k++) lanes[k] += NAME(vload)(x + i * C + c + k * VL);
        memcpy(t[i], lanes, sizeof lanes);
    }
    NAME(fold_sums)(t, sum);
    for (int i = 0; i < TD_ROWS; i++) mean[i] = sum[i] / (T)C;
    for (int i = 0; i < TD_ROWS; i++) {
        V lanes[TD_LANES / VL] = {{0}}, m = NAME(vset1)(mean[i]);
        for (i64 c = 0; c < C; c += TD_LANES)
            _Pragma("GCC unroll 8") for (int k = 0; k < TD_LANES / VL; k++) {
                const V d = NAME(vload)(x + i * C + c + k * VL) - m;
                lanes[k] += d * d;
            }
        memcpy(t[i], lanes, sizeof lanes);
    }
    NAME(fold_sums)(t, sum);
    for (int i = 0; i < TD_ROWS; i++) rstd[i] = NAME(rstd)(sum[i] / (T)C, o->eps);
    for (int i = 0; i < TD_ROWS; i++)
        NAME(affine_row)(x + i * C, mean[i], rstd[i], o->gamma, o->beta, o->out + (r + i) * C, C);
}

KERNEL(layer_norm) {
    const i64 C = o->C;
    i64 done = 0;
    (void)ctx;
    if (BY_ROWS(C)) for (; done + TD_ROWS <= o->R; done += TD_ROWS) NAME(layer_norm_rows)(o, done);
    for (i64 r = done; r < o->R; r++) {
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

/* what layer_norm_slopes does, for TD_ROWS rows from row r on */
static void NAME(layer_norm_slopes_of_rows)(const NAME(layer_norm_backward_args) *const o, T *restrict dgamma, T *restrict dbeta,
                                            i64 r) {
    const i64 C = o->C;
    const T *x = o->x + r * C, *dy = o->dy + r * C, *mean = o->mean + r, *rstd = o->rstd + r, *gamma = o->gamma;
    T *dx = o->out + r * C, t[TD_ROWS][TD_LANES], t_h[TD_ROWS][TD_LANES], g[TD_ROWS], gh[TD_ROWS];
    for (int i = 0; i < TD_ROWS; i++) {
        V lanes[TD_LANES / VL] = {{0}}, lanes_h[TD_LANES / VL] = {{0}}, m = NAME(vset1)(mean[i]), s = NAME(vset1)(rstd[i]);
        for (i64 c = 0; c < C; c += TD_LANES)
            _Pragma("GCC unroll 8") for (int k = 0; k < TD_LANES / VL; k++) {
                const i64 at = c + k * VL;
                const V d = NAME(vload)(dy + i * C + at), h = (NAME(vload)(x + i * C + at) - m) * s;
                V gained = d;
                if (gamma) gained *= NAME(vload)(gamma + at);
                if (dgamma) NAME(vstore)(dgamma + at, NAME(vmuladd)(d, h, NAME(vload)(dgamma + at)));
                if (dbeta) NAME(vstore)(dbeta + at, NAME(vload)(dbeta + at) + d);
                lanes[k] += gained;
                lanes_h[k] += gained * h;
            }
        memcpy(t[i], lanes, sizeof lanes);
        memcpy(t_h[i], lanes_h, sizeof lanes_h);
    }
    NAME(fold_sums)(t, g);
    NAME(fold_sums)(t_h, gh);
    for (int i = 0; i < TD_ROWS; i++) {
        const T m = mean[i], s = rstd[i], mean_g = g[i] / (T)C, mean_gh = gh[i] / (T)C;
        const T *xi = x + i * C, *di = dy + i * C;
        T *to = dx + i * C;
        if (gamma) TD_EACH(c, C) to[c] = s * FMA(-((xi[c] - m) * s), mean_gh, FMA(di[c], gamma[c], -mean_g));
        else TD_EACH(c, C) to[c] = s * FMA(-((xi[c] - m) * s), mean_gh, di[c] - mean_g);
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
    i64 done = first;
    if (BY_ROWS(C)) for (; done + TD_ROWS <= first + R; done += TD_ROWS) NAME(layer_norm_slopes_of_rows)(o, dgamma, dbeta, done);
    for (i64 r = done; r < first + R; r++) {
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
#undef BY_ROWS
#undef V
#undef VL

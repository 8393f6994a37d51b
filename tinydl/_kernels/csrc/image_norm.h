/* image_norm.h: group norm, channels last (B, P, C): statistics of each sample's groups of channels over all P pixels; and RMS
 * norm, of rows. Sums over pixels are column_sum's, those over a group's channels sum's (vector.h); gradients of gamma and beta
 * are added sample by sample, or of an RMS norm in td.h's tree. */

KERNEL(group_norm) {
    const i64 C = o->C, P = o->P, Cg = C / o->G;
    T *m = ctx->scratch, *s = m + C;
    for (i64 b = 0; b < o->B; b++) {
        const T *x = o->x + b * P * C;
        T *mean = o->mean + b * o->G, *rstd = o->rstd + b * o->G;
        NAME(column_sum)(x, s, P, C, 0);
        for (i64 g = 0; g < o->G; g++) {
            mean[g] = NAME(sum)(s + g * Cg, Cg) / (T)(P * Cg);
            for (i64 c = 0; c < Cg; c++) m[g * Cg + c] = mean[g];
        }
        for (i64 c = 0; c < C; c += TD_WIDE) NAME(squares_down)(x + c, m + c, s + c, P, C, TD_MIN(TD_WIDE, C - c));
        for (i64 g = 0; g < o->G; g++) {
            rstd[g] = NAME(rstd)(NAME(sum)(s + g * Cg, Cg) / (T)(P * Cg), o->eps);
            for (i64 c = 0; c < Cg; c++) s[g * Cg + c] = rstd[g];
        }
        NAME(affine_columns)(x, m, s, o->gamma, o->beta, o->out + b * P * C, P, C, C, TD_IDENTITY, 0);
    }
    return TD_OK;
}

/* h := (x - mean) rstd, g := dy gamma, dx := rstd (g - mean(g) - h mean(g h)), means over a group */
KERNEL(group_norm_backward) {
    const i64 C = o->C, P = o->P, Cg = C / o->G;
    T *m = ctx->scratch, *s = m + C, *sum = s + C, *sum_h = sum + C, *part = sum_h + C, *part_h = part + C;
    if (o->dgamma && !o->more) memset(o->dgamma, 0, (size_t)C * sizeof(T));
    if (o->dbeta && !o->more_beta) memset(o->dbeta, 0, (size_t)C * sizeof(T));
    for (i64 b = 0; b < o->B; b++) {
        const T *x = o->x + b * P * C, *dy = o->dy + b * P * C, *gamma = o->gamma;
        for (i64 c = 0; c < C; c++) m[c] = o->mean[b * o->G + c / Cg], s[c] = o->rstd[b * o->G + c / Cg];
        for (i64 c = 0; c < C; c += TD_WIDE)
            NAME(sums_down)(&(NAME(slopes)){dy, 1, 1}, x, &(NAME(normal)){m + c, s + c, 0, 0}, 0, sum + c, sum_h + c, 0, P, c, C,
                            TD_MIN(TD_WIDE, C - c));
        if (o->dgamma) for (i64 c = 0; c < C; c++) o->dgamma[c] += sum_h[c];
        if (o->dbeta) for (i64 c = 0; c < C; c++) o->dbeta[c] += sum[c];
        for (i64 c = 0; c < C && gamma; c++) sum[c] *= gamma[c], sum_h[c] *= gamma[c];
        for (i64 g = 0; g < o->G; g++) {
            const T all = NAME(sum)(sum + g * Cg, Cg) / (T)(P * Cg), all_h = NAME(sum)(sum_h + g * Cg, Cg) / (T)(P * Cg);
            for (i64 c = g * Cg; c < (g + 1) * Cg; c++) part[c] = all, part_h[c] = all_h;
        }
        for (i64 p = 0; p < P; p++) {
            const T *xp = x + p * C, *d = dy + p * C;
            T *dx = o->out + (b * P + p) * C;
            if (gamma) TD_EACH(c, C) dx[c] = s[c] * FMA(-((xp[c] - m[c]) * s[c]), part_h[c], FMA(d[c], gamma[c], -part[c]));
            else TD_EACH(c, C) dx[c] = s[c] * FMA(-((xp[c] - m[c]) * s[c]), part_h[c], d[c] - part[c]);
        }
    }
    return TD_OK;
}

KERNEL(rms_norm) {
    const i64 C = o->C;
    const T *gamma = o->gamma;
    (void)ctx;
    for (i64 r = 0; r < o->R; r++) {
        const T *x = o->x + r * C, s = NAME(rstd)(NAME(sum_products)(x, x, 0, 0, C) / (T)C, o->eps);
        T *y = o->out + r * C;
        if (gamma) TD_EACH(c, C) y[c] = x[c] * s * gamma[c];
        else TD_EACH(c, C) y[c] = x[c] * s;
        o->rstd[r] = s;
    }
    return TD_OK;
}

/* h := x rstd, g := dy gamma, dx := rstd (g - h mean(g h)) for rows first..first+R-1; dgamma := sum of dy h */
static void NAME(rms_slopes)(const NAME(rms_norm_backward_args) *const o, i64 first, i64 R, T *dgamma, T *partial) {
    const i64 C = o->C;
    if (R > TD_CHAIN && dgamma) {
        const i64 left = td_left(R);
        NAME(rms_slopes)(o, first, left, dgamma, partial);
        NAME(rms_slopes)(o, first + left, R - left, partial, partial + C);
        TD_EACH(c, C) dgamma[c] += partial[c];
        return;
    }
    if (dgamma) memset(dgamma, 0, (size_t)C * sizeof(T));
    for (i64 r = first; r < first + R; r++) {
        const T *x = o->x + r * C, *dy = o->dy + r * C, *gamma = o->gamma, s = o->rstd[r];
        T *dx = o->out + r * C, sum = 0, none = 0;
        if (dgamma) TD_EACH(c, C) dgamma[c] = FMA(dy[c], x[c] * s, dgamma[c]);
        if (gamma) NAME(sums_gained)(dy, x, gamma, 0, s, C, &none, &sum);
        else sum = NAME(sum_normalised)(dy, x, 0, s, C);
        sum /= (T)C;
        if (gamma) TD_EACH(c, C) dx[c] = s * FMA(-(x[c] * s), sum, dy[c] * gamma[c]);
        else TD_EACH(c, C) dx[c] = s * FMA(-(x[c] * s), sum, dy[c]);
    }
}
KERNEL(rms_norm_backward) {
    (void)ctx;
    if (!o->more) { NAME(rms_slopes)(o, 0, o->R, o->dgamma, o->partial); return TD_OK; }
    NAME(rms_slopes)(o, 0, o->R, o->sums, o->partial);
    if (o->dgamma && o->sums) TD_EACH(c, o->C) o->dgamma[c] += o->sums[c];
    return TD_OK;
}

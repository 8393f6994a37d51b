/* crf.h: linear-chain conditional random fields (Lafferty et al. 2001) of B samples of L steps with C tags: a score for each pair
 * of neighbours, x[t][i][j] of tag i in step t - 1 and j in step t; of the first step x[0][0][j].
 *
 * a[t][j] is the logarithm of the sum, over all tags of the steps up to t that end with j, of exp(their score), b[i] that over
 * what may follow i. Of each step the greatest is taken away; `gone` adds up what was taken, in double. */

/* to[j] := log(sum over i of exp(from[i] + x[i][j])) */
static void NAME(crf_forward)(const T *from, const T *x, T *to, T *most, i64 C) {
    for (i64 j = 0; j < C; j++) { most[j] = -(T)INFINITY; to[j] = 0; }
    for (i64 i = 0; i < C; i++) TD_EACH(j, C) most[j] = TD_MAX(from[i] + x[i * C + j], most[j]);
    for (i64 i = 0; i < C; i++) TD_EACH(j, C) to[j] += NAME(vm_exp_below)(from[i] + x[i * C + j] - most[j]);
    TD_EACH(j, C) to[j] = most[j] + NAME(vm_log)(to[j]);
}

/* -log of the probability of the tags in n steps; its gradient times `scale` into grad, or none (NULL). */
static double NAME(crf_sample)(const T *x, const i64 *tags, i64 n, i64 C, T *grad, double scale, T *room) {
    T *most = room, *e = most + C, *b = e + C * C, *behind = b + C, *const a = behind + C;
    double gone = 0, score = 0;
    for (i64 t = 0; t < n; t++) {
        const T *x_t = x + t * C * C;
        T *now = a + t * C;
        if (t) NAME(crf_forward)(now - C, x_t, now, most, C);
        else memcpy(now, x_t, (size_t)C * sizeof(T));
        const T top = NAME(largest)(now, C);
        TD_EACH(j, C) now[j] -= top;
        gone += (double)top;
        score += (double)x_t[(t ? tags[t - 1] * C : 0) + tags[t]];
    }
    const T *last = a + (n - 1) * C;
    TD_EACH(j, C) e[j] = NAME(vm_exp_below)(last[j]);
    const double loss = gone + (double)NAME(vm_log)(NAME(sum)(e, C)) - score;
    if (!grad) return loss;
    memset(b, 0, (size_t)C * sizeof(T));
    for (i64 t = n - 1; t >= 0; t--) {
        const T *x_t = x + t * C * C, *before = a + (t - 1) * C;
        T *d = grad + t * C * C;
        const i64 rows = t ? C : 1;
        for (i64 i = 0; i < rows; i++) {
            T *e_i = e + i * C;
            TD_EACH(j, C) e_i[j] = x_t[i * C + j] + b[j];
            if (!t) continue;
            const T m = NAME(largest)(e_i, C);
            behind[i] = m + NAME(vm_log)(NAME(exp_sum)(e_i, m, C));
            TD_EACH(j, C) e_i[j] += before[i];
        }
        const T top = NAME(largest)(e, rows * C), k = (T)scale;
        TD_EACH(i, rows * C) e[i] = NAME(vm_exp_below)(e[i] - top);
        const T each = (T)(scale / (double)NAME(sum)(e, rows * C));
        memset(d + rows * C, 0, (size_t)((C - rows) * C) * sizeof(T));
        TD_EACH(i, rows * C) d[i] = each * e[i];
        d[(t ? tags[t - 1] * C : 0) + tags[t]] -= k;
        if (!t) break;
        const T least = NAME(largest)(behind, C);
        TD_EACH(i, C) b[i] = behind[i] - least;
    }
    return loss;
}

/* The mean over all tags that count, those of a sample before the first that is `ignore_index`. */
KERNEL(crf) {
    const i64 B = o->B, L = o->L, C = o->C, size = L * C * C;
    double total = 0, W = 0;
    for (i64 i = 0; i < B; i++) {
        const i64 *tags = o->labels + i * L;
        for (i64 t = 0; t < L && tags[t] != o->ignore_index; t++) {
            if (tags[t] < 0 || tags[t] >= C) { ctx->detail = tags[t]; return TD_BAD_VALUE; }
            W += o->weights ? (double)o->weights[i] : 1;
        }
    }
    if (W == 0) return NAME(nothing_counts)(ctx, o->grad, B * size);
    ctx->weight = W;
    for (i64 i = 0; i < B; i++) {
        const i64 *tags = o->labels + i * L;
        const double share = (o->weights ? (double)o->weights[i] : 1) / W;
        T *grad = o->grad ? o->grad + i * size : 0;
        i64 n = 0;
        while (n < L && tags[n] != o->ignore_index) n++;
        if (share == 0) n = 0;
        if (n) total += share * NAME(crf_sample)(o->logits + i * size, tags, n, C, grad, share, o->room);
        if (grad) memset(grad + n * C * C, 0, (size_t)((L - n) * C * C) * sizeof(T));
    }
    return NAME(set_loss)(ctx, total);
}

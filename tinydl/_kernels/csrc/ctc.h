/* ctc.h: connectionist temporal classification (Graves et al. 2006), the mean over B samples of L steps of C scores.
 *
 * Of N labels there are S = 2 N + 1 states: blank, label, blank, ..., label, blank. A path goes through them step by step: it
 * stays, goes on by one, or by two over a blank between labels that differ. a[t][s] is the logarithm of the probability of all
 * paths that are in state s after step t, b[s] of all that go from there to the end. Of each step the greatest is taken away,
 * so that float32 has its full precision wherever a path may be; `gone` adds up what was taken, in double.
 *
 * TD_LOG_OF_0 stands for the logarithm of 0: it stays a number under all that is done here, and what is below TD_LOG_OF_0 / 2 has no path. */
#define TD_LOG_OF_0 ((T)-1e30)

static inline T NAME(ctc_sum)(T a, T b, T c) {
    const T m = TD_MAX(TD_MAX(a, b), c);
    return m + NAME(vm_log)((NAME(vm_exp_below)(a - m) + NAME(vm_exp_below)(b - m)) + NAME(vm_exp_below)(c - m));
}

/* less the greatest, which it returns; TD_LOG_OF_0 at least */
static T NAME(ctc_lower)(T *x, i64 S) {
    const T top = NAME(largest)(x, S);
    TD_EACH(s, S) x[s] = x[s] - top < TD_LOG_OF_0 ? TD_LOG_OF_0 : x[s] - top;
    return top;
}

/* Steps, less those at the end in which the blank is certain, as mask_steps has them beyond a length: they change nothing. */
static i64 NAME(ctc_steps)(const T *x, i64 L, i64 C, i64 blank) {
    for (; L > 0; L--) {
        const T *row = x + (L - 1) * C;
        if (row[blank] != 0) return L;
        for (i64 c = 0; c < C; c++)
            if (c != blank && !(row[c] < TD_LOG_OF_0 / 2)) return L;
    }
    return 0;
}

/* The loss of one sample, infinity where there is no path; its gradient times `scale` into grad, or none (NULL). */
static double NAME(ctc_sample)(const T *x, const i64 *labels, i64 N, i64 L, i64 C, i64 blank, T *grad, double scale, T *room) {
    const i64 S = 2 * N + 1, W = S + 2, step = NAME(rows_in_block)(C);
    /* two that are TD_LOG_OF_0 before the first state, or behind the last, for what comes from there */
    T *const max = room, *const logs = max + L, *const log_p = logs + L, *const skip = log_p + W, *const e = skip + W;
    T *b = e + W, *behind = b + W, *const a = behind + W;
    double gone = 0, broken = 0;
    for (i64 t = 0; t < L; t += step) NAME(exp_rows)(x + t * C, 0, max + t, logs + t, TD_MIN(step, L - t), C);
    TD_EACH(t, L) logs[t] = NAME(vm_log)(logs[t]);
    for (i64 t = 0; t < L; t++) broken += (double)(max[t] - max[t]) + (double)(logs[t] - logs[t]);
    if (broken != 0) return (double)NAN;
    for (i64 s = 0; s < W; s++)     /* whether one comes into s from s - 2 */
        skip[s] = s % 2 && s > 2 && s < S && labels[s / 2] != labels[s / 2 - 1] ? 0 : TD_LOG_OF_0;
    for (i64 t = 0; t < L; t++) {
        const T *x_t = x + t * C;
        T *now = a + t * W;
        const T *before = now - S;      /* state 0 of the step before */
        now[0] = now[1] = TD_LOG_OF_0;
        now += 2;
        for (i64 s = 0; s < S; s++) log_p[s] = (x_t[s % 2 ? labels[s / 2] : blank] - max[t]) - logs[t];
        if (t) TD_EACH(s, S) now[s] = NAME(ctc_sum)(before[s], before[s - 1], before[s - 2] + skip[s]) + log_p[s];
        else TD_EACH(s, S) now[s] = s < 2 ? log_p[s] : TD_LOG_OF_0;
        const T top = NAME(ctc_lower)(now, S);
        if (top < TD_LOG_OF_0 / 2) return (double)INFINITY;
        gone += (double)top;
    }
    if (L) {
        const T *last = a + (L - 1) * W + 2;
        const T end = NAME(ctc_sum)(last[S - 1], last[S - 2], TD_LOG_OF_0);
        if (end < TD_LOG_OF_0 / 2) return (double)INFINITY;
        gone += (double)end;
    } else if (N) return (double)INFINITY;
    if (!grad) return -gone;
    for (i64 s = 0; s < W; s++) b[s] = s == S - 1 || s == S - 2 ? 0 : TD_LOG_OF_0;
    for (i64 t = L - 1; t >= 0; t--) {
        const T *x_t = x + t * C, *now = a + t * W + 2;
        T *d = grad + t * C;
        for (i64 s = 0; s < S; s++) log_p[s] = (x_t[s % 2 ? labels[s / 2] : blank] - max[t]) - logs[t];
        TD_EACH(s, S) e[s] = now[s] + b[s];
        const T top = NAME(largest)(e, S);
        TD_EACH(s, S) e[s] = NAME(vm_exp_below)(e[s] - top);
        const T each = (T)(scale / (double)NAME(sum)(e, S)), k = (T)scale;
        TD_EACH(c, C) d[c] = k * NAME(vm_exp_below)((x_t[c] - max[t]) - logs[t]);
        for (i64 s = 0; s < S; s++) d[s % 2 ? labels[s / 2] : blank] -= each * e[s];
        TD_EACH(s, S) b[s] += log_p[s];
        TD_EACH(s, S) behind[s] = NAME(ctc_sum)(b[s], b[s + 1], b[s + 2] + skip[s + 2]);
        behind[S] = behind[S + 1] = TD_LOG_OF_0;
        NAME(ctc_lower)(behind, S);
        T *const other = b;
        b = behind;
        behind = other;
    }
    return -gone;
}

KERNEL(ctc) {
    const i64 B = o->B, L = o->L, C = o->C;
    double total = 0, divisor = (double)B;
    for (i64 i = 0; i < B * L; i++)
        if (o->labels[i] >= C || o->labels[i] == o->blank) { ctx->detail = o->labels[i]; return TD_BAD_VALUE; }
    if (o->weights) {
        divisor = NAME(sum_of_weights)(ctx, o->weights, B);
        if (divisor == 0) return NAME(nothing_counts)(ctx, o->grad, B * L * C);
    }
    for (i64 i = 0; i < B; i++) {
        const T *x = o->logits + i * L * C;
        const i64 *labels = o->labels + i * L, own = NAME(ctc_steps)(x, L, C, o->blank);
        T *grad = o->grad ? o->grad + i * L * C : 0;
        i64 N = 0;
        while (N < L && labels[N] >= 0) N++;
        const double share = (o->weights ? (double)o->weights[i] : 1) / divisor / (double)TD_MAX(N, 1);
        double loss = 0;
        if (share > 0) loss = NAME(ctc_sample)(x, labels, N, own, C, o->blank, grad, share, o->room);
        const int none = loss == (double)INFINITY;
        if (none && !o->zero_infinity) { ctx->number = loss; ctx->detail = i; return TD_NO_PATH; }
        if (none || share == 0) {
            loss = 0;
            if (grad) memset(grad, 0, (size_t)(L * C) * sizeof(T));
        } else if (grad) memset(grad + own * C, 0, (size_t)((L - own) * C) * sizeof(T));
        total += share * loss;
    }
    return NAME(set_loss)(ctx, total);
}

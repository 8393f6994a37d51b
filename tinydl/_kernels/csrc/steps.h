/* steps.h: sequences of unequal lengths: B samples of L steps of C numbers, of which lengths[b] are there (NULL: all). */

static int NAME(check_lengths)(const i64 *lengths, i64 B, i64 L, td_ctx *ctx) {
    for (i64 b = 0; lengths && b < B; b++)
        if (lengths[b] < 0 || lengths[b] > L) { ctx->detail = lengths[b]; return TD_BAD_VALUE; }
    return TD_OK;
}

KERNEL(mask_steps) {
    const i64 items = o->L * o->C;
    if (NAME(check_lengths)(o->lengths, o->B, o->L * o->stride, ctx)) return TD_BAD_VALUE;
    for (i64 b = 0; b < o->B; b++) {
        const i64 kept = (o->lengths[b] + o->stride - 1) / o->stride * o->C;
        T *out = o->out + b * items;
        if (out != o->x + b * items) memcpy(out, o->x + b * items, (size_t)kept * sizeof(T));
        if (o->blank < 0) memset(out + kept, 0, (size_t)(items - kept) * sizeof(T));
        else for (i64 i = kept; i < items; i++) out[i] = i % o->C == o->blank ? 0 : TD_LOG_OF_0;
    }
    return TD_OK;
}

/* out := the last step, or the mean; 0 of no steps */
KERNEL(pool_steps) {
    const i64 L = o->L, C = o->C;
    if (NAME(check_lengths)(o->lengths, o->B, L, ctx)) return TD_BAD_VALUE;
    for (i64 b = 0; b < o->B; b++) {
        const i64 n = o->lengths ? o->lengths[b] : L;
        const T *x = o->x + b * L * C;
        T *y = o->out + b * C;
        if (!n) memset(y, 0, (size_t)C * sizeof(T));
        else if (!o->mean) memcpy(y, x + (n - 1) * C, (size_t)C * sizeof(T));
        else {
            NAME(column_sum)(x, y, n, C, 0);
            TD_EACH(c, C) y[c] /= (T)n;
        }
    }
    return TD_OK;
}

KERNEL(pool_steps_backward) {
    const i64 L = o->L, C = o->C;
    if (NAME(check_lengths)(o->lengths, o->B, L, ctx)) return TD_BAD_VALUE;
    memset(o->out, 0, (size_t)(o->B * L * C) * sizeof(T));
    for (i64 b = 0; b < o->B; b++) {
        const i64 n = o->lengths ? o->lengths[b] : L;
        const T *dy = o->dy + b * C;
        for (i64 t = o->mean || !n ? 0 : n - 1; t < n; t++) {
            T *dx = o->out + (b * L + t) * C;
            if (o->mean) TD_EACH(c, C) dx[c] = dy[c] / (T)n;
            else memcpy(dx, dy, (size_t)C * sizeof(T));
        }
    }
    return TD_OK;
}

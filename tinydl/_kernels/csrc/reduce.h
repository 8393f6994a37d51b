/* reduce.h: sums and maxima over the middle axis of O x N x I, and their gradients. */

KERNEL(reduce_sum) {
    const i64 N = o->N, I = o->I;
    const T scale = (T)o->scale;
    (void)ctx;
    for (i64 r = 0; r < o->O; r++) {
        const T *x = o->x + r * N * I;
        T *out = o->out + r * I;
        if (I == 1) *out = NAME(sum)(x, N);
        else NAME(column_sum)(x, out, N, I, 0);
        if (scale != 1) for (i64 i = 0; i < I; i++) out[i] *= scale;
    }
    return TD_OK;
}

KERNEL(spread) {
    const i64 N = o->N, I = o->I;
    const T scale = (T)o->scale;
    (void)ctx;
    for (i64 r = 0; r < o->O; r++)
        for (i64 n = 0; n < N; n++) {
            const T *dy = o->dy + r * I;
            T *out = o->out + (r * N + n) * I;
            TD_EACH(i, I) out[i] = dy[i] * scale;
        }
    return TD_OK;
}

KERNEL(reduce_max) {
    const i64 N = o->N, I = o->I;
    (void)ctx;
    for (i64 r = 0; r < o->O; r++)
        for (i64 i = 0; i < I; i++) {
            const T *x = o->x + r * N * I + i;
            i64 at = 0;
            for (i64 n = 1; n < N && x[at * I] == x[at * I]; n++)      /* a NaN stays */
                if (!(x[n * I] <= x[at * I])) at = n;
            o->out[r * I + i] = x[at * I];
            o->place[r * I + i] = at;
        }
    return TD_OK;
}

KERNEL(reduce_max_backward) {
    const i64 N = o->N, I = o->I;
    (void)ctx;
    memset(o->out, 0, (size_t)(o->O * N * I) * sizeof(T));
    for (i64 r = 0; r < o->O; r++)
        for (i64 i = 0; i < I; i++) o->out[(r * N + o->place[r * I + i]) * I + i] = o->dy[r * I + i];
    return TD_OK;
}

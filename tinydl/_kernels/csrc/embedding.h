/* embedding.h: rows of a table by number, and the sums of their gradients, in the order of the batch. */

KERNEL(embedding) {
    const size_t bytes = (size_t)o->D * sizeof(T);
    for (i64 i = 0; i < o->n; i++) {
        if (o->rows[i] < 0 || o->rows[i] >= o->N) { ctx->detail = o->rows[i]; return TD_BAD_VALUE; }
        memcpy(o->out + i * o->D, o->table + o->rows[i] * o->D, bytes);
    }
    return TD_OK;
}

KERNEL(embedding_backward) {
    const i64 D = o->D;
    (void)ctx;
    if (!o->accumulate) memset(o->dtable, 0, (size_t)(o->N * D) * sizeof(T));
    for (i64 i = 0; i < o->n; i++) {
        if (o->rows[i] == o->padding) continue;
        const T *dy = o->dy + i * D;
        T *row = o->dtable + o->rows[i] * D;
        TD_EACH(c, D) row[c] += dy[c];
    }
    return TD_OK;
}

/* of each bag of K numbers, those other than `padding`: the sum of their rows, or the mean; 0 of none */
KERNEL(embedding_bag) {
    const i64 D = o->D, K = o->K;
    for (i64 r = 0; r < o->R; r++) {
        T *y = o->out + r * D;
        i64 n = 0;
        memset(y, 0, (size_t)D * sizeof(T));
        for (i64 i = 0; i < K; i++) {
            const i64 at = o->rows[r * K + i];
            if (at < 0 || at >= o->N) { ctx->detail = at; return TD_BAD_VALUE; }
            if (at == o->padding) continue;
            const T *row = o->table + at * D;
            TD_EACH(d, D) y[d] += row[d];
            n++;
        }
        if (o->mean && n) TD_EACH(d, D) y[d] /= (T)n;
    }
    return TD_OK;
}

KERNEL(embedding_bag_backward) {
    const i64 D = o->D, K = o->K;
    (void)ctx;
    if (!o->accumulate) memset(o->dtable, 0, (size_t)(o->N * D) * sizeof(T));
    for (i64 r = 0; r < o->R; r++) {
        const T *dy = o->dy + r * D;
        i64 n = 0;
        for (i64 i = 0; i < K; i++) n += o->rows[r * K + i] != o->padding;
        const T by = o->mean && n ? (T)n : 1;
        for (i64 i = 0; i < K; i++) {
            if (o->rows[r * K + i] == o->padding) continue;
            T *row = o->dtable + o->rows[r * K + i] * D;
            TD_EACH(d, D) row[d] += dy[d] / by;
        }
    }
    return TD_OK;
}

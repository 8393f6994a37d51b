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

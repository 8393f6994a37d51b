/* embedding.h: rows of a table by number, and the sums of their gradients, in the order of the batch. */

KERNEL(embedding) {
    const size_t bytes = (size_t)o->D * sizeof(T);
    for (i64 i = 0; i < o->n; i++) {
        if (o->rows[i] < 0 || o->rows[i] >= o->N) { ctx->detail = o->rows[i]; return TD_BAD_VALUE; }
        memcpy(o->out + i * o->D, o->table + o->rows[i] * o->D, bytes);
    }
    return TD_OK;
}

/* Large tables have a mark for `each` rows (plan/gradients.py): rows without one hold 0. So of these the gradient of the batch
 * before is cleared where it is marked, and the update may pass over the rest (engine/reduction.pyx). What is marked is watched,
 * as products watch what they write: nobody looks at all of the table for what is not finite. */
static uint8_t *NAME(clear_table)(T *dtable, i64 N, i64 D, i64 first, i64 each, int accumulate, const td_ctx *ctx) {
    uint8_t *marks = first < 0 || !ctx->marks ? 0 : ctx->marks + first;
    if (!accumulate && !marks) memset(dtable, 0, (size_t)(N * D) * sizeof(T));
    if (accumulate || !marks) return marks;
    const i64 n = (N + each - 1) / each;
    for (i64 i = td_marked(&marks, 1, 0, n); i < n; i = td_marked(&marks, 1, i + 1, n)) {
        memset(dtable + i * each * D, 0, (size_t)(TD_MIN(each, N - i * each) * D) * sizeof(T));
        marks[i] = 0;
    }
    return marks;
}

KERNEL(embedding_backward) {
    const i64 D = o->D;
    uint8_t *marks = NAME(clear_table)(o->dtable, o->N, D, o->marks, o->each, (int)o->accumulate, ctx);
    for (i64 i = 0; i < o->n; i++) {
        if (o->rows[i] == o->padding) continue;
        const T *dy = o->dy + i * D;
        T *row = o->dtable + o->rows[i] * D;
        if (marks) marks[o->rows[i] / o->each] = 1;
        TD_EACH(c, D) row[c] += dy[c];
    }
    if (o->marks >= 0)
        for (i64 i = 0; i < o->n; i++)
            if (o->rows[i] != o->padding && !NAME(all_finite)(o->dtable + o->rows[i] * D, D)) ctx->suspect = 1;
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
    uint8_t *marks = NAME(clear_table)(o->dtable, o->N, D, o->marks, o->each, (int)o->accumulate, ctx);
    for (i64 r = 0; r < o->R; r++) {
        const T *dy = o->dy + r * D;
        i64 n = 0;
        for (i64 i = 0; i < K; i++) n += o->rows[r * K + i] != o->padding;
        const T by = o->mean && n ? (T)n : 1;
        for (i64 i = 0; i < K; i++) {
            if (o->rows[r * K + i] == o->padding) continue;
            T *row = o->dtable + o->rows[r * K + i] * D;
            if (marks) marks[o->rows[r * K + i] / o->each] = 1;
            TD_EACH(d, D) row[d] += dy[d] / by;
        }
    }
    if (o->marks >= 0)
        for (i64 i = 0; i < o->R * K; i++)
            if (o->rows[i] != o->padding && !NAME(all_finite)(o->dtable + o->rows[i] * D, D)) ctx->suspect = 1;
    return TD_OK;
}

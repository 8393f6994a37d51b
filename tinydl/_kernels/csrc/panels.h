/* panels.h: what the matrix product copies together before it reads it often, and what it asks for before it reads it. */
#define V NAME(V)
#define VL NAME(VL)
#define NR (TD_NV * VL)

#ifndef TD_PANELS
#define TD_PANELS
/* Memory that is read soon: a tile asks for `step` bytes of it, so that they come while it computes. More at once than 8 KiB would
   hold it up. */
typedef struct { const char *at; i64 bytes, step; } td_soon;
static inline void td_ask(td_soon *soon) {
    const i64 some = TD_MIN(soon->step, soon->bytes);
    for (i64 i = 0; i < some; i += 64) __builtin_prefetch(soon->at + i, 0, 2);
    soon->at += some;
    soon->bytes -= some;
}
static inline td_soon td_soon_of(const void *at, i64 bytes, i64 tiles) {
    return (td_soon){at, bytes, TD_MIN(8192, (bytes / (tiles > 0 ? tiles : 1) + 63) / 64 * 64)};
}
/* ... of those bytes that are before `end` */
static inline td_soon td_soon_before(const void *end, const void *at, i64 bytes, i64 tiles) {
    const i64 left = (const char *)end - (const char *)at;
    return td_soon_of(at, left < 0 ? 0 : TD_MIN(bytes, left), tiles);
}
#endif

/* sliver[p][j] := b[p, j] for j < nr; the rest of the last vector is zero */
static void NAME(pack_b)(const T *b, i64 br, i64 bc, i64 k, int nr, int width, T *sliver) {
    if (bc == 1) {
        for (i64 p = 0; p < k; p++, sliver += width) {
            if (nr == NR) memcpy(sliver, b + p * br, NR * sizeof(T));
            else for (int j = 0; j < width; j++) sliver[j] = j < nr ? b[p * br + j] : 0;
        }
        return;
    }
    for (int j = nr; j < width; j++)
        for (i64 p = 0; p < k; p++) sliver[p * width + j] = 0;
    i64 p = 0;
    if (TD_SINGLE && TD_TRANSPOSE && nr % 8 == 0 && k >= 8)
        for (; p < k; p += 8) {
            if (p + 8 > k) p = k - 8;       /* the last eight, some of them again */
            for (int j = 0; j < nr; j += 8)
                td_transpose8((const float *)b + j * bc + p, bc, (float *)sliver + p * width + j, width, 8);
        }
    for (; p + 4 <= k; p += 4)          /* four p at a time: a line of b serves four stores */
        for (int j = 0; j < nr; j++) {
            const T *s = b + j * bc + p;
            T *d = sliver + p * width + j;
            T s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3];
            d[0] = s0; d[width] = s1; d[2 * width] = s2; d[3 * width] = s3;
        }
    for (; p < k; p++)
        for (int j = 0; j < nr; j++) sliver[p * width + j] = b[j * bc + p];
}

/* Of a block's tiles, one after another (the first `high` have low + 1 rows, the others low): panel[p][i] := a[i, p], i < mr.
   Where the tiles' rows are a's columns (ar = 1) eight rows of a at a time, as many as one set of the L1 cache holds, so that a
   line which two tiles share is read once: on a Zen 4 with AVX-512 (256 x 2048)' (256 x 512) took 15 percent less time than where
   each tile's panel was filled by itself, (2048 x 1024)' (2048 x 256) 2 to 8, with 16 and 32 rows at a time more than with 8. */
static void NAME(pack_a)(const T *a, i64 ar, i64 ac, i64 k, i64 tiles, i64 low, i64 high, T *panel) {
    const i64 some = ar == 1 ? 8 : k;
    for (i64 p0 = 0; p0 < k; p0 += some)
        for (i64 q = 0, i = 0, mr; q < tiles; q++, i += mr) {
            mr = low + (q < high);
            const T *from = a + i * ar;
            T *to = panel + i * k;
            i64 p = p0, end = TD_MIN(p0 + some, k);
            if (ar == 1 && ac >= TD_MR + VL)    /* so far a row's vectors end before the last row does */
                for (; p < TD_MIN(end, k - 1); p++)     /* whole vectors: what they write too much, the next row replaces */
                    for (i64 j = 0; j < mr; j += VL) NAME(vstore)(to + p * mr + j, NAME(vload)(from + p * ac + j));
            if (TD_SINGLE && TD_TRANSPOSE && ar != 1)
                for (; p + 8 <= end; p += 8)
                    for (i64 j = (mr - 1) / 8 * 8; j >= 0; j -= 8)
                        td_transpose8((const float *)from + j * ar + p, ar, (float *)to + p * mr + j, mr, TD_MIN(8, mr - j));
            for (; p < end; p++) for (i64 j = 0; j < mr; j++) to[p * mr + j] = from[j * ar + p * ac];
        }
}

/* ask for rows lo..hi-1 of the next sliver while this one is in use: its rows lie in as many pages */
static inline void NAME(fetch)(const T *b, i64 br, i64 bc, i64 lo, i64 hi) {
    if (bc == 1)
        for (i64 p = lo; p < hi; p++) { __builtin_prefetch(b + p * br, 0, 2); __builtin_prefetch(b + p * br + NR - 1, 0, 2); }
    else
        for (i64 p = lo & ~(i64)15; p < hi; p += 16) for (int j = 0; j < NR; j++) __builtin_prefetch(b + j * bc + p, 0, 2);
}
static inline void NAME(fetch_c)(const T *c, i64 cr, int mr) {
    for (int i = 0; i < mr; i++) { __builtin_prefetch(c + i * cr, 1, 3); __builtin_prefetch(c + i * cr + NR - 1, 1, 3); }
}

/* as many lines as bring a whole batch in time, in a tile of k products: too many at once wait for each other */
static inline void NAME(fetch_ahead)(td_ahead *h, i64 k) {
    for (i64 i = k > 192 ? k / 16 : 12; i > 0 && h->row < h->n; i--) {
        const i64 row = h->index[h->row];
        if (row >= 0 && row < h->rows) __builtin_prefetch(h->data + row * h->row_bytes + h->byte, 0, 2);
        h->byte += 64;
        if (h->byte >= h->row_bytes) { h->byte = 0; h->row++; }
    }
}
static __attribute__((noinline)) void NAME(fetch_next)(td_piece *h, i64 lines) {
    for (; lines > 0 && h->rows > 0; lines--) {
        for (int v = 0; v < 4 && h->at[v]; v++) __builtin_prefetch(h->at[v] + h->byte, 1, 2);
        h->byte += 64;
        if (h->byte < h->bytes) continue;
        h->byte = 0;
        h->rows--;
        for (int v = 0; v < 4 && h->at[v]; v++) h->at[v] += h->stride;
    }
}
static inline void NAME(fetch_own)(td_own *own, i64 step) {
    for (i64 i = 0; i < step && i < own->bytes; i += 64) __builtin_prefetch(own->at + i, 1, 2);
    own->at += step;
    own->bytes -= step;
}
#undef V
#undef VL
#undef NR

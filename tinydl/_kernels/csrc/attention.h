/* attention.h: softmax(q k' scale) v of each head, without the L x M matrix. B samples, L queries, M keys, N heads of D columns.
 *
 * In the manner of Dao et al. 2022 (FlashAttention): keys are taken KEYS at a time, with the largest score and the sum so far
 * carried from block to block; the gradients compute the scores again, from the logarithm of the sum (lse). The keys that count
 * are copied together, in order, so that those that do not (beyond a length, or ignored) touch nothing. Which terms meet in which
 * order depends on the keys that count alone: the same bits whatever the padding, the batch and the instruction set. Sums over
 * queries (gradients of keys) are one chain in their order, those over the keys of a block too.
 * A query that no key counts for gives 0, and so does its gradient.
 */
#define V NAME(V)
#define VL NAME(VL)
#define NR (TD_NV * VL)
#ifndef TD_ATTENTION
#define TD_ATTENTION
/* KEYS: a multiple of all NR. QUERIES at a time: three tiles with AVX-512; it changes no bit. ROW: between rows of scores. Rows
   that are a multiple of APART bytes apart fall into few sets of the L1 cache, and are copied together */
enum { TD_KEYS = 256, TD_QUERIES = 42, TD_KEYS_ROW = TD_KEYS + 16, TD_KEYS_APART = 1024 };
#endif
#define FAR(step) ((step) * (i64)sizeof(T) % TD_KEYS_APART == 0)

/* the next n elements of the room, from a whole line on */
static inline T *NAME(take)(T **room, i64 n) {
    T *at = *room;
    *room += (n + 15) / 16 * 16;
    return at;
}

/* one sample's keys that count, in order; returns how many. */
static i64 NAME(keys_of)(const i64 *lengths, const i64 *ignored, i64 b, i64 M, i64 *keys) {
    const i64 most = lengths ? lengths[b] : M;
    i64 n = 0;
    for (i64 j = 0; j < most; j++)
        if (!ignored || !ignored[b * M + j]) keys[n++] = j;
    return n;
}

/* to (n, row) := rows `keys` (NULL: from i on) of D columns, further columns 0 */
static void NAME(collect)(const T *from, i64 stride, const i64 *keys, i64 n, i64 D, T *to, i64 row) {
    for (i64 j = 0; j < n; j++) {
        memcpy(to + j * row, from + (keys ? keys[j] : j) * stride, (size_t)D * sizeof(T));
        for (i64 d = D; d < row; d++) to[j * row + d] = 0;
    }
}

/* c (m, n) := a (m, k) b, or c + a b where `add`; a by its rows, or (a_col) by its columns, k of them, a_step apart;
   b's row p of column block j: b + j next + p row, with room to read whole vectors. k <= TD_ONE_PASS */
static void NAME(small_product)(i64 m, i64 k, i64 n, const T *a, i64 a_step, int a_col, const T *b, i64 row, i64 next, int add,
                                T *c, i64 c_row) {
    const i64 tiles = (m + TD_MR - 1) / TD_MR, low = tiles ? m / tiles : 0, high = tiles ? m % tiles : 0;
    const NAME(edge) e = {add ? NAME(FROM_C) : NAME(FROM_ZERO), NAME(STORE), 0, 0, 0, 0};
    for (i64 j = 0; j < n; j += NR, b += next) {
        const int nr = (int)TD_MIN(NR, n - j), nv = nr > VL ? 2 : 1, last = nr - (nv - 1) * VL;
        for (i64 q = 0, i = 0; q < tiles; q++) {
            const int mr = (int)(low + (q < high));
            if (a_col) NAME(by_col)[mr - 1][nv - 1](k, a + i, a_step, b, row, c + i * c_row + j, c_row, last, &e, j);
            else NAME(by_row)[mr - 1][nv - 1](k, a + i * a_step, a_step, b, row, c + i * c_row + j, c_row, last, &e, j);
            i += mr;
        }
    }
}

/* how many of a block's keys, from the j-th of those that count on, query i sees */
static inline i64 NAME(seen)(const i64 *keys, i64 n, i64 j, i64 i, int causal) {
    i64 most = TD_MIN(TD_KEYS, n - j);
    while (causal && most > 0 && keys[j + most - 1] > i) most--;
    return most > 0 ? most : 0;
}

/* the mask of dropout: p := p / (1 - rate) or 0, by the sample, head, query and key */
typedef struct { u64 stream; uint32_t below; T gain; } NAME(drop);
static NAME(drop) NAME(dropping)(const td_ctx *ctx, i64 layer, double rate) {
    const u64 stream = td_splitmix(td_splitmix(td_splitmix(ctx->seed) + ctx->step) + (u64)layer);
    return (NAME(drop)){stream, (uint32_t)(rate * 4294967296.0), (T)(1 / (1 - rate))};
}
static void NAME(drop_row)(const NAME(drop) *drop, const td_ctx *ctx, i64 b, i64 line, const i64 *keys, T *p, i64 n) {
    const u64 sample = td_splitmix(drop->stream + (u64)(ctx->index ? ctx->index[b] : ctx->first_id + b));
    const u64 key = td_splitmix(sample + (u64)line);
    const uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (i64 j = 0; j < n; j++) p[j] = td_hash((uint32_t)keys[j], k0, k1) >= drop->below ? p[j] * drop->gain : 0;
}

static int NAME(check_attention)(const i64 *lengths, const i64 *q_lengths, i64 B, i64 L, i64 M, td_ctx *ctx) {
    return NAME(check_lengths)(lengths, B, M, ctx) || NAME(check_lengths)(q_lengths, B, L, ctx) ? TD_BAD_VALUE : TD_OK;
}

KERNEL(attention) {
    const i64 B = o->B, L = o->L, M = o->M, N = o->N, D = o->D, E = N * D, wide = (D + NR - 1) / NR * NR;
    const int causal = (int)o->causal;
    const T scale = (T)o->scale;
    if (NAME(check_attention)(o->lengths, o->q_lengths, B, L, M, ctx)) return TD_BAD_VALUE;
    T *room = o->room;
    i64 *keys = (i64 *)NAME(take)(&room, 2 * M);
    T *panels = NAME(take)(&room, D * (M + 31)), *k_rows = NAME(take)(&room, M * wide), *v_rows = NAME(take)(&room, M * wide);
    T *s = NAME(take)(&room, TD_QUERIES * TD_KEYS_ROW), *y = NAME(take)(&room, TD_QUERIES * wide);
    T top[TD_QUERIES], sum[TD_QUERIES];
    const NAME(drop) drop = NAME(dropping)(ctx, o->layer, o->rate);
    for (i64 b = 0; b < B; b++) {
        const i64 n = NAME(keys_of)(o->lengths, o->ignored, b, M, keys), queries = o->q_lengths ? o->q_lengths[b] : L;
        for (i64 h = 0; h < N; h++) {
            const T *q = o->q + b * L * o->P + o->q_at + h * D, *kv = o->kv + b * M * o->Q + h * D;
            const T *k = kv + o->k_at, *v = kv + o->v_at;
            i64 k_step = o->Q, v_step = o->Q;
            if (o->ignored) { NAME(collect)(k, o->Q, keys, n, D, k_rows, wide); k = k_rows; k_step = wide; }
            if (o->ignored || D % VL || FAR(o->Q)) { NAME(collect)(v, o->Q, keys, n, D, v_rows, wide); v = v_rows; v_step = wide; }
            NAME(pack_slivers)(k, 1, k_step, D, n, panels);
            for (i64 i0 = 0, m; i0 < queries; i0 += m) {
                m = TD_MIN(TD_QUERIES, queries - i0);
                for (i64 i = 0; i < m; i++) { top[i] = -(T)INFINITY; sum[i] = 0; }
                memset(y, 0, (size_t)(m * wide) * sizeof(T));       /* a query may see no key */
                for (i64 j0 = 0; j0 < n; j0 += TD_KEYS) {
                    const i64 some = NAME(seen)(keys, n, j0, i0 + m - 1, causal);
                    if (!some) break;
                    NAME(small_product)(m, D, some, q + i0 * o->P, o->P, 0, panels + j0 * D, NR, D * NR, 0, s, TD_KEYS_ROW);
                    for (i64 g = 0; g < m; g += TD_ROWS) {
                        const int rows = (int)TD_MIN(TD_ROWS, m - g);
                        T most[TD_ROWS], now[TD_ROWS], part[TD_ROWS], *group = s + g * TD_KEYS_ROW;
                        i64 own[TD_ROWS];
                        for (int r = 0; r < rows; r++) own[r] = causal ? NAME(seen)(keys, n, j0, i0 + g + r, 1) : some;
                        NAME(largest_of_rows)(group, TD_KEYS_ROW, own, rows, most);
                        for (int r = 0; r < rows; r++) {
                            T *p = group + r * TD_KEYS_ROW;
                            /* products are rounded as `most` was: large ones would else exceed it by far, and exp overflow */
                            const T highest = most[r] * scale, before = top[g + r];
                            now[r] = highest > before ? highest : before;
                            TD_EACH(j, own[r]) p[j] = NAME(vm_exp_below)(p[j] * scale - now[r]);
                        }
                        NAME(sums_of_rows)(group, TD_KEYS_ROW, 0, 0, own, rows, part);
                        for (int r = 0; r < rows; r++) {
                            const i64 i = g + r;
                            T *p = group + r * TD_KEYS_ROW;
                            if (own[r] && j0) {
                                const T less = NAME(vm_exp_below)(top[i] - now[r]);
                                sum[i] = FMA(sum[i], less, part[r]);
                                TD_EACH(d, wide) y[i * wide + d] *= less;
                            } else if (own[r]) sum[i] = part[r];
                            if (own[r]) top[i] = now[r];
                            if (own[r] && o->rate > 0)
                                NAME(drop_row)(&drop, ctx, b, (i0 + i) * N + h, keys + j0, p, own[r]);
                            for (i64 j = own[r]; j < some; j++) p[j] = 0;
                        }
                    }
                    NAME(small_product)(m, some, D, s, TD_KEYS_ROW, 0, v + j0 * v_step, v_step, NR, j0 > 0, y, wide);
                }
                T share[TD_QUERIES], *lse = o->lse + (b * N + h) * L + i0;
                TD_EACH(i, m) share[i] = sum[i] > 0 || sum[i] != sum[i] ? 1 / sum[i] : 0;
                TD_EACH(i, m) lse[i] = sum[i] > 0 ? top[i] + NAME(vm_log)(sum[i]) : sum[i];
                for (i64 i = 0; i < m; i++) {
                    T *to = o->out + (b * L + i0 + i) * E + h * D;
                    TD_EACH(d, D) to[d] = y[i * wide + d] * share[i];
                }
            }
            for (i64 i = queries; i < L; i++) {
                memset(o->out + (b * L + i) * E + h * D, 0, (size_t)D * sizeof(T));
                o->lse[(b * N + h) * L + i] = 0;
            }
        }
    }
    return TD_OK;
}

KERNEL(attention_backward) {
    const i64 B = o->B, L = o->L, M = o->M, N = o->N, D = o->D, E = N * D, wide = (D + NR - 1) / NR * NR;
    const int causal = (int)o->causal;
    const T scale = (T)o->scale;
    if (NAME(check_attention)(o->lengths, o->q_lengths, B, L, M, ctx)) return TD_BAD_VALUE;
    const td_mode mode = td_flush();
    T *room = o->room;
    i64 *keys = (i64 *)NAME(take)(&room, 2 * M);
    T *k_panels = NAME(take)(&room, D * (M + 31)), *v_panels = NAME(take)(&room, D * (M + 31));
    T *k_rows = NAME(take)(&room, M * wide), *v_rows = NAME(take)(&room, M * wide);
    T *dk = NAME(take)(&room, M * wide), *dv = NAME(take)(&room, M * wide);
    T *p = NAME(take)(&room, TD_QUERIES * TD_KEYS_ROW), *dp = NAME(take)(&room, TD_QUERIES * TD_KEYS_ROW);
    T *q_rows = NAME(take)(&room, TD_QUERIES * wide), *dy_rows = NAME(take)(&room, TD_QUERIES * wide);
    T *dq = NAME(take)(&room, TD_QUERIES * wide), through[TD_QUERIES + TD_ROWS], kept[TD_KEYS];
    const NAME(drop) drop = NAME(dropping)(ctx, o->layer, o->rate);
    for (i64 b = 0; b < B; b++) {
        const i64 n = NAME(keys_of)(o->lengths, o->ignored, b, M, keys), queries = o->q_lengths ? o->q_lengths[b] : L;
        for (i64 h = 0; h < N; h++) {
            const T *q = o->q + b * L * o->P + o->q_at + h * D, *kv = o->kv + b * M * o->Q + h * D;
            const T *k = kv + o->k_at, *v = kv + o->v_at, *y = o->out + b * L * E + h * D, *dy = o->dy + b * L * E + h * D;
            i64 k_step = o->Q, v_step = o->Q;
            if (o->ignored || D % VL || FAR(o->Q)) { NAME(collect)(k, o->Q, keys, n, D, k_rows, wide); k = k_rows; k_step = wide; }
            if (o->ignored) { NAME(collect)(v, o->Q, keys, n, D, v_rows, wide); v = v_rows; v_step = wide; }
            NAME(pack_slivers)(k, 1, k_step, D, n, k_panels);
            NAME(pack_slivers)(v, 1, v_step, D, n, v_panels);
            memset(dk, 0, (size_t)(n * wide) * sizeof(T));
            memset(dv, 0, (size_t)(n * wide) * sizeof(T));
            for (i64 i0 = 0, m; i0 < queries; i0 += m) {
                m = TD_MIN(TD_QUERIES, queries - i0);
                const T *q_now = q + i0 * o->P, *dy_now = dy + i0 * E;
                i64 q_step = o->P, dy_step = E;
                if (D % VL || FAR(o->P) || FAR(E)) {
                    NAME(collect)(q_now, o->P, 0, m, D, q_rows, wide);
                    NAME(collect)(dy_now, E, 0, m, D, dy_rows, wide);
                    q_now = q_rows, dy_now = dy_rows, q_step = dy_step = wide;
                }
                for (i64 g = 0; g < m; g += TD_ROWS) {
                    const i64 columns[TD_ROWS] = {D, D, D, D, D, D, D, D};
                    const T *dy_g = dy + (i0 + g) * E, *y_g = y + (i0 + g) * E;
                    if (D <= TD_BLOCK) NAME(sums_of_rows)(dy_g, E, y_g, E, columns, (int)TD_MIN(TD_ROWS, m - g), through + g);
                    else for (i64 i = 0; i < TD_MIN(TD_ROWS, m - g); i++)
                        through[g + i] = NAME(sum_products)(dy_g + i * E, y_g + i * E, 0, 0, D);
                }
                memset(dq, 0, (size_t)(m * wide) * sizeof(T));
                for (i64 j0 = 0; j0 < n; j0 += TD_KEYS) {
                    const i64 some = NAME(seen)(keys, n, j0, i0 + m - 1, causal);
                    if (!some) break;
                    NAME(small_product)(m, D, some, q_now, q_step, 0, k_panels + j0 * D, NR, D * NR, 0, p, TD_KEYS_ROW);
                    NAME(small_product)(m, D, some, dy_now, dy_step, 0, v_panels + j0 * D, NR, D * NR, 0, dp, TD_KEYS_ROW);
                    for (i64 i = 0; i < m; i++) {
                        T *pr = p + i * TD_KEYS_ROW, *ds = dp + i * TD_KEYS_ROW;
                        const i64 own = causal ? NAME(seen)(keys, n, j0, i0 + i, 1) : some;
                        const T lse = o->lse[(b * N + h) * L + i0 + i], t = through[i];
                        if (o->rate > 0) {
                            TD_EACH(j, own) kept[j] = 1;
                            NAME(drop_row)(&drop, ctx, b, (i0 + i) * N + h, keys + j0, kept, own);
                            TD_EACH(j, own) {
                                const T e = NAME(vm_exp_below)(pr[j] * scale - lse);
                                ds[j] = e * FMA(ds[j], kept[j], -t) * scale;
                                pr[j] = e * kept[j];
                            }
                        } else TD_EACH(j, own) {
                            const T e = NAME(vm_exp_below)(pr[j] * scale - lse);
                            ds[j] = e * (ds[j] - t) * scale;
                            pr[j] = e;
                        }
                        for (i64 j = own; j < some; j++) pr[j] = ds[j] = 0;
                    }
                    NAME(small_product)(some, m, D, p, TD_KEYS_ROW, 1, dy_now, dy_step, NR, 1, dv + j0 * wide, wide);
                    NAME(small_product)(some, m, D, dp, TD_KEYS_ROW, 1, q_now, q_step, NR, 1, dk + j0 * wide, wide);
                    NAME(small_product)(m, some, D, dp, TD_KEYS_ROW, 0, k + j0 * k_step, k_step, NR, 1, dq, wide);
                }
                for (i64 i = 0; i < m; i++)
                    memcpy(o->dq + (b * L + i0 + i) * o->P + o->q_at + h * D, dq + i * wide, (size_t)D * sizeof(T));
            }
            for (i64 i = queries; i < L; i++) memset(o->dq + (b * L + i) * o->P + o->q_at + h * D, 0, (size_t)D * sizeof(T));
            for (i64 j = 0, i = 0; j < M; j++) {       /* i: which of those that count */
                T *to = o->dkv + (b * M + j) * o->Q + h * D;
                const int counts = i < n && keys[i] == j;
                if (counts) {
                    TD_EACH(d, D) to[o->k_at + d] = dk[i * wide + d];
                    TD_EACH(d, D) to[o->v_at + d] = dv[i * wide + d];
                } else {
                    memset(to + o->k_at, 0, (size_t)D * sizeof(T));
                    memset(to + o->v_at, 0, (size_t)D * sizeof(T));
                }
                i += counts;
            }
        }
    }
    td_unflush(mode);
    return TD_OK;
}
#undef FAR
#undef V
#undef VL
#undef NR

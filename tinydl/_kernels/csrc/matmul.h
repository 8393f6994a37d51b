/* matmul.h: c := act(op(a) op(b) + bias), in the manner of Goto and van de Geijn (2008).
 *
 * A tile of MR x NR elements of c lives in registers while p runs over the inner dimension; rows of a
 * are broadcast, rows of b are vectors. b comes from a packed KC x NR sliver (L1), a from where it is
 * or, where its stride would fight the cache, from a packed panel of MC x KC (L2; panels.h). Between two passes
 * over p the tile rests in c. So element (i, j) is ONE chain of multiply-adds in the order of p,
 * whatever m, n, the tile, or the instruction set. With k > TD_CHAIN it is a fixed tree of such chains (td.h), and
 * |error| <= (min(k, TD_CHAIN) + td_partials(k) + 2) eps / 2 (|a| |b| + |bias| + |c|) before the activation, to first
 * order. The tree costs 0 to 1 percent of a product (784 x 65536) (65536 x 128), (1024 x 12288) (12288 x 2048) or
 * (256 x 8192) (8192 x 2048) on a Zen 5; one with 10 columns over 2^20 rows takes half the time, since a block stays in a cache.
 */
#define V NAME(V)
#define VL NAME(VL)
#define NR (TD_NV * VL)
#define NARROW_PACKED 10

/* how a tile begins and ends; STREAM: stored past the caches */
enum { NAME(FROM_ZERO), NAME(FROM_BIAS), NAME(FROM_C), NAME(FROM_C_BIAS) };
typedef struct { int begin, end; const T *bias; const T *grad; i64 grad_row; V *watch; T *sliver; } NAME(edge);
enum { NAME(STORE), NAME(RELU), NAME(RELU_GRAD), NAME(STREAM) };

/* where a[i, p] is: by_row a[i lda + p], by_col a[p lda + i]; at_rows rows[i][lda + p], at_cols rows[p][lda + i] */
enum { NAME(is_by_row), NAME(is_by_col), NAME(is_at_rows), NAME(is_at_cols) };

/* mr, nv, layout, keep: constants after inlining; from: a, or rows; last: lanes of the last vector; keep: the rows of b that are
   read go into the edge's sliver too, and b is asked for so many rows ahead */
static inline __attribute__((always_inline)) void NAME(tile)(
        const int mr, const int nv, const int layout, const int keep, i64 k, const void *from, const i64 lda, const T *b,
        const i64 br, T *c, const i64 cr, const int last, const NAME(edge) *e, i64 col) {
    V acc[TD_MR][TD_NV];
    if (e->begin == NAME(FROM_C) || e->begin == NAME(FROM_C_BIAS)) {
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
            if (nv == 2) acc[i][0] = NAME(vload)(c + i * cr);
            acc[i][nv - 1] = last == VL ? NAME(vload)(c + i * cr + (nv - 1) * VL) : NAME(vloadn)(c + i * cr + (nv - 1) * VL, last);
        }
    } else {
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++)
            _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) acc[i][v] = NAME(vset1)(0);
    }
    if (e->begin == NAME(FROM_BIAS) || e->begin == NAME(FROM_C_BIAS)) {
        const T *bias = e->bias + col;
        V b0 = nv == 2 ? NAME(vload)(bias) : NAME(vset1)(0);
        V b1 = last == VL ? NAME(vload)(bias + (nv - 1) * VL) : NAME(vloadn)(bias + (nv - 1) * VL, last);
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
            if (nv == 2) acc[i][0] = NAME(vplus)(acc[i][0], b0);
            acc[i][nv - 1] = NAME(vplus)(acc[i][nv - 1], b1);
        }
    }
    const int apart = layout == NAME(is_at_rows) || layout == NAME(is_at_cols);
    const T *const *rows = from;
    T *sliver = e->sliver;
    const i64 ar = layout == NAME(is_by_row) ? lda : 1, ac = layout == NAME(is_by_row) ? 1 : lda;
    /* one pointer for every three rows: base, base + ar, base + 2 ar are x86 address modes */
    const T *a0 = from, *a3 = a0 + 3 * ar, *a6 = a0 + 6 * ar, *a9 = a0 + 9 * ar, *a12 = a0 + 12 * ar;
    for (i64 p = 0; p < k; p++) {
        V bv[TD_NV];
        _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) bv[v] = NAME(vload)(b + v * VL);
        if (keep) {
            _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) NAME(vstore)(sliver + v * VL, bv[v]);
            sliver += nv * VL;
            __builtin_prefetch(b + keep * br, 0, 3);
        }
        if (layout == NAME(is_at_cols)) { a0 = rows[p] + lda; a3 = a0 + 3; a6 = a0 + 6; a9 = a0 + 9; a12 = a0 + 12; }
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
            const T *r = i < 3 ? a0 : i < 6 ? a3 : i < 9 ? a6 : i < 12 ? a9 : a12;
            V av = NAME(vset1)(layout == NAME(is_at_rows) ? rows[i][lda + p] : r[(i % 3) * ar]);
            _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) acc[i][v] = NAME(vmuladd)(av, bv[v], acc[i][v]);
        }
        b += br;
        if (!apart) { a0 += ac; a3 += ac; a6 += ac; a9 += ac; a12 += ac; }
    }
    if (e->end == NAME(RELU)) {
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++)
            _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) acc[i][v] = NAME(vrelu)(acc[i][v]);
    } else if (e->end == NAME(RELU_GRAD)) {
        const T *g = e->grad + col;
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
            if (nv == 2) acc[i][0] = NAME(vgate)(NAME(vload)(g + i * e->grad_row), acc[i][0]);
            const T *h = g + i * e->grad_row + (nv - 1) * VL;
            acc[i][nv - 1] = NAME(vgate)(last == VL ? NAME(vload)(h) : NAME(vloadn)(h, last), acc[i][nv - 1]);
        }
    }
    if (e->watch) {         /* += 0, or NaN where the tile's sum is not finite */
        V sum[4];           /* four short chains, beside which the next tile can begin */
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++)
            _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) {
                const int j = i * nv + v;
                sum[j % 4] = j < 4 ? acc[i][v] : NAME(vplus)(sum[j % 4], acc[i][v]);
            }
        for (int j = 1; j < 4 && j < mr * nv; j++) sum[0] = NAME(vplus)(sum[0], sum[j]);
        *e->watch = NAME(vmuladd)(sum[0], NAME(vset1)(0), *e->watch);
    }
    if (nv == 2 && e->end == NAME(STREAM)) {
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
            NAME(vstream)(c + i * cr, acc[i][0]);
            NAME(vstream)(c + i * cr + VL, acc[i][nv - 1]);
        }
        return;
    }
    _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
        if (nv == 2) NAME(vstore)(c + i * cr, acc[i][0]);
        T *h = c + i * cr + (nv - 1) * VL;
        if (last == VL) NAME(vstore)(h, acc[i][nv - 1]); else NAME(vstoren)(h, acc[i][nv - 1], last);
    }
}

/* the tile for every layout, height and width; where rows lie apart only those that `apart` allows */
typedef void (*NAME(tile_fn))(i64, const void *, i64, const T *, i64, T *, i64, int, const NAME(edge) *, i64);
#define ONE(X, MRS, NVS) \
    static void NAME(X##_##MRS##_##NVS)(i64 k, const void *a, i64 lda, const T *b, i64 br, T *c, i64 cr, int last, \
                                        const NAME(edge) *e, i64 col) { \
        NAME(tile)(MRS, NVS, NAME(is_##X), 0, k, a, lda, b, br, c, cr, last, e, col); }
#define TILE(X, MRS) ONE(X, MRS, 1) ONE(X, MRS, 2)
#define ROW(X, MRS) [MRS - 1] = {NAME(X##_##MRS##_1), NAME(X##_##MRS##_2)},
#if TD_KEEP     /* a third form of the high tiles: two vectors wide, and keeping what it reads of b */
#define HIGH_TILE(X, MRS) TILE(X, MRS) \
    static void NAME(X##_##MRS##_keep)(i64 k, const void *a, i64 lda, const T *b, i64 br, T *c, i64 cr, int last, \
                                       const NAME(edge) *e, i64 col) { \
        NAME(tile)(MRS, 2, NAME(is_##X), TD_KEEP, k, a, lda, b, br, c, cr, last, e, col); }
#define HIGH_ROW(X, MRS) [MRS - 1] = {NAME(X##_##MRS##_1), NAME(X##_##MRS##_2), NAME(X##_##MRS##_keep)},
#else
#define HIGH_TILE TILE
#define HIGH_ROW ROW
#endif
#define WIDE_TILE(X, MRS) ONE(X, MRS, 2)
#define WIDE_ROW(X, MRS) [MRS - 1] = NAME(X##_##MRS##_2),
#if TD_MR == 14
#define LOW(F, X) F(X, 1) F(X, 2) F(X, 3) F(X, 4) F(X, 5) F(X, 6)
#define HIGH(F, X) F(X, 7) F(X, 8) F(X, 9) F(X, 10) F(X, 11) F(X, 12) F(X, 13) F(X, 14)
#elif TD_MR == 6
#define LOW(F, X) F(X, 1) F(X, 2)
#define HIGH(F, X) F(X, 3) F(X, 4) F(X, 5) F(X, 6)
#else
#define LOW(F, X) F(X, 1)
#define HIGH(F, X) F(X, 2) F(X, 3) F(X, 4)
#endif
LOW(TILE, by_row) HIGH(HIGH_TILE, by_row) LOW(TILE, by_col) HIGH(HIGH_TILE, by_col)
static const NAME(tile_fn) NAME(by_row)[TD_MR][TD_NV + 1] = {LOW(ROW, by_row) HIGH(HIGH_ROW, by_row)};
static const NAME(tile_fn) NAME(by_col)[TD_MR][TD_NV + 1] = {LOW(ROW, by_col) HIGH(HIGH_ROW, by_col)};
#if TD_SINGLE
HIGH(WIDE_TILE, at_rows) HIGH(WIDE_TILE, at_cols)
static const NAME(tile_fn) NAME(at_rows)[TD_MR] = {HIGH(WIDE_ROW, at_rows)};
static const NAME(tile_fn) NAME(at_cols)[TD_MR] = {HIGH(WIDE_ROW, at_cols)};
#endif

/* Whether products with n columns may read m rows of so many bytes where they lie. They are read once for each sliver of b:
   with more than four, copying them together first is faster; so it is for short rows, and where they fall into few sets of
   a cache. A step of 64 x 784 x 128 on a Zen 5 took 3 to 4 percent less with AVX-512 (4 slivers), 1 percent more with AVX2
   (8); one of 32 x 64 x 128 1 percent less. Tiles for that are two vectors wide and more than half as high as others. A row
   is one block of a product's sum, so that no block begins within one. */
static inline int NAME(apart)(i64 m, i64 n, i64 bytes) {
    return TD_SINGLE && m >= TD_MR && bytes >= 256 && bytes <= TD_CHAIN * (i64)sizeof(T) && bytes % TD_FAR_A &&
           n <= 4 * NR && (n % NR == 0 || n % NR > VL);
}

/* Fewer columns than a vector has lanes (a last layer): c' := op(b)' op(a)', whose rows fill the vectors; op(a)' is
 * read in place, or packed like any b. Each element is the same chain, its factors swapped. Returns the rows of c that
 * are done: of a read in place, whole vectors of them. */
static i64 NAME(narrow)(const td_matmul *t) {
    const int in_place = t->a_row == 1;
    if (t->rows || !t->n || t->n > 2 * TD_MR || t->n >= NR || t->n % VL == 0 || t->grad || t->activation != TD_IDENTITY ||
        (t->b_row != 1 && t->b_col != 1) || (!in_place && t->n > NARROW_PACKED)) return 0;
    const int n = (int)t->n, upper = n > TD_MR ? n / 2 : n;         /* rows of c' in one tile, or two */
    const i64 done = in_place ? t->m / VL * VL : t->m;
    const T *bias = t->bias;
    T tile[2 * TD_MR * NR], *sliver = (T *)t->scratch + TD_MC * TD_KC;
    for (i64 i0 = 0; i0 < done; i0 += NR) {
        if (t->stop && t->stop(t->owner)) return t->m;
        const int mr = (int)(done - i0 < NR ? done - i0 : NR), nv = mr > VL ? 2 : 1;
        T *c = (T *)t->c + i0 * t->c_row;
        NAME(edge) e = {t->accumulate || bias ? NAME(FROM_C) : NAME(FROM_ZERO), NAME(STORE), 0, 0, 0, 0, 0};
        if (e.begin == NAME(FROM_C))
            for (int j = 0; j < n; j++)
                for (int i = 0; i < mr; i++) tile[j * NR + i] = (t->accumulate ? c[i * t->c_row + j] : 0) + (bias ? bias[j] : 0);
        for (i64 p0 = 0; p0 < t->k || p0 == 0; p0 += TD_KC) {
            const i64 kc = in_place || t->k - p0 < TD_KC ? t->k - p0 : TD_KC;
            const T *a = (const T *)t->a + i0 * t->a_row + p0 * t->a_col, *b = (const T *)t->b + p0 * t->b_row;
            i64 ar = t->a_col;
            if (!in_place) {
                ar = nv * VL;
                NAME(pack_b)(a, t->a_col, t->a_row, kc, mr, (int)ar, sliver);
                a = sliver;
            }
            for (int q = 0, rows = upper; q < n; q += rows, rows = n - q) {
                if (t->b_col == 1) NAME(by_col)[rows - 1][nv - 1](kc, b + q, t->b_row, a, ar, tile + q * NR, NR, VL, &e, 0);
                else NAME(by_row)[rows - 1][nv - 1](kc, b + q * t->b_col, t->b_col, a, ar, tile + q * NR, NR, VL, &e, 0);
            }
            e.begin = NAME(FROM_C);
            if (in_place) break;
        }
        int j = 0;
        if (TD_SINGLE && TD_TRANSPOSE && TD_MR >= 8)
            for (; j + 8 <= n && mr % 8 == 0; j += 8)
                for (int i = 0; i < mr; i += 8)
                    td_transpose8((const float *)tile + j * NR + i, NR, (float *)c + i * t->c_row + j, t->c_row, 8);
        for (int i = 0; i < mr; i++)
            for (int q = j; q < n; q++) c[i * t->c_row + q] = tile[q * NR + i];
    }
    if (t->suspect)
        for (i64 i = 0; i < done; i += t->c_row == n ? done : 1)
            *t->suspect |= !NAME(all_finite)((const T *)t->c + i * t->c_row, t->c_row == n ? done * n : n);
    return done;
}

/* k <= TD_CHAIN */
static void NAME(product)(const td_matmul *whole) {
    const i64 done = whole->piece ? 0 : NAME(narrow)(whole);
    td_matmul rest;
    const td_matmul *t = whole;
    if (done) {
        rest = *whole;
        t = &rest;
        rest.a = (const T *)whole->a + done;
        rest.c = (T *)whole->c + done * whole->c_row;
        rest.m -= done;
        if (!rest.m) return;
    }
    const T *a = t->a, *b = t->b, *bias = t->bias, *grad = t->grad;
    T *c = t->c, *panel = t->piece ? t->piece->panel : t->scratch, *sliver = (T *)t->scratch + TD_MC * TD_KC;
    const int fused = !grad ? t->activation == TD_IDENTITY || t->activation == TD_RELU : t->activation == TD_RELU;
    const i64 a_stride = t->a_row == 1 ? t->a_col : t->a_row;
    const int pack_a = t->piece || (!t->rows && t->n > (t->a_row == 1 ? 32 : 4 * NR) &&
                                    ((a_stride * (i64)sizeof(T)) % TD_FAR_A == 0 || (t->a_row == 1 && t->n >= TD_MANY)));
    /* a sliver of b is packed where its rows are far apart, and where its last vector is not full */
    const int far_rows = (t->b_row * (i64)sizeof(T)) % TD_FAR_B == 0;
    const int far_c = t->m * t->n * (i64)sizeof(T) >= TD_FAR_C;      /* the next tile's place in c is asked for */
    const int stream = t->suspect && !t->accumulate && !grad && t->activation == TD_IDENTITY && t->k <= TD_ONE_PASS &&
                       t->m * t->n * (i64)sizeof(T) >= TD_STREAM && t->n % NR == 0 && (uintptr_t)c % 64 == 0;
    V watch = NAME(vset1)(0);
    /* passes over p of equal length: short ones where p runs over many rows of both factors, so that what a tile reads of the
       rows, which falls into few sets of the L1 cache, is there still for the next one; the shorter, the smaller c is, which
       each pass reads and writes */
    const int many = t->a_row == 1 && t->b_col == 1 &&
                     (t->k + t->beyond > TD_CHAIN || (t->m + t->n) * (t->k + t->beyond) * (i64)sizeof(T) >= TD_FAR);
    const i64 most_k = many ? TD_MIN(TD_MAX(t->m * t->n / TD_C_OF_P, TD_SHORT), TD_KC) : TD_KC;
    const i64 passes = t->k > TD_ONE_PASS ? (t->k + most_k - 1) / most_k : 1, step = (t->k + passes - 1) / passes;
    const i64 all_tiles = passes * ((t->m + TD_MR - 1) / TD_MR) * ((t->n + NR - 1) / NR);
    td_own own = t->own ? *t->own : (td_own){0, 0};
    const i64 own_step = all_tiles ? own.bytes / 64 / all_tiles * 64 + 64 : 0;      /* a tile */
    td_piece *const piece = t->piece;
    const i64 lines = piece && all_tiles ? piece->rows * (piece->bytes / 64 + 1) / all_tiles + 1 : 0;
    /* more than the caches hold is asked for, evenly: the next block of few rows of a; where p runs over the rows, the next pass */
    const int far = !t->rows && !piece && (t->m + t->n) * (t->k + t->beyond) * (i64)sizeof(T) >= TD_FAR;
    const int far_a = far && t->a_row == t->k && !pack_a && t->n <= 8 * NR;
    const int far_p = far && t->a_row == 1 && t->a_col == t->m && t->b_row == t->n;
    /* blocks of rows of a, as equally long as can be, that stay in the L2 cache */
    const i64 most = (far_a ? TD_FAR_BLOCK : TD_MC * TD_KC) / (step > 0 ? step : 1), blocks = (t->m + most - 1) / most;
    for (i64 p0 = 0; p0 < t->k || p0 == 0; p0 += step > 0 ? step : 1) {
        const i64 kc = t->k - p0 < step ? t->k - p0 : step;
        const i64 next = far_p ? TD_MIN(kc, t->k + t->beyond - p0 - kc) : 0;
        td_soon soon_a = td_soon_of(a + (p0 + kc) * t->a_col, next * t->m * (i64)sizeof(T), all_tiles / passes);
        td_soon soon_b = td_soon_of(b + (p0 + kc) * t->b_row, next * t->n * (i64)sizeof(T), all_tiles / passes);
        const int final = p0 + kc >= t->k;
        NAME(edge) e = {NAME(FROM_C), NAME(STORE), bias, grad, t->grad_row, final && t->suspect ? &watch : 0, sliver};
        if (p0 == 0) e.begin = t->accumulate ? (bias ? NAME(FROM_C_BIAS) : NAME(FROM_C))
                                             : (bias ? NAME(FROM_BIAS) : NAME(FROM_ZERO));
        if (stream) e.end = NAME(STREAM);
        else if (final && t->activation == TD_RELU) e.end = grad ? NAME(RELU_GRAD) : NAME(RELU);
        for (i64 i0 = 0, mc, left = blocks; left > 0; i0 += mc, left--) {
            mc = (t->m - i0 + left - 1) / left;
            const i64 tiles = (mc + TD_MR - 1) / TD_MR, low = mc / tiles, high = mc % tiles; /* `high` tiles of low + 1 rows */
            if (pack_a && !(piece && piece->packed))
                NAME(pack_a)(a + i0 * t->a_row + p0 * t->a_col, t->a_row, t->a_col, kc, tiles, low, high, panel);
            td_soon soon = td_soon_of(a + (i0 + mc) * t->a_row, far_a ? TD_MIN(mc, t->m - i0 - mc) * t->a_row * (i64)sizeof(T) : 0,
                                      tiles * ((t->n + NR - 1) / NR));
            for (i64 j0 = 0; j0 < t->n; j0 += NR) {
                if (t->stop && t->stop(t->owner)) return;
                const int nr = (int)(t->n - j0 < NR ? t->n - j0 : NR), nv = nr > VL ? 2 : 1, last = nr - (nv - 1) * VL;
                const T *bs = b + p0 * t->b_row + j0 * t->b_col;
                const T *bs_next = bs + NR * t->b_col;
                i64 br = t->b_row;
                int keep = TD_KEEP && t->b_col == 1 && nr == NR && tiles > 2 && far_rows && !t->rows;
                if (t->b_col != 1 || nr % VL || (tiles > 2 && far_rows && !keep)) {
                    br = nv * VL;
                    NAME(pack_b)(bs, t->b_row, t->b_col, kc, nr, (int)br, sliver);
                    bs = sliver;
                }
                const int ahead = j0 + NR < t->n && tiles > 2 && (far_rows || t->b_col != 1);
                for (i64 q = 0, i = 0; q < tiles; q++) {
                    const int mr = (int)(low + (q < high));
                    if (t->ahead && t->ahead->index) NAME(fetch_ahead)(t->ahead, kc);
                    if (own.bytes > 0) NAME(fetch_own)(&own, own_step);
                    if (piece) NAME(fetch_next)(piece, lines);
                    if (far_p) { td_ask(&soon_a); td_ask(&soon_b); }
                    if (far_a) td_ask(&soon);
                    if (ahead) NAME(fetch)(bs_next, t->b_row, t->b_col, kc * q / tiles, kc * (q + 1) / tiles);
                    if (far_c && !stream && q + 1 < tiles) NAME(fetch_c)(c + (i0 + i + mr) * t->c_row + j0, t->c_row, mr);
                    T *ct = c + (i0 + i) * t->c_row + j0;
                    const int form = keep ? TD_NV : nv - 1;
                    e.grad = grad ? grad + (i0 + i) * t->grad_row : 0;
#if TD_SINGLE
                    if (t->rows && t->a_row == 1)
                        NAME(at_cols)[mr - 1](kc, t->rows + p0, i0 + i, bs, br, ct, t->c_row, last, &e, j0);
                    else if (t->rows)
                        NAME(at_rows)[mr - 1](kc, t->rows + i0 + i, p0, bs, br, ct, t->c_row, last, &e, j0);
                    else
#endif
                    if (pack_a)
                        NAME(by_col)[mr - 1][form](kc, panel + i * kc, mr, bs, br, ct, t->c_row, last, &e, j0);
                    else if (t->a_row == 1)
                        NAME(by_col)[mr - 1][form](kc, a + i0 + i + p0 * t->a_col, t->a_col, bs, br, ct, t->c_row, last, &e, j0);
                    else
                        NAME(by_row)[mr - 1][form](kc, a + (i0 + i) * t->a_row + p0, t->a_row, bs, br, ct, t->c_row, last, &e, j0);
                    if (keep) {
                        keep = 0;
                        bs = sliver;
                        br = NR;
                    }
                    i += mr;
                }
            }
            if (final && !fused) {      /* of whole rows: a call for each tile's few columns took twice as long */
                const i64 together = t->c_row == t->n && (!grad || t->grad_row == t->n) ? mc : 1;
                for (i64 i = i0; i < i0 + mc; i += together) {
                    T *row = c + i * t->c_row;
                    if (grad)
                        NAME(activation_backward)(t->activation, t->alpha, t->beta, row, grad + i * t->grad_row, row,
                                                  together * t->n);
                    else NAME(activation)(t->activation, t->alpha, t->beta, row, row, together * t->n);
                }
            }
        }
    }
    if (stream) td_streamed();
    if (t->suspect) {
        T lanes[VL], sum = 0;
        memcpy(lanes, &watch, sizeof lanes);
        for (int i = 0; i < VL; i++) sum += lanes[i];
        *t->suspect |= sum != 0;        /* NaN is not equal to anything */
    }
}

static void NAME(matmul)(const td_matmul *t) {
    if (t->k <= TD_CHAIN) { NAME(product)(t); return; }
    td_matmul left = *t, right;
    left.k = td_left(t->k);
    left.grad = 0;
    left.activation = TD_IDENTITY;
    left.suspect = 0;
    left.own = 0;
    right = left;
    right.k = t->k - left.k;
    left.beyond = right.k + t->beyond;
    if (t->rows) right.rows += left.k;
    else right.a = (const T *)t->a + left.k * t->a_col;
    right.b = (const T *)t->b + left.k * t->b_row;
    right.bias = 0;
    right.accumulate = 0;
    right.c = t->partial;
    right.c_row = t->n;
    right.partial = (T *)t->partial + t->m * t->n;
    NAME(matmul)(&left);
    NAME(matmul)(&right);
    if (t->stop && t->stop(t->owner)) return;
    for (i64 i = 0; i < t->m; i++) {
        T *c = (T *)t->c + i * t->c_row;
        const T *more = (const T *)t->partial + i * t->n;
        TD_EACH(j, t->n) c[j] += more[j];
        if (t->grad)
            NAME(activation_backward)(t->activation, t->alpha, t->beta, c, (const T *)t->grad + i * t->grad_row, c, t->n);
        else if (t->activation != TD_IDENTITY) NAME(activation)(t->activation, t->alpha, t->beta, c, c, t->n);
        if (t->suspect) *t->suspect |= !NAME(all_finite)(c, t->n);
    }
}

KERNEL(matmul) {
    const td_matmul t = {
        .m = o->m, .n = o->n, .k = o->k, .a = o->a, .a_row = o->a_row, .a_col = o->a_col, .b = o->b, .b_row = o->b_row,
        .b_col = o->b_col, .c = o->out, .c_row = o->n, .bias = o->bias, .grad = o->saved, .grad_row = o->n,
        .accumulate = (int)o->accumulate, .activation = (int)o->activation, .alpha = o->alpha, .beta = o->beta,
        .scratch = ctx->scratch, .ahead = &ctx->ahead, .own = o->watched == 2 ? &ctx->own : 0,
        .suspect = o->watched ? &ctx->suspect : 0,
        .stop = (double)o->m * (double)o->n * (double)o->k > TD_LONG ? ctx->stop : 0, .owner = ctx->owner,
        .rows = o->a ? 0 : ctx->rows, .partial = o->partial};      /* no a: the batch's rows, and they lie apart */
    NAME(matmul)(&t);
    return TD_OK;
}
#undef V
#undef VL
#undef NR
#undef NARROW_PACKED
#undef ONE
#undef TILE
#undef WIDE_TILE
#undef WIDE_ROW
#undef ROW
#undef HIGH_TILE
#undef HIGH_ROW
#undef LOW
#undef HIGH

/* conv.h: convolutions over images, channels last: x (B, H, W, C), y (B, Ho, Wo, O), G groups of channels.
 *
 * They are matrix products whose left factor is never written down. Of an image, some rows, with zeros around them (a band;
 * of very wide images some columns too), lie in the thread's scratch memory; there the factor's rows are overlapping
 * stretches, and a tile of MR pixels by NR channels reads them where they are, tap after tap. An image that needs no zeros and
 * whose channels lie side by side is read in place. The right factor is the kernel in panels of N columns, which conv_panels
 * makes once a batch.
 *
 * Element (pixel, channel) of a convolution is a chain of multiply-adds over the taps in order and, in each, over the channels,
 * begun with the bias; in chains of at most TD_CHAIN terms, rows of taps above or below the image are left out. It has nothing
 * to do with other pixels or samples, the tile, or the instruction set. More than TD_CHAIN terms are blocks of at most so many,
 * added in order: |error| <= (min(k, TD_CHAIN) + k / TD_CHAIN + 2) eps / 2 times the sum of magnitudes of k terms. Gradients by
 * the kernel are sums over pixels, in td.h's tree.
 */
#define V NAME(V)
#define VL NAME(VL)
#define NR (TD_NV * VL)

#ifndef TD_CONV
#define TD_CONV
/* Elements of scratch memory for a band, and for a sliver of dy. What a band takes if it can: half of the smallest L2 cache. */
enum { TD_BAND = 1 << 17, TD_SLIVER = 1 << 16, TD_BAND_AIM = 1 << 15 };
_Static_assert(TD_BAND + TD_SLIVER <= TD_MC * TD_KC + TD_ONE_PASS * TD_NV * 16, "a band and a sliver fit into the scratch");
enum { TD_CHUNKS = 1536, TD_TAPS = 1024 };      /* at most so many pieces of a sum at once; taps of a kernel */
/* n terms of a sum: of the left factor from element a on, of the right one from row b on */
typedef struct { i64 a, b, n; } td_chunk;
/* Columns of a block of an image: all, if a row of blocks fits into a band, else as many as take what a band aims at. */
static inline i64 td_columns(i64 all, i64 tall, i64 wide, i64 step, i64 C) {
    const i64 some = (TD_BAND_AIM / (tall * C) - wide) / step + 1;
    return tall * ((all - 1) * step + wide) * C <= TD_BAND ? all : some < 1 ? 1 : TD_MIN(some, all);
}
static inline i64 td_floor(i64 a, i64 b) { return b == 1 ? a : a >= 0 ? a / b : -((b - 1 - a) / b); }
#endif
enum { NAME(taps_by_row), NAME(taps_by_col), NAME(taps_apart) };

/* c[i, j] := (bias[j], or c[i, j], or 0) + the chunks' sums. Element (i, p) of the left factor is from[i lda + p], by_col
   from[p lda + i], apart from[off[i] + p lda]; mr, nv, layout are constants after inlining. */
static inline __attribute__((always_inline)) void NAME(taps)(
        const int mr, const int nv, const int layout, const td_chunk *chunk, int chunks, const T *from, const i64 *off,
        const i64 lda, const T *right, const i64 br, T *c, const i64 cr, const int last, const T *bias, int from_c, int relu) {
    V acc[TD_MR][TD_NV];
    if (from_c) {
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
            if (nv == 2) acc[i][0] = NAME(vload)(c + i * cr);
            const T *h = c + i * cr + (nv - 1) * VL;
            acc[i][nv - 1] = last == VL ? NAME(vload)(h) : NAME(vloadn)(h, last);
        }
    } else {
        V b0 = NAME(vset1)(0), b1 = b0;
        if (bias) {
            if (nv == 2) b0 = NAME(vplus)(b0, NAME(vload)(bias));
            b1 = NAME(vplus)(b1, last == VL ? NAME(vload)(bias + (nv - 1) * VL) : NAME(vloadn)(bias + (nv - 1) * VL, last));
        }
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
            if (nv == 2) acc[i][0] = b0;
            acc[i][nv - 1] = b1;
        }
    }
    const i64 ar = layout == NAME(taps_by_row) ? lda : 1, ac = layout == NAME(taps_by_row) ? 1 : lda;
    for (int q = 0; q < chunks; q++) {
        const T *a0 = from + chunk[q].a, *a3 = a0 + 3 * ar, *a6 = a0 + 6 * ar, *a9 = a0 + 9 * ar, *a12 = a0 + 12 * ar;
        const T *b = right + chunk[q].b * br;
        for (i64 p = 0; p < chunk[q].n; p++) {
            V bv[TD_NV];
            _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) bv[v] = NAME(vload)(b + v * VL);
            _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
                const T *r = i < 3 ? a0 : i < 6 ? a3 : i < 9 ? a6 : i < 12 ? a9 : a12;
                V av = NAME(vset1)(layout == NAME(taps_apart) ? a0[off[i]] : r[(i % 3) * ar]);
                _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) acc[i][v] = NAME(vmuladd)(av, bv[v], acc[i][v]);
            }
            b += br;
            a0 += ac;
            if (layout != NAME(taps_apart)) { a3 += ac; a6 += ac; a9 += ac; a12 += ac; }
        }
    }
    if (relu) {
        _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++)
            _Pragma("GCC unroll 2") for (int v = 0; v < nv; v++) acc[i][v] = NAME(vrelu)(acc[i][v]);
    }
    _Pragma("GCC unroll 14") for (int i = 0; i < mr; i++) {
        if (nv == 2) NAME(vstore)(c + i * cr, acc[i][0]);
        T *h = c + i * cr + (nv - 1) * VL;
        if (last == VL) NAME(vstore)(h, acc[i][nv - 1]); else NAME(vstoren)(h, acc[i][nv - 1], last);
    }
}

typedef void (*NAME(taps_fn))(const td_chunk *, int, const T *, const i64 *, i64, const T *, i64, T *, i64, int, const T *, int,
                              int);
#define ONE(X, MRS, NVS) static void NAME(X##_##MRS##_##NVS)(const td_chunk *q, int n, const T *a, const i64 *off, i64 lda, \
        const T *b, i64 br, T *c, i64 cr, int last, const T *bias, int from_c, int relu) { \
        NAME(taps)(MRS, NVS, NAME(X), q, n, a, off, lda, b, br, c, cr, last, bias, from_c, relu); }
#define TILE(X, MRS) ONE(X, MRS, 1) ONE(X, MRS, 2)
#define ROW(X, MRS) [MRS - 1] = {NAME(X##_##MRS##_1), NAME(X##_##MRS##_2)},
#if TD_MR == 14
#define LOW_HEIGHTS(F, X) F(X, 1) F(X, 2) F(X, 3) F(X, 4) F(X, 5) F(X, 6) F(X, 7) F(X, 8) F(X, 9)
#define EACH_HEIGHT(F, X) LOW_HEIGHTS(F, X) F(X, 10) F(X, 11) F(X, 12) F(X, 13) F(X, 14)
#elif TD_MR == 6
#define LOW_HEIGHTS(F, X) F(X, 1) F(X, 2) F(X, 3) F(X, 4) F(X, 5) F(X, 6)
#define EACH_HEIGHT LOW_HEIGHTS
#else
#define LOW_HEIGHTS(F, X) F(X, 1) F(X, 2) F(X, 3) F(X, 4)
#define EACH_HEIGHT LOW_HEIGHTS
#endif
EACH_HEIGHT(TILE, taps_by_row) EACH_HEIGHT(TILE, taps_by_col) LOW_HEIGHTS(TILE, taps_apart)
static const NAME(taps_fn) NAME(by_pixel)[TD_MR][TD_NV] = {EACH_HEIGHT(ROW, taps_by_row)};
static const NAME(taps_fn) NAME(by_tap)[TD_MR][TD_NV] = {EACH_HEIGHT(ROW, taps_by_col)};
static const NAME(taps_fn) NAME(by_tap_apart)[TD_MR][TD_NV] = {LOW_HEIGHTS(ROW, taps_apart)};

/* band[r][w][c] := x[top + r][left + w][c], 0 outside of the image */
static void NAME(pack_band)(const T *x, i64 xc, i64 xh, i64 xw, i64 C, i64 H, i64 W, i64 top, i64 rows, i64 left, i64 cols,
                            T *band) {
    const i64 from = left < 0 ? TD_MIN(-left, cols) : 0, to = left + cols > W ? (W > left ? W - left : 0) : cols;
    for (i64 r = 0; r < rows; r++, band += cols * C) {
        const T *row = x + (top + r) * xh + left * xw;
        if (top + r < 0 || top + r >= H || to <= from) { memset(band, 0, (size_t)(cols * C) * sizeof(T)); continue; }
        memset(band, 0, (size_t)(from * C) * sizeof(T));
        memset(band + to * C, 0, (size_t)((cols - to) * C) * sizeof(T));
        if (xc == 1 && xw == C) memcpy(band + from * C, row + from * xw, (size_t)((to - from) * C) * sizeof(T));
        else if (xc == 1) for (i64 w = from; w < to; w++) memcpy(band + w * C, row + w * xw, (size_t)C * sizeof(T));
        else for (i64 c = 0; c < C; c++)
            for (i64 w = from; w < to; w++) band[w * C + c] = row[w * xw + c * xc];
    }
}

/* Chunks of at most TD_CHAIN terms; where a[0] and b[0] go on from the last one's end, they become a part of it. */
static inline int NAME(add_chunk)(td_chunk *chunk, int n, i64 a, i64 b, i64 terms) {
    if (n && chunk[n - 1].a + chunk[n - 1].n == a && chunk[n - 1].b + chunk[n - 1].n == b && chunk[n - 1].n + terms <= TD_CHAIN) {
        chunk[n - 1].n += terms;
        return n;
    }
    for (i64 some; terms > 0; a += some, b += some, terms -= some) {
        some = TD_MIN(terms, TD_CHAIN);
        chunk[n++] = (td_chunk){a, b, some};
    }
    return n;
}

/* The taps in rows i0..i1-1 of a kernel, of C channels each: their rows are `line` apart in the left factor, columns `pixel`. */
static int NAME(taps_of_rows)(td_chunk *chunk, i64 i0, i64 i1, i64 kw, i64 line, i64 pixel, i64 C) {
    int n = 0;
    for (i64 i = i0; i < i1; i++)
        for (i64 j = 0; j < kw; j++) n = NAME(add_chunk)(chunk, n, i * line + j * pixel, (i * kw + j) * C, C);
    return n;
}

/* `count` pixels, lda apart, by nr channels: c := bias + sums; where `relu`, 0 if it, or with `saved` that, is not above 0 */
typedef struct { const T *bias, *saved; int relu; } NAME(ending);
static void NAME(pixels)(const td_chunk *chunk, int chunks, const T *a, i64 lda, const T *panel, i64 N, T *c, i64 cr, i64 count,
                         int nr, const NAME(ending) *e, td_soon *soon) {
    const int nv = nr > VL ? 2 : 1, last = nr - (nv - 1) * VL;
    const i64 tiles = (count + TD_MR - 1) / TD_MR, low = count / tiles, high = count % tiles;
    i64 terms = 0;
    for (int q = 0; q < chunks; q++) terms += chunk[q].n;
    for (i64 t = 0, i = 0; t < tiles; t++) {
        const int mr = (int)(low + (t < high));
        const NAME(taps_fn) tile = NAME(by_pixel)[mr - 1][nv - 1];
        T *ct = c + i * cr;
        td_ask(soon);
        NAME(fetch_c)(ct, cr, mr);
        if (e->saved) NAME(fetch_c)(e->saved + i * cr, cr, mr);
        if (terms <= TD_CHAIN) tile(chunk, chunks, a + i * lda, 0, lda, panel, N, ct, cr, last, e->bias, 0, e->relu && !e->saved);
        else for (int q = 0, end; q < chunks; q = end) {
            T more[TD_MR * NR];
            i64 block = chunk[q].n;
            for (end = q + 1; end < chunks && block + chunk[end].n <= TD_CHAIN; end++) block += chunk[end].n;
            if (!q) { tile(chunk, end, a + i * lda, 0, lda, panel, N, ct, cr, last, e->bias, 0, 0); continue; }
            tile(chunk + q, end - q, a + i * lda, 0, lda, panel, N, more, NR, last, 0, 0, 0);
            for (int r = 0; r < mr; r++) for (int j = 0; j < nr; j++) ct[r * cr + j] += more[r * NR + j];
        }
        i += mr;
    }
    if (!e->relu || !e->saved) return;
    for (i64 i = 0; i < count; i++) {
        T *row = c + i * cr;
        const T *y = e->saved + i * cr;
        int j = 0;
        for (; j + VL <= nr; j += VL) NAME(vstore)(row + j, NAME(vgate)(NAME(vload)(y + j), NAME(vload)(row + j)));
        for (; j < nr; j++) row[j] = y[j] > 0 ? row[j] : 0;
    }
}

/* c := act(c) or, with `saved`, c act'(saved): n numbers side by side, as many as there are at once, in whole rows of the image
   where all channels are done, or else in whole images: a call for a few channels of a pixel took twice as long */
static void NAME(finish)(i64 kind, double alpha, double beta, T *c, const T *saved, i64 n) {
    if (saved) NAME(activation_backward)((int)kind, alpha, beta, c, saved, c, n);
    else NAME(activation)((int)kind, alpha, beta, c, c, n);
}

/* panels[g][q][(tap, i)][j] := weight[g Og + q N + j][i][tap]; transposed, panels[g][q][(tap, o)][j] :=
   weight[g Og + o][q N + j][tap] */
KERNEL(conv_panels) {
    const i64 I = o->I, K = o->K, Og = o->O / o->G, N = o->N, rows = o->transposed ? Og : I, cols = o->transposed ? I : Og;
    const i64 row_step = o->transposed ? I * K : K, col_step = o->transposed ? K : I * K;
    (void)ctx;
    for (i64 g = 0; g < o->G; g++)
        for (i64 q = 0; q < o->Q; q++) {
            const T *w = o->weight + g * Og * I * K + q * N * col_step;
            T *panel = o->out + (g * o->Q + q) * o->R * N;
            const i64 some = TD_MIN(N, cols - q * N);
            for (i64 r = 0; r < rows; r++)
                for (i64 j = 0; j < N; j++)
                    for (i64 k = 0; k < K; k++)
                        panel[(k * rows + r) * N + j] = j < some ? w[r * row_step + j * col_step + k] : 0;
        }
    return TD_OK;
}

/* Whether a convolution reads x in place: it needs no zeros around it, and a pixel's channels lie side by side. */
#define IN_PLACE(o) ((o)->xc == 1 && !(o)->ph && !(o)->pw && ((o)->Ho - 1) * (o)->sh + ((o)->kh - 1) * (o)->dh < (o)->H && \
                     ((o)->Wo - 1) * (o)->sw + ((o)->kw - 1) * (o)->dw < (o)->W)

KERNEL(conv2d) {
    const i64 Cg = o->C / o->G, Og = o->O / o->G, N = o->N, tall = (o->kh - 1) * o->dh + 1, wide = (o->kw - 1) * o->dw + 1;
    const int in_place = IN_PLACE(o);
    const i64 block = in_place ? o->Wo : td_columns(o->Wo, tall, wide, o->sw, Cg), cols = (block - 1) * o->sw + wide;
    const i64 pixel = in_place ? o->xw : Cg, line = in_place ? o->xh : cols * Cg;
    const i64 fit = (TD_BAND_AIM / (cols * Cg) - tall) / o->sh + 1;
    const i64 most = in_place ? o->Ho : block < o->Wo || fit < 1 ? 1 : fit;
    const int skips = !in_place && o->R <= TD_CHAIN;        /* more terms are blocks, the same ones in each row */
    const int relu = o->activation == TD_RELU && o->R <= TD_CHAIN, later = o->activation != TD_IDENTITY && !relu;
    td_chunk chunk[TD_CHUNKS];
    int chunks = 0;
    for (i64 b = 0, i0 = -1, i1 = -1; b < o->B; b++)        /* i0..i1-1: the taps' rows that `chunk` has */
        for (i64 g = 0; g < o->G; g++) {
            if (ctx->stop && ctx->stop(ctx->owner)) return TD_OK;
            const T *x = o->x + b * o->xb + g * Cg * o->xc;
            for (i64 h0 = 0, rows; h0 < o->Ho; h0 += rows) {
                rows = TD_MIN(most, o->Ho - h0);
                const i64 tiles = rows * ((o->Wo + TD_MR - 1) / TD_MR) * ((Og + NR - 1) / NR);
                for (i64 w0 = 0; w0 < o->Wo; w0 += block) {
                    const T *from = in_place ? x + h0 * o->sh * line : ctx->scratch;
                    T *out = o->out + ((b * o->Ho + h0) * o->Wo + w0) * o->O + g * Og;
                    if (!in_place)
                        NAME(pack_band)(x, o->xc, o->xh, o->xw, Cg, o->H, o->W, h0 * o->sh - o->ph, (rows - 1) * o->sh + tall,
                                        w0 * o->sw - o->pw, cols, ctx->scratch);
                    const T *next = x + ((h0 + rows) * o->sh - o->ph + (in_place ? 0 : tall - 1)) * o->xh;
                    td_soon soon = td_soon_before(o->x + o->B * o->xb, next, rows * o->sh * o->xh * (i64)sizeof(T), tiles);
                    for (i64 j0 = 0; j0 < Og; j0 += NR) {
                        const T *panel = o->panels + (g * o->Q + j0 / N) * o->R * N + j0 % N;
                        const NAME(ending) e = {o->bias ? o->bias + g * Og + j0 : 0, 0, relu};
                        for (i64 h = 0; h < rows; h++) {
                            const i64 top = (h0 + h) * o->sh - o->ph, above = skips && top < 0 ? -td_floor(top, o->dh) : 0;
                            const i64 inside = skips ? td_floor(o->H - 1 - top, o->dh) + 1 : o->kh;
                            const i64 first = TD_MIN(above, o->kh), end = TD_MAX(first, TD_MIN(inside, o->kh));
                            if (first != i0 || end != i1)
                                chunks = NAME(taps_of_rows)(chunk, i0 = first, i1 = end, o->kw, o->dh * line, o->dw * pixel, Cg);
                            NAME(pixels)(chunk, chunks, from + h * o->sh * line, o->sw * pixel, panel, N,
                                         out + h * o->Wo * o->O + j0, o->O,
                                         TD_MIN(block, o->Wo - w0), (int)TD_MIN(NR, Og - j0), &e, &soon);
                        }
                    }
                }
                if (later && o->G == 1)
                    NAME(finish)(o->activation, o->alpha, o->beta, o->out + (b * o->Ho + h0) * o->Wo * o->O, 0,
                                 rows * o->Wo * o->O);
            }
            if (later && o->G > 1 && g == o->G - 1)
                NAME(finish)(o->activation, o->alpha, o->beta, o->out + b * o->Ho * o->Wo * o->O, 0, o->Ho * o->Wo * o->O);
        }
    return TD_OK;
}

/* Rows h0.. and columns w0..end-1 of out, of sample b and group g. Every sh-th row and sw-th column reads the same taps: as many
   convolutions with stride 1, side by side. */
static void NAME(transposed_block)(const NAME(conv_transpose2d_args) *const o, i64 b, i64 g, i64 h0, i64 rows, i64 w0, i64 end,
                                   int relu, T *band) {
    const i64 Cg = o->C / o->G, Og = o->O / o->G, N = o->N, sh = o->sh, sw = o->sw;
    const i64 top = td_floor(h0 + o->ph - (o->kh - 1) * o->dh, sh), bottom = td_floor(h0 + rows - 1 + o->ph, sh);
    const i64 left = td_floor(w0 + o->pw - (o->kw - 1) * o->dw, sw), cols = td_floor(end - 1 + o->pw, sw) - left + 1;
    td_chunk chunk[TD_CHUNKS];
    NAME(pack_band)(o->x + b * o->Ho * o->Wo * o->O + g * Og, 1, o->Wo * o->O, o->O, Og, o->Ho, o->Wo, top, bottom - top + 1,
                    left, cols, band);
    const T *const dy = o->x + b * o->Ho * o->Wo * o->O, *const end_of_dy = o->x + o->B * o->Ho * o->Wo * o->O;
    td_soon soon = td_soon_before(end_of_dy, dy + (bottom + 1) * o->Wo * o->O, (rows + sh - 1) / sh * o->Wo * o->O * (i64)sizeof(T),
                                  rows * TD_MIN(sw, end - w0) * (((end - w0) / sw + TD_MR - 1) / TD_MR) * ((Cg + NR - 1) / NR));
    for (i64 j0 = 0; j0 < Cg; j0 += NR)
        for (i64 h = h0; h < h0 + rows; h++)
            for (i64 w = w0; w < TD_MIN(w0 + sw, end); w++) {
                const i64 at = ((b * o->H + h) * o->W + w) * o->C + g * Cg + j0;
                const T *panel = o->panels + (g * o->Q + j0 / N) * o->R * N + j0 % N;
                const NAME(ending) e = {o->bias ? o->bias + g * Cg + j0 : 0, o->saved ? o->saved + at : 0, relu};
                int chunks = 0;
                for (i64 i = 0; i < o->kh; i++)
                    for (i64 j = 0; j < o->kw; j++) {
                        const i64 y = h + o->ph - i * o->dh, x = w + o->pw - j * o->dw;
                        const i64 r = td_floor(y, sh), s = td_floor(x, sw);
                        if (r * sh == y && s * sw == x && ((r >= 0 && r < o->Ho) || o->R > TD_CHAIN))
                            chunks = NAME(add_chunk)(chunk, chunks, ((r - top) * cols + s - left) * Og, (i * o->kw + j) * Og, Og);
                    }
                NAME(pixels)(chunk, chunks, band, Og, panel, N, o->out + at, sw * o->C, (end - w + sw - 1) / sw,
                             (int)TD_MIN(NR, Cg - j0), &e, &soon);
            }
}

KERNEL(conv_transpose2d) {
    const i64 Og = o->O / o->G, sh = o->sh, sw = o->sw;
    const i64 tall = (o->kh - 1) * o->dh / sh + 2, wide = (o->kw - 1) * o->dw / sw + 2;       /* at most, for one pixel */
    const i64 whole = tall * ((o->W - 1) / sw + 1 + wide) * Og <= TD_BAND, narrow = (TD_BAND_AIM / (tall * Og) - wide - 1) * sw;
    const i64 block = whole ? o->W : narrow < 1 ? 1 : TD_MIN(narrow, o->W);
    const i64 fit = (TD_BAND_AIM / (((block - 1) / sw + 1 + wide) * Og) - tall) * sh, most = block < o->W || fit < 1 ? 1 : fit;
    const int relu = o->activation == TD_RELU && (o->saved || o->R <= TD_CHAIN), later = o->activation != TD_IDENTITY && !relu;
    for (i64 b = 0; b < o->B; b++)
        for (i64 g = 0; g < o->G; g++) {
            if (ctx->stop && ctx->stop(ctx->owner)) return TD_OK;
            for (i64 h0 = 0, rows; h0 < o->H; h0 += rows) {
                rows = TD_MIN(most, o->H - h0);
                for (i64 w0 = 0; w0 < o->W; w0 += block)
                    NAME(transposed_block)(o, b, g, h0, rows, w0, TD_MIN(o->W, w0 + block), relu, ctx->scratch);
                const i64 at = (b * o->H + h0) * o->W * o->C;
                if (later && o->G == 1)
                    NAME(finish)(o->activation, o->alpha, o->beta, o->out + at, o->saved ? o->saved + at : 0,
                                 rows * o->W * o->C);
            }
            const i64 image = o->H * o->W * o->C;
            if (later && o->G > 1 && g == o->G - 1)
                NAME(finish)(o->activation, o->alpha, o->beta, o->out + b * image, o->saved ? o->saved + b * image : 0, image);
        }
    return TD_OK;
}

/* sums += those over the pixels that `chunk` has, of dy, at most TD_SLIVER / NR of them, from `dy` on */
static void NAME(by_kernel)(const NAME(conv2d_by_weight_args) *const o, const td_chunk *chunk, int chunks, i64 pixels,
                            const T *from, const T *dy, i64 line, i64 pixel, T *sums, T *sliver, td_soon *soon) {
    const i64 Cg = o->C / o->G, Og = o->O / o->G, N = o->N, lda = o->sw * pixel;
    const i64 run = pixel == Cg && o->dw == 1 ? o->kw * Cg : Cg;        /* rows of the sums whose factors lie side by side */
    for (i64 j0 = 0; j0 < Og; j0 += NR) {
        const int nr = (int)TD_MIN(NR, Og - j0), nv = nr > VL ? 2 : 1, last = nr - (nv - 1) * VL;
        const T *right = dy + j0;
        i64 br = o->O;
        if (last < VL || (o->O > NR && o->R >= 16 * TD_MR)) {    /* read so often that rows side by side are worth the copy */
            br = nv * VL;
            NAME(pack_b)(right, o->O, 1, pixels, nr, (int)br, sliver);
            right = sliver;
        }
        T *c = sums + j0 / N * o->R * N + j0 % N;
        const int together = run >= (TD_MR + 1) / 2;
        const i64 length = together ? run : o->R, high_tile = together || TD_MR < 9 ? TD_MR : 9;
        for (i64 r0 = 0; r0 < o->R; r0 += length) {
            const i64 tiles = (length + high_tile - 1) / high_tile;
            for (i64 t = 0, r = r0; t < tiles; t++) {
                const int mr = (int)(length / tiles + (t < length % tiles));
                i64 off[TD_MR];
                td_ask(soon);
                td_ask(soon + 1);
                for (int i = 0; i < mr; i++) {
                    const i64 tap = (r + i) / Cg;
                    off[i] = tap / o->kw * o->dh * line + tap % o->kw * o->dw * pixel + (r + i) % Cg;
                }
                (together ? NAME(by_tap) : NAME(by_tap_apart))[mr - 1][nv - 1](
                    chunk, chunks, together ? from + off[0] : from, off, lda, right, br, c + r * N, N, last, 0, 1, 0);
                r += mr;
            }
        }
    }
}

/* sums := those over pixels p0..p1-1 of all samples; behind them, of dy alone */
static int NAME(by_pixels)(const NAME(conv2d_by_weight_args) *const o, td_ctx *const ctx, i64 p0, i64 p1, T *sums, T *partial) {
    const i64 sizes = o->M - o->O;
    if (p1 - p0 > TD_CHAIN) {
        const i64 middle = p0 + td_left(p1 - p0);
        if (NAME(by_pixels)(o, ctx, p0, middle, sums, partial)) return 1;
        if (NAME(by_pixels)(o, ctx, middle, p1, partial, partial + o->M)) return 1;
        TD_EACH(i, o->M) sums[i] += partial[i];
        return 0;
    }
    const i64 Cg = o->C / o->G, Og = o->O / o->G, tall = (o->kh - 1) * o->dh + 1, wide = (o->kw - 1) * o->dw + 1;
    const int in_place = IN_PLACE(o);
    const i64 block = in_place ? o->Wo : td_columns(o->Wo, tall, wide, o->sw, Cg), cols = (block - 1) * o->sw + wide;
    const i64 pixel = in_place ? o->xw : Cg, line = in_place ? o->xh : cols * Cg;
    /* each tile of the sums goes through these pixels: they, a sliver of dy and the next ones, which are asked for meanwhile, must
       stay in the L2 cache */
    const i64 most_pixels = in_place ? TD_MIN(TD_SLIVER / NR, TD_MAX(64, TD_BAND_AIM / 4 / pixel)) : TD_SLIVER / NR;
    const i64 room = TD_BAND_AIM > tall * cols * Cg ? TD_BAND_AIM : tall * cols * Cg;
    const i64 tiles = (o->R + TD_MR - 1) / TD_MR * ((Og + NR - 1) / NR);
    memset(sums, 0, (size_t)o->M * sizeof(T));
    for (i64 g = 0; g < o->G; g++)
        for (i64 p = p0; p < p1;) {
            if (ctx->stop && ctx->stop(ctx->owner)) return 1;
            td_chunk chunk[TD_CHUNKS];
            int chunks = 0;
            const i64 first = p;
            for (i64 used = 0; p < p1 && p - first < most_pixels && chunks < TD_CHUNKS;) {
                const i64 sample = p / (o->Ho * o->Wo), h0 = p / o->Wo % o->Ho, w0 = block < o->Wo ? p % o->Wo : 0;
                const T *x = o->x + sample * o->xb + g * Cg * o->xc;
                i64 rows = TD_MIN(o->Ho - h0, (p1 - 1) / o->Wo - p / o->Wo + 1);
                i64 at = x - o->x + h0 * o->sh * line;
                if (!in_place) {
                    const i64 fit = ((room - used) / (cols * Cg) - tall) / o->sh + 1;
                    if (room - used < tall * cols * Cg) break;
                    rows = block < o->Wo ? 1 : TD_MIN(rows, fit);
                    T *band = (T *)ctx->scratch + used;
                    const i64 lines = (rows - 1) * o->sh + tall;
                    NAME(pack_band)(x, o->xc, o->xh, o->xw, Cg, o->H, o->W, h0 * o->sh - o->ph, lines, w0 * o->sw - o->pw, cols,
                                    band);
                    at = used;
                    used += lines * cols * Cg;
                }
                for (i64 h = 0; h < rows && p < p1 && p - first < most_pixels && chunks < TD_CHUNKS; h++) {
                    const i64 w = p % o->Wo, row = TD_MIN(o->Wo - w, block);
                    const i64 some = TD_MIN(TD_MIN(row, p1 - p), most_pixels - (p - first));
                    chunk[chunks++] = (td_chunk){at + h * o->sh * line + (w - w0) * o->sw * pixel, p - first, some};
                    p += some;
                }
            }
            const T *next = o->x + (p / (o->Ho * o->Wo)) * o->xb + (p / o->Wo % o->Ho) * o->sh * o->xh;
            td_soon soon[2] = {
                td_soon_before(o->x + o->B * o->xb, next, (p - first) * o->sh * o->xh / o->Wo * (i64)sizeof(T), tiles),
                td_soon_before(o->dy + o->B * o->Ho * o->Wo * o->O, o->dy + p * o->O, (p - first) * o->O * (i64)sizeof(T), tiles)};
            NAME(by_kernel)(o, chunk, chunks, p - first, in_place ? o->x : ctx->scratch, o->dy + first * o->O + g * Og, line,
                            pixel, sums + g * o->Q * o->R * o->N, (T *)ctx->scratch + TD_BAND, soon);
        }
    NAME(column_sum)(o->dy + p0 * o->O, sums + sizes, p1 - p0, o->O, 0);
    return 0;
}

KERNEL(conv2d_by_weight) {
    const i64 Og = o->O / o->G, N = o->N, I = o->I, K = o->K;
    if (NAME(by_pixels)(o, ctx, 0, o->B * o->Ho * o->Wo, o->sums, o->partial)) return TD_OK;
    for (i64 n = 0; n < o->O && o->db; n++) {
        const T sum = o->sums[o->M - o->O + n];
        o->db[n] = o->more_bias ? o->db[n] + sum : sum;
    }
    for (i64 i = 0; i < I; i++)
        for (i64 n = 0; n < o->O; n++) {
            const i64 g = n / Og, j = n % Og;
            const T *from = o->sums + ((g * o->Q + j / N) * o->R + i) * N + j % N;
            T *to = o->dweight + (n * I + i) * K;
            if (o->more) for (i64 k = 0; k < K; k++) to[k] += from[k * I * N];
            else for (i64 k = 0; k < K; k++) to[k] = from[k * I * N];
        }
    return TD_OK;
}
#undef IN_PLACE
#undef V
#undef VL
#undef NR
#undef ONE
#undef TILE
#undef ROW
#undef EACH_HEIGHT
#undef LOW_HEIGHTS

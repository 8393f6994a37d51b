/* recurrent.h: what lstm.h, gru.h and rnn.h share, which go step by step: B samples, L steps, H units, G gates a step.
 *
 * What the inputs give to the gates is there already, one product for all steps; here are the products with w_hh, which must
 * wait for each other, and what follows from them. w_hh is packed once into slivers of NR columns (panels.h) and stays in the
 * L2 cache over all steps. Each row of a product is one chain of multiply-adds in the order of its k terms, whatever B and the
 * instruction set (of k > TD_CHAIN, too: H beyond 4096 forward, G beyond that backward). Rows of the batch that have no such step
 * take part in the products, and nothing of them is kept. From td_flush on numbers too small to be normal are zeros: gradients
 * that vanish over many steps would become such.
 */
#define V NAME(V)
#define VL NAME(VL)
#define NR (TD_NV * VL)
enum { NAME(APART) = 16 };      /* between rows of the room: a stride of some KiB would fall into few sets of a cache */

/* w (k, n) at strides (row, col) in slivers of NR columns; returns what is behind them */
static T *NAME(pack_slivers)(const T *w, i64 row, i64 col, i64 k, i64 n, T *to) {
    for (i64 j = 0; j < n; j += NR, to += k * NR) NAME(pack_b)(w + j * col, row, col, k, (int)TD_MIN(NR, n - j), NR, to);
    return to;
}

/* how the steps go through a batch */
typedef struct { i64 B, L, H, W, column, most; const i64 *lengths; int reverse; } NAME(walk);

static inline i64 NAME(steps)(const NAME(walk) *w, i64 b) { return w->lengths ? w->lengths[b] : w->L; }
/* the row of step s of sample b, among B L */
static inline i64 NAME(row)(const NAME(walk) *w, i64 b, i64 s) {
    return b * w->L + (w->reverse ? NAME(steps)(w, b) - 1 - s : s);
}

/* Rows of step s of x, which the forward product asks for on its way, some lines a tile: they lie too far apart for the processor
   to see which come next. 32 steps of 128 units, 64 samples, took 12 percent less on a Zen 5; backward, asking for the gates,
   7 percent more. */
typedef struct { const NAME(walk) *w; i64 s, b; const char *x; i64 bytes, byte; } NAME(asked);

static inline void NAME(ask_for)(NAME(asked) *a, i64 lines) {
    for (; lines > 0 && a->b < a->w->B; lines--) {
        if (a->s >= 0 && a->s < NAME(steps)(a->w, a->b))
            __builtin_prefetch(a->x + NAME(row)(a->w, a->b, a->s) * a->bytes + a->byte, 1, 2);
        a->byte += 64;
        if (a->byte >= a->bytes) { a->byte = 0; a->b++; }
    }
}

/* c (m, n) := a (m, k) w + bias, or c + a w where `add`, w being packed */
static void NAME(sliver_product)(i64 m, i64 k, i64 n, const T *a, i64 a_row, const T *w, const T *bias, int add, T *c, i64 c_row,
                                 NAME(asked) *ask) {
    const i64 passes = k > TD_ONE_PASS ? (k + TD_KC - 1) / TD_KC : 1, step = (k + passes - 1) / passes;
    const i64 tiles = (m + TD_MR - 1) / TD_MR, low = tiles ? m / tiles : 0, high = tiles ? m % tiles : 0;
    const i64 lines = ask && m ? m * (ask->bytes / 64 + 1) / (passes * tiles * ((n + NR - 1) / NR)) + 1 : 0;
    for (i64 j = 0; j < n; j += NR, w += k * NR) {
        const int nr = (int)TD_MIN(NR, n - j), nv = nr > VL ? 2 : 1, last = nr - (nv - 1) * VL;
        for (i64 p = 0; p < k; p += step) {
            const NAME(edge) e = {p || add ? NAME(FROM_C) : bias ? NAME(FROM_BIAS) : NAME(FROM_ZERO), NAME(STORE), bias, 0, 0, 0};
            for (i64 q = 0, i = 0; q < tiles; q++) {
                const int mr = (int)(low + (q < high));
                if (ask) NAME(ask_for)(ask, lines);
                NAME(by_row)[mr - 1][nv - 1](TD_MIN(step, k - p), a + i * a_row + p, a_row, w + p * NR, NR, c + i * c_row + j,
                                             c_row, last, &e, j);
                i += mr;
            }
        }
    }
}

static i64 NAME(most_steps)(const NAME(walk) *w) {
    i64 most = 0;
    for (i64 b = 0; b < w->B; b++) most = NAME(steps)(w, b) > most ? NAME(steps)(w, b) : most;
    return most;
}

/* what is written beyond a sample's steps: rows of `items`, of which n from x on */
static void NAME(clear_beyond)(const NAME(walk) *w, T *x, i64 items, i64 n) {
    for (i64 b = 0; x && w->lengths && b < w->B; b++)
        for (i64 t = w->lengths[b]; t < w->L; t++) memset(x + (b * w->L + t) * items, 0, (size_t)n * sizeof(T));
}

static void NAME(begin_state)(const T *from, T *to, i64 to_row, i64 B, i64 H) {
    for (i64 b = 0; b < B; b++) {
        if (from) memcpy(to + b * to_row, from + b * H, (size_t)H * sizeof(T));
        else memset(to + b * to_row, 0, (size_t)H * sizeof(T));
    }
}

/* z := w_hh h + b_hh of all samples; h is known to be 0 in the first step, where nothing says how it begins */
static void NAME(from_state)(const NAME(walk) *w, i64 s, int begins, const T *h, i64 n, const T *panels, const T *bias, T *z, i64 z_row,
                             const T *x, i64 G) {
    if (s || begins) {
        NAME(asked) ask = {w, s, 0, (const char *)x, G * (i64)sizeof(T), 0};
        NAME(sliver_product)(w->B, w->H, n, h, w->H + NAME(APART), panels, bias, 0, z, z_row, x ? &ask : 0);
        return;
    }
    for (i64 b = 0; b < w->B; b++)
        TD_EACH(j, n) z[b * z_row + j] = bias ? bias[j] : 0;
}

/* h after a step of one sample */
static inline void NAME(put)(const NAME(walk) *w, i64 b, i64 s, i64 row, const T *h, T *out, T *last) {
    const size_t bytes = (size_t)w->H * sizeof(T);
    if (out) memcpy(out + row * w->W + w->column, h, bytes);
    if (last && s + 1 == NAME(steps)(w, b)) memcpy(last + b * w->W + w->column, h, bytes);
}
/* last and out of those without steps, and beyond them */
static void NAME(put_rest)(const NAME(walk) *w, const T *h, T *out, T *last, T *gates, i64 G, T *before) {
    NAME(clear_beyond)(w, out ? out + w->column : 0, w->W, w->H);
    NAME(clear_beyond)(w, gates, G, G);
    NAME(clear_beyond)(w, before, w->H, w->H);
    for (i64 b = 0; last && b < w->B; b++)
        if (!NAME(steps)(w, b)) memcpy(last + b * w->W + w->column, h + b * (w->H + NAME(APART)), (size_t)w->H * sizeof(T));
}

/* the gradient of h after step s: what came back from the step behind it (dh), or of the last one dlast; and its own, dy */
static inline void NAME(gather_dh)(const NAME(walk) *w, i64 b, i64 s, i64 row, const T *dy, const T *dlast, T *dh) {
    if (s + 1 == NAME(steps)(w, b)) NAME(begin_state)(dlast ? dlast + b * w->W + w->column : 0, dh, w->H, 1, w->H);
    if (!dy) return;
    const T *own = dy + row * w->W + w->column;
    TD_EACH(j, w->H) dh[j] += own[j];
}
static void NAME(put_dh0)(const NAME(walk) *w, const T *dh, const T *dlast, T *dh0) {
    for (i64 b = 0; dh0 && b < w->B; b++) {
        if (NAME(steps)(w, b)) memcpy(dh0 + b * w->H, dh + b * (w->H + NAME(APART)), (size_t)w->H * sizeof(T));
        else NAME(begin_state)(dlast ? dlast + b * w->W + w->column : 0, dh0 + b * w->H, w->H, 1, w->H);
    }
}
#define WALK {o->B, o->L, o->H, o->W, o->column, 0, o->lengths, (int)o->reverse}
#undef V
#undef VL
#undef NR

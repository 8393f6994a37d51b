/* recurrent.h: LSTM, GRU and RNN, step by step: B samples, L steps, H units, G gates a step.
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

static inline void NAME(lstm_cell)(i64 H, const T *x, const T *z, T *g, T *c, T *tanhs, T *h) {
    TD_EACH(j, 2 * H) g[j] = NAME(vm_sigmoid)(x[j] + z[j]);
    TD_EACH(j, H) g[2 * H + j] = NAME(vm_tanh)(x[2 * H + j] + z[2 * H + j]);
    TD_EACH(j, H) g[3 * H + j] = NAME(vm_sigmoid)(x[3 * H + j] + z[3 * H + j]);
    TD_EACH(j, H) {
        c[j] = FMA(g[H + j], c[j], g[j] * g[2 * H + j]);
        tanhs[j] = NAME(vm_tanh)(c[j]);
    }
    TD_EACH(j, H) h[j] = g[3 * H + j] * tanhs[j];
}

KERNEL(lstm) {
    NAME(walk) w = WALK;
    const i64 B = o->B, H = o->H, G = o->G, h_row = H + NAME(APART), z_row = G + NAME(APART);
    const size_t bytes = (size_t)H * sizeof(T);
    if (NAME(check_lengths)(o->lengths, B, o->L, ctx)) return TD_BAD_VALUE;
    w.most = NAME(most_steps)(&w);
    const td_mode mode = td_flush();
    T *panels = o->room, *h = NAME(pack_slivers)(o->w_hh, 1, H, H, G, panels), *z = h + B * h_row, *c = z + B * z_row,
      *spare = c + B * H;
    NAME(begin_state)(o->h0, h, h_row, B, H);
    NAME(begin_state)(o->c0, c, H, B, H);
    for (i64 s = 0; s < w.most; s++) {
        NAME(from_state)(&w, s, o->h0 != 0, h, G, panels, o->b_hh, z, z_row, o->x, G);
        for (i64 b = 0; b < B; b++) {
            if (s >= NAME(steps)(&w, b)) continue;
            const i64 row = NAME(row)(&w, b, s);
            T *hb = h + b * h_row, *tanhs = o->tanhs ? o->tanhs + row * H : spare;
            if (o->before) memcpy(o->before + row * H, hb, bytes);
            NAME(lstm_cell)(H, o->x + row * G, z + b * z_row, o->gates + row * G, c + b * H, tanhs, hb);
            if (o->cells) memcpy(o->cells + row * H, c + b * H, bytes);
            NAME(put)(&w, b, s, row, hb, o->out, o->last);
        }
    }
    NAME(put_rest)(&w, h, o->out, o->last, o->gates, G, o->before);
    NAME(clear_beyond)(&w, o->cells, H, H);
    NAME(clear_beyond)(&w, o->tanhs, H, H);
    td_unflush(mode);
    return TD_OK;
}

/* d: the gradients of the gates before their functions, also into dz; dc: those of c, after the step and then before it */
static inline void NAME(lstm_slopes)(i64 H, const T *g, const T *before, const T *tanhs, const T *dh, T *dc, T *d, T *dz) {
    const T *gi = g, *gf = g + H, *gg = g + 2 * H, *go = g + 3 * H;
    TD_EACH(j, H) {
        const T i = gi[j], f = gf[j], n = gg[j], s = go[j], t = tanhs[j], e = dh[j];
        const T by_c = FMA(e * s, FMA(-t, t, (T)1), dc[j]);
        const T by_i = by_c * n * (i * (1 - i)), by_f = before ? by_c * before[j] * (f * (1 - f)) : 0;
        const T by_g = by_c * i * FMA(-n, n, (T)1), by_o = e * t * (s * (1 - s));
        dc[j] = by_c * f;
        d[j] = dz[j] = by_i;
        d[H + j] = dz[H + j] = by_f;
        d[2 * H + j] = dz[2 * H + j] = by_g;
        d[3 * H + j] = dz[3 * H + j] = by_o;
    }
}

KERNEL(lstm_backward) {
    NAME(walk) w = WALK;
    const i64 B = o->B, H = o->H, G = o->G, h_row = H + NAME(APART), z_row = G + NAME(APART);
    if (NAME(check_lengths)(o->lengths, B, o->L, ctx)) return TD_BAD_VALUE;
    const td_mode mode = td_flush();
    T *panels = o->room, *dh = NAME(pack_slivers)(o->w_hh, H, 1, G, H, panels), *dz = dh + B * h_row, *dc = dz + B * z_row;
    memset(dh, 0, (size_t)(B * (h_row + z_row + H)) * sizeof(T));
    for (i64 s = NAME(most_steps)(&w) - 1; s >= 0; s--) {
        for (i64 b = 0; b < B; b++) {
            if (s >= NAME(steps)(&w, b)) continue;
            const i64 row = NAME(row)(&w, b, s);
            const T *c = s ? o->cells + NAME(row)(&w, b, s - 1) * H : o->c0 ? o->c0 + b * H : 0;
            NAME(gather_dh)(&w, b, s, row, o->dy, o->dlast, dh + b * h_row);
            NAME(lstm_slopes)(H, o->gates + row * G, c, o->tanhs + row * H, dh + b * h_row, dc + b * H, o->dgates + row * G,
                              dz + b * z_row);
        }
        if (s || o->dh0) NAME(sliver_product)(B, G, H, dz, z_row, panels, 0, 0, dh, h_row, 0);
    }
    NAME(put_dh0)(&w, dh, o->dlast, o->dh0);
    if (o->dc0) memcpy(o->dc0, dc, (size_t)(B * H) * sizeof(T));
    NAME(clear_beyond)(&w, o->dgates, G, G);
    td_unflush(mode);
    return TD_OK;
}

KERNEL(gru) {
    NAME(walk) w = WALK;
    const i64 B = o->B, H = o->H, G = o->G, h_row = H + NAME(APART), z_row = G + NAME(APART);
    const size_t bytes = (size_t)H * sizeof(T);
    if (NAME(check_lengths)(o->lengths, B, o->L, ctx)) return TD_BAD_VALUE;
    w.most = NAME(most_steps)(&w);
    const td_mode mode = td_flush();
    /* reset_before: the products of r and z, and then that of n */
    const i64 first = o->reset_before ? 2 * H : G;
    T *panels = o->room, *of_n = NAME(pack_slivers)(o->w_hh, 1, H, H, first, panels);
    T *h = NAME(pack_slivers)(o->w_hh + first * H, 1, H, H, G - first, of_n), *z = h + B * h_row, *kept = z + B * z_row;
    NAME(begin_state)(o->h0, h, h_row, B, H);
    NAME(begin_state)(0, kept, h_row, B, H);
    for (i64 s = 0; s < w.most; s++) {
        NAME(from_state)(&w, s, o->h0 != 0, h, first, panels, o->b_hh, z, z_row, o->x, G);
        for (i64 b = 0; b < B; b++) {
            if (s >= NAME(steps)(&w, b)) continue;
            const i64 row = NAME(row)(&w, b, s);
            const T *x = o->x + row * G, *zb = z + b * z_row;
            T *g = o->gates + row * G, *hb = h + b * h_row, *rh = kept + b * h_row;
            if (o->before) memcpy(o->before + row * H, hb, bytes);
            TD_EACH(j, 2 * H) g[j] = NAME(vm_sigmoid)(x[j] + zb[j]);
            if (o->reset_before) TD_EACH(j, H) rh[j] = g[j] * hb[j];
            if (o->hidden) memcpy(o->hidden + row * H, o->reset_before ? rh : zb + 2 * H, bytes);
        }
        if (o->reset_before)
            NAME(from_state)(&w, s, o->h0 != 0, kept, H, of_n, o->b_hh ? o->b_hh + 2 * H : 0, z + 2 * H, z_row, 0, 0);
        for (i64 b = 0; b < B; b++) {
            if (s >= NAME(steps)(&w, b)) continue;
            const i64 row = NAME(row)(&w, b, s);
            const T *x = o->x + row * G + 2 * H, *a = z + b * z_row + 2 * H;
            T *g = o->gates + row * G, *hb = h + b * h_row;
            if (o->reset_before) TD_EACH(j, H) g[2 * H + j] = NAME(vm_tanh)(x[j] + a[j]);
            else TD_EACH(j, H) g[2 * H + j] = NAME(vm_tanh)(FMA(g[j], a[j], x[j]));
            TD_EACH(j, H) hb[j] = FMA(g[H + j], hb[j] - g[2 * H + j], g[2 * H + j]);
            NAME(put)(&w, b, s, row, hb, o->out, o->last);
        }
    }
    NAME(put_rest)(&w, h, o->out, o->last, o->gates, G, o->before);
    NAME(clear_beyond)(&w, o->hidden, H, H);
    td_unflush(mode);
    return TD_OK;
}

KERNEL(gru_backward) {
    NAME(walk) w = WALK;
    const i64 B = o->B, H = o->H, G = o->G, h_row = H + NAME(APART), z_row = G + NAME(APART);
    if (NAME(check_lengths)(o->lengths, B, o->L, ctx)) return TD_BAD_VALUE;
    const td_mode mode = td_flush();
    const i64 first = o->reset_before ? 2 * H : G;
    T *panels = o->room, *of_n = NAME(pack_slivers)(o->w_hh, H, 1, first, H, panels);
    T *dh = NAME(pack_slivers)(o->w_hh + first * H, H, 1, G - first, H, of_n), *dz = dh + B * h_row, *by_rh = dz + B * z_row;
    if (!o->reset_before) dh = of_n, dz = dh + B * h_row, by_rh = dz + B * z_row;
    memset(dh, 0, (size_t)(B * (2 * h_row + z_row)) * sizeof(T));
    for (i64 s = NAME(most_steps)(&w) - 1; s >= 0; s--) {
        for (i64 b = 0; b < B; b++) {
            if (s >= NAME(steps)(&w, b)) continue;
            const i64 row = NAME(row)(&w, b, s);
            const T *g = o->gates + row * G, *u = g + H, *n = g + 2 * H, *h = o->before + row * H, *a = o->hidden + row * H;
            T *e = dh + b * h_row, *d = o->dgates + row * G, *db = dz + b * z_row;
            NAME(gather_dh)(&w, b, s, row, o->dy, o->dlast, e);
            if (o->reset_before) {
                TD_EACH(j, H) {
                    const T z = u[j], v = n[j], by_n = e[j] * (1 - z) * FMA(-v, v, (T)1);
                    const T by_z = e[j] * (h[j] - v) * (z * (1 - z));
                    e[j] *= z;
                    d[2 * H + j] = db[2 * H + j] = by_n;
                    d[H + j] = db[H + j] = by_z;
                }
                continue;
            }
            T *own = o->dhidden ? o->dhidden + row * H : db + 2 * H;
            TD_EACH(j, H) {
                const T r = g[j], z = u[j], v = n[j], by_n = e[j] * (1 - z) * FMA(-v, v, (T)1);
                const T by_z = e[j] * (h[j] - v) * (z * (1 - z)), by_r = by_n * a[j] * (r * (1 - r));
                e[j] *= z;
                own[j] = db[2 * H + j] = by_n * r;
                d[2 * H + j] = by_n;
                d[H + j] = db[H + j] = by_z;
                d[j] = db[j] = by_r;
            }
        }
        if (o->reset_before) {
            NAME(sliver_product)(B, H, H, dz + 2 * H, z_row, of_n, 0, 0, by_rh, h_row, 0);
            for (i64 b = 0; b < B; b++) {
                if (s >= NAME(steps)(&w, b)) continue;
                const i64 row = NAME(row)(&w, b, s);
                const T *h = o->before + row * H, *by = by_rh + b * h_row, *g = o->gates + row * G;
                T *e = dh + b * h_row, *d = o->dgates + row * G, *db = dz + b * z_row;
                TD_EACH(j, H) {
                    const T r = g[j];
                    e[j] = FMA(by[j], r, e[j]);
                    d[j] = db[j] = by[j] * h[j] * (r * (1 - r));
                }
            }
        }
        if (s || o->dh0) NAME(sliver_product)(B, first, H, dz, z_row, panels, 0, 1, dh, h_row, 0);
    }
    NAME(put_dh0)(&w, dh, o->dlast, o->dh0);
    NAME(clear_beyond)(&w, o->dgates, G, G);
    NAME(clear_beyond)(&w, o->dhidden, H, H);
    td_unflush(mode);
    return TD_OK;
}

KERNEL(rnn) {
    NAME(walk) w = WALK;
    const i64 B = o->B, H = o->H, h_row = H + NAME(APART);
    if (NAME(check_lengths)(o->lengths, B, o->L, ctx)) return TD_BAD_VALUE;
    w.most = NAME(most_steps)(&w);
    const td_mode mode = td_flush();
    T *panels = o->room, *h = NAME(pack_slivers)(o->w_hh, 1, H, H, H, panels), *z = h + B * h_row;
    NAME(begin_state)(o->h0, h, h_row, B, H);
    for (i64 s = 0; s < w.most; s++) {
        NAME(from_state)(&w, s, o->h0 != 0, h, H, panels, o->b_hh, z, h_row, o->x, H);
        for (i64 b = 0; b < B; b++) {
            if (s >= NAME(steps)(&w, b)) continue;
            const i64 row = NAME(row)(&w, b, s);
            const T *x = o->x + row * H, *zb = z + b * h_row;
            T *hb = h + b * h_row, *g = o->gates + row * H;
            if (o->before) memcpy(o->before + row * H, hb, (size_t)H * sizeof(T));
            TD_EACH(j, H) g[j] = x[j] + zb[j];
            NAME(activation)((int)o->kind, 0, g, g, H);
            memcpy(hb, g, (size_t)H * sizeof(T));
            NAME(put)(&w, b, s, row, hb, o->out, o->last);
        }
    }
    NAME(put_rest)(&w, h, o->out, o->last, o->gates, H, o->before);
    td_unflush(mode);
    return TD_OK;
}

KERNEL(rnn_backward) {
    NAME(walk) w = WALK;
    const i64 B = o->B, H = o->H, h_row = H + NAME(APART);
    if (NAME(check_lengths)(o->lengths, B, o->L, ctx)) return TD_BAD_VALUE;
    const td_mode mode = td_flush();
    T *panels = o->room, *dh = NAME(pack_slivers)(o->w_hh, H, 1, H, H, panels), *dz = dh + B * h_row;
    memset(dh, 0, (size_t)(2 * B * h_row) * sizeof(T));
    for (i64 s = NAME(most_steps)(&w) - 1; s >= 0; s--) {
        for (i64 b = 0; b < B; b++) {
            if (s >= NAME(steps)(&w, b)) continue;
            const i64 row = NAME(row)(&w, b, s);
            NAME(gather_dh)(&w, b, s, row, o->dy, o->dlast, dh + b * h_row);
            NAME(activation_backward)((int)o->kind, 0, dh + b * h_row, o->gates + row * H, o->dgates + row * H, H);
            memcpy(dz + b * h_row, o->dgates + row * H, (size_t)H * sizeof(T));
        }
        if (s || o->dh0) NAME(sliver_product)(B, H, H, dz, h_row, panels, 0, 0, dh, h_row, 0);
    }
    NAME(put_dh0)(&w, dh, o->dlast, o->dh0);
    NAME(clear_beyond)(&w, o->dgates, H, H);
    td_unflush(mode);
    return TD_OK;
}
#undef WALK
#undef V
#undef VL
#undef NR

/* lstm.h: the steps of an LSTM (recurrent.h says how they go), gates in the order i f g o. */

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

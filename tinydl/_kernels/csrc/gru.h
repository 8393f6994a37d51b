/* gru.h: the steps of a GRU (recurrent.h says how they go), gates in the order r z n. */

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

/* rnn.h: the steps of a plain recurrent layer (recurrent.h says how they go). */

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
            NAME(activation)((int)o->kind, 0, 0, g, g, H);
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
            NAME(activation_backward)((int)o->kind, 0, 0, dh + b * h_row, o->gates + row * H, o->dgates + row * H, H);
            memcpy(dz + b * h_row, o->dgates + row * H, (size_t)H * sizeof(T));
        }
        if (s || o->dh0) NAME(sliver_product)(B, H, H, dz, h_row, panels, 0, 0, dh, h_row, 0);
    }
    NAME(put_dh0)(&w, dh, o->dlast, o->dh0);
    NAME(clear_beyond)(&w, o->dgates, H, H);
    td_unflush(mode);
    return TD_OK;
}

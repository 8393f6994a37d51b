/* upsample.h: images of another size, channels last, by the nearest pixel or between the two nearest along each axis. */
#ifndef TD_UPSAMPLE
#define TD_UPSAMPLE
/* output place i of m, along an axis of n: between lo and hi, of which hi has the share `more` */
typedef struct { i64 lo, hi; double more; } td_between;
static inline td_between td_place(i64 i, i64 n, i64 m, int bilinear, int align) {
    if (!bilinear) return (td_between){i * n / m, i * n / m, 0};
    const double at = !align ? ((double)i + 0.5) * (double)n / (double)m - 0.5
                    : m > 1 ? (double)i * (double)(n - 1) / (double)(m - 1) : 0;
    const i64 lo = at > 0 ? (i64)at : 0;
    return (td_between){lo, lo + 1 < n ? lo + 1 : n - 1, at > 0 ? at - (double)lo : 0};
}
#endif

KERNEL(upsample2d) {
    const i64 C = o->C;
    (void)ctx;
    for (i64 b = 0; b < o->B; b++)
        for (i64 h = 0; h < o->Ho; h++)
            for (i64 w = 0; w < o->Wo; w++) {
                const td_between y = td_place(h, o->H, o->Ho, (int)o->bilinear, (int)o->align);
                const td_between z = td_place(w, o->W, o->Wo, (int)o->bilinear, (int)o->align);
                const T *top = o->x + (b * o->H + y.lo) * o->W * C, *low = o->x + (b * o->H + y.hi) * o->W * C;
                T *restrict out = o->out + ((b * o->Ho + h) * o->Wo + w) * C;
                if (!o->bilinear) { memcpy(out, top + z.lo * C, (size_t)C * sizeof(T)); continue; }
                const T down = (T)y.more, right = (T)z.more, up = 1 - down, left = 1 - right;
                const T *x00 = top + z.lo * C, *x01 = top + z.hi * C, *x10 = low + z.lo * C, *x11 = low + z.hi * C;
                for (i64 c = 0; c < C; c++)
                    out[c] = FMA(down, FMA(right, x11[c], left * x10[c]), up * FMA(right, x01[c], left * x00[c]));
            }
    return TD_OK;
}

KERNEL(upsample2d_backward) {
    const i64 C = o->C;
    (void)ctx;
    memset(o->out, 0, (size_t)(o->B * o->H * o->W * C) * sizeof(T));
    for (i64 b = 0; b < o->B; b++)
        for (i64 h = 0; h < o->Ho; h++)
            for (i64 w = 0; w < o->Wo; w++) {
                const td_between y = td_place(h, o->H, o->Ho, (int)o->bilinear, (int)o->align);
                const td_between z = td_place(w, o->W, o->Wo, (int)o->bilinear, (int)o->align);
                const T *dy = o->dy + ((b * o->Ho + h) * o->Wo + w) * C;
                for (int i = 0; i < 2; i++)
                    for (int j = 0; j < 2; j++) {
                        const T share = (T)((i ? y.more : 1 - y.more) * (j ? z.more : 1 - z.more));
                        T *dx = o->out + ((b * o->H + (i ? y.hi : y.lo)) * o->W + (j ? z.hi : z.lo)) * C;
                        if (share != 0) TD_EACH(c, C) dx[c] = FMA(share, dy[c], dx[c]);
                    }
            }
    return TD_OK;
}

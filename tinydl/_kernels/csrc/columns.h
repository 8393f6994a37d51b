/* columns.h: rows times a number for each column; PReLU, whose slope below 0 is a number for each column. */

KERNEL(scale_columns) {
    const i64 C = o->C;
    (void)ctx;
    for (i64 r = 0; r < o->R; r++) {
        const T *x = o->x + r * C;
        T *out = o->out + r * C;
        TD_EACH(c, C) out[c] = x[c] * o->scale[c];
    }
    return TD_OK;
}

KERNEL(prelu) {
    const i64 C = o->C;
    (void)ctx;
    for (i64 r = 0; r < o->R; r++) {
        const T *x = o->x + r * C;
        T *out = o->out + r * C;
        TD_EACH(c, C) out[c] = x[c] < 0 ? o->slope[c] * x[c] : x[c];
    }
    return TD_OK;
}

KERNEL(prelu_backward) {
    const i64 C = o->C;
    (void)ctx;
    for (i64 r = 0; r < o->R; r++) {
        const T *x = o->x + r * C, *dy = o->dy + r * C;
        T *out = o->out + r * C, *by_slope = o->by_slope + r * C;
        TD_EACH(c, C) {
            const T v = x[c], d = dy[c];
            out[c] = v > 0 ? d : o->slope[c] * d;
            by_slope[c] = v > 0 ? (T)0 : d * v;
        }
    }
    return TD_OK;
}

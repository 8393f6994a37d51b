/* rotary.h: pairs of columns turned by an angle that grows with the step (Su et al. 2021, "RoFormer"). */

KERNEL(rotary) {
    const i64 P = o->P, D = o->D;
    const T sign = o->back ? -1 : 1;
    (void)ctx;
    for (i64 r = 0; r < o->B * o->L; r++) {
        const T *x = o->x + r * P, *turns = o->turns + r % o->L * D;
        T *y = o->out + r * P;
        for (i64 at = 0; at < o->n; at += D)
            TD_EACH(i, D / 2) {
                const T c = turns[2 * i], s = turns[2 * i + 1] * sign, a = x[at + 2 * i], b = x[at + 2 * i + 1];
                y[at + 2 * i] = FMA(a, c, -(b * s));
                y[at + 2 * i + 1] = FMA(b, c, a * s);
            }
        if (y != x) memcpy(y + o->n, x + o->n, (size_t)(P - o->n) * sizeof(T));
    }
    return TD_OK;
}

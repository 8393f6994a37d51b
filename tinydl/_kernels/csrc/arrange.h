/* arrange.h: arrays of up to five axes from one order of elements to another: slices, transposes, concatenations. */

#define ARRANGE(E, ASSIGN) \
    for (i64 b = 0; b < o->B; b++) \
    for (i64 i = 0; i < o->n1; i++) \
    for (i64 j = 0; j < o->n2; j++) \
    for (i64 k = 0; k < o->n3; k++) { \
        const E *x = (const E *)o->x + b * o->xb + i * o->x1 + j * o->x2 + k * o->x3; \
        E *y = (E *)o->out + b * o->yb + i * o->y1 + j * o->y2 + k * o->y3; \
        if (o->x4 == 1 && o->y4 == 1) for (i64 l = 0; l < o->n4; l++) y[l] ASSIGN x[l]; \
        else for (i64 l = 0; l < o->n4; l++) y[l * o->y4] ASSIGN x[l * o->x4]; \
    }

/* y[j y_row + i] := x[i x_row + j], i < m, j < n: eight by eight, so that neither is walked across its lines */
static void NAME(transpose)(const uint32_t *x, i64 x_row, uint32_t *y, i64 y_row, i64 m, i64 n) {
    i64 j = 0;
    for (; j + 8 <= n; j += 8) {
        i64 i = 0;
        for (; i + 8 <= m; i += 8) td_transpose8((const float *)(x + i * x_row + j), x_row, (float *)(y + j * y_row + i), y_row, 8);
        for (; i < m; i++) for (i64 q = j; q < j + 8; q++) y[q * y_row + i] = x[i * x_row + q];
    }
    for (; j < n; j++) for (i64 i = 0; i < m; i++) y[j * y_row + i] = x[i * x_row + j];
}

/* Where the elements that lie side by side are those of one axis in x and of another one in out (NHWC to NCHW, say): as many
   transposes as the other axes have places. Whether it is such. */
static int NAME(arrange_transposed)(const NAME(arrange_args) *const o) {
    i64 n[4] = {o->n1, o->n2, o->n3, o->n4}, from[4] = {o->x1, o->x2, o->x3, o->x4}, to[4] = {o->y1, o->y2, o->y3, o->y4};
    int a = -1, c = -1;
    for (int i = 0; i < 4; i++) {
        if (n[i] >= 8 && from[i] == 1) a = i;
        if (n[i] >= 8 && to[i] == 1) c = i;
    }
    if (o->itemsize != 4 || o->accumulate || a < 0 || c < 0 || a == c) return 0;
    const i64 m = n[c], columns = n[a];
    n[a] = n[c] = 1;
    for (i64 b = 0; b < o->B; b++)
        for (i64 i = 0; i < n[0]; i++)
            for (i64 j = 0; j < n[1]; j++)
                for (i64 k = 0; k < n[2]; k++)
                    for (i64 l = 0; l < n[3]; l++)
                        NAME(transpose)((const uint32_t *)o->x + b * o->xb + i * from[0] + j * from[1] + k * from[2] + l * from[3],
                                        from[c], (uint32_t *)o->out + b * o->yb + i * to[0] + j * to[1] + k * to[2] + l * to[3],
                                        to[a], m, columns);
    return 1;
}

KERNEL(arrange) {
    (void)ctx;
    if (NAME(arrange_transposed)(o)) return TD_OK;
    if (o->accumulate) ARRANGE(T, +=)
    else if (o->itemsize == 4) ARRANGE(uint32_t, =)
    else ARRANGE(u64, =)
    return TD_OK;
}
#undef ARRANGE

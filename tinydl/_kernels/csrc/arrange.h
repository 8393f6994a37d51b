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
KERNEL(arrange) {
    (void)ctx;
    if (o->accumulate) ARRANGE(T, +=)
    else if (o->itemsize == 4) ARRANGE(uint32_t, =)
    else ARRANGE(u64, =)
    return TD_OK;
}
#undef ARRANGE

/* augment.h: random changes of a sample of pictures x (C, H, W), in place, while it is gathered. schema.py has the list.
 *
 * Draw number j of a change is hash(key, j), 32 bits, of a key that is made of (seed, epoch, row of the sample, place in
 * the list of changes): any thread that makes the sample, in whatever batch, makes the same.
 */
#ifndef TD_AUGMENT
#define TD_AUGMENT
static inline uint32_t td_draw(u64 key, uint32_t j) { return td_hash(j, (uint32_t)key, (uint32_t)(key >> 32)); }

/* 0..n-1, n < 2^31: each as likely, up to n / 2^32 */
static inline i64 td_draw_below(u64 key, uint32_t j, i64 n) { return (i64)((u64)td_draw(key, j) * (u64)n >> 32); }

/* 1 with probability p */
static inline int td_draw_chance(u64 key, uint32_t j, double p) { return (double)td_draw(key, j) < p * 4294967296.0; }

/* AUGMENT(name) { ... }: `p` has the numbers that schema.py names */
#define AUGMENT(name) static void NAME(augment_##name)(const td_##name *p, u64 key, T *x, i64 C, i64 H, i64 W)
#endif

/* to[i] := from[i + d], and beyond the ends the first or last of them (edge), or fill; `to` may be `from` */
static inline void NAME(shift_row)(const T *from, T *to, i64 W, i64 d, int edge, T fill) {
    const T low = edge ? from[0] : fill, high = edge ? from[W - 1] : fill;
    const i64 before = TD_MIN(W, d < 0 ? -d : 0), behind = TD_MIN(W, d > 0 ? d : 0), kept = W - before - behind;
    if (kept > 0) memmove(to + before, from + behind, (size_t)kept * sizeof(T));
    for (i64 i = 0; i < before; i++) to[i] = low;
    for (i64 i = W - behind; i < W; i++) to[i] = high;
}

/* x of a window that lies anywhere in x with `height` and `width` pixels around it. Rows are moved in the order in which none is
   overwritten before it is read. */
AUGMENT(crop) {
    const i64 height = (i64)p->height, width = (i64)p->width;
    const i64 down = td_draw_below(key, 0, 2 * height + 1) - height, right = td_draw_below(key, 1, 2 * width + 1) - width;
    const int edge = p->edge != 0;
    const T fill = (T)p->fill;
    if (!down && !right) return;
    for (i64 c = 0; c < C; c++, x += H * W)
        for (i64 i = 0; i < H; i++) {
            const i64 to = down < 0 ? H - 1 - i : i, from = to + down, clamped = from < 0 ? 0 : TD_MIN(from, H - 1);
            if (from == clamped || edge) NAME(shift_row)(x + clamped * W, x + to * W, W, right, edge, fill);
            else for (i64 j = 0; j < W; j++) x[to * W + j] = fill;
        }
}

static inline void NAME(reverse)(T *x, i64 n) {
    for (i64 i = 0, j = n - 1; i < j; i++, j--) { const T t = x[i]; x[i] = x[j]; x[j] = t; }
}

static inline void NAME(upside_down)(T *x, i64 H, i64 W) {
    for (i64 i = 0, k = H - 1; i < k; i++, k--)
        for (i64 j = 0; j < W; j++) { const T t = x[i * W + j]; x[i * W + j] = x[k * W + j]; x[k * W + j] = t; }
}

AUGMENT(horizontal_flip) {
    if (td_draw_chance(key, 0, p->p))
        for (i64 i = 0; i < C * H; i++) NAME(reverse)(x + i * W, W);
}

AUGMENT(vertical_flip) {
    if (td_draw_chance(key, 0, p->p))
        for (i64 c = 0; c < C; c++) NAME(upside_down)(x + c * H * W, H, W);
}

/* by 0, 90, 180 or 270 degrees to the left; H = W */
AUGMENT(rotate90) {
    const i64 turns = td_draw_below(key, 0, 4);
    (void)p;
    for (i64 c = 0; turns && c < C; c++, x += H * W) {
        if (turns == 2) { NAME(reverse)(x, H * W); continue; }
        for (i64 i = 0; i < H; i++)
            for (i64 j = i + 1; j < W; j++) { const T t = x[i * W + j]; x[i * W + j] = x[j * W + i]; x[j * W + i] = t; }
        if (turns == 1) NAME(upside_down)(x, H, W);
        else for (i64 i = 0; i < H; i++) NAME(reverse)(x + i * W, W);
    }
}

/* x += sigma z, z normal: two at a time by Box and Muller (1958), of draws 2 i and 2 i + 1 */
AUGMENT(gaussian_noise) {
    const i64 n = C * H * W, half = (n + 1) / 2;
    const T sigma = (T)p->sigma;
    for (i64 i = 0; i < half; i++) {
        const T u = ((T)td_draw(key, (uint32_t)(2 * i)) + 1) * (T)0x1p-32;
        const T turn = (T)td_draw(key, (uint32_t)(2 * i + 1)) * (T)0x1p-32 - (T)0.5, square = -2 * NAME(vm_log)(u);
        const T radius = sigma * (TD_SINGLE ? (T)__builtin_sqrtf((float)square) : (T)__builtin_sqrt((double)square));
        x[i] = FMA(radius, NAME(vm_cos_turn)(turn), x[i]);
        if (half + i < n) x[half + i] = FMA(radius, NAME(vm_sin_turn)(turn), x[half + i]);
    }
}

/* fill in a rectangle around a pixel, as much of it as lies in the picture */
AUGMENT(cutout) {
    if (!td_draw_chance(key, 2, p->p)) return;
    const i64 height = (i64)p->height, width = (i64)p->width;
    const i64 top = td_draw_below(key, 0, H) - height / 2, left = td_draw_below(key, 1, W) - width / 2;
    const T fill = (T)p->fill;
    for (i64 c = 0; c < C; c++)
        for (i64 i = TD_MAX(top, 0); i < TD_MIN(top + height, H); i++)
            for (i64 j = TD_MAX(left, 0); j < TD_MIN(left + width, W); j++) x[(c * H + i) * W + j] = fill;
}

static inline void NAME(augment)(const td_change *change, u64 key, T *x, i64 C, i64 H, i64 W) {
    switch (change->kind) {
#define CASE(name) case TD_CHANGE_##name: NAME(augment_##name)((const td_##name *)change->number, key, x, C, H, W); break;
    TD_CHANGES(CASE)
#undef CASE
    }
}

/* pool.h: the greatest or the mean of windows of an image, channels last: x (B, H, W, C), y (B, Ho, Wo, C).
 *
 * A window goes row by row. Of equals the first is the greatest; NaN is greater than anything, and of several the last one
 * counts, as in PyTorch. Gradients of pixels in several windows are added in the order of the windows. */

#define V NAME(V)
#define VL NAME(VL)
#ifndef TD_POOL
#define TD_POOL
enum { TD_WINDOW = 256, TD_POOLED = 64 };       /* pixels of a window; channels whose gradients are made at once */
/* a pixel of a window that is in the image: where in it, and its number in the window */
typedef struct { i64 offset; int number; } td_pixel;

static inline int td_window(i64 kh, i64 kw, i64 dh, i64 dw, i64 top, i64 left, i64 H, i64 W, i64 C, td_pixel *pixel) {
    int n = 0;
    for (i64 i = 0; i < kh; i++)
        for (i64 j = 0; j < kw; j++) {
            const i64 y = top + i * dh, z = left + j * dw;
            if (y >= 0 && y < H && z >= 0 && z < W) pixel[n++] = (td_pixel){(y * W + z) * C, (int)(i * kw + j)};
        }
    return n;
}
/* How many windows from this one on, `step` pixels apart, have the same pixels but for that: columns left, left + dw, ... */
static inline i64 td_alike(i64 kw, i64 dw, i64 left, i64 step, i64 W, i64 most) {
    const i64 beyond = W - 1 - (kw - 1) * dw - left;
    return left < 0 || beyond < 0 ? 1 : TD_MIN(beyond / step + 1, most);
}
#endif

/* Rows (or columns) begin..end-1 of an image of n that window i covers. Returns how many of them count: with `include` those of the
   padding, too, on both sides, but none beyond it. */
static inline i64 NAME(window)(i64 i, i64 n, i64 windows, i64 k, i64 step, i64 pad, int adaptive, int include, i64 *begin,
                               i64 *end) {
    const i64 first = i * step - pad;
    *begin = adaptive ? i * n / windows : first < 0 ? 0 : first;
    *end = adaptive ? ((i + 1) * n + windows - 1) / windows : TD_MIN(first + k, n);
    return include ? TD_MIN(first + k, n + pad) - first : *end - *begin;
}

KERNEL(max_pool2d) {
    const i64 C = o->C, below = o->sh * o->W * C;        /* the windows of the next row are asked for */
    (void)ctx;
    for (i64 b = 0; b < o->B; b++)
        for (i64 h = 0; h < o->Ho; h++)
            for (i64 w = 0, alike; w < o->Wo; w += alike) {
                td_pixel pixel[TD_WINDOW];
                const i64 left = w * o->sw - o->pw;
                const int n = td_window(o->kh, o->kw, o->dh, o->dw, h * o->sh - o->ph, left, o->H, o->W, C, pixel);
                alike = td_alike(o->kw, o->dw, left, o->sw, o->W, o->Wo - w);
                for (i64 k = 0; k < alike; k++) {
                    const T *x = o->x + (b * o->H * o->W + k * o->sw) * C;
                    const i64 to = ((b * o->Ho + h) * o->Wo + w + k) * C;
                    i64 c = 0;
                    for (; c + VL <= C; c += VL) {
                        V best = NAME(vload)(x + pixel[0].offset + c), at = NAME(vset1)((T)pixel[0].number);
                        for (int i = 0; i < n; i++) __builtin_prefetch(x + pixel[i].offset + c + below, 0, 3);
                        for (int i = 1; i < n; i++)
                            NAME(vgreater)(NAME(vload)(x + pixel[i].offset + c), (T)pixel[i].number, &best, &at);
                        NAME(vstore)(o->out + to + c, best);
                        if (o->place) NAME(vto_bytes)(o->place + to + c, at);
                    }
                    for (; c < C; c++) {
                        T best = x[pixel[0].offset + c];
                        int at = pixel[0].number;
                        for (int i = 1; i < n; i++) {
                            const T v = x[pixel[i].offset + c];
                            if (v > best || v != v) best = v, at = pixel[i].number;
                        }
                        o->out[to + c] = best;
                        if (o->place) o->place[to + c] = (uint8_t)at;
                    }
                }
            }
    return TD_OK;
}

/* dx (+=) dy where the greatest were, for the windows of n pixels of one place of y */
static inline __attribute__((always_inline)) void NAME(to_greatest)(const td_pixel *pixel, int n, const T *dy,
        const uint8_t *place, T *dx, i64 C, const int alone) {
    i64 c = 0;
    for (; c + VL <= C; c += VL) {
        const V at = NAME(vfrom_bytes)(place + c), d = NAME(vload)(dy + c);
        for (int i = 0; i < n; i++) {
            T *to = dx + pixel[i].offset + c;
            const V part = NAME(vwhere)(at, (T)pixel[i].number, d);
            NAME(vstore)(to, alone ? part : NAME(vplus)(NAME(vload)(to), part));
        }
    }
    for (; c < C; c++)
        for (int i = 0; i < n; i++) {
            T *to = dx + pixel[i].offset + c;
            const T part = place[c] == pixel[i].number ? dy[c] : 0;
            *to = alone ? part : *to + part;
        }
}

KERNEL(max_pool2d_backward) {
    const i64 C = o->C;
    const int alone = o->sh >= o->kh && o->sw >= o->kw && o->dh == 1 && o->dw == 1;     /* no pixel is in two windows */
    (void)ctx;
    /* pixels that are in several windows, or in none */
    if (!alone || o->sh > o->kh || o->sw > o->kw || o->ph || o->pw || o->Ho * o->sh != o->H || o->Wo * o->sw != o->W)
        memset(o->out, 0, (size_t)(o->B * o->H * o->W * C) * sizeof(T));
    for (i64 b = 0; b < o->B; b++)
        for (i64 h = 0; h < o->Ho; h++)
            for (i64 w = 0, alike; w < o->Wo; w += alike) {
                td_pixel pixel[TD_WINDOW];
                const i64 left = w * o->sw - o->pw;
                const int n = td_window(o->kh, o->kw, o->dh, o->dw, h * o->sh - o->ph, left, o->H, o->W, C, pixel);
                alike = td_alike(o->kw, o->dw, left, o->sw, o->W, o->Wo - w);
                for (i64 k = 0; k < alike; k++)
                    for (i64 c = 0; c < C; c += TD_POOLED) {
                        T slope[TD_POOLED];
                        const i64 from = ((b * o->Ho + h) * o->Wo + w + k) * C + c, some = TD_MIN(TD_POOLED, C - c);
                        const T *dy = o->dy + from;
                        T *dx = o->out + (b * o->H * o->W + k * o->sw) * C + c;
                        if (o->activation && o->saved) {
                            NAME(activation_backward)((int)o->activation, o->alpha, o->beta, dy, o->saved + from, slope, some);
                            dy = slope;
                        }
                        if (alone) NAME(to_greatest)(pixel, n, dy, o->place + from, dx, some, 1);
                        else NAME(to_greatest)(pixel, n, dy, o->place + from, dx, some, 0);
                    }
            }
    return TD_OK;
}

KERNEL(avg_pool2d) {
    const i64 C = o->C;
    (void)ctx;
    for (i64 b = 0; b < o->B; b++)
        for (i64 h = 0; h < o->Ho; h++)
            for (i64 w = 0; w < o->Wo; w++) {
                i64 y0, y1, z0, z1;
                const int adaptive = (int)o->adaptive, include = (int)o->include;
                const i64 rows = NAME(window)(h, o->H, o->Ho, o->kh, o->sh, o->ph, adaptive, include, &y0, &y1);
                const i64 columns = NAME(window)(w, o->W, o->Wo, o->kw, o->sw, o->pw, adaptive, include, &z0, &z1);
                const T count = (T)(o->divisor ? o->divisor : rows * columns);
                T *restrict out = o->out + ((b * o->Ho + h) * o->Wo + w) * C;
                for (i64 c = 0; c < C; c++) out[c] = 0;
                for (i64 y = y0; y < y1; y++)
                    for (i64 z = z0; z < z1; z++) {
                        const T *x = o->x + ((b * o->H + y) * o->W + z) * C;
                        for (i64 c = 0; c < C; c++) out[c] += x[c];
                    }
                for (i64 c = 0; c < C; c++) out[c] /= count;
            }
    return TD_OK;
}

KERNEL(avg_pool2d_backward) {
    const i64 C = o->C;
    (void)ctx;
    memset(o->out, 0, (size_t)(o->B * o->H * o->W * C) * sizeof(T));
    for (i64 b = 0; b < o->B; b++)
        for (i64 h = 0; h < o->Ho; h++)
            for (i64 w = 0; w < o->Wo; w++) {
                i64 y0, y1, z0, z1;
                const int adaptive = (int)o->adaptive, include = (int)o->include;
                const i64 rows = NAME(window)(h, o->H, o->Ho, o->kh, o->sh, o->ph, adaptive, include, &y0, &y1);
                const i64 columns = NAME(window)(w, o->W, o->Wo, o->kw, o->sw, o->pw, adaptive, include, &z0, &z1);
                const T count = (T)(o->divisor ? o->divisor : rows * columns);
                const T *dy = o->dy + ((b * o->Ho + h) * o->Wo + w) * C;
                for (i64 y = y0; y < y1; y++)
                    for (i64 z = z0; z < z1; z++) {
                        T *restrict dx = o->out + ((b * o->H + y) * o->W + z) * C;
                        for (i64 c = 0; c < C; c++) dx[c] += dy[c] / count;
                    }
            }
    return TD_OK;
}
#undef V
#undef VL

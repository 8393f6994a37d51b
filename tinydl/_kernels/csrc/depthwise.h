/* depthwise.h: convolutions of each channel by itself, channels last: x (B, H, W, C), kernel (taps, C), y (B, Ho, Wo, C).
 *
 * Channels fill the vectors. Element (pixel, channel) is a chain of multiply-adds over the taps in order that lie in the image,
 * begun with the bias; a gradient by the kernel is a sum over pixels, in td.h's tree. */
#define V NAME(V)
#define VL NAME(VL)

/* out := bias + sum over the taps of x, whose next row, `below` elements on, is asked for, for `pixels` (1 or 4) places of out, out_step apart, whose x are `step` apart */
static inline __attribute__((always_inline)) void NAME(some_places)(const T *x, const td_pixel *tap, int n, const T *w,
        const T *bias, T *out, i64 C, const int pixels, i64 step, i64 out_step, i64 below) {
    i64 c = 0;
    const T *const next = x + (n ? TD_MAX(tap[0].offset, tap[n - 1].offset) : 0) + below;
    for (; c + VL <= C; c += VL) {
        V sum[4];
        _Pragma("GCC unroll 4") for (int k = 0; k < pixels; k++) __builtin_prefetch(next + k * step + c, 0, 3);
        _Pragma("GCC unroll 4") for (int k = 0; k < pixels; k++) sum[k] = bias ? NAME(vload)(bias + c) : NAME(vset1)(0);
        for (int i = 0; i < n; i++) {
            const V by = NAME(vload)(w + tap[i].number * C + c);
            const T *from = x + tap[i].offset + c;
            _Pragma("GCC unroll 4") for (int k = 0; k < pixels; k++)
                sum[k] = NAME(vmuladd)(NAME(vload)(from + k * step), by, sum[k]);
        }
        _Pragma("GCC unroll 4") for (int k = 0; k < pixels; k++) NAME(vstore)(out + k * out_step + c, sum[k]);
    }
    for (; c < C; c++)
        for (int k = 0; k < pixels; k++) {
            T sum = bias ? bias[c] : 0;
            for (int i = 0; i < n; i++) sum = FMA(x[tap[i].offset + k * step + c], w[tap[i].number * C + c], sum);
            out[k * out_step + c] = sum;
        }
}
static void NAME(places)(const T *x, const td_pixel *tap, int n, const T *w, const T *bias, T *out, i64 C, i64 places, i64 step,
                         i64 out_step, i64 below) {
    i64 k = 0;
    for (; k + 4 <= places; k += 4) NAME(some_places)(x + k * step, tap, n, w, bias, out + k * out_step, C, 4, step, out_step, below);
    for (; k < places; k++) NAME(some_places)(x + k * step, tap, n, w, bias, out + k * out_step, C, 1, 0, 0, below);
}

KERNEL(depthwise2d) {
    const i64 C = o->C;
    for (i64 b = 0; b < o->B; b++) {
        if (ctx->stop && ctx->stop(ctx->owner)) return TD_OK;
        for (i64 h = 0; h < o->Ho; h++) {
            T *row = o->out + (b * o->Ho + h) * o->Wo * C;
            for (i64 w = 0, alike; w < o->Wo; w += alike) {
                td_pixel tap[TD_TAPS];
                const i64 left = w * o->sw - o->pw;
                const int n = td_window(o->kh, o->kw, o->dh, o->dw, h * o->sh - o->ph, left, o->H, o->W, C, tap);
                alike = td_alike(o->kw, o->dw, left, o->sw, o->W, o->Wo - w);
                NAME(places)(o->x + b * o->H * o->W * C, tap, n, o->weight, o->bias, row + w * C, C, alike, o->sw * C, C,
                             o->sh * o->W * C);
            }
            if (o->activation) NAME(activation)((int)o->activation, o->alpha, o->beta, row, row, o->Wo * C);
        }
    }
    return TD_OK;
}

KERNEL(depthwise_transpose2d) {
    const i64 C = o->C, sw = o->sw;
    for (i64 b = 0; b < o->B; b++) {
        if (ctx->stop && ctx->stop(ctx->owner)) return TD_OK;
        for (i64 h = 0; h < o->H; h++) {
            const i64 at = (b * o->H + h) * o->W * C;
            for (i64 first = 0; first < TD_MIN(sw, o->W); first++)      /* every sw-th column reads the same taps */
                for (i64 w = first, alike; w < o->W; w += alike * sw) {
                    td_pixel tap[TD_TAPS];
                    int n = 0, inside = 1;
                    alike = (o->W - 1 - w) / sw + 1;
                    for (i64 i = 0; i < o->kh; i++)
                        for (i64 j = 0; j < o->kw; j++) {
                            const i64 y = h + o->ph - i * o->dh, z = w + o->pw - j * o->dw;
                            const i64 r = td_floor(y, o->sh), s = td_floor(z, sw);
                            if (r * o->sh != y || s * sw != z) continue;
                            inside = inside && s >= 0 && s < o->Wo;
                            alike = TD_MIN(alike, o->Wo - s);
                            if (r >= 0 && r < o->Ho && s >= 0 && s < o->Wo)
                                tap[n++] = (td_pixel){(r * o->Wo + s) * C, (int)(i * o->kw + j)};
                        }
                    if (!inside) alike = 1;
                    NAME(places)(o->x + b * o->Ho * o->Wo * C, tap, n, o->weight, o->bias, o->out + at + w * C, C, alike, C,
                                 sw * C, o->Wo * C);
                }
            if (!o->activation) continue;
            if (o->saved)
                NAME(activation_backward)((int)o->activation, o->alpha, o->beta, o->out + at, o->saved + at, o->out + at,
                                          o->W * C);
            else NAME(activation)((int)o->activation, o->alpha, o->beta, o->out + at, o->out + at, o->W * C);
        }
    }
    return TD_OK;
}

/* dweight := sums over pixels p0..p1-1 of dy */
static int NAME(depthwise_sums)(const NAME(depthwise2d_by_weight_args) *const o, td_ctx *const ctx, i64 p0, i64 p1, T *dweight,
                                T *partial) {
    const i64 C = o->C, all = o->kh * o->kw * C;
    if (p1 - p0 > TD_CHAIN) {
        const i64 middle = p0 + td_left(p1 - p0);
        if (NAME(depthwise_sums)(o, ctx, p0, middle, dweight, partial)) return 1;
        if (NAME(depthwise_sums)(o, ctx, middle, p1, partial, partial + all)) return 1;
        TD_EACH(i, all) dweight[i] += partial[i];
        return 0;
    }
    if (ctx->stop && ctx->stop(ctx->owner)) return 1;
    memset(dweight, 0, (size_t)all * sizeof(T));
    for (i64 p = p0, end; p < p1; p = end) {
        const i64 b = p / (o->Ho * o->Wo), h = p / o->Wo % o->Ho, first = p % o->Wo;
        end = TD_MIN(p1, p - first + o->Wo);
        const i64 stop = first + end - p;
        const T *dy = o->dy + (p - first) * C;
        for (i64 i = 0; i < o->kh; i++)
            for (i64 j = 0; j < o->kw; j++) {
                const i64 y = h * o->sh - o->ph + i * o->dh, shift = j * o->dw - o->pw;
                if (y < 0 || y >= o->H) continue;
                /* columns of dy whose tap is in the image */
                const i64 least = -td_floor(shift, o->sw), beyond = td_floor(o->W - 1 - shift, o->sw) + 1;
                const i64 w0 = least > first ? least : first, w1 = TD_MIN(beyond, stop);
                const T *x = o->x + ((b * o->H + y) * o->W + shift) * C;
                T *sum = dweight + (i * o->kw + j) * C;
                i64 c = 0;
                for (; c + 4 * VL <= C; c += 4 * VL) {
                    V s[4];
                    _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) s[k] = NAME(vload)(sum + c + k * VL);
                    for (i64 w = w0; w < w1; w++) {
                        const T *xw = x + w * o->sw * C + c, *dyw = dy + w * C + c;
                        if (i == o->kh - 1 && j == 0)
                            _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) {
                                __builtin_prefetch(xw + k * VL + o->sh * o->W * C, 0, 3);
                                __builtin_prefetch(dyw + k * VL + o->Wo * C, 0, 3);
                            }
                        _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++)
                            s[k] = NAME(vmuladd)(NAME(vload)(xw + k * VL), NAME(vload)(dyw + k * VL), s[k]);
                    }
                    _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) NAME(vstore)(sum + c + k * VL, s[k]);
                }
                for (; c + VL <= C; c += VL) {
                    V s = NAME(vload)(sum + c);
                    for (i64 w = w0; w < w1; w++)
                        s = NAME(vmuladd)(NAME(vload)(x + w * o->sw * C + c), NAME(vload)(dy + w * C + c), s);
                    NAME(vstore)(sum + c, s);
                }
                for (; c < C; c++)
                    for (i64 w = w0; w < w1; w++) sum[c] = FMA(x[w * o->sw * C + c], dy[w * C + c], sum[c]);
            }
    }
    return 0;
}
KERNEL(depthwise2d_by_weight) {
    NAME(depthwise_sums)(o, ctx, 0, o->B * o->Ho * o->Wo, o->dweight, o->partial);
    return TD_OK;
}
#undef V
#undef VL

/* batch_norm.h: batch norm, whose statistics are those of each column, and an activation behind it. R rows, C columns.
 *
 * h = (x - m) s, y = h gamma + beta. Variances are biased, except the batch_var that running statistics are made of. A sum down a
 * column is in td.h's tree, the mean and the squares of the deviations from it in one pass: of two parts of R rows together they
 * follow from those of each (Chan, Golub and LeVeque 1983), so that rows are read from memory once, not twice. The right part
 * is gone through first: a cache has the end of what was written before, and then the beginning for the pass that comes next (on
 * a Zen 5 the backward pass of 65536 x 128 took 14 percent less time so).
 *
 * Where ReLU follows, its derivative needs the sign of y, which the backward pass makes again of x as the forward pass did: it
 * reads no y. */
#define V NAME(V)
#define VL NAME(VL)
#ifndef TD_BATCH_NORM
#define TD_BATCH_NORM
/* Elements of rows that are gone through at once, a few vectors of columns after the other. On a Zen 3, forward and backward of
   65536 x 16 took 1.2 times as long row by row; of 65536 x 128, which memory limits, 1.2 times as long with 512. */
enum { TD_NEAR = 128 };
static inline i64 td_near(i64 C) { return C < TD_NEAR ? TD_NEAR / C : 1; }
/* ... with nv = 4, 2 and 1 vectors of columns from c on, as long as so many are left of n; the last columns are the caller's */
#define TD_VECTORS(VL, c, n, ...) \
    for (; c + 4 * VL <= n; c += 4 * VL) { enum { nv = 4 }; __VA_ARGS__ } \
    for (; c + 2 * VL <= n; c += 2 * VL) { enum { nv = 2 }; __VA_ARGS__ } \
    for (; c + VL <= n; c += VL) { enum { nv = 1 }; __VA_ARGS__ }
#define TD_EACH_VECTOR(k) _Pragma("GCC unroll 4") for (int k = 0; k < nv; k++)
#endif

/* y of a vector of columns from c on; gamma, beta: or NULL */
static inline __attribute__((always_inline)) V NAME(affine_vector)(V x, V m, V s, const T *gamma, const T *beta, i64 c) {
    if (gamma && beta) return NAME(vmuladd)((x - m) * s, NAME(vload)(gamma + c), NAME(vload)(beta + c));
    if (gamma) return (x - m) * s * NAME(vload)(gamma + c);
    if (beta) return NAME(vmuladd)(x - m, s, NAME(vload)(beta + c));
    return (x - m) * s;
}
static inline T NAME(affine)(T x, T m, T s, const T *gamma, const T *beta, i64 c) {
    if (gamma && beta) return FMA((x - m) * s, gamma[c], beta[c]);
    if (gamma) return (x - m) * s * gamma[c];
    if (beta) return FMA(x - m, s, beta[c]);
    return (x - m) * s;
}

/* out := act(y) for n of C columns, which have numbers m[c], s[c]; out may be x */
static void NAME(affine_columns)(const T *x, const T *m, const T *s, const T *gamma, const T *beta, T *out, i64 R, i64 C, i64 n,
                                 int activation, double alpha) {
    const i64 near = td_near(n);
    for (i64 r0 = 0; r0 < R; r0 += near, x += near * C, out += near * C) {
        const i64 rows = TD_MIN(R - r0, near);
        i64 c = 0;
        TD_VECTORS(VL, c, n, for (i64 r = 0; r < rows; r++) TD_EACH_VECTOR(k) {
            const i64 at = c + k * VL;
            const V v = NAME(vload)(x + r * C + at);
            const V y = NAME(affine_vector)(v, NAME(vload)(m + at), NAME(vload)(s + at), gamma, beta, at);
            NAME(vstore)(out + r * C + at, activation == TD_RELU ? NAME(vrelu)(y) : y);
        })
        for (; c < n; c++)
            for (i64 r = 0; r < rows; r++) {
                const T y = NAME(affine)(x[r * C + c], m[c], s[c], gamma, beta, c);
                out[r * C + c] = activation == TD_RELU && y < 0 ? 0 : y;
            }
        if (activation && activation != TD_RELU)
            for (i64 r = 0, some = n == C ? rows : 1; r < rows; r += some)
                NAME(activation)(activation, alpha, 0, out + r * C, out + r * C, some * n);
    }
}

/* sum[c] := sum over R rows of max(y, 0), or without `relu` of y, for the n columns from x on: y is not written */
static void NAME(affine_sums)(const T *x, const T *m, const T *s, const T *gamma, const T *beta, int relu, T *restrict sum, i64 R,
                              i64 C, i64 n) {
    if (R > TD_CHAIN) {
        T more[TD_WIDE];
        const i64 left = td_left(R);
        NAME(affine_sums)(x, m, s, gamma, beta, relu, sum, left, C, n);
        NAME(affine_sums)(x + left * C, m, s, gamma, beta, relu, more, R - left, C, n);
        for (i64 c = 0; c < n; c++) sum[c] += more[c];
        return;
    }
    const i64 near = td_near(n);
    for (i64 c = 0; c < n; c++) sum[c] = 0;
    for (i64 r0 = 0; r0 < R; r0 += near, x += near * C) {
        const i64 rows = TD_MIN(R - r0, near);
        i64 c = 0;
        TD_VECTORS(VL, c, n, {
            V total[nv];
            TD_EACH_VECTOR(k) total[k] = NAME(vload)(sum + c + k * VL);
            for (i64 r = 0; r < rows; r++) TD_EACH_VECTOR(k) {
                const i64 at = c + k * VL;
                const V v = NAME(vload)(x + r * C + at);
                const V y = NAME(affine_vector)(v, NAME(vload)(m + at), NAME(vload)(s + at), gamma, beta, at);
                total[k] = NAME(vplus)(total[k], relu ? NAME(vrelu)(y) : y);
            }
            TD_EACH_VECTOR(k) NAME(vstore)(sum + c + k * VL, total[k]);
        })
        for (; c < n; c++)
            for (i64 r = 0; r < rows; r++) {
                const T y = NAME(affine)(x[r * C + c], m[c], s[c], gamma, beta, c);
                sum[c] += relu && y < 0 ? 0 : y;
            }
    }
}

/* pooled := scale times the sums of R / N rows each */
static void NAME(affine_pooled)(const T *x, const T *m, const T *s, const T *gamma, const T *beta, T *pooled, i64 N, i64 R, i64 C,
                                i64 n, int activation, T scale) {
    for (i64 i = 0; i < N; i++) {
        NAME(affine_sums)(x + i * (R / N) * C, m, s, gamma, beta, activation == TD_RELU, pooled + i * C, R / N, C, n);
        for (i64 c = 0; c < n && scale != 1; c++) pooled[i * C + c] *= scale;
    }
}

/* sum[c] := sum over at most TD_CHAIN rows of x, or with m of (x - m[c])^2, for n columns */
static inline __attribute__((always_inline)) void NAME(some_down)(const T *x, const T *m, T *restrict sum, i64 R, i64 C, i64 n) {
    const i64 near = td_near(n);
    for (i64 c = 0; c < n; c++) sum[c] = 0;
    for (i64 r0 = 0; r0 < R; r0 += near, x += near * C) {
        const i64 rows = TD_MIN(R - r0, near);
        i64 c = 0;
        TD_VECTORS(VL, c, n, {
            V total[nv], mean[nv];
            TD_EACH_VECTOR(k) total[k] = NAME(vload)(sum + c + k * VL), mean[k] = m ? NAME(vload)(m + c + k * VL) : total[k];
            for (i64 r = 0; r < rows; r++)
                TD_EACH_VECTOR(k) {
                    const V v = NAME(vload)(x + r * C + c + k * VL), d = v - mean[k];
                    total[k] = m ? NAME(vmuladd)(d, d, total[k]) : NAME(vplus)(total[k], v);
                }
            TD_EACH_VECTOR(k) NAME(vstore)(sum + c + k * VL, total[k]);
        })
        for (; c < n; c++)
            for (i64 r = 0; r < rows; r++) {
                const T v = x[r * C + c];
                sum[c] = m ? FMA(v - m[c], v - m[c], sum[c]) : sum[c] + v;
            }
    }
}

/* sum[c] := sum over the rows of (x - m[c])^2, for the n columns from x on */
static void NAME(squares_down)(const T *x, const T *m, T *restrict sum, i64 R, i64 C, i64 n) {
    if (R > TD_CHAIN) {
        T more[TD_WIDE];
        const i64 left = td_left(R);
        NAME(squares_down)(x + left * C, m, more, R - left, C, n);
        NAME(squares_down)(x, m, sum, left, C, n);
        for (i64 c = 0; c < n; c++) sum[c] += more[c];
        return;
    }
    NAME(some_down)(x, m, sum, R, C, n);
}

/* mean[c] := the mean of the rows, squares[c] := the sum of (x - mean[c])^2, for the n columns from x on */
static void NAME(moments_down)(const T *x, T *restrict mean, T *restrict squares, i64 R, i64 C, i64 n) {
    if (R > TD_CHAIN) {
        T mean_right[TD_WIDE], squares_right[TD_WIDE];
        const i64 left = td_left(R);
        const T share = (T)((double)(R - left) / (double)R), weight = (T)((double)left * (double)(R - left) / (double)R);
        NAME(moments_down)(x + left * C, mean_right, squares_right, R - left, C, n);
        NAME(moments_down)(x, mean, squares, left, C, n);
        for (i64 c = 0; c < n; c++) {
            const T d = mean_right[c] - mean[c];
            mean[c] = FMA(d, share, mean[c]);
            squares[c] += FMA(d * d, weight, squares_right[c]);
        }
        return;
    }
    NAME(some_down)(x, 0, mean, R, C, n);
    for (i64 c = 0; c < n; c++) mean[c] /= (T)R;
    NAME(some_down)(x, mean, squares, R, C, n);
}

KERNEL(batch_norm) {
    const i64 R = o->R, C = o->C;
    T *restrict mean = o->mean, *restrict rstd = o->rstd, *restrict batch_var = o->batch_var;
    if (R < 2) { ctx->detail = R; return TD_TOO_FEW; }
    for (i64 c = 0; c < C; c += TD_WIDE) NAME(moments_down)(o->x + c, mean + c, rstd + c, R, C, TD_MIN(TD_WIDE, C - c));
    if (o->batch_mean) memcpy(o->batch_mean, mean, (size_t)C * sizeof(T));
    if (batch_var)
        for (i64 c = 0; c < C; c++) batch_var[c] = rstd[c] / (T)(R - 1);
    for (i64 c = 0; c < C; c++) rstd[c] = NAME(rstd)(rstd[c] / (T)R, o->eps);
    if (o->out) NAME(affine_columns)(o->x, mean, rstd, o->gamma, o->beta, o->out, R, C, C, (int)o->activation, o->alpha);
    for (i64 c = 0; c < C && o->pooled; c += TD_WIDE)
        NAME(affine_pooled)(o->x + c, mean + c, rstd + c, o->gamma ? o->gamma + c : 0, o->beta ? o->beta + c : 0, o->pooled + c, o->N,
                            R, C, TD_MIN(TD_WIDE, C - c), (int)o->activation, (T)o->scale);
    return TD_OK;
}

KERNEL(batch_norm_inference) {
    const i64 C = o->C;
    const T *gamma, *beta, *mean = o->running_mean, *var = o->running_var;
    (void)ctx;
    for (i64 c = 0; c < C; c += TD_WIDE) {
        T rstd[TD_WIDE];
        const i64 n = TD_MIN(TD_WIDE, C - c);
        for (i64 i = 0; i < n; i++) rstd[i] = NAME(rstd)(var[c + i], o->eps);
        if (o->rstd) memcpy(o->rstd + c, rstd, (size_t)n * sizeof(T));
        gamma = o->gamma ? o->gamma + c : 0;
        beta = o->beta ? o->beta + c : 0;
        if (o->out) NAME(affine_columns)(o->x + c, mean + c, rstd, gamma, beta, o->out + c, o->R, C, n, (int)o->activation, o->alpha);
        if (o->pooled) NAME(affine_pooled)(o->x + c, mean + c, rstd, gamma, beta, o->pooled + c, o->N, o->R, C, n,
                                           (int)o->activation, (T)o->scale);
    }
    return TD_OK;
}

/* what a column is normalised with; with `relu`, dy counts where y > 0 */
typedef struct { const T *m, *s, *gamma, *beta; } NAME(normal);

/* the gradients of rows: of each its own, or one, times scale, of `each` rows together (a global pooling's, which is not written
   out for all pixels) */
typedef struct { const T *dy; i64 each; T scale; } NAME(slopes);
/* *dy := that of rows r.. of x, n of their C columns from c on, as many as are returned: *step apart. In `row`, where it is one. */
static inline i64 NAME(rows_alike)(const NAME(slopes) *g, i64 r, i64 rows, i64 c, i64 C, i64 n, T *row, const T **dy, i64 *step) {
    *step = g->each == 1 ? C : 0;
    *dy = g->each == 1 ? g->dy + r * C + c : row;
    if (g->each == 1) return rows;
    const T *one = g->dy + r / g->each * C + c;
    for (i64 i = 0; i < n; i++) row[i] = g->scale * one[i];
    return TD_MIN(rows, g->each - r % g->each);
}

/* sum[c] += sum over rows of dy, sum_h[c] += of dy h, for n columns */
static inline __attribute__((always_inline)) void NAME(some_sums_down)(const T *dy, const i64 step, const T *x,
        const NAME(normal) *by, const int relu, T *restrict sum, T *restrict sum_h, i64 R, i64 C, i64 n) {
    const T *m = by->m, *s = by->s;
    const i64 near = td_near(n);
    for (i64 r0 = 0; r0 < R; r0 += near, dy += near * step, x += near * C) {
        const i64 rows = TD_MIN(R - r0, near);
        i64 c = 0;
        TD_VECTORS(VL, c, n, {
            V total[nv], total_h[nv];
            TD_EACH_VECTOR(k) total[k] = NAME(vload)(sum + c + k * VL), total_h[k] = NAME(vload)(sum_h + c + k * VL);
            for (i64 r = 0; r < rows; r++)
                TD_EACH_VECTOR(k) {
                    const i64 at = c + k * VL;
                    const V v = NAME(vload)(x + r * C + at), mk = NAME(vload)(m + at), sk = NAME(vload)(s + at);
                    V d = NAME(vload)(dy + r * step + at);
                    if (relu) d = NAME(vgate)(NAME(affine_vector)(v, mk, sk, by->gamma, by->beta, at), d);
                    total[k] = NAME(vplus)(total[k], d);
                    total_h[k] = NAME(vmuladd)(d, (v - mk) * sk, total_h[k]);
                }
            TD_EACH_VECTOR(k) NAME(vstore)(sum + c + k * VL, total[k]), NAME(vstore)(sum_h + c + k * VL, total_h[k]);
        })
        for (; c < n; c++)
            for (i64 r = 0; r < rows; r++) {
                const T v = x[r * C + c];
                const T d = !relu || NAME(affine)(v, m[c], s[c], by->gamma, by->beta, c) > 0 ? dy[r * step + c] : 0;
                sum[c] += d;
                sum_h[c] = FMA(d, (v - m[c]) * s[c], sum_h[c]);
            }
    }
}

/* sum[c] := sum over rows r.. of dy, sum_h[c] := of dy h, for the n columns from c on */
static void NAME(sums_down)(const NAME(slopes) *g, const T *x, const NAME(normal) *by, int relu, T *restrict sum,
                            T *restrict sum_h, i64 r, i64 R, i64 c, i64 C, i64 n) {
    if (R > TD_CHAIN) {
        T more[TD_WIDE], more_h[TD_WIDE];
        const i64 left = td_left(R);
        NAME(sums_down)(g, x, by, relu, more, more_h, r + left, R - left, c, C, n);
        NAME(sums_down)(g, x, by, relu, sum, sum_h, r, left, c, C, n);
        for (i64 i = 0; i < n; i++) sum[i] += more[i], sum_h[i] += more_h[i];
        return;
    }
    for (i64 i = 0; i < n; i++) sum[i] = sum_h[i] = 0;
    for (i64 end = r + R, some, step; r < end; r += some) {
        T row[TD_WIDE];
        const T *dy;
        some = NAME(rows_alike)(g, r, end - r, c, C, n, row, &dy, &step);
        if (relu) NAME(some_sums_down)(dy, step, x + r * C + c, by, 1, sum, sum_h, some, C, n);
        else NAME(some_sums_down)(dy, step, x + r * C + c, by, 0, sum, sum_h, some, C, n);
    }
}

/* dx := gain (dy - mean - h mean_h) for n columns, where mean and mean_h are those of dy and of dy h */
static inline __attribute__((always_inline)) void NAME(slopes_down)(const T *dy, const i64 step, const T *x,
        const NAME(normal) *by, const int relu, const T *gain, const T *mean, const T *mean_h, T *dx, i64 R, i64 C, i64 n) {
    const T *m = by->m, *s = by->s;
    const i64 near = td_near(n);
    for (i64 r0 = 0; r0 < R; r0 += near, dy += near * step, x += near * C, dx += near * C) {
        const i64 rows = TD_MIN(R - r0, near);
        i64 c = 0;
        TD_VECTORS(VL, c, n, for (i64 r = 0; r < rows; r++) TD_EACH_VECTOR(k) {
            const i64 at = c + k * VL;
            const V v = NAME(vload)(x + r * C + at), mk = NAME(vload)(m + at), sk = NAME(vload)(s + at);
            V d = NAME(vload)(dy + r * step + at);
            if (relu) d = NAME(vgate)(NAME(affine_vector)(v, mk, sk, by->gamma, by->beta, at), d);
            d = NAME(vmuladd)(-((v - mk) * sk), NAME(vload)(mean_h + at), d - NAME(vload)(mean + at));
            NAME(vstore)(dx + r * C + at, NAME(vload)(gain + at) * d);
        })
        for (; c < n; c++)
            for (i64 r = 0; r < rows; r++) {
                const T v = x[r * C + c];
                const T d = !relu || NAME(affine)(v, m[c], s[c], by->gamma, by->beta, c) > 0 ? dy[r * step + c] : 0;
                dx[r * C + c] = gain[c] * FMA(-((v - m[c]) * s[c]), mean_h[c], d - mean[c]);
            }
    }
}

/* dx := gamma rstd (dy - mean(dy) - h mean(dy h)), with `constant` gamma rstd dy; dgamma, dbeta := sums of dy h, dy */
KERNEL(batch_norm_backward) {
    const i64 R = o->R, C = o->C;
    const int relu = o->activation == TD_RELU;
    const NAME(slopes) g = {o->dy, (R + o->N - 1) / o->N, (T)o->scale};
    (void)ctx;
    for (i64 c0 = 0; c0 < C; c0 += TD_WIDE) {
        const NAME(normal) by = {o->mean + c0, o->rstd + c0, o->gamma ? o->gamma + c0 : 0, o->beta ? o->beta + c0 : 0};
        T *restrict dgamma = o->dgamma ? o->dgamma + c0 : 0, *restrict dbeta = o->dbeta ? o->dbeta + c0 : 0;
        T sum[TD_WIDE], sum_h[TD_WIDE], gain[TD_WIDE];
        const i64 n = TD_MIN(TD_WIDE, C - c0);
        NAME(sums_down)(&g, o->x, &by, relu, sum, sum_h, 0, R, c0, C, n);
        if (dgamma) for (i64 c = 0; c < n; c++) dgamma[c] = o->more ? dgamma[c] + sum_h[c] : sum_h[c];
        if (dbeta) for (i64 c = 0; c < n; c++) dbeta[c] = o->more_beta ? dbeta[c] + sum[c] : sum[c];
        for (i64 c = 0; c < n; c++) {
            gain[c] = by.gamma ? by.s[c] * by.gamma[c] : by.s[c];
            sum[c] = o->constant ? 0 : sum[c] / (T)R;
            sum_h[c] = o->constant ? 0 : sum_h[c] / (T)R;
        }
        for (i64 r = 0, some, step; r < R; r += some) {
            T row[TD_WIDE], *dx = o->out + c0;
            const T *dy, *x = o->x + c0;
            some = NAME(rows_alike)(&g, r, R - r, c0, C, n, row, &dy, &step);
            if (relu) NAME(slopes_down)(dy, step, x + r * C, &by, 1, gain, sum, sum_h, dx + r * C, some, C, n);
            else NAME(slopes_down)(dy, step, x + r * C, &by, 0, gain, sum, sum_h, dx + r * C, some, C, n);
        }
    }
    return TD_OK;
}
#undef V
#undef VL

/* vector.h: loops and sums over flat vectors, and the fixed-lane sums that the other headers use.
 *
 * A sum of n <= TD_CHAIN numbers: blocks of TD_BLOCK, each on 64 bytes of lanes folded in a fixed tree, its last
 * few numbers and then the blocks in order. What is added to what depends on n alone: an instruction
 * set with narrower vectors holds the same lanes in more of them. A sum of more numbers is a fixed tree of such sums (td.h).
 * So, beside the roundings of the terms, |error| <= (min(n, TD_BLOCK) sizeof(T) / 64 + 24 + td_partials(n)) eps / 2 times
 * the sum of magnitudes. Sums down columns add up to TD_CHAIN rows in order, more in the same tree: td.h has their
 * bound. Sums in double need no tree: of n float32 the error is n 2^-57, less than a float32's own for any n below 2^32.
 */
#ifndef TD_LANES
#define TD_LANES ((i64)(64 / sizeof(T)))
/* WIDE: columns whose sums are made together; forward and backward of a batch norm of 65536 x 512 took 1.6 times as long with 128 */
enum { TD_BLOCK = 1024, TD_WIDE = 512, TD_ROWS = 8 };
#if defined(__clang__)      /* which ignores GCC's word, and looks first whether arrays overlap: those that are the same do */
#define TD_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define TD_IVDEP _Pragma("GCC ivdep")
#endif
#define TD_EACH(i, n) TD_IVDEP for (i64 i = 0; i < (n); i++)    /* arrays: the same or apart */
#define TD_MIN(a, b) ((a) < (b) ? (a) : (b))
#define TD_MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#define V NAME(V)
#define VL NAME(VL)

static inline T NAME(root)(T x) { return TD_SINGLE ? (T)__builtin_sqrtf((float)x) : (T)__builtin_sqrt((double)x); }

/* sum of E over i < n, where a = x[i] and b = y[i] are numbers or vectors of them; m, s: two constants of E */
#define SUM_OF(name, E) \
    static inline __attribute__((always_inline)) T NAME(short_##name)(const T *x, const T *y, T m, T s, i64 n) { \
        T total = 0; \
        (void)m; (void)s; \
        for (i64 end = TD_MIN(n, TD_BLOCK), i = 0; i < n; end = TD_MIN(n, end + TD_BLOCK)) { \
            T part = 0; \
            if (i + TD_LANES <= end) { \
                V sum[TD_LANES / VL] = {{0}}; \
                T t[TD_LANES]; \
                for (; i + TD_LANES <= end; i += TD_LANES) \
                    _Pragma("GCC unroll 8") for (int k = 0; k < TD_LANES / VL; k++) { \
                        const V a = NAME(vload)(x + i + k * VL), b = NAME(vload)(y + i + k * VL); \
                        (void)b; \
                        sum[k] += E; \
                    } \
                memcpy(t, sum, sizeof t); \
                for (i64 w = TD_LANES / 2; w > 0; w /= 2) \
                    for (i64 j = 0; j < w; j++) t[j] += t[j + w]; \
                part = t[0]; \
            } \
            for (; i < end; i++) { \
                const T a = x[i], b = y[i]; \
                (void)b; \
                part += E; \
            } \
            total += part; \
        } \
        return total; \
    } \
    static __attribute__((noinline)) T NAME(long_##name)(const T *x, const T *y, T m, T s, i64 n) { \
        if (n <= TD_CHAIN) return NAME(short_##name)(x, y, m, s, n); \
        const i64 left = td_left(n); \
        return NAME(long_##name)(x, y, m, s, left) + NAME(long_##name)(x + left, y + left, m, s, n - left); \
    } \
    static inline T NAME(name)(const T *x, const T *y, T m, T s, i64 n) { \
        return n <= TD_CHAIN ? NAME(short_##name)(x, y, m, s, n) : NAME(long_##name)(x, y, m, s, n); \
    }
SUM_OF(sum_plain, a)
SUM_OF(sum_products, a * b)
SUM_OF(sum_deviations, (a - m) * (a - m))       /* squared, from the mean m */
SUM_OF(sum_normalised, a * ((b - m) * s))       /* a times the normalised b */
#undef SUM_OF
static inline T NAME(sum)(const T *x, i64 n) { return NAME(sum_plain)(x, x, 0, 0, n); }

/* To fold the lanes of a sum takes longer than to add up a short row: TD_ROWS rows are folded together, in the same tree. COMBINE
   (a, b): of two lanes; t[r]: a row's lanes; out[r] := what they are together */
#if TD_SINGLE
#define FOLD_ROWS(name, COMBINE, BEGIN) \
    static inline void NAME(name)(T (*t)[TD_LANES], T *out) { \
        float turned[8][8]; \
        for (int r = 0; r < TD_ROWS; r++) for (int j = 0; j < 8; j++) t[r][j] = COMBINE(t[r][j], t[r][j + 8]); \
        td_transpose8(t[0], TD_LANES, turned[0], 8, 8); \
        for (int r = 0; r < TD_ROWS; r++) { \
            const T a = COMBINE(turned[0][r], turned[4][r]), b = COMBINE(turned[1][r], turned[5][r]); \
            const T c = COMBINE(turned[2][r], turned[6][r]), d = COMBINE(turned[3][r], turned[7][r]); \
            const T ac = COMBINE(a, c), bd = COMBINE(b, d), all = COMBINE(ac, bd); \
            out[r] = COMBINE(BEGIN, all); \
        } \
    }
#else
#define FOLD_ROWS(name, COMBINE, BEGIN) \
    static inline void NAME(name)(T (*t)[TD_LANES], T *out) { \
        for (int r = 0; r < TD_ROWS; r++) { \
            for (i64 w = TD_LANES / 2; w > 0; w /= 2) for (i64 j = 0; j < w; j++) t[r][j] = COMBINE(t[r][j], t[r][j + w]); \
            out[r] = COMBINE(BEGIN, t[r][0]); \
        } \
    }
#endif
#define PLUS(a, b) ((a) + (b))
#define LARGER(a, b) ((b) > (a) ? (b) : (a))
FOLD_ROWS(fold_sums, PLUS, 0)
FOLD_ROWS(fold_largest, LARGER, -(T)INFINITY)

/* sum[r] := NAME(sum) of n[r] <= TD_BLOCK numbers from x + r x_row on, or with y NAME(sum_products) of as many pairs; of `rows`, at
   most TD_ROWS, rows */
static void NAME(sums_of_rows)(const T *x, i64 x_row, const T *y, i64 y_row, const i64 *n, int rows, T *sum) {
    T t[TD_ROWS][TD_LANES];
    for (int r = 0; r < TD_ROWS; r++) {
        V lanes[TD_LANES / VL] = {{0}};
        for (i64 i = 0; r < rows && i + TD_LANES <= n[r]; i += TD_LANES)
            _Pragma("GCC unroll 8") for (int k = 0; k < TD_LANES / VL; k++) {
                V a = NAME(vload)(x + r * x_row + i + k * VL);
                if (y) a *= NAME(vload)(y + r * y_row + i + k * VL);
                lanes[k] += a;
            }
        memcpy(t[r], lanes, sizeof lanes);
    }
    NAME(fold_sums)(t, sum);
    for (int r = 0; r < rows; r++)
        for (i64 i = n[r] / TD_LANES * TD_LANES; i < n[r]; i++)
            sum[r] += y ? x[r * x_row + i] * y[r * y_row + i] : x[r * x_row + i];
}

/* most[r] := the largest of n[r] numbers from x + r row on, where NaN is passed over; -inf of none */
static void NAME(largest_of_rows)(const T *x, i64 row, const i64 *n, int rows, T *most) {
    T t[TD_ROWS][TD_LANES];
    for (int r = 0; r < TD_ROWS; r++) {
        V lanes[TD_LANES / VL];
        _Pragma("GCC unroll 8") for (int k = 0; k < TD_LANES / VL; k++) lanes[k] = NAME(vset1)(-(T)INFINITY);
        for (i64 i = 0; r < rows && i + TD_LANES <= n[r]; i += TD_LANES)
            _Pragma("GCC unroll 8") for (int k = 0; k < TD_LANES / VL; k++) {
                const V a = NAME(vload)(x + r * row + i + k * VL);
                const __typeof__(a > lanes[k]) more = a > lanes[k];
                lanes[k] = (V)(((__typeof__(more))a & more) | ((__typeof__(more))lanes[k] & ~more));
            }
        memcpy(t[r], lanes, sizeof lanes);
    }
    NAME(fold_largest)(t, most);
    for (int r = 0; r < rows; r++)
        for (i64 i = n[r] / TD_LANES * TD_LANES; i < n[r]; i++) most[r] = x[r * row + i] > most[r] ? x[r * row + i] : most[r];
}
#undef PLUS
#undef LARGER
#undef FOLD_ROWS

/* the same in double, for sums over whole batches and arenas: s := STEP, each of so many lanes or a remaining number */
#define SUM_IN_DOUBLE(name, LANES, STEP, STEP_1) \
    static inline double NAME(name)(const T *x, i64 n) { \
        V_f64 sum[LANES / VL_f64] = {{0}}; \
        double t[LANES], total = 0; \
        i64 i = 0; \
        for (; i + LANES <= n; i += LANES) \
            _Pragma("GCC unroll 16") for (int k = 0; k < LANES / VL_f64; k++) { \
                const V_f64 a = NAME(vwiden)(x + i + k * VL_f64), s = sum[k]; \
                sum[k] = STEP; \
            } \
        memcpy(t, sum, sizeof t); \
        for (int w = LANES / 2; w > 0; w /= 2) \
            for (int j = 0; j < w; j++) t[j] += t[j + w]; \
        for (; i < n; i++) { \
            const double a = (double)x[i], s = total; \
            total = STEP_1; \
        } \
        return t[0] + total; \
    }
SUM_IN_DOUBLE(double_sum, 16, s + a, s + a)
/* the squares of float32 are exact in double, so that FMA changes none of their bits */
SUM_IN_DOUBLE(double_squares, 32, vmuladd_f64(a, a, s), TD_FMAD(a, a, s))
#undef SUM_IN_DOUBLE

KERNEL(add) {
    const T *a = o->a, *b = o->b;
    T *out = o->out;
    (void)ctx;
    TD_EACH(i, o->n) out[i] = a[i] + b[i];
    return TD_OK;
}

KERNEL(multiply) {
    const T *a = o->a, *b = o->b;
    T *out = o->out;
    (void)ctx;
    TD_EACH(i, o->n) out[i] = a[i] * b[i];
    return TD_OK;
}

KERNEL(fill) {
    (void)ctx;
    for (i64 i = 0; i < o->n; i++) o->out[i] = (T)o->value;
    return TD_OK;
}

KERNEL(copy) { (void)ctx; memmove(o->out, o->x, (size_t)o->n * sizeof(T)); return TD_OK; }

static void NAME(weighted_mean)(const void *a_, const void *b_, void *out_, i64 n, double wa_, double wb_) {
    const T *a = a_, *b = b_, wa = (T)wa_, wb = (T)wb_;
    T *out = out_;
    const td_mode before = td_flush();      /* as in updates.h, where the last mean is taken on the way */
    TD_EACH(i, n) out[i] = FMA(wb, b[i], wa * a[i]);
    td_unflush(before);
}
KERNEL(weighted_mean) { (void)ctx; NAME(weighted_mean)(o->a, o->b, o->out, o->n, o->wa, o->wb); return TD_OK; }

static double NAME(squared_norm)(const void *x, i64 n) { return NAME(double_squares)(x, n); }
static void NAME(clamp)(void *x_, i64 n, double most_) {
    T *x = x_;
    const T most = (T)most_;
    for (i64 i = 0; i < n; i++) x[i] = x[i] > most ? most : x[i] < -most ? -most : x[i];
}

KERNEL(squared_norm) { ctx->number = NAME(squared_norm)(o->x, o->n); ctx->weight = 1; return TD_OK; }

static int NAME(all_finite)(const void *x_, i64 n) {
    const T *x = x_;
    for (i64 i = 0; i < n; i += TD_BLOCK) {
        const i64 end = TD_MIN(n, i + TD_BLOCK);
        int bad = 0;
        for (i64 j = i; j < end; j++) bad |= !(x[j] - x[j] == 0);
        if (bad) return 0;
    }
    return 1;
}
KERNEL(check_finite) { return (o->suspected && !ctx->suspect) || NAME(all_finite)(o->x, o->n) ? TD_OK : TD_BAD_GRADIENT; }

/* s := sums of w columns from x on, 4 VL of them or at most VL, in room for 4 VL: lanes that reach past a row's end add up
   neighbours, and nobody reads them. */
static void NAME(sum_columns)(const T *x, T *s, i64 R, i64 C, i64 w, i64 readable) {
    if (R > TD_CHAIN) {
        T more[4 * VL];
        const i64 left = td_left(R);
        NAME(sum_columns)(x, s, left, C, w, readable);
        NAME(sum_columns)(x + left * C, more, R - left, C, w, readable - left * C);
        for (i64 c = 0; c < w; c++) s[c] += more[c];
        return;
    }
    if (w == 4 * VL) {
        V v[4] = {{0}, {0}, {0}, {0}};
        for (i64 r = 0; r < R; r++)
            _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) v[k] += NAME(vload)(x + r * C + k * VL);
        memcpy(s, v, sizeof v);
        return;
    }
    const i64 whole = readable < VL ? 0 : TD_MIN(R, (readable - VL) / C + 1);
    V v = {0};
    for (i64 r = 0; r < whole; r++) v += NAME(vload)(x + r * C);
    memcpy(s, &v, sizeof v);
    for (i64 r = whole; r < R; r++)
        for (i64 c = 0; c < w; c++) s[c] += x[r * C + c];
}

static void NAME(column_sum)(const void *x_, void *y_, i64 R, i64 C, int accumulate) {
    const T *x = x_;
    T *y = y_, s[4 * VL];
    for (i64 c = 0, w; c < C; c += w) {
        w = C - c >= 4 * VL ? 4 * VL : TD_MIN(VL, C - c);
        NAME(sum_columns)(x + c, s, R, C, w, R * C - c);
        for (i64 j = 0; j < w; j++) y[c + j] = accumulate ? y[c + j] + s[j] : s[j];
    }
}
KERNEL(column_sum) { (void)ctx; NAME(column_sum)(o->x, o->out, o->R, o->C, (int)o->accumulate); return TD_OK; }
#undef V
#undef VL

/* periodic.h: numbers as D sums of K cosines each, with parameters of their own for each of C columns, and the gradients.
 *
 * Sums over k are in their order, and so are those over TD_SOME of d at a time; those over rows as td.h says, with room for
 * td_partials(R) of them. So that whole vectors are computed, cosines are taken of TD_LANES rows with one frequency on the way
 * out, and of one row with TD_LANES frequencies on the way back: there each parameter adds up rows in their order. */
#define TD_SOME 8
/* lanes of a vector; unrolled, they are no loop that GCC would make a vector of: that took five times as long */
#define TD_EACH_LANE(i) _Pragma("GCC unroll 1") TD_EACH(i, TD_LANES)

/* x in turns: frequency x + phase / (2 pi), less what is whole */
static inline T NAME(wave)(T x, T frequency, T phase) {
    return NAME(vm_turn)(FMA(frequency, x, phase * (T)0.15915494309189533577));
}

KERNEL(periodic) {
    const i64 C = o->C, K = o->K, D = o->D;
    (void)ctx;
    for (i64 r0 = 0; r0 < o->R; r0 += TD_LANES) {
        const i64 rows = TD_MIN(TD_LANES, o->R - r0);
        for (i64 c = 0; c < C; c++) for (i64 d0 = 0; d0 < D; d0 += TD_SOME) {
            const T *frequency = o->frequency + c * K, *phase = o->phase + c * K, *w = o->weight + c * K * D + d0;
            const i64 some = TD_MIN(TD_SOME, D - d0);
            T x[TD_LANES] = {0}, cosine[TD_LANES], y[TD_SOME][TD_LANES];
            for (i64 r = 0; r < rows; r++) x[r] = o->x[(r0 + r) * C + c];
            for (i64 d = 0; d < some; d++) TD_EACH_LANE(r) y[d][r] = o->bias[c * D + d0 + d];
            for (i64 k = 0; k < K; k++) {
                TD_EACH_LANE(r) cosine[r] = NAME(vm_cos_turn)(NAME(wave)(x[r], frequency[k], phase[k]));
                for (i64 d = 0; d < some; d++) TD_EACH_LANE(r) y[d][r] = FMA(cosine[r], w[k * D + d], y[d][r]);
            }
            for (i64 r = 0; r < rows; r++)
                for (i64 d = 0; d < some; d++) o->out[((r0 + r) * C + c) * D + d0 + d] = y[d][r];
        }
    }
    return TD_OK;
}

typedef struct { T *frequency, *phase, *weight, *bias; } NAME(waves);

/* dx of R <= TD_CHAIN rows from `first` on, by TD_LANES frequencies and TD_SOME sums of one column; what they add to the gradients
   of the parameters is added to g */
static void NAME(periodic_some)(const NAME(periodic_backward_args) *const o, const NAME(waves) g, i64 first, i64 R, i64 c, i64 k0,
                                i64 d0) {
    const i64 C = o->C, K = o->K, D = o->D, n = TD_MIN(TD_LANES, K - k0), some = TD_MIN(TD_SOME, D - d0), at = c * K + k0;
    const T turn = (T)6.28318530717958647693;
    /* frequencies that there are none of have weights of 0, and nobody reads what is added up for them */
    T frequency[TD_LANES] = {0}, phase[TD_LANES] = {0}, w[TD_SOME][TD_LANES] = {{0}};
    T by_frequency[TD_LANES] = {0}, by_phase[TD_LANES] = {0}, by_w[TD_SOME][TD_LANES] = {{0}};
    for (i64 k = 0; k < n; k++) {
        frequency[k] = o->frequency[at + k]; by_frequency[k] = g.frequency[at + k];
        phase[k] = o->phase[at + k]; by_phase[k] = g.phase[at + k];
        for (i64 d = 0; d < some; d++) {
            w[d][k] = o->weight[(at + k) * D + d0 + d];
            by_w[d][k] = g.weight[(at + k) * D + d0 + d];
        }
    }
    for (i64 r = first; r < first + R; r++) {
        const T x = o->x[r * C + c], *dy = o->dy + (r * C + c) * D + d0;
        T slope[TD_LANES], cosine[TD_LANES], sum[TD_LANES] = {0};
        TD_EACH_LANE(k) {
            const T t = NAME(wave)(x, frequency[k], phase[k]);
            cosine[k] = NAME(vm_cos_turn)(t);
            slope[k] = -NAME(vm_sin_turn)(t);
        }
        for (i64 d = 0; d < some; d++) TD_EACH_LANE(k) {
            sum[k] = FMA(dy[d], w[d][k], sum[k]);
            by_w[d][k] = FMA(cosine[k], dy[d], by_w[d][k]);
        }
        TD_EACH_LANE(k) {
            slope[k] *= sum[k];
            by_phase[k] += slope[k];
            by_frequency[k] = FMA(slope[k], turn * x, by_frequency[k]);
        }
        if (!o->dx) continue;
        T dx = k0 || d0 ? o->dx[r * C + c] : 0;
        for (i64 k = 0; k < n; k++) dx = FMA(slope[k], turn * frequency[k], dx);
        o->dx[r * C + c] = dx;
    }
    for (i64 k = 0; k < n; k++) {
        g.frequency[at + k] = by_frequency[k];
        g.phase[at + k] = by_phase[k];
        for (i64 d = 0; d < some; d++) g.weight[(at + k) * D + d0 + d] = by_w[d][k];
    }
}

static void NAME(periodic_slopes)(const NAME(periodic_backward_args) *const o, const NAME(waves) g, const i64 first, const i64 R,
                                  T *partial) {
    const i64 C = o->C, K = o->K, D = o->D;
    if (R > TD_CHAIN) {
        const i64 left = td_left(R), n = 2 * C * K + C * K * D + C * D;
        const NAME(waves) rest = {partial, partial + C * K, partial + 2 * C * K, partial + 2 * C * K + C * K * D};
        NAME(periodic_slopes)(o, g, first, left, partial);
        memset(partial, 0, (size_t)n * sizeof(T));
        NAME(periodic_slopes)(o, rest, first + left, R - left, partial + n);
        TD_EACH(i, C * K) { g.frequency[i] += rest.frequency[i]; g.phase[i] += rest.phase[i]; }
        TD_EACH(i, C * K * D) g.weight[i] += rest.weight[i];
        TD_EACH(i, C * D) g.bias[i] += rest.bias[i];
        return;
    }
    for (i64 r = first; r < first + R; r++) TD_EACH(i, C * D) g.bias[i] += o->dy[r * C * D + i];
    for (i64 c = 0; c < C; c++)
        for (i64 k0 = 0; k0 < K; k0 += TD_LANES)
            for (i64 d0 = 0; d0 < D; d0 += TD_SOME) NAME(periodic_some)(o, g, first, R, c, k0, d0);
}

KERNEL(periodic_backward) {
    const i64 C = o->C, K = o->K, D = o->D;
    const NAME(waves) g = {o->dfrequency, o->dphase, o->dweight, o->dbias};
    (void)ctx;
    if (!o->more_frequency) memset(g.frequency, 0, (size_t)(C * K) * sizeof(T));
    if (!o->more_phase) memset(g.phase, 0, (size_t)(C * K) * sizeof(T));
    if (!o->more_weight) memset(g.weight, 0, (size_t)(C * K * D) * sizeof(T));
    if (!o->more_bias) memset(g.bias, 0, (size_t)(C * D) * sizeof(T));
    NAME(periodic_slopes)(o, g, 0, o->R, o->partial);
    return TD_OK;
}
#undef TD_EACH_LANE
#undef TD_SOME

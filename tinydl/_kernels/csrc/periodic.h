/* periodic.h: numbers as D sums of K cosines each, with parameters of their own for each of C columns, and the gradients.
 *
 * Sums over k and over d are in their order; those over rows as td.h says, with room for td_partials(R) of them. */
#define TD_WAVES 16     /* cosines computed at a time */

/* x in turns: frequency x + phase / (2 pi), less what is whole */
static inline T NAME(wave)(T x, T frequency, T phase) {
    return NAME(vm_turn)(FMA(frequency, x, phase * (T)0.15915494309189533577));
}

KERNEL(periodic) {
    const i64 C = o->C, K = o->K, D = o->D;
    (void)ctx;
    for (i64 i = 0; i < o->R * C; i++) {
        const i64 c = i % C;
        const T x = o->x[i], *frequency = o->frequency + c * K, *phase = o->phase + c * K, *w = o->weight + c * K * D;
        T *out = o->out + i * D, cosine[TD_WAVES];
        TD_EACH(d, D) out[d] = o->bias[c * D + d];
        for (i64 k0 = 0; k0 < K; k0 += TD_WAVES) {
            const i64 n = K - k0 < TD_WAVES ? K - k0 : TD_WAVES;
            TD_EACH(k, n) cosine[k] = NAME(vm_cos_turn)(NAME(wave)(x, frequency[k0 + k], phase[k0 + k]));
            for (i64 k = 0; k < n; k++) TD_EACH(d, D) out[d] = FMA(cosine[k], w[(k0 + k) * D + d], out[d]);
        }
    }
    return TD_OK;
}

typedef struct { T *frequency, *phase, *weight, *bias; } NAME(waves);

/* dx of R rows from `first` on; what they add to the gradients of the parameters is added to g */
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
    for (i64 i = first * C; i < (first + R) * C; i++) {
        const i64 c = i % C;
        const T x = o->x[i], *frequency = o->frequency + c * K, *phase = o->phase + c * K, *w = o->weight + c * K * D;
        const T *dy = o->dy + i * D;
        T slope = 0;
        TD_EACH(d, D) g.bias[c * D + d] += dy[d];
        for (i64 k0 = 0; k0 < K; k0 += TD_WAVES) {
            const i64 n = K - k0 < TD_WAVES ? K - k0 : TD_WAVES;
            T cosine[TD_WAVES], by_phase[TD_WAVES];
            TD_EACH(k, n) {
                const T t = NAME(wave)(x, frequency[k0 + k], phase[k0 + k]);
                cosine[k] = NAME(vm_cos_turn)(t);
                by_phase[k] = -NAME(vm_sin_turn)(t);
            }
            for (i64 k = 0; k < n; k++) {
                const T *wk = w + (k0 + k) * D;
                T *gk = g.weight + (c * K + k0 + k) * D, sum = 0;
                for (i64 d = 0; d < D; d++) sum = FMA(dy[d], wk[d], sum);
                TD_EACH(d, D) gk[d] = FMA(cosine[k], dy[d], gk[d]);
                by_phase[k] *= sum;
            }
            const T turn = (T)6.28318530717958647693;
            TD_EACH(k, n) {
                g.phase[c * K + k0 + k] += by_phase[k];
                g.frequency[c * K + k0 + k] = FMA(by_phase[k], turn * x, g.frequency[c * K + k0 + k]);
            }
            for (i64 k = 0; k < n; k++) slope = FMA(by_phase[k], turn * frequency[k0 + k], slope);
        }
        o->dx[i] = slope;
    }
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
#undef TD_WAVES

/* piecewise.h: how far a number has come through each of K intervals, from 0 to 1, and the gradient by the number. */

KERNEL(piecewise_linear) {
    const i64 C = o->C, K = o->K;
    (void)ctx;
    for (i64 i = 0; i < o->R * C; i++) {
        const T x = o->x[i], *low = o->low + i % C * K, *slope = o->slope + i % C * K;
        T *out = o->out + i * K;
        TD_EACH(k, K) {
            const T t = (x - low[k]) * slope[k];
            out[k] = t > 0 ? TD_MIN(t, (T)1) : (T)0;
        }
    }
    return TD_OK;
}

KERNEL(piecewise_linear_backward) {
    const i64 C = o->C, K = o->K;
    (void)ctx;
    for (i64 i = 0; i < o->R * C; i++) {
        const T x = o->x[i], *low = o->low + i % C * K, *slope = o->slope + i % C * K, *dy = o->dy + i * K;
        T sum = 0;
        for (i64 k = 0; k < K; k++) {
            const T t = (x - low[k]) * slope[k];
            sum += t > 0 && t < 1 ? dy[k] * slope[k] : (T)0;
        }
        o->dx[i] = sum;
    }
    return TD_OK;
}

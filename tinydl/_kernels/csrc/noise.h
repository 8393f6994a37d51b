/* noise.h: y := x + deviation exp(log_variance / 2) z, z normal: two at a time by Box and Muller (1958), of a hash of (seed, step,
 * layer, sample, column) as dropout.h has it, so that the backward operation finds the same z. Of C columns the first half has
 * the cosines, the rest the sines. */

/* z of columns i and half + i, where k0 and k1 are the row's key */
static inline void NAME(two_normals)(uint32_t i, uint32_t k0, uint32_t k1, T *cosine, T *sine) {
    const T u = ((T)td_hash(2 * i, k0, k1) + 1) * (T)0x1p-32;
    const T turn = (T)td_hash(2 * i + 1, k0, k1) * (T)0x1p-32 - (T)0.5, square = -2 * NAME(vm_log)(u);
    const T radius = TD_SINGLE ? (T)__builtin_sqrtf((float)square) : (T)__builtin_sqrt((double)square);
    *cosine = radius * NAME(vm_cos_turn)(turn);
    *sine = radius * NAME(vm_sin_turn)(turn);
}

#define EACH_NORMAL(WRITE) \
    const i64 B = o->B, C = o->C, half = (C + 1) / 2; \
    const u64 stream = td_splitmix(td_splitmix(td_splitmix(ctx->seed) + ctx->step) + (u64)o->layer); \
    const T deviation = (T)o->deviation; \
    for (i64 r = 0; r < B; r++) { \
        const u64 key = td_splitmix(stream + (u64)(ctx->index ? ctx->index[r] : ctx->first_id + r)); \
        const uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32); \
        const i64 at = r * C; \
        T z, other; \
        TD_EACH(i, C / 2) { \
            T a, b; \
            NAME(two_normals)((uint32_t)i, k0, k1, &a, &b); \
            WRITE(at + i, a); \
            WRITE(at + half + i, b); \
        } \
        if (C % 2) { \
            NAME(two_normals)((uint32_t)(half - 1), k0, k1, &z, &other); \
            WRITE(at + half - 1, z); \
        } \
    } \
    return TD_OK;
#define SCALED(c, z) (log_variance ? deviation * NAME(vm_exp)((T)0.5 * log_variance[c]) * (z) : deviation * (z))

KERNEL(normal_noise) {
    const T *x = o->x, *log_variance = o->log_variance;
    T *y = o->out;
#define WRITE(c, z) y[c] = x[c] + SCALED(c, z)
    EACH_NORMAL(WRITE)
#undef WRITE
}
KERNEL(normal_noise_backward) {
    const T *dy = o->dy, *log_variance = o->log_variance;
    T *dx = o->out;
#define WRITE(c, z) dx[c] = dy[c] * ((T)0.5 * SCALED(c, z))
    EACH_NORMAL(WRITE)
#undef WRITE
}
#undef SCALED
#undef EACH_NORMAL

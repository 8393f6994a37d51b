/* dropout.h: y := x / (1 - rate) where hash(seed, step, layer, sample, column) >= rate 2^32, else 0.
 *
 * One 64-bit key for each row by Steele, Lea and Flood's splitmix64 (2014), one 32-bit hash for each
 * column by the two rounds of Wellons' lowbias32, half a key before each. No state: forward and
 * backward, on any thread, in any order, see the same mask.
 */
#ifndef TD_DROPOUT
#define TD_DROPOUT
static inline u64 td_splitmix(u64 z) {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline uint32_t td_hash(uint32_t column, uint32_t k0, uint32_t k1) {
    uint32_t h = column ^ k0;
    h = (h ^ (h >> 16)) * 0x7FEB352Du;
    h = ((h ^ (h >> 15)) + k1) * 0x846CA68Bu;
    return h ^ (h >> 16);
}

/* of the step under way: `rates` has its first one's number, then a rate for each; the ends hold on */
static inline double td_rate_of(const double *rates, i64 W, u64 step) {
    const i64 last = W - 2, i = (i64)step - (i64)rates[0];
    return rates[1 + (i < 0 ? 0 : i > last ? last : i)];
}
#endif

KERNEL(dropout) {
    const i64 B = o->B, C = o->C;
    const u64 stream = td_splitmix(td_splitmix(td_splitmix(ctx->seed) + ctx->step) + (u64)o->layer);
    const double rate = o->rates ? td_rate_of(o->rates, o->W, ctx->step) : o->rate;
    const uint32_t below = rate < 1 ? (uint32_t)(rate * 4294967296.0) : 0;
    const T gain = rate < 1 ? (T)(1 / (1 - rate)) : 0;
    if (rate >= 1) {
        memset(o->out, 0, (size_t)(B * C) * sizeof(T));
        return TD_OK;
    }
    for (i64 r = 0; r < B; r++) {
        const u64 key = td_splitmix(stream + (u64)(ctx->index ? ctx->index[r] : ctx->first_id + r));
        const uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        const T *x = o->x + r * C;
        T *y = o->out + r * C;
        TD_EACH(c, C) {
            const T kept = x[c] * gain;
            y[c] = td_hash((uint32_t)c, k0, k1) >= below ? kept : (T)0;
        }
    }
    return TD_OK;
}

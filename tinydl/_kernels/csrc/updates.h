/* updates.h: the optimizers' rules, one pass over flat vectors, as PyTorch's torch.optim writes them.
 * p: parameters, G(i): their gradient, state: the vectors named below, h: numbers rounded to T once, t = 1, 2, ...
 * Each is compiled for a gradient that is there, and for one that is the mean of two vectors, taken on the way: what its sums
 * wait for from memory, the rule's divisions and roots do not (with two threads a step of W2 and W3 took 1 to 2 percent
 * less); and each of these for one row, and for several.
 * Numbers too small to be normal count as zero. Where a unit is dead its gradients are zeros and its momenta shrink, but
 * never to zero: 0.9 of the least number, rounded, is the least number. A Zen 5 divides and takes roots of a vector with one
 * of them at a third of the speed: where it was 0.6 percent of W3's momenta, one worker's half of an update by Adam took
 * twice as long, and the other worker waited. */
#define GIVEN const int two, T *restrict p, const T *ga, const T *gb, const T wa, const T wb, T *mean, \
              const i64 rows, const i64 stride, void *const *state, i64 n, const double *h, i64 t
#define G(i) (two ? (mean[i - skip] = FMA(wb, gb[i - skip], wa * ga[i - skip])) : ga[i - skip])
#define EACH(i) \
    for (i64 row = 0, first = 0, skip = 0; row < rows; row++, first += stride, skip += stride - n) \
    for (i64 at = 0, end = END(0); at < n; at = end, end = END(at), NAME(ask)(two && rows == 1, mean, at, n)) \
        TD_IVDEP for (i64 i = first + at; i < first + end; i++)
#define END(at) (two && n - (at) > ASKED ? (at) + ASKED : n)
#define INLINE static inline __attribute__((always_inline))
#define RULE(rule) \
    INLINE void NAME(rule##_of)(GIVEN); \
    static void NAME(rule)(void *p, const td_gradient *g, void *const *state, i64 n, const double *h, i64 t) { \
        const td_mode before = td_flush(); \
        if (g->b && g->rows == 1) NAME(rule##_of)(1, p, g->a, g->b, (T)g->wa, (T)g->wb, g->mean, 1, 0, state, n, h, t); \
        else if (g->b) NAME(rule##_of)(1, p, g->a, g->b, (T)g->wa, (T)g->wb, g->mean, g->rows, g->stride, state, n, h, t); \
        else if (g->rows == 1) NAME(rule##_of)(0, p, g->a, 0, 1, 0, 0, 1, 0, state, n, h, t); \
        else NAME(rule##_of)(0, p, g->a, 0, 1, 0, 0, g->rows, g->stride, state, n, h, t); \
        td_unflush(before); \
    } \
    INLINE void NAME(rule##_of)(GIVEN)

/* eps, which keeps a division by zero away, does not become zero itself */
INLINE T NAME(not_zero)(double eps) {
    const T least = (T)(TD_SINGLE ? FLT_MIN : DBL_MIN);
    return eps > 0 && (T)eps < least ? least : (T)eps;
}

/* A mean is mostly written over what another worker wrote: its lines are asked for to be written, a few at a time, some way
 * ahead, instead of being asked for twice (between two CCXs of a Zen 5 a step of W3 in two shards took 6 percent less). */
enum { NAME(ASKED) = 64, NAME(AHEAD) = 256 };
#define ASKED NAME(ASKED)
INLINE void NAME(ask)(const int two, const T *mean, i64 at, i64 n) {
    if (!two) return;
    at += NAME(AHEAD);
    for (i64 i = at; i < TD_MIN(at + ASKED, n); i += 64 / (i64)sizeof(T)) __builtin_prefetch(mean + i, 1, 3);
}

/* h = {lr, momentum, nesterov, weight_decay}, state = {momentum buffer b, zeros at first; unused without momentum}
 * g += weight_decay p;  b := momentum b + g;  p -= lr (nesterov ? g + momentum b : b) */
RULE(sgd) {
    const T lr = (T)h[0], momentum = (T)h[1], decay = (T)h[3];
    (void)t;
    if (momentum == 0) {
        EACH(i) p[i] = FMA(-lr, FMA(decay, p[i], G(i)), p[i]);
        return;
    }
    T *restrict b = state[0];
    if (h[2] != 0)
        EACH(i) {
            const T d = FMA(decay, p[i], G(i));
            b[i] = FMA(momentum, b[i], d);
            p[i] = FMA(-lr, FMA(momentum, b[i], d), p[i]);
        }
    else
        EACH(i) {
            b[i] = FMA(momentum, b[i], FMA(decay, p[i], G(i)));
            p[i] = FMA(-lr, b[i], p[i]);
        }
}

/* Kingma and Ba (2015), eps after the corrected root. h = {lr, beta1, beta2, eps, weight_decay}, state = {m, v}
 * m += (1 - beta1) (g - m);  v := beta2 v + (1 - beta2) g^2
 * p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps) */
INLINE void NAME(adam_step)(GIVEN, T decay, T keep) {
    const T mix = (T)(1 - h[1]), beta2 = (T)h[2], rest = (T)(1 - h[2]), eps = NAME(not_zero)(h[3]);
    const T rate = (T)(h[0] / (1 - pow(h[1], (double)t)));
    const T root = (T)(1 / sqrt(1 - pow(h[2], (double)t)));
    T *restrict m = state[0], *restrict v = state[1];
    EACH(i) {
        const T q = p[i] * keep, d = FMA(decay, q, G(i));
        m[i] = FMA(mix, d - m[i], m[i]);
        v[i] = FMA(beta2, v[i], rest * d * d);
        p[i] = FMA(-rate, m[i] / FMA(NAME(root)(v[i]), root, eps), q);
    }
}

/* weight decay joins the gradient: g += weight_decay p */
RULE(adam) { NAME(adam_step)(two, p, ga, gb, wa, wb, mean, rows, stride, state, n, h, t, (T)h[4], 1); }

/* Loshchilov and Hutter (2019): weight decay shrinks the parameters first: p *= 1 - lr weight_decay */
RULE(adamw) { NAME(adam_step)(two, p, ga, gb, wa, wb, mean, rows, stride, state, n, h, t, 0, (T)(1 - h[0] * h[4])); }

/* h = {lr, alpha, eps, weight_decay, momentum, centered}, state = {v, momentum buffer b or NULL, mean m or NULL}
 * g += weight_decay p;  v := alpha v + (1 - alpha) g^2;  centered: m += (1 - alpha) (g - m), v - m^2 stands for v below
 * b := momentum b + g / (sqrt(v) + eps);  p -= lr b */
RULE(rmsprop) {
    const T lr = (T)h[0], alpha = (T)h[1], rest = (T)(1 - h[1]), eps = NAME(not_zero)(h[2]), decay = (T)h[3], momentum = (T)h[4];
    T *restrict v = state[0], *restrict b = state[1], *restrict m = state[2];
    (void)t;
#define PASS(SPREAD, STEP) \
    EACH(i) { \
        const T d = FMA(decay, p[i], G(i)); \
        v[i] = FMA(alpha, v[i], rest * d * d); \
        const T spread = (SPREAD), step = d / (NAME(root)(spread < 0 ? (T)0 : spread) + eps); \
        p[i] = FMA(-lr, (STEP), p[i]); \
    }
#define CENTERED (m[i] = FMA(rest, d - m[i], m[i]), FMA(-m[i], m[i], v[i]))
#define HEAVY (b[i] = FMA(momentum, b[i], step))
    if (h[5] != 0 && momentum != 0) PASS(CENTERED, HEAVY)
    else if (h[5] != 0) PASS(CENTERED, step)
    else if (momentum != 0) PASS(v[i], HEAVY)
    else PASS(v[i], step)
#undef PASS
#undef CENTERED
#undef HEAVY
}
#undef GIVEN
#undef G
#undef ASKED
#undef EACH
#undef END
#undef INLINE
#undef RULE

static int NAME(sgd_needs)(const double *h) { return h[1] != 0; }
static int NAME(adam_needs)(const double *h) { (void)h; return 3; }
static int NAME(rmsprop_needs)(const double *h) { return 1 | (h[4] != 0) << 1 | (h[5] != 0) << 2; }

static const td_updatedef NAME(updates)[] = {
    {"sgd", NAME(sgd), NAME(sgd_needs)}, {"adam", NAME(adam), NAME(adam_needs)}, {"adamw", NAME(adamw), NAME(adam_needs)},
    {"rmsprop", NAME(rmsprop), NAME(rmsprop_needs)}, {0, 0, 0},
};

/* updates.h: the optimizers' rules, one pass over flat vectors, as PyTorch's torch.optim writes them.
 * p: parameters, G(i): their gradient, state and h: the vectors and numbers that schema.py names, h rounded to T once,
 * t = 1, 2, ... Their formulas are in schema.py.
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

RULE(sgd) {
    const NAME(sgd_numbers) *const o = (const void *)h;
    const T lr = (T)o->lr, momentum = (T)o->momentum, decay = (T)o->weight_decay;
    (void)t;
    if (momentum == 0) {
        EACH(i) p[i] = FMA(-lr, FMA(decay, p[i], G(i)), p[i]);
        return;
    }
    T *restrict b = NAME(sgd_state_of)(state).momentum_buffer;
    if (o->nesterov != 0)
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

/* Kingma and Ba (2015), eps after the corrected root; h: the numbers of adam, and of adamw */
INLINE void NAME(adam_step)(GIVEN, T decay, T keep) {
    const NAME(adam_numbers) *const o = (const void *)h;
    const NAME(adam_state) s = NAME(adam_state_of)(state);
    const T mix = (T)(1 - o->beta1), beta2 = (T)o->beta2, rest = (T)(1 - o->beta2), eps = NAME(not_zero)(o->eps);
    const T rate = (T)(o->lr / (1 - pow(o->beta1, (double)t)));
    const T root = (T)(1 / sqrt(1 - pow(o->beta2, (double)t)));
    T *restrict m = s.exp_avg, *restrict v = s.exp_avg_sq;
    EACH(i) {
        const T q = p[i] * keep, d = FMA(decay, q, G(i));
        m[i] = FMA(mix, d - m[i], m[i]);
        v[i] = FMA(beta2, v[i], rest * d * d);
        p[i] = FMA(-rate, m[i] / FMA(NAME(root)(v[i]), root, eps), q);
    }
}

RULE(adam) {
    const NAME(adam_numbers) *const o = (const void *)h;
    NAME(adam_step)(two, p, ga, gb, wa, wb, mean, rows, stride, state, n, h, t, (T)o->weight_decay, 1);
}

/* Loshchilov and Hutter (2019) */
RULE(adamw) {
    const NAME(adamw_numbers) *const o = (const void *)h;
    NAME(adam_step)(two, p, ga, gb, wa, wb, mean, rows, stride, state, n, h, t, 0, (T)(1 - o->lr * o->weight_decay));
}

RULE(rmsprop) {
    const NAME(rmsprop_numbers) *const o = (const void *)h;
    const NAME(rmsprop_state) s = NAME(rmsprop_state_of)(state);
    const T lr = (T)o->lr, alpha = (T)o->alpha, rest = (T)(1 - o->alpha), eps = NAME(not_zero)(o->eps);
    const T decay = (T)o->weight_decay, momentum = (T)o->momentum;
    T *restrict v = s.square_avg, *restrict b = s.momentum_buffer, *restrict m = s.grad_avg;
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
    if (o->centered != 0 && momentum != 0) PASS(CENTERED, HEAVY)
    else if (o->centered != 0) PASS(CENTERED, step)
    else if (momentum != 0) PASS(v[i], HEAVY)
    else PASS(v[i], step)
#undef PASS
#undef CENTERED
#undef HEAVY
}

/* Dozat (2016), PyTorch's variant; mu, mu_next, mu_product: of this update, by who calls */
RULE(nadam) {
    const NAME(nadam_numbers) *const o = (const void *)h;
    const NAME(nadam_state) s = NAME(nadam_state_of)(state);
    const T mix = (T)(1 - o->beta1), beta2 = (T)o->beta2, rest = (T)(1 - o->beta2), eps = NAME(not_zero)(o->eps);
    const T decay = (T)(o->decoupled != 0 ? 0 : o->weight_decay), keep = (T)(o->decoupled != 0 ? 1 - o->lr * o->weight_decay : 1);
    const T root = (T)(1 / sqrt(1 - pow(o->beta2, (double)t)));
    const T of_g = (T)(o->lr * (1 - o->mu) / (1 - o->mu_product));
    const T of_m = (T)(o->lr * o->mu_next / (1 - o->mu_product * o->mu_next));
    T *restrict m = s.exp_avg, *restrict v = s.exp_avg_sq;
    EACH(i) {
        const T q = p[i] * keep, d = FMA(decay, q, G(i));
        m[i] = FMA(mix, d - m[i], m[i]);
        v[i] = FMA(beta2, v[i], rest * d * d);
        p[i] = q - FMA(of_g, d, of_m * m[i]) / FMA(NAME(root)(v[i]), root, eps);
    }
}

/* Liu et al. (2020), eps beside the raw root, as PyTorch */
RULE(radam) {
    const NAME(radam_numbers) *const o = (const void *)h;
    const NAME(radam_state) s = NAME(radam_state_of)(state);
    const T mix = (T)(1 - o->beta1), beta2 = (T)o->beta2, rest = (T)(1 - o->beta2), eps = NAME(not_zero)(o->eps);
    const T decay = (T)(o->decoupled != 0 ? 0 : o->weight_decay), keep = (T)(o->decoupled != 0 ? 1 - o->lr * o->weight_decay : 1);
    const double power = pow(o->beta2, (double)t), most = 2 / (1 - o->beta2) - 1, r = most - 2 * (double)t * power / (1 - power);
    const double rate = o->lr / (1 - pow(o->beta1, (double)t));
    const int adaptive = r > 5;
    const double rect = adaptive ? sqrt((r - 4) * (r - 2) * most / ((most - 4) * (most - 2) * r)) : 1;
    const T step = (T)(adaptive ? rate * rect * sqrt(1 - power) : rate);
    T *restrict m = s.exp_avg, *restrict v = s.exp_avg_sq;
#define PASS(BY) \
    EACH(i) { \
        const T q = p[i] * keep, d = FMA(decay, q, G(i)); \
        m[i] = FMA(mix, d - m[i], m[i]); \
        v[i] = FMA(beta2, v[i], rest * d * d); \
        p[i] = FMA(-step, (BY), q); \
    }
    if (adaptive) PASS(m[i] / (NAME(root)(v[i]) + eps))
    else PASS(m[i])
#undef PASS
}

/* Duchi et al. (2011) */
RULE(adagrad) {
    const NAME(adagrad_numbers) *const o = (const void *)h;
    const T rate = (T)(o->lr / (1 + (double)(t - 1) * o->lr_decay)), eps = NAME(not_zero)(o->eps), decay = (T)o->weight_decay;
    const T initial = (T)(t == 1 ? o->initial : 0);
    T *restrict s = NAME(adagrad_state_of)(state).sum;
    EACH(i) {
        const T d = FMA(decay, p[i], G(i));
        s[i] = FMA(d, d, s[i] + initial);
        p[i] = FMA(-rate, d / (NAME(root)(s[i]) + eps), p[i]);
    }
}

/* Chen et al. (2023) */
RULE(lion) {
    const NAME(lion_numbers) *const o = (const void *)h;
    const T lr = (T)o->lr, beta1 = (T)o->beta1, beta2 = (T)o->beta2, mix1 = (T)(1 - o->beta1), mix2 = (T)(1 - o->beta2);
    const T keep = (T)(1 - o->lr * o->weight_decay);
    T *restrict m = NAME(lion_state_of)(state).exp_avg;
    (void)t;
    EACH(i) {
        const T d = G(i), c = FMA(beta1, m[i], mix1 * d);
        p[i] = FMA(-lr, (T)((c > 0) - (c < 0)), p[i] * keep);
        m[i] = FMA(beta2, m[i], mix2 * d);
    }
}
#undef GIVEN
#undef G
#undef ASKED
#undef EACH
#undef END
#undef INLINE
#undef RULE

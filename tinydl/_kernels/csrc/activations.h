/* activations.h: y := act(x) and dx := dy act'(saved), element by element; kinds in td.h. */

/* each loop: a = alpha, b = beta, v = x[i] */
#define FORWARD(name, E) \
    static void NAME(name)(T a, T b, const T *x, T *y, i64 n) { \
        (void)a, (void)b; \
        TD_EACH(i, n) { const T v = x[i]; y[i] = (E); } \
    }
/* a, b, d = dy[i], v = saved[i]: the output y up to rescaling, the input x from GELU on */
#define BACKWARD(name, E) \
    static void NAME(name##_grad)(T a, T b, const T *dy, const T *saved, T *dx, i64 n) { \
        (void)a, (void)b; \
        TD_EACH(i, n) { const T d = dy[i], v = saved[i]; (void)v; dx[i] = (E); } \
    }

/* the normal distribution's value at x, and sqrt(2 pi) times its density */
typedef struct { T below, bell; } NAME(normal_at);
static inline __attribute__((always_inline)) NAME(normal_at) NAME(normal_of)(T x) {
    const T e = NAME(vm_exp_below)((T)-0.5 * x * x), tail = e * NAME(vm_normal_tail)(NAME(td_abs)(x));
    return (NAME(normal_at)){x < 0 ? tail : 1 - tail, e};
}

/* tanh(sqrt(2 / pi) (x + 0.044715 x^3)) */
static inline T NAME(gelu_inner)(T x) {
    return NAME(vm_tanh)((T)0.79788456080286535588 * x * FMA((T)0.044715, x * x, (T)1));
}

/* its derivative by x is (1 - t^2) times this */
static inline T NAME(gelu_slope)(T x) {
    return (T)0.79788456080286535588 * FMA((T)0.134145, x * x, (T)1);
}

/* log(1 + exp(x)) */
static inline T NAME(softplus_of)(T x) {
    return (x > 0 ? x : (T)0) + NAME(vm_log1p)(NAME(vm_exp_below)(-NAME(td_abs)(x)));
}

/* tanh(log(1 + exp(x))) = (w^2 - 1) / (w^2 + 1), w = 1 + exp(x), where x > 0 both times exp(-2 x); and its derivative by x */
typedef struct { T tanh, slope; } NAME(of_softplus);
static inline __attribute__((always_inline)) NAME(of_softplus) NAME(tanh_softplus)(T x) {
    const T e = NAME(vm_exp_below)(-NAME(td_abs)(x)), w = 1 + e;
    const T above = FMA((T)2, e, (T)1), below = e * (e + 2), p = x < 0 ? e : e * e;
    const T of = x < 0 ? below : above, inverse = 1 / (x < 0 ? below + 2 : FMA(2 * e, e, above));
    return (NAME(of_softplus)){of * inverse, 4 * p * w * (inverse * inverse)};
}

/* where sigmoids are hardly normal numbers: 0 there, and x not below that where it is a factor, which could be large */
#define SIGMOID_LOW (TD_SINGLE ? (T)-87 : (T)-708)

/* x, kept within 0 and 1 */
static inline T NAME(unit)(T x) {
    return x < 0 ? (T)0 : x > 1 ? (T)1 : x;
}

/* of SELU: its scale, and scale times alpha */
#define SELU_SCALE ((T)1.0507009873554804934)
#define SELU_BELOW ((T)1.7580993408473768600)

FORWARD(relu, v < 0 ? (T)0 : v)
BACKWARD(relu, v > 0 ? d : (T)0)
FORWARD(leaky_relu, v < 0 ? a * v : v)
BACKWARD(leaky_relu, v > 0 ? d : a * d)
FORWARD(elu, v < 0 ? a * NAME(vm_expm1_below)(v < 0 ? v : 0) : v)
BACKWARD(elu, v > 0 ? d : d * (v + a))
FORWARD(selu, v < 0 ? SELU_BELOW * NAME(vm_expm1_below)(v < 0 ? v : 0) : SELU_SCALE * v)
BACKWARD(selu, v > 0 ? SELU_SCALE * d : d * (v + SELU_BELOW))
FORWARD(sigmoid, v < SIGMOID_LOW ? (T)0 : NAME(vm_sigmoid)(v))
BACKWARD(sigmoid, d * (v * (1 - v)))
FORWARD(tanh, NAME(vm_tanh)(v))
BACKWARD(tanh, d * FMA(-v, v, (T)1))
FORWARD(hardtanh, v < a ? a : v > b ? b : v)
BACKWARD(hardtanh, v > a && v < b ? d : (T)0)
FORWARD(hardsigmoid, NAME(unit)(a * v + b))
BACKWARD(hardsigmoid, v > 0 && v < 1 ? a * d : (T)0)
FORWARD(exp, NAME(vm_exp)(v))
BACKWARD(exp, d * v)
FORWARD(rescaling, FMA(a, v, b))
BACKWARD(rescaling, a * d)
FORWARD(gelu, v * NAME(normal_of)(v).below)
BACKWARD(gelu, d * FMA((T)0.39894228040143267794 * v, NAME(normal_of)(v).bell, NAME(normal_of)(v).below))
FORWARD(gelu_tanh, v * FMA((T)0.5, NAME(gelu_inner)(v), (T)0.5))
FORWARD(silu, (v < SIGMOID_LOW ? SIGMOID_LOW : v) * NAME(vm_sigmoid)(v))
FORWARD(softplus, NAME(softplus_of)(a * v) / a)
BACKWARD(softplus, d * NAME(vm_sigmoid)(a * v))
FORWARD(mish, v * NAME(tanh_softplus)(v).tanh)
BACKWARD(mish, d * FMA(v, NAME(tanh_softplus)(v).slope, NAME(tanh_softplus)(v).tanh))
FORWARD(hardswish, v <= -3 ? (T)0 : v >= 3 ? v : v * (v + 3) / 6)
BACKWARD(hardswish, v <= -3 ? 0 * d : v >= 3 ? d : d * (v / 3 + (T)0.5))
FORWARD(softsign, v / (1 + NAME(td_abs)(v)))
FORWARD(log_sigmoid, -NAME(softplus_of)(-v))
BACKWARD(log_sigmoid, d * NAME(vm_sigmoid)(-v))
FORWARD(abs, NAME(td_abs)(v))
BACKWARD(abs, v > 0 ? d : v < 0 ? -d : (T)0)
FORWARD(square, v * v)
BACKWARD(square, d * (2 * v))

static void NAME(gelu_tanh_grad)(T a, T b, const T *dy, const T *x, T *dx, i64 n) {
    (void)a, (void)b;
    TD_EACH(i, n) {
        const T v = x[i], t = NAME(gelu_inner)(v);
        dx[i] = dy[i] * FMA((T)0.5 * v * FMA(-t, t, (T)1), NAME(gelu_slope)(v), FMA((T)0.5, t, (T)0.5));
    }
}

static void NAME(silu_grad)(T a, T b, const T *dy, const T *x, T *dx, i64 n) {
    (void)a, (void)b;
    TD_EACH(i, n) {
        const T v = x[i] < SIGMOID_LOW ? SIGMOID_LOW : x[i], s = NAME(vm_sigmoid)(v);
        dx[i] = dy[i] * (s * FMA(v, 1 - s, (T)1));
    }
}

static void NAME(softsign_grad)(T a, T b, const T *dy, const T *x, T *dx, i64 n) {
    (void)a, (void)b;
    TD_EACH(i, n) {
        const T r = 1 / (1 + NAME(td_abs)(x[i]));
        dx[i] = dy[i] * (r * r);
    }
}
#undef SIGMOID_LOW
#undef FORWARD
#undef BACKWARD

static void NAME(activation)(int kind, double alpha, double beta, const void *x, void *y, i64 n) {
    const T a = (T)alpha, b = (T)beta;
    switch (kind) {
    case TD_RELU: NAME(relu)(a, b, x, y, n); break;
    case TD_LEAKY_RELU: NAME(leaky_relu)(a, b, x, y, n); break;
    case TD_ELU: NAME(elu)(a, b, x, y, n); break;
    case TD_SELU: NAME(selu)(a, b, x, y, n); break;
    case TD_SIGMOID: NAME(sigmoid)(a, b, x, y, n); break;
    case TD_TANH: NAME(tanh)(a, b, x, y, n); break;
    case TD_HARDTANH: NAME(hardtanh)(a, b, x, y, n); break;
    case TD_HARDSIGMOID: NAME(hardsigmoid)(a, b, x, y, n); break;
    case TD_EXP: NAME(exp)(a, b, x, y, n); break;
    case TD_RESCALING: NAME(rescaling)(a, b, x, y, n); break;
    case TD_GELU: NAME(gelu)(a, b, x, y, n); break;
    case TD_GELU_TANH: NAME(gelu_tanh)(a, b, x, y, n); break;
    case TD_SILU: NAME(silu)(a, b, x, y, n); break;
    case TD_SOFTPLUS: NAME(softplus)(a, b, x, y, n); break;
    case TD_MISH: NAME(mish)(a, b, x, y, n); break;
    case TD_HARDSWISH: NAME(hardswish)(a, b, x, y, n); break;
    case TD_SOFTSIGN: NAME(softsign)(a, b, x, y, n); break;
    case TD_LOG_SIGMOID: NAME(log_sigmoid)(a, b, x, y, n); break;
    case TD_ABS: NAME(abs)(a, b, x, y, n); break;
    case TD_SQUARE: NAME(square)(a, b, x, y, n); break;
    default: if (x != y) memcpy(y, x, (size_t)n * sizeof(T));
    }
}

static void NAME(activation_backward)(int kind, double alpha, double beta, const void *dy, const void *saved, void *dx, i64 n) {
    const T a = (T)alpha, b = (T)beta;
    switch (kind) {
    case TD_RELU: NAME(relu_grad)(a, b, dy, saved, dx, n); break;
    case TD_LEAKY_RELU: NAME(leaky_relu_grad)(a, b, dy, saved, dx, n); break;
    case TD_ELU: NAME(elu_grad)(a, b, dy, saved, dx, n); break;
    case TD_SELU: NAME(selu_grad)(a, b, dy, saved, dx, n); break;
    case TD_SIGMOID: NAME(sigmoid_grad)(a, b, dy, saved, dx, n); break;
    case TD_TANH: NAME(tanh_grad)(a, b, dy, saved, dx, n); break;
    case TD_HARDTANH: NAME(hardtanh_grad)(a, b, dy, saved, dx, n); break;
    case TD_HARDSIGMOID: NAME(hardsigmoid_grad)(a, b, dy, saved, dx, n); break;
    case TD_EXP: NAME(exp_grad)(a, b, dy, saved, dx, n); break;
    case TD_RESCALING: NAME(rescaling_grad)(a, b, dy, saved, dx, n); break;
    case TD_GELU: NAME(gelu_grad)(a, b, dy, saved, dx, n); break;
    case TD_GELU_TANH: NAME(gelu_tanh_grad)(a, b, dy, saved, dx, n); break;
    case TD_SILU: NAME(silu_grad)(a, b, dy, saved, dx, n); break;
    case TD_SOFTPLUS: NAME(softplus_grad)(a, b, dy, saved, dx, n); break;
    case TD_MISH: NAME(mish_grad)(a, b, dy, saved, dx, n); break;
    case TD_HARDSWISH: NAME(hardswish_grad)(a, b, dy, saved, dx, n); break;
    case TD_SOFTSIGN: NAME(softsign_grad)(a, b, dy, saved, dx, n); break;
    case TD_LOG_SIGMOID: NAME(log_sigmoid_grad)(a, b, dy, saved, dx, n); break;
    case TD_ABS: NAME(abs_grad)(a, b, dy, saved, dx, n); break;
    case TD_SQUARE: NAME(square_grad)(a, b, dy, saved, dx, n); break;
    default: if (dy != dx) memcpy(dx, dy, (size_t)n * sizeof(T));
    }
}

KERNEL(activation) { (void)ctx; NAME(activation)((int)o->kind, o->alpha, o->beta, o->x, o->out, o->n); return TD_OK; }
KERNEL(activation_backward) {
    (void)ctx;
    NAME(activation_backward)((int)o->kind, o->alpha, o->beta, o->dy, o->saved, o->out, o->n);
    return TD_OK;
}

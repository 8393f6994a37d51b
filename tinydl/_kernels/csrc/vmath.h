/* vmath.h: exp, expm1, log, log1p, tanh, sigmoid, erf: scalar C without branches, for the compiler to vectorise.
 *
 * What may be fused is written FMA, so AVX2 and AVX-512 give the same bits. Largest errors in units in the last
 * place, denormal results included: over all float32 values, against double, and over 60 million float64 values
 * a function, against long double; first with FMA, then on a machine without it:
 *               exp        expm1      log        log1p      tanh       sigmoid    erf
 *   float32     0.77 0.78  1.06 1.21  0.84 0.84  0.84 0.87  0.88 1.63  0.77 1.48  1.16 1.39
 *   float64     0.77 0.77  1.26 1.19  0.84 0.86  0.84 0.84  0.99 1.56  0.80 1.49  1.30 1.45
 *
 * exp: Cody and Waite 1980, ln 2 in two parts. log: the scheme of fdlibm's e_log.c (Sun 1993). tanh and sigmoid are
 * quotients of exp and of what rounding took from it. The polynomials are Chebyshev fits made for these ranges; the
 * second one of erf is a minimax fit of log(erfc(x)) + x^2 weighted by erfc(x).
 */
#define BITS(x) NAME(td_bits)(x)
#define REAL(i) NAME(td_real)(i)
#define POLY(c, x) NAME(td_poly)(c, sizeof(c) / sizeof(T), x)
#if TD_SINGLE
#define U uint32_t
#define MANTISSA 23
#define BIAS 127
#define LN2_HI 0.693145752f             /* ln 2 in two parts: n LN2_HI is exact */
#define LN2_LO 1.42860677e-6f
#else
#define U uint64_t
#define MANTISSA 52
#define BIAS 1023
#define LN2_HI 6.93147180369123816490e-01
#define LN2_LO 1.90821492927058770002e-10
#endif
/* adding 1.5 2^MANTISSA rounds to a whole number, in the low bits */
#define ROUND (TD_SINGLE ? (T)12582912.0 : (T)6755399441055744.0)

static inline U NAME(td_bits)(T x) { U i; memcpy(&i, &x, sizeof i); return i; }
static inline T NAME(td_real)(U i) { T x; memcpy(&x, &i, sizeof x); return x; }
/* not x < 0 ? -x : x, of which GCC makes a comparison and two paths */
static inline T NAME(td_abs)(T x) { return TD_SINGLE ? (T)__builtin_fabsf((float)x) : (T)__builtin_fabs((double)x); }
static inline T NAME(td_sign)(T x, T sign) {
    return TD_SINGLE ? (T)__builtin_copysignf((float)x, (float)sign) : (T)__builtin_copysign(x, sign);
}

/* c[0] + c[1] x + ... + c[n-1] x^(n-1), its even and its odd powers side by side */
static inline __attribute__((always_inline)) T NAME(td_poly)(const T *c, int n, T x) {
    const int last = (n - 1) / 2 * 2, odd_last = n / 2 * 2 - 1;
    const T z = x * x;
    T even = c[last], odd = c[odd_last];
    _Pragma("GCC unroll 16") for (int k = last - 2; k >= 0; k -= 2) even = FMA(even, z, c[k]);
    _Pragma("GCC unroll 16") for (int k = odd_last - 2; k >= 0; k -= 2) odd = FMA(odd, z, c[k]);
    return FMA(odd, x, even);
}

/* 2^n of whole n: -BIAS < n <= BIAS */
static inline T NAME(td_pow2)(T n) { return REAL((BITS(n + ROUND) << MANTISSA) + ((U)BIAS << MANTISSA)); }

/* 2^n x, in two steps: 2^n may lie outside the exponents */
static inline T NAME(td_scale)(T x, T n) {
    const T half = FMA(n, (T)0.5, ROUND) - ROUND;
    return x * NAME(td_pow2)(half) * NAME(td_pow2)(n - half);
}

/* (exp(t) - 1 - t) / t^2, |t| <= ln 2 / 2 */
static inline T NAME(td_exp_rest)(T t) {
    static const T c[] = {
#if TD_SINGLE
        0.5000000013f, 0.1666666668f, 4.166646493e-2f, 8.333310925e-3f, 1.393365e-3f, 1.989099082e-4f,
#else
        0.5, 0.166666666666666667, 0.0416666666666666768, 0.00833333333333333401, 0.0013888888888879074,
        0.000198412698412632991, 0.0000248015873364422379, 2.75573192472187308e-6, 2.75572632790884969e-7,
        2.50520710942935468e-8, 2.09181377376427364e-9, 1.60866279567803688e-10,
#endif
    };
    return POLY(c, t);
}

/* exp(x) = 2^n (1 + r + q): n = round(x / ln 2), |r| <= ln 2 / 2, q = exp(r) - 1 - r and what rounding took from r */
static inline void NAME(td_exp_parts)(T x, T *n, T *r, T *q) {
    *n = FMA(x, (T)1.4426950408889634, ROUND) - ROUND;
    const T hi = FMA(*n, -LN2_HI, x), t = FMA(*n, -LN2_LO, hi);
    *r = t;
    *q = FMA(t * t, NAME(td_exp_rest)(t), FMA(*n, -LN2_LO, hi - t));
}

/* exp(x) = 2^n (1 + minus), without what rounding took from r */
static inline void NAME(td_expm1_parts)(T x, T *n, T *minus) {
    *n = FMA(x, (T)1.4426950408889634, ROUND) - ROUND;
    const T t = FMA(*n, -LN2_LO, FMA(*n, -LN2_HI, x));
    *minus = FMA(t * t, NAME(td_exp_rest)(t), t);
}

/* *y := exp(r) of the parts, returns what rounding took */
static inline T NAME(td_exp_sum)(T r, T q, T *y) {
    const T a = 1 + r, b = (r - (a - 1)) + q;
    *y = a + b;
    return b - (*y - a);
}

/* *y := exp(x) - 1 of the parts, n <= BIAS; returns what rounding took */
static inline T NAME(td_expm1_sum)(T n, T r, T q, T *y) {
    const T s = NAME(td_pow2)(n), minus = s - 1, a = FMA(s, r, minus), b = FMA(s, q, FMA(s, r, minus - a));
    *y = a + b;
    return b - (*y - a);
}

/* (a + a_lo) / (d + d_lo) */
static inline T NAME(td_ratio)(T a, T a_lo, T d, T d_lo) {
    const T inverse = 1 / d, q = a * inverse;
    return FMA(FMA(-q, d, a) + FMA(-q, d_lo, a_lo), inverse, q);
}

static inline T NAME(vm_exp)(T x) {
    const T low = TD_SINGLE ? -105 : -746, high = TD_SINGLE ? 90 : 711;
    T n, r, q, y;
    NAME(td_exp_parts)(x < low ? low : x > high ? high : x, &n, &r, &q);
    NAME(td_exp_sum)(r, q, &y);
    return NAME(td_scale)(y, n);
}

/* exp of what is not above 0 (by more than rounding): the same, but 0 in place of denormal numbers; a third less work */
static inline T NAME(vm_exp_below)(T x) {
    const T low = TD_SINGLE ? (T)-87.33 : (T)-708.39;
    T n, r, q, y;
    NAME(td_exp_parts)(x < low ? low : x, &n, &r, &q);
    NAME(td_exp_sum)(r, q, &y);
    y *= NAME(td_pow2)(n);
    return x < low ? 0 : y;
}

static inline T NAME(vm_expm1)(T x) {
    const T low = TD_SINGLE ? -40 : -80, high = TD_SINGLE ? 89 : 710;
    T n, r, q, y;
    NAME(td_exp_parts)(x < low ? low : x > high ? high : x, &n, &r, &q);
    const int over = n > BIAS;
    NAME(td_expm1_sum)(over ? n - 1 : n, r, q, &y);
    return NAME(td_sign)(y * (over ? (T)2 : (T)1), x);
}

/* e ln 2 + log(1 + f) + small, where 1 + f is in sqrt(1/2)..sqrt(2) */
static inline T NAME(td_log)(T f, T e, T small) {
    static const T c[] = {
#if TD_SINGLE
        0.6666666655f, 0.4000012221f, 0.2855077863f, 0.2333161447f,
#else
        0.666666666666666665, 0.400000000000008832, 0.28571428570799785, 0.222222223925810451, 0.181817955475211362,
        0.153862447376216666, 0.132686383692668239, 0.130880348509275538,
#endif
    };
    const T s = f / (2 + f), z = s * s, h = (T)0.5 * f * f;
    return FMA(e, LN2_HI, f - (h - FMA(s, FMA(POLY(c, z), z, h), FMA(e, LN2_LO, small))));
}

static inline T NAME(vm_log)(T x) {
    const T normal = TD_SINGLE ? (T)1.17549435e-38 : (T)2.2250738585072014e-308;
    const U root = TD_SINGLE ? (U)0x3f3504f3 : (U)0x3fe6a09e667f3bcd;       /* sqrt(1/2) */
    const int tiny = x < normal;
    const U i = BITS(tiny ? x * (T)((U)1 << MANTISSA) : x) - root;
    /* the exponent as a number, without a conversion that AVX2 lacks */
    const T e = REAL(((i + ((U)BIAS << MANTISSA)) >> MANTISSA) + BITS(ROUND)) - (ROUND + BIAS);
    const T m = REAL((i & (((U)1 << MANTISSA) - 1)) + root);
    const T y = NAME(td_log)(m - 1, tiny ? e - MANTISSA : e, 0);
    return x > 0 ? (x < (T)INFINITY ? y : x) : x == 0 ? -(T)INFINITY : (T)NAN;
}

/* log(1 + x), 0 <= x <= 1: what rounding takes from the sum is put back */
static inline T NAME(vm_log1p)(T x) {
    const T w = 1 + x, lost = x - (w - 1);
    const int upper = w > (T)1.4142135623730951;
    return NAME(td_log)((upper ? w * (T)0.5 : w) - 1, upper ? 1 : 0, lost / w);
}

/* e / (e + 2), e = exp(2 |x|) - 1 */
static inline T NAME(vm_tanh)(T x) {
    const T z = NAME(td_abs)(x), top = TD_SINGLE ? 10 : 20;
    T n, r, q, e;
    NAME(td_exp_parts)(2 * (z > top ? top : z), &n, &r, &q);
    const T lo = NAME(td_expm1_sum)(n, r, q, &e), d = e + 2, lost = e > 2 ? 2 - (d - e) : e - (d - 2);
    return NAME(td_sign)(NAME(td_ratio)(e, lo, d, lost + lo), x);
}

/* e / (1 + e) or 1 / (1 + e), e = exp(-|x|) */
static inline T NAME(vm_sigmoid)(T x) {
    const T z = -NAME(td_abs)(x), low = TD_SINGLE ? -105 : -746;
    const int negative = x < 0;
    T n, r, q, y;
    NAME(td_exp_parts)(z < low ? low : z, &n, &r, &q);
    const T lo = NAME(td_exp_sum)(r, q, &y), s = NAME(td_pow2)(n < -100 ? -100 : n), e = s * y, d = 1 + e;
    const T ratio = NAME(td_ratio)(negative ? y : 1, negative ? lo : 0, d, FMA(s, lo, e - (d - 1)));
    return NAME(td_scale)(ratio, negative ? n : 0);
}

/* Sigmoid and tanh in the steps of recurrent layers, where half as many operations count: what rounding takes from exp is not put
   back. Errors are at most 2.7 units in the last place; no sigmoid is below exp(-87), of float64 exp(-708). */
static inline T NAME(vm_gate)(T x) {
    const T z = -NAME(td_abs)(x), low = TD_SINGLE ? -87 : -708;
    T n, minus;
    NAME(td_expm1_parts)(z < low ? low : z, &n, &minus);
    const T e = NAME(td_pow2)(n) * (1 + minus), inverse = 1 / (1 + e);
    return x < 0 ? e * inverse : inverse;
}
static inline T NAME(vm_state)(T x) {
    const T z = -2 * NAME(td_abs)(x), low = TD_SINGLE ? -20 : -40;
    T n, minus;
    NAME(td_expm1_parts)(z < low ? low : z, &n, &minus);
    const T s = NAME(td_pow2)(n), e = FMA(s, minus, s - 1);
    return NAME(td_sign)(e / (2 + e), x);
}

/* x + x P(x^2) up to 1, then 1 - exp(h(x) - x^2) */
static inline T NAME(vm_erf)(T x) {
    static const T a[] = {
#if TD_SINGLE
        0.1283791658f, -0.3761262667f, 0.1128359472f, -0.02685421201f, 0.005189087423f, -0.0008016864287f,
        7.875875063e-5f,
#else
        0.128379167095512574, -0.376126389031837481, 0.112837916709548787, -0.0268661706450767932,
        0.00522397762481801447, -0.000854832698083378991, 0.000120553311116427109, -0.0000149255952668311816,
        1.6461000484121368e-6, -1.6350312701054695e-7, 1.46597752740474358e-8, -1.13728488567916737e-9,
        5.9571761477489114e-11,
#endif
    };
    static const T c[] = {
#if TD_SINGLE
        -1.556817803f, -0.3526939474f, 0.05611474735f, -0.01071751716f, 0.002458029747f, -0.0001558846084f,
        0.0001855946409f,
#else
        -1.86243740214722691, -0.266099588371272378, 0.0332469451452667177, -0.00522565860597870533,
        0.000873687240704612107, -0.000147295597206798934, 0.0000243915331324442117, -3.88564067423730492e-6,
        5.82421161486618875e-7, -9.03377753895717568e-8, 7.36550574162272248e-10, -3.45970658605917792e-9,
        2.09331315220684601e-9, 2.99862850077075933e-9, 1.73701491002675267e-9, 6.21543979637362416e-10,
        1.37286115455617803e-10, 1.79498294992875852e-11, 1.03936150327728106e-12,
#endif
    };
    const T z = NAME(td_abs)(x), top = TD_SINGLE ? 4 : 6, mid = TD_SINGLE ? 2.5 : 3.5, t = z > top ? top : z;
    T n, r, q, y;
    NAME(td_exp_parts)(FMA(-t, t, POLY(c, t - mid)), &n, &r, &q);
    NAME(td_exp_sum)(r, q, &y);
    return NAME(td_sign)(z > 1 ? FMA(-NAME(td_pow2)(n), y, (T)1) : FMA(POLY(a, z * z), z, z), x);
}

/* x less the nearest whole number, which is 0 where x is too large to have a fraction */
static inline T NAME(vm_turn)(T x) {
    const T far = TD_SINGLE ? (T)4194304.0 : (T)2251799813685248.0;
    return NAME(td_abs)(x) < far ? x - (x + ROUND - ROUND) : x - x;
}

/* sin(2 pi t), |t| <= 1/4 */
static inline T NAME(vm_sin_quarter)(T t) {
    static const T c[] = {
#if TD_SINGLE
        6.283185307f, -41.34170212f, 81.60522617f, -76.70427988f, 42.00977930f, -14.39396630f,
#else
        6.283185307179586477, -41.34170224039976023, 81.60524927607505097, -76.70585975306072309, 42.05869394482870141,
        -15.09464257270197422, 3.81995243486680902, -0.718118921891065832, 0.1041830908706464838, -0.01168308288130749242,
#endif
    };
    return t * POLY(c, t * t);
}

/* cos(2 pi t) and sin(2 pi t), |t| <= 1/2: what is taken from a quarter or a half is exact where it matters */
static inline T NAME(vm_cos_turn)(T t) { return NAME(vm_sin_quarter)((T)0.25 - NAME(td_abs)(t)); }
static inline T NAME(vm_sin_turn)(T t) {
    const T half = t < 0 ? (T)-0.5 : (T)0.5;
    return NAME(vm_sin_quarter)(NAME(td_abs)(t) > (T)0.25 ? half - t : t);
}
#undef BITS
#undef REAL
#undef POLY
#undef U
#undef MANTISSA
#undef BIAS
#undef LN2_HI
#undef LN2_LO
#undef ROUND

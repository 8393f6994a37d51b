/* vmath.h: exp, expm1, log, log1p, tanh, sigmoid, normal distribution: scalar C without branches, for the compiler to vectorise.
 *
 * What may be fused is written FMA, so AVX2 and AVX-512 give the same bits. Largest errors in units in the last
 * place, denormal results included: over all float32 values, against double, and over 60 million float64 values
 * a function, against long double; first with FMA, then on a machine without it:
 *               exp        log        log1p
 *   float32     0.77 0.78  0.84 0.84  0.84 0.87
 *   float64     0.77 0.77  0.84 0.86  0.84 0.84
 * Where more would be lost on time than won, less of what rounding takes is kept: in every seventh block of 65536 float32 values
 * the errors are at most 2.5 (tanh), 2.7 (sigmoid), 1.0 (expm1) and 6.8 (the tail of the normal distribution) units, with FMA and
 * without. Below exp(-87), of float64 exp(-708), are no sigmoids.
 *
 * exp: Cody and Waite 1980, ln 2 in two parts. log: the scheme of fdlibm's e_log.c (Sun 1993). The polynomials are Chebyshev
 * fits made for these ranges.
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

/* exp(r) of the parts */
static inline T NAME(td_exp_sum)(T r, T q) {
    const T a = 1 + r;
    return a + ((r - (a - 1)) + q);
}

static inline T NAME(vm_exp)(T x) {
    const T low = TD_SINGLE ? -105 : -746, high = TD_SINGLE ? 90 : 711;
    T n, r, q;
    NAME(td_exp_parts)(x < low ? low : x > high ? high : x, &n, &r, &q);
    return NAME(td_scale)(NAME(td_exp_sum)(r, q), n);
}

/* exp of what is not above 0 (by more than rounding): the same, but 0 in place of denormal numbers; a third less work */
static inline T NAME(vm_exp_below)(T x) {
    const T low = TD_SINGLE ? (T)-87.33 : (T)-708.39;
    T n, r, q;
    NAME(td_exp_parts)(x < low ? low : x, &n, &r, &q);
    const T y = NAME(td_exp_sum)(r, q) * NAME(td_pow2)(n);
    return x < low ? 0 : y;
}

/* exp(x) - 1 of what is not above 0 */
static inline T NAME(vm_expm1_below)(T x) {
    const T low = TD_SINGLE ? -20 : -40;
    T n, minus;
    NAME(td_expm1_parts)(x < low ? low : x, &n, &minus);
    const T s = NAME(td_pow2)(n);
    return FMA(s, minus, s - 1);
}

/* exp(x) - 1 */
static inline T NAME(vm_expm1)(T x) {
    const T below = NAME(vm_expm1_below)(-NAME(td_abs)(x));
    return x > 0 ? -below * NAME(vm_exp)(x) : below;
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

/* e / (1 + e) or 1 / (1 + e), e = exp(-|x|); at least exp(-87), of float64 exp(-708), which is hardly a normal number */
static inline T NAME(vm_sigmoid)(T x) {
    const T z = -NAME(td_abs)(x), low = TD_SINGLE ? -87 : -708;
    T n, minus;
    NAME(td_expm1_parts)(z < low ? low : z, &n, &minus);
    const T e = NAME(td_pow2)(n) * (1 + minus), inverse = 1 / (1 + e);
    return x < 0 ? e * inverse : inverse;
}

/* -e / (2 + e), e = exp(-2 |x|) - 1 */
static inline T NAME(vm_tanh)(T x) {
    const T e = NAME(vm_expm1_below)(-2 * NAME(td_abs)(x));
    return NAME(td_sign)(e / (2 + e), x);
}

/* (1 - the normal distribution's value at z) exp(z^2 / 2), z >= 0: a polynomial in t = 1 / (1 + a z), times t; a and the error
   1.1e-8, of float64 1.1e-17, of the fit in t from 1 to 1 / (1 + 13.3 a), of float64 38 a, beyond which exp(-z^2 / 2) is 0 */
static inline T NAME(vm_normal_tail)(T z) {
    static const T c[] = {
#if TD_SINGLE
        0.09975525414f, 0.09935479906f, 0.0966253243f, 0.06695563442f, 0.1009276775f, -0.01338363651f, 0.05932094941f,
        0.0288008745f, -0.05318486013f, 0.01482798552f,
#else       /* in t - 1/2 */
        0.1538386099500126, 0.266153001156022693, 0.396244492775980999, 0.501653050674086061, 0.528065171745261158,
        0.442359287720508792, 0.266176855035872284, 0.0766304453199468235, -0.0408509130845084834, -0.0557976641599621374,
        -0.0121601520722609308, 0.0203828495237965645, 0.0136652959558251312, -0.00652235310124151344, -0.00907475862935535864,
        0.00220668662543952402, 0.00567952644803877587, -0.001113049973361505, -0.00346289700690153491, 0.000995114900203844105,
        0.0016070517318978999, -0.000764083219750838207, -0.0001137951854609424,
#endif
    };
    const T t = 1 / FMA(TD_SINGLE ? (T)0.25 : (T)0.2, z, (T)1);
    return t * POLY(c, t - (TD_SINGLE ? (T)0 : (T)0.5));
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

/* gamma.h: how much the logarithm of the gamma function grows from r to r + t, and the derivative of that by r; r > 0, t >= 0.
 *
 * By Stirling's series from 12 on, whose first term left out is below 1e-16 there, and by gamma(r + 1) = r gamma(r) below. Each
 * difference is one of ratios, so that also of t much smaller than r, where both logarithms are nearly equal, something is left. */

/* log gamma(a), less (a - 1/2) log(a) - a + log(2 pi) / 2 */
static inline T NAME(stirling)(T a) {
    const T i = 1 / a, z = i * i;
    T y = (T)(-691.0 / 360360);
    y = FMA(y, z, (T)(1.0 / 1188));
    y = FMA(y, z, (T)(-1.0 / 1680));
    y = FMA(y, z, (T)(1.0 / 1260));
    y = FMA(y, z, (T)(-1.0 / 360));
    return i * FMA(y, z, (T)(1.0 / 12));
}

/* its derivative, less log(a) */
static inline T NAME(digamma_rest)(T a) {
    const T i = 1 / a, z = i * i;
    T y = (T)(691.0 / 32760);
    y = FMA(y, z, (T)(-1.0 / 132));
    y = FMA(y, z, (T)(1.0 / 240));
    y = FMA(y, z, (T)(-1.0 / 252));
    y = FMA(y, z, (T)(1.0 / 120));
    y = FMA(y, z, (T)(-1.0 / 12));
    return FMA(y, z, (T)-0.5 * i);
}

static void NAME(log_gamma_growth)(T r, T t, T *growth, T *slope) {
    const T a = r + 12, b = a + t, w = t / a, log_ratio = w <= 1 ? NAME(vm_log1p)(w) : NAME(vm_log)(1 + w);
    T g = (a - (T)0.5) * log_ratio + t * (NAME(vm_log)(b) - 1) + (NAME(stirling)(b) - NAME(stirling)(a));
    T s = log_ratio + (NAME(digamma_rest)(b) - NAME(digamma_rest)(a));
    for (int j = 10; j >= 0; j -= 2) {
        const T x = r + (T)j, y = x + 1;
        g -= NAME(vm_log)(((x + t) / x) * ((y + t) / y));
        s += t / (y * (y + t)) + t / x / (x + t);
    }
    *growth = g;
    *slope = s;
}

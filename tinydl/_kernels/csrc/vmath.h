/* vmath.h: the C library's functions under the kernels' names. (interim) */
#if TD_SINGLE
#define TD_LIBM(fn) static inline T NAME(vm_##fn)(T x) { return fn##f(x); }
#else
#undef TD_LIBM
#define TD_LIBM(fn) static inline T NAME(vm_##fn)(T x) { return fn(x); }
#endif
TD_LIBM(exp) TD_LIBM(expm1) TD_LIBM(log) TD_LIBM(log1p) TD_LIBM(tanh) TD_LIBM(erf)
static inline T NAME(vm_sigmoid)(T x) { return 1 / (1 + NAME(vm_exp)(-x)); }

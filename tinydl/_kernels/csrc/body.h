/* body.h: everything, twice: once for float32, once for float64. Included by isa_*.c. */
#include <float.h>
#include <math.h>
#include <string.h>
#include "td.h"
#include "simd.h"
#include "table.h"

/* a * b + c rounded once where the hardware can, twice on a plain machine */
#if defined(__FMA__) || defined(__aarch64__)
#define TD_FMAF(a, b, c) __builtin_fmaf(a, b, c)
#define TD_FMAD(a, b, c) __builtin_fma(a, b, c)
#else
#define TD_FMAF(a, b, c) ((a) * (b) + (c))
#define TD_FMAD(a, b, c) ((a) * (b) + (c))
#endif

#define TD_SINGLE 1
#define T float
#define FMA TD_FMAF
#define NAME(x) x##_f32
#include "all.h"
#undef TD_SINGLE
#undef T
#undef FMA
#undef NAME

#define TD_SINGLE 0
#define T double
#define FMA TD_FMAD
#define NAME(x) x##_f64
#include "all.h"

const td_kernels TD_TABLE[2] = {
    { TD_TABLE_ROWS(f32, float) },
    { TD_TABLE_ROWS(f64, double) },
};

#include "cpu.h"

const td_kernels *td_isa(int i, int *usable) {
    *usable = 1;
#ifdef TD_HAVE_AVX512
    if (i-- == 0) {
        *usable = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
        return td_avx512;
    }
#endif
#ifdef TD_HAVE_AVX2
    if (i-- == 0) {
        *usable = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        return td_avx2;
    }
#endif
    return i == 0 ? td_generic : 0;
}

#include "cpu.h"
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

int td_cpu(void) {
#if defined(__linux__)
    unsigned cpu;
    if (!syscall(SYS_getcpu, &cpu, 0, 0)) return (int)cpu;
#endif
    return -1;
}

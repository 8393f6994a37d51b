#include "cpu.h"
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(_WIN32) && defined(__x86_64__)
#include <cpuid.h>
/* What __builtin_cpu_supports says elsewhere; Zig's library for Windows says no to everything. wide: AVX-512 F, BW, DQ and VL */
static int has_vectors(int wide) {
    unsigned a, b, c, d, low, high;
    const unsigned fma_and_osxsave = 1u << 12 | 1u << 27, features = 1u << 5 | (wide ? 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31 : 0);
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & fma_and_osxsave) != fma_and_osxsave) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    const unsigned saved = wide ? 0xe6 : 6;         /* registers that the system keeps for each thread */
    return (low & saved) == saved && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & features) == features;
}
#define TD_AVX2_HERE has_vectors(0)
#define TD_AVX512_HERE has_vectors(1)
#else
#define TD_AVX2_HERE (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#define TD_AVX512_HERE (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && \
    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
#endif

const td_kernels *td_isa(int i, int *usable) {
    *usable = 1;
#ifdef TD_HAVE_AVX512
    if (i-- == 0) {
        *usable = TD_AVX512_HERE;
        return td_avx512;
    }
#endif
#ifdef TD_HAVE_AVX2
    if (i-- == 0) {
        *usable = TD_AVX2_HERE;
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

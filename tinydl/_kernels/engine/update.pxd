from libc.stdint cimport int64_t

from tinydl._kernels.td cimport td_gradient, td_kernels, td_updatedef

cdef enum:
    FOLD = 1024     # elements folded and updated at a time: three such pieces of float64 stay in a 32 KiB L1 meanwhile
    MAX_NUMBERS = 16
    MAX_VECTORS = 4


cdef class Update:
    cdef readonly object params, statistics, state, momenta
    cdef readonly int64_t n, n_statistics
    cdef const td_kernels *k
    cdef const td_updatedef *rule
    cdef char *params_at
    cdef char *statistics_at
    cdef const double *momentum
    cdef double numbers[MAX_NUMBERS]
    cdef char *vectors[MAX_VECTORS]

    cdef void part(self, const td_gradient *g, int64_t at, int64_t count, int64_t t) noexcept nogil
    cdef void running(self, const char *batch, int64_t at, int64_t count) noexcept nogil

from libc.stdint cimport int64_t

from tinydl._kernels.td cimport TD_MAX_NUMBERS, TD_MAX_STATE, td_gradient, td_kernels, td_update_fn

cdef enum:
    FOLD = 1024     # elements folded and updated at a time: three such pieces of float64 stay in a 32 KiB L1 meanwhile


cdef class Update:
    cdef readonly object rule, params, statistics, state, momenta
    cdef readonly int64_t n, n_statistics
    cdef const td_kernels *k
    cdef td_update_fn fn
    cdef char *params_at
    cdef char *statistics_at
    cdef const double *momentum
    cdef double numbers[TD_MAX_NUMBERS]
    cdef char *vectors[TD_MAX_STATE]

    cdef void part(self, const td_gradient *g, int64_t at, int64_t count, int64_t t) noexcept nogil
    cdef void running(self, const char *batch, int64_t at, int64_t count) noexcept nogil

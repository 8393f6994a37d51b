from libc.stdint cimport int64_t

from tinydl._kernels.td cimport TD_MAX_NUMBERS, TD_MAX_STATE, td_gradient, td_kernels, td_update_fn

cdef enum:
    BLOCK = 1024     # elements averaged and updated at a time: three such pieces of float64 stay in a 32 KiB L1 meanwhile


cdef struct Segment:        # of the parameters, up to `end`: those before are the segment's before
    int64_t end
    double numbers[TD_MAX_NUMBERS]
    bint still              # a gradient of 0 changes nothing (schema.Rule.still)
    const double *varying[TD_MAX_NUMBERS]   # a number's values, an update each, from update `first` on; NULL: it stays


cdef class Update:
    cdef readonly object rule, params, statistics, state, momenta
    cdef object asked                       # what `set` was called with, if no number varies
    cdef readonly int64_t n, n_statistics
    cdef const td_kernels *k
    cdef td_update_fn fn
    cdef char *params_at
    cdef char *statistics_at
    cdef const double *momentum
    cdef Segment *segment
    cdef int n_segments
    cdef readonly object values             # what `varying` points into
    cdef readonly int64_t first, n_values   # they are of so many updates, from this number (from 0) on
    cdef readonly bint staged               # whether the whole gradient is wanted before the update
    cdef double clip_norm, clip_value       # infinite: not wanted; clip_norm negative: nor is the norm
    cdef double keep                        # of the averaged weights, an update
    cdef char *average
    cdef char *vectors[TD_MAX_STATE]

    cdef bint still(self, int64_t at, int64_t count) noexcept nogil
    cdef void part(self, const td_gradient *g, int64_t at, int64_t count, int64_t t) noexcept nogil
    cdef void piece(self, const Segment *s, const td_gradient *g, int64_t at, int64_t count, int64_t t) noexcept nogil
    cdef double clipped(self, void *g, int64_t count) noexcept nogil
    cdef double scale(self, double squares) noexcept nogil
    cdef void by(self, const char *g, int64_t at, int64_t count, double scale, int64_t t) noexcept nogil
    cdef double stages(self, char *g) noexcept nogil
    cdef void running(self, const char *batch, int64_t at, int64_t count) noexcept nogil

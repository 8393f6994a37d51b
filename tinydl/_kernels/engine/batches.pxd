from libc.stdint cimport int32_t, int64_t, uint64_t

from tinydl._kernels.engine.program cimport Program
from tinydl._kernels.engine.replica cimport Replica
from tinydl._kernels.td cimport TD_MAX_SOURCES, td_source

cdef enum:
    STATE = 0           # columns of Batches.live
    BATCH = 1
    SINCE = 2
    BUSY = 3
    WAITED = 4
    UPDATED = 5
    N_LIVE = 8          # a cache line of int64 for each worker
    IDLE = 0            # values of column STATE
    LIVE_IN_BATCH = 1
    WAITING = 2
    IN_UPDATE = 3
    GIVEN_UP = 100      # status of a batch that failed before this run began

cdef (int64_t, int64_t) steps(const int64_t *x, int64_t n) noexcept nogil


cdef class Batches:
    cdef readonly object losses, weights, statuses, workers, attempts, live, order, bounds
    cdef readonly list sources
    cdef readonly dict errors           # batch -> exception
    cdef readonly int n_workers
    cdef readonly int64_t n_batches
    cdef readonly bint interrupted      # Ctrl-C arrived inside a Python layer, or in `exchange`
    cdef td_source source[TD_MAX_SOURCES]
    cdef int64_t item_size[TD_MAX_SOURCES]
    cdef int n_sources
    cdef uint64_t seed
    cdef int max_retries
    cdef int64_t lead                   # the batch so many further is the one whose rows are prefetched meanwhile
    cdef int64_t samples                # of the batches that arrived
    cdef double *loss
    cdef double *weight
    cdef int32_t *status
    cdef int32_t *worker
    cdef int32_t *attempt
    cdef int64_t *live_at
    cdef const int64_t *index
    cdef const int64_t *bound

    cdef int hold(self, list sources, order, bounds, Program program, int n_workers, given_up) except -1
    cdef int64_t run_batch(self, int w, Replica r, int64_t b, char *gradients, int64_t step, bint may_defer,
                           int64_t now) noexcept nogil
    cdef void look_ahead(self, Replica r, int64_t b) noexcept nogil
    cdef int64_t spent(self, int64_t *live, int what, int64_t since) noexcept nogil
    cdef void note(self, int64_t b, error) noexcept

from libc.stdint cimport int64_t

from tinydl._kernels.engine.program cimport Program
from tinydl._kernels.td cimport td_ctx

cdef enum:
    POLL = 50_000_000       # nanoseconds between two looks at signals, within a batch that takes so long


cdef class Replica:
    cdef readonly Program program
    cdef readonly object params, state, hooks
    cdef readonly object error          # the exception of the last run that ended with PYTHON
    cdef object work, scratch, saved
    cdef td_ctx ctx
    cdef int64_t cancel_flag
    cdef bint poll                      # look at signals between operations: no Python runs until the batch is over
    cdef int64_t polled                 # when it did
    cdef bint has_hooks                 # Python runs inside a batch
    cdef bint deferred                  # the run before left its late products to the update
    cdef int64_t left                   # the slot of the group under way for which it did so, or -1
    cdef bint stopped                   # the run under way was told to end
    cdef object signal                  # what a signal's handler raised then
    cdef int64_t position               # operation under way; any thread may ask
    cdef int64_t *events                # (operation, start, end) in nanoseconds, one after another, or NULL
    cdef int64_t n_events, max_events
    cdef object events_array

    cdef bint bounded(self) noexcept nogil
    cdef void run_late(self) noexcept nogil
    cdef int run_ops(self, bint may_defer=*) noexcept nogil
    cdef bint look_at_signals(self) noexcept nogil
    cdef int raise_signal(self) except -1
    cdef int call_hook(self, int64_t hook) noexcept
    cdef str not_finite(self, list sources)
    cdef str allowed(self)
    cdef int set_batch(self, list sources, const int64_t *index, int64_t n, int64_t first_id) except -1

"""What csrc/sync.h declares: atomic integers, the clock, and how the workers of a run meet."""
from libc.stdint cimport int32_t, int64_t

cdef extern from "sync.h" nogil:
    int64_t td_add(int64_t *x, int64_t d)
    int td_cas(int64_t *x, int64_t from_, int64_t to)
    int64_t td_get(const int64_t *x)
    void td_set(int64_t *x, int64_t v)
    int64_t td_clock()
    void td_rest()
    ctypedef struct td_barrier:
        pass
    void td_barrier_init(td_barrier *b, int n, int spins)
    int td_barrier_arrive(td_barrier *b)
    int32_t td_barrier_turn(const td_barrier *b)
    void td_barrier_open(td_barrier *b)
    void td_barrier_abort(td_barrier *b)
    int td_barrier_wait(td_barrier *b, int32_t turn)
    ctypedef struct td_alone:
        int64_t until
    void td_look(td_alone *a, int64_t now, int64_t took)

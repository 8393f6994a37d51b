"""Threads that train serially, each its own model, take the GIL in turns.

Problem: such a thread is in native code for most of an epoch, and in Python for 50 to 200 microseconds between. If it comes
back while another one is in Python, it sleeps until that lets go of the GIL. That is soon, since many calls of NumPy let go for
a moment; the sleeper is woken and takes the GIL, and the other one sleeps in the middle of what it did. Each time costs 50
microseconds or more. Two threads that trained 64-128-10 on the digits, with a validation after each epoch, were 1.3 to 1.7
times as fast as one.

Solution: it comes back when no other one is in Python, which it waits for without the GIL (csrc/turn.h). The GIL is then free,
and nobody waits for it when NumPy lets go. They are 1.9 times as fast or more (bench/fleet.py).

Only runs of one worker take turns, and what their thread calls between two of them, as the predictions of a validation do.
Layers in Python take none within a run. With short ones two threads would be faster than they are, and no faster than one all the
same; those that are long have let go of the GIL, and would keep others from theirs.
"""
from libc.stdint cimport int64_t

from tinydl._kernels.engine.program cimport outlive, pointer

cdef extern from "turn.h" nogil:
    """
    static __thread int64_t td_turn_mine;       /* the end of this thread's turn */
    #ifdef Py_GIL_DISABLED
    enum { TD_IN_TURNS = 0 };
    #else
    enum { TD_IN_TURNS = 1 };
    #endif
    """
    int64_t td_turn_mine
    int TD_IN_TURNS
    int64_t TD_TURN_WAIT
    int64_t TD_TURN_LASTS
    int64_t td_turn_take(int64_t *until, int64_t wait, int64_t lasts)
    int td_turn_give(int64_t *until, int64_t mine)

cdef int64_t until = 0      # of all threads


cdef bint leave_python() noexcept nogil:
    """The GIL was let go: another one may come back. Whether it was this thread's turn."""
    global td_turn_mine
    cdef bint mine = td_turn_give(&until, td_turn_mine)
    td_turn_mine = 0
    return mine


cdef void enter_python(bint in_turn) noexcept nogil:
    """Before the GIL is asked for. in_turn: wait for a turn first."""
    global td_turn_mine
    if in_turn and TD_IN_TURNS:
        td_turn_mine = td_turn_take(&until, TD_TURN_WAIT, TD_TURN_LASTS)
    outlive()


def take(turn, int64_t wait, int64_t lasts):
    """td_turn_take of an int64 array (1,). For tests, as the next two."""
    cdef int64_t *at = <int64_t *>pointer(turn)
    cdef int64_t mine
    with nogil:
        mine = td_turn_take(at, wait, lasts)
    return mine


def give(turn, int64_t mine):
    """td_turn_give."""
    return bool(td_turn_give(<int64_t *>pointer(turn), mine))


def turn_ends():
    """When the turn that a thread has taken ends, in nanoseconds of the monotonic clock; 0 where it was given back."""
    return until

"""Taking the GIL in turns (gil.pyx)."""

cdef bint leave_python() noexcept nogil
cdef void enter_python(bint in_turn) noexcept nogil

from tinydl._kernels.td cimport td_kernels

cdef const td_kernels *table(bint single) noexcept nogil

from tinydl._kernels.td cimport i64, td_kernels

cdef enum:          # what an array is to a call
    READ = 0
    WRITE = 1       # an output
    SHARED = 2      # an input that may be the first output
    OPTIONAL = 4    # may be None
    STRIDED = 8     # its rows may lie apart
    ANY = 16        # of any real dtype
    INT64 = 32


cdef int dtype_of(const Py_buffer *v) noexcept


cdef class Door:
    cdef Py_buffer view[10]
    cdef int role[10]
    cdef bint given[10]         # not None
    cdef int count, floats      # how many are taken; which of them set the dtype, or -1
    cdef str kernel
    cdef tuple names
    cdef const td_kernels *run

    cdef void *take(self, object array, int role) except? NULL
    cdef wrong_dtype(self, array)
    cdef shape(self, int i)
    cdef strides(self, int i)
    cdef wrong(self, str rule)
    cdef i64 size(self, int i) noexcept nogil
    cdef int same(self, int i, int j) except -1
    cdef int rows(self, int i) except -1
    cdef int vector(self, int i, i64 n, str of) except -1
    cdef int apart(self) except -1
    cdef (size_t, size_t) extent(self, int i) noexcept

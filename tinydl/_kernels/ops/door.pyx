"""The door that the arrays of a call come in by: dtype, shape, C order, writability and overlap, checked.

Every kernel's file takes its arrays through one Door, then asks it what shapes fit; errors say what was seen.
"""
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer

from tinydl._kernels._dispatch cimport table
from tinydl._kernels.td cimport TD_BOOL, TD_F32, TD_F64, TD_I8, TD_I16, TD_I32, TD_I64, TD_U8, TD_U16, TD_U32, i64

cdef dict _DTYPES = {
    TD_F32: "float32", TD_F64: "float64", TD_U8: "uint8", TD_I8: "int8", TD_U16: "uint16", TD_I16: "int16",
    TD_I32: "int32", TD_I64: "int64", TD_U32: "uint32", TD_BOOL: "bool",
}


cdef int dtype_of(const Py_buffer *v) noexcept:
    """enum td_dtype, or -1"""
    cdef const char *f = v.format
    cdef char c
    if f == NULL:
        return TD_U8
    c = f[f[0] == b"="]         # "=f": native, but not aligned
    if f[1 + (f[0] == b"=")]:
        return -1
    if c == b"f":
        return TD_F32
    if c == b"d":
        return TD_F64
    if c == b"?":
        return TD_BOOL
    if c == b"b" or c == b"h" or c == b"i" or c == b"l" or c == b"q":
        return TD_I8 if v.itemsize == 1 else TD_I16 if v.itemsize == 2 else TD_I32 if v.itemsize == 4 else TD_I64
    if c == b"B" or c == b"H" or c == b"I" or c == b"L" or c == b"Q":
        return TD_U8 if v.itemsize == 1 else TD_U16 if v.itemsize == 2 else TD_U32 if v.itemsize == 4 else -1
    return -1


cdef class Door:
    """The arrays of one call: checked as they are taken, released when the call is over."""

    def __cinit__(self, str kernel not None, tuple names not None):
        self.kernel = kernel
        self.names = names
        self.floats = -1

    def __dealloc__(self):
        for i in range(self.count):
            if self.given[i]:
                PyBuffer_Release(&self.view[i])

    cdef void *take(self, object array, int role) except? NULL:
        cdef int i = self.count, dtype
        cdef Py_buffer *v = &self.view[i]
        v.buf = NULL
        v.len = 0
        self.role[i] = role
        self.given[i] = False
        self.count += 1
        if array is None and role & OPTIONAL:
            return NULL
        try:
            PyObject_GetBuffer(array, v, PyBUF_FORMAT | PyBUF_STRIDES)
        except (BufferError, TypeError, ValueError):
            raise self.wrong_dtype(array) from None
        self.given[i] = True
        dtype = dtype_of(v)
        if role & ANY:
            if dtype < 0:
                raise self.wrong_dtype(array)
        elif role & INT64:
            if dtype != TD_I64:
                raise self.wrong_dtype(array)
        elif dtype != TD_F32 and dtype != TD_F64:
            raise self.wrong_dtype(array)
        elif self.floats < 0:
            self.floats = i
            self.run = table(dtype == TD_F32)
        elif dtype != dtype_of(&self.view[self.floats]):
            raise TypeError(f"{self.kernel}: {self.names[self.floats]} is {_DTYPES[dtype_of(&self.view[self.floats])]} "
                            f"but {self.names[i]} is {_DTYPES[dtype]}")
        if <size_t>v.buf % <size_t>v.itemsize and v.len:
            raise ValueError(f"{self.kernel}: {self.names[i]} is not aligned to its items of {v.itemsize} bytes")
        if role & WRITE and v.readonly:
            raise ValueError(f"{self.kernel}: {self.names[i]} is read-only")
        if not role & STRIDED and not PyBuffer_IsContiguous(v, b"C"):
            raise ValueError(f"{self.kernel}: {self.names[i]} is not C-contiguous: "
                             f"shape {self.shape(i)}, strides {self.strides(i)}")
        return v.buf

    cdef wrong_dtype(self, array):
        role = self.role[self.count - 1]
        wanted = "any real dtype" if role & ANY else "int64" if role & INT64 else "float32 or float64"
        kind = str(array.dtype) if hasattr(array, "dtype") else f"a {type(array).__name__}"
        return TypeError(f"{self.kernel}: {self.names[self.count - 1]} is {kind}; needs an array of {wanted}")

    cdef shape(self, int i):
        return tuple([self.view[i].shape[k] for k in range(self.view[i].ndim)])

    cdef strides(self, int i):
        return tuple([self.view[i].strides[k] for k in range(self.view[i].ndim)])

    cdef wrong(self, str rule):
        """An error with the rule and every shape taken so far."""
        shapes = [f"{self.names[i]} {self.shape(i)}" for i in range(self.count) if self.given[i]]
        return ValueError(f"{self.kernel}: {rule}; got {', '.join(shapes)}")

    cdef i64 size(self, int i) noexcept nogil:
        return self.view[i].len // self.view[i].itemsize

    cdef int same(self, int i, int j) except -1:
        """Arrays i and j have one shape (or j is None)."""
        cdef Py_buffer *a = &self.view[i]
        cdef Py_buffer *b = &self.view[j]
        cdef int k, equal = not self.given[j] or a.ndim == b.ndim
        if self.given[j] and equal:
            for k in range(a.ndim):
                equal &= a.shape[k] == b.shape[k]
        if not equal:
            raise self.wrong(f"{self.names[i]} and {self.names[j]} must have the same shape")
        return 0

    cdef int rows(self, int i) except -1:
        """Array i is a matrix."""
        if self.view[i].ndim != 2:
            raise self.wrong(f"{self.names[i]} must have 2 dimensions")
        return 0

    cdef int vector(self, int i, i64 n, str of) except -1:
        """Array i has shape (n,) (or is None)."""
        if self.given[i] and (self.view[i].ndim != 1 or self.view[i].shape[0] != n):
            raise self.wrong(f"{self.names[i]} must have shape ({n},), {of}")
        return 0

    cdef int apart(self) except -1:
        """No output overlaps another array, but for a SHARED input that is exactly the first output."""
        cdef int w, i, first = -1
        cdef size_t a, b, a_end, b_end
        for w in range(self.count):
            if not self.role[w] & WRITE or self.view[w].len == 0:
                continue
            if first < 0:
                first = w
            a, a_end = self.extent(w)
            for i in range(self.count):
                if i == w or self.view[i].len == 0:
                    continue
                b, b_end = self.extent(i)
                if a < b_end and b < a_end and not (self.role[i] & SHARED and w == first and a == b and a_end == b_end):
                    raise ValueError(f"{self.kernel}: {self.names[w]} overlaps {self.names[i]} in memory: bytes "
                                     f"{a:#x}-{a_end:#x} and {b:#x}-{b_end:#x}")
        return 0

    cdef (size_t, size_t) extent(self, int i) noexcept:
        cdef Py_buffer *v = &self.view[i]
        cdef size_t start = <size_t>v.buf
        if self.role[i] & STRIDED:
            return start, start + <size_t>((v.shape[0] - 1) * v.strides[0] + v.shape[1] * v.itemsize)
        return start, start + <size_t>v.len

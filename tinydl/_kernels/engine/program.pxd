from libc.stdint cimport int64_t

from tinydl._kernels.td cimport TD_F32, TD_F64, TD_I16, TD_I32, TD_I64, TD_U16, TD_U32, td_kernels, td_op, td_source

cdef extern from "Python.h" nogil:
    int Py_IsInitialized()

cdef extern from "sync.h" nogil:
    void td_rest()


cdef inline void outlive() noexcept nogil:
    """Before a worker takes the GIL: where the interpreter has ended meanwhile, asking for it would crash, so the thread
    rests until the process is gone. (CPython 3.14 does the same by itself.)"""
    if not Py_IsInitialized():
        td_rest()


cdef inline void *pointer(array) except? NULL:
    return <void *><size_t>array.__array_interface__["data"][0]


cdef inline int64_t itemsize_of(int64_t dtype) noexcept nogil:
    return 4 if dtype in (TD_F32, TD_I32, TD_U32) else 8 if dtype in (TD_F64, TD_I64) else \
        2 if dtype in (TD_I16, TD_U16) else 1


cdef class Source:
    cdef readonly object array
    cdef td_source s


cdef class Program:
    cdef td_op *ops
    cdef readonly int n_ops
    cdef readonly int late, late_end        # the late operations
    cdef readonly int64_t late_k, late_a    # the most rows of their operands, and elements of the first
    cdef int n_hooks
    cdef readonly bint single
    cdef readonly list labels, hooks, hook_shapes
    cdef readonly int64_t work_bytes, max_rows, n_grads, in_items, target_items
    cdef const td_kernels *k

    cdef int check(self, Source x, Source y) except -1

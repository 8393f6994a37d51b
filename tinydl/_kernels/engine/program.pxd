from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t

from tinydl._kernels.engine.sync cimport td_rest
from tinydl._kernels.td cimport td_change, td_ctx, td_kernels, td_op, td_op_fn, td_pictures, td_ref, td_source

cdef extern from "Python.h" nogil:
    int Py_IsInitialized()


cdef inline void outlive() noexcept nogil:
    """Before a worker takes the GIL: where the interpreter has ended meanwhile, asking for it would crash, so the thread
    rests until the process is gone. (CPython 3.14 does the same by itself.)"""
    if not Py_IsInitialized():
        td_rest()


cdef inline void *pointer(array) except? NULL:
    """Where the array's first element is. (array.__array_interface__ takes several times as long, and a run asks a dozen times.)"""
    cdef Py_buffer view
    cdef void *at
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    at = view.buf
    PyBuffer_Release(&view)
    return at


cdef td_op_fn operation(const td_kernels *k, str name) except NULL


cdef class Pictures:
    cdef td_pictures p
    cdef td_change *change
    cdef readonly object scale, shift, mix, rows


cdef class Source:
    cdef readonly object array
    cdef readonly Pictures pictures
    cdef readonly tuple shape           # of all rows
    cdef object offsets                 # in elements, of sequences
    cdef readonly int64_t itemsize
    cdef td_source s


cdef struct LateProduct:    # a (k, m) transposed times b (k, n), k = k_per_sample for each sample, is the gradient at c
    int64_t m, n, k_per_sample
    td_ref a, b
    int64_t c               # elements


cdef struct Table:          # of a gradient, elements at..at + items - 1, of which each `step` have a mark, the first being number `mark`
    int64_t at, items, step, mark
    int64_t n               # marks


cdef struct Short:          # the operations for batches of sequences of up to so many steps
    int64_t steps
    td_op *ops


cdef class Program:
    cdef td_op *ops
    cdef readonly int n_ops
    cdef LateProduct *late_product
    cdef readonly int late, n_late          # the operations that are late products
    cdef readonly int64_t late_k, late_a    # the most rows of their operands, and elements of the first
    cdef readonly bint single
    cdef readonly list labels, operations, hooks, hook_places, names, source_items
    cdef readonly int n_inputs              # of the sources, those of the model; then come targets
    cdef readonly int64_t work_bytes, max_rows, n_grads
    cdef const td_kernels *k
    cdef Table *table
    cdef readonly int n_tables
    cdef readonly int64_t n_marks           # of all tables
    cdef readonly list shorter              # (steps, Program) of the shorter forms, the shortest first
    cdef Short *short
    cdef int n_short

    cdef int check(self, list sources) except -1
    cdef td_op *ops_for(self, const td_ctx *ctx) noexcept nogil


cdef inline char *at(const td_ctx *ctx, const td_ref *r) noexcept nogil:
    return ctx.base[r.space] + r.offset

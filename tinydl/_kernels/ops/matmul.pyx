"""The matrix product (csrc/matmul.h)."""
from libc.stdlib cimport free

from tinydl._kernels.ops.door cimport OPTIONAL, READ, STRIDED, WRITE, Door
from tinydl._kernels.td cimport (
    TD_ELU, TD_GELU, TD_GELU_TANH, TD_IDENTITY, TD_LEAKY_RELU, TD_RELU, TD_SIGMOID, TD_SILU, TD_TANH, i64, td_matmul,
    td_partials,
)

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef dict _ACTIVATIONS = {
    None: TD_IDENTITY, "relu": TD_RELU, "leaky_relu": TD_LEAKY_RELU, "elu": TD_ELU, "sigmoid": TD_SIGMOID,
    "tanh": TD_TANH, "gelu": TD_GELU, "gelu_tanh": TD_GELU_TANH, "silu": TD_SILU,
}


cdef i64 _row_stride(Door d, int i) except -1:
    """Elements from one row of a matrix to the next; columns must be side by side."""
    cdef Py_buffer *v = &d.view[i]
    d.rows(i)
    if v.shape[0] <= 1 or v.shape[1] == 0:
        if v.shape[1] <= 1 or v.strides[1] == v.itemsize:
            return v.shape[1]
    elif (v.shape[1] == 1 or v.strides[1] == v.itemsize) and v.strides[0] % v.itemsize == 0 \
            and v.strides[0] >= v.shape[1] * v.itemsize:
        return v.strides[0] // v.itemsize
    raise d.wrong(f"{d.names[i]} must have its columns side by side and its rows apart (strides {d.strides(i)} bytes)")


def matmul(a, b, out, *, bint trans_a=False, bint trans_b=False, bint accumulate=False, bias=None, activation=None,
           double alpha=0.01):
    """out := act(op(a) op(b) + bias), or act(op(a) op(b) + bias + out) with `accumulate`; op transposes or not.

    a and b are matrices whose rows may lie apart; out is C-contiguous; bias has one number for each column.
    The error before act is at most (min(k, 4096) + max(0, ceil(log2(k / 4096))) + 2) eps / 2 times the sum of magnitudes,
    k being the inner dimension.
    """
    cdef Door d = Door("matmul", ("a", "b", "out", "bias"))
    cdef td_matmul t
    cdef i64 a_stride, b_stride, inner, scratch, partial
    cdef int failed
    t.a = d.take(a, READ | STRIDED)
    a_stride = _row_stride(d, 0)
    t.b = d.take(b, READ | STRIDED)
    b_stride = _row_stride(d, 1)
    t.c = d.take(out, WRITE)
    d.rows(2)
    t.bias = d.take(bias, READ | OPTIONAL)
    t.m, t.k = d.view[0].shape[0], d.view[0].shape[1]
    t.a_row, t.a_col = a_stride, 1
    if trans_a:
        t.m, t.k, t.a_row, t.a_col = t.k, t.m, 1, a_stride
    inner, t.n = d.view[1].shape[0], d.view[1].shape[1]
    t.b_row, t.b_col = b_stride, 1
    if trans_b:
        inner, t.n, t.b_row, t.b_col = t.n, inner, 1, b_stride
    if inner != t.k or d.view[2].shape[0] != t.m or d.view[2].shape[1] != t.n:
        raise ValueError(f"matmul: a {d.shape(0)}{'.T' if trans_a else ''} @ b {d.shape(1)}{'.T' if trans_b else ''} "
                         f"-> out {d.shape(2)} do not fit")
    d.vector(3, t.n, "one for each column of out")
    d.apart()
    if activation not in _ACTIVATIONS:
        raise ValueError(f"matmul: activation {activation!r} is none of {', '.join(map(repr, _ACTIVATIONS))}")
    t.activation = _ACTIVATIONS[activation]
    t.c_row, t.accumulate, t.alpha, t.grad, t.grad_row, t.ahead, t.suspect = t.n, accumulate, alpha, NULL, 0, NULL, NULL
    t.stop, t.owner, t.rows, t.own, t.piece, t.partial = NULL, NULL, NULL, NULL, NULL, NULL
    scratch, partial = d.run.matmul_scratch, td_partials(t.k) * t.m * t.n * d.run.itemsize
    with nogil:
        failed = posix_memalign(&t.scratch, 64, <size_t>(scratch + partial))
        if not failed:
            t.partial = <char *>t.scratch + scratch
            d.run.matmul(&t)
            free(t.scratch)
    if failed:
        raise MemoryError(f"matmul: no {scratch + partial} bytes of scratch memory")
    return out

"""Softmax and its logarithm over rows (csrc/softmax.h)."""
from tinydl._kernels.ops.door cimport READ, SHARED, WRITE, Door


cdef _forward(str kernel, bint log, x, out):
    cdef Door d = Door(kernel, ("x", "out"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.apart()
    with nogil:
        (d.run.log_softmax if log else d.run.softmax)(px, py, d.view[0].shape[0], d.view[0].shape[1])
    return out


cdef _backward(str kernel, bint log, dy, y, out):
    cdef Door d = Door(kernel, ("dy", "y", "out"))
    cdef const void *pdy = d.take(dy, READ | SHARED)
    cdef const void *py = d.take(y, READ)
    cdef void *pdx = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    with nogil:
        (d.run.log_softmax_backward if log else d.run.softmax_backward)(pdy, py, pdx, d.view[0].shape[0], d.view[0].shape[1])
    return out


def softmax(x, out):
    """out := exp(x) / sum(exp(x)) over each row of (R, C); in place"""
    return _forward("softmax", False, x, out)


def softmax_backward(dy, y, out):
    """out := y (dy - sum(dy y)) over each row; dy in place"""
    return _backward("softmax_backward", False, dy, y, out)


def log_softmax(x, out):
    """out := x - log(sum(exp(x))) over each row of (R, C); in place"""
    return _forward("log_softmax", True, x, out)


def log_softmax_backward(dy, y, out):
    """out := dy - exp(y) sum(dy) over each row; dy in place"""
    return _backward("log_softmax_backward", True, dy, y, out)

"""Softmax and its logarithm over rows (csrc/softmax.h)."""
from tinydl._kernels.ops.door cimport READ, SHARED, WRITE, Door


def softmax(x, out):
    """out := exp(x) / sum(exp(x)) over each row of (R, C); in place"""
    cdef Door d = Door("softmax", ("x", "out"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.apart()
    with nogil:
        d.run.softmax(px, py, d.view[0].shape[0], d.view[0].shape[1])
    return out


def softmax_backward(dy, y, out):
    """out := y (dy - sum(dy y)) over each row; dy in place"""
    cdef Door d = Door("softmax_backward", ("dy", "y", "out"))
    cdef const void *pdy = d.take(dy, READ | SHARED)
    cdef const void *py = d.take(y, READ)
    cdef void *pdx = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    with nogil:
        d.run.softmax_backward(pdy, py, pdx, d.view[0].shape[0], d.view[0].shape[1])
    return out


def log_softmax(x, out):
    """out := x - log(sum(exp(x))) over each row of (R, C); in place"""
    cdef Door d = Door("log_softmax", ("x", "out"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.apart()
    with nogil:
        d.run.log_softmax(px, py, d.view[0].shape[0], d.view[0].shape[1])
    return out


def log_softmax_backward(dy, y, out):
    """out := dy - exp(y) sum(dy) over each row; dy in place"""
    cdef Door d = Door("log_softmax_backward", ("dy", "y", "out"))
    cdef const void *pdy = d.take(dy, READ | SHARED)
    cdef const void *py = d.take(y, READ)
    cdef void *pdx = d.take(out, WRITE)
    d.rows(0)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    with nogil:
        d.run.log_softmax_backward(pdy, py, pdx, d.view[0].shape[0], d.view[0].shape[1])
    return out

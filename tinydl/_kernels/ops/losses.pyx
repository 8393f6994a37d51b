"""Mean losses and their gradients (csrc/losses.h)."""
from libc.math cimport isfinite

from tinydl._kernels.ops.door cimport INT64, OPTIONAL, READ, SHARED, WRITE, Door
from tinydl._kernels.td cimport i64

cdef tuple _LOSS = ("x", "targets", "grad")


def softmax_cross_entropy(logits, labels, grad=None):
    """mean over R of log(sum(exp(logits))) - logits[label]; grad := its gradient by logits; logits in place

    logits (R, C), labels (R,) int64 in 0..C-1.
    """
    cdef Door d = Door("softmax_cross_entropy", ("logits", "labels", "grad"))
    cdef const void *px = d.take(logits, READ | SHARED)
    cdef const i64 *label = <const i64 *>d.take(labels, READ | INT64)
    cdef void *pdx = d.take(grad, WRITE | OPTIONAL)
    cdef i64 R, C, r, bad = -1
    cdef double loss = 0
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.vector(1, R, "one for each row of logits")
    d.same(0, 2)
    d.apart()
    if R == 0:
        raise d.wrong("the mean of no rows is undefined")
    with nogil:
        for r in range(R):
            if label[r] < 0 or label[r] >= C:
                bad = r
                break
        if bad < 0:
            loss = d.run.softmax_cross_entropy(px, label, pdx, R, C)
    if bad >= 0:
        raise ValueError(f"softmax_cross_entropy: labels[{bad}] = {label[bad]} is outside 0..{C - 1}")
    return loss


cdef i64 _take(Door d, x, targets, grad) except -1:
    """Takes the arrays of a loss of x and targets, element by element; gives how many elements."""
    d.take(x, READ | SHARED)
    d.take(targets, READ)
    d.take(grad, WRITE | OPTIONAL)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    if d.size(0) == 0:
        raise d.wrong("the mean of nothing is undefined")
    return d.size(0)


def sigmoid_cross_entropy(x, targets, grad=None):
    """mean of max(x, 0) - x t + log(1 + exp(-|x|)), x the logit of t in 0..1; grad := (sigmoid(x) - t) / n; in place"""
    cdef Door d = Door("sigmoid_cross_entropy", _LOSS)
    cdef i64 n = _take(d, x, targets, grad)
    cdef double loss
    with nogil:
        loss = d.run.sigmoid_cross_entropy(d.view[0].buf, d.view[1].buf, d.view[2].buf, n)
    return loss


def mean_squared_error(x, targets, grad=None):
    """mean of (x - t)^2; grad := 2 (x - t) / n; in place"""
    cdef Door d = Door("mean_squared_error", _LOSS)
    cdef i64 n = _take(d, x, targets, grad)
    cdef double loss
    with nogil:
        loss = d.run.mean_squared_error(d.view[0].buf, d.view[1].buf, d.view[2].buf, n)
    return loss


def mean_absolute_error(x, targets, grad=None):
    """mean of |x - t|; grad := sign(x - t) / n; in place"""
    cdef Door d = Door("mean_absolute_error", _LOSS)
    cdef i64 n = _take(d, x, targets, grad)
    cdef double loss
    with nogil:
        loss = d.run.mean_absolute_error(d.view[0].buf, d.view[1].buf, d.view[2].buf, n)
    return loss


def huber(x, targets, grad=None, double delta=1.0):
    """mean of z^2 / 2 where z < delta, else delta (z - delta / 2), z = |x - t|;
    grad := min(max(x - t, -delta), delta) / n; in place"""
    cdef Door d = Door("huber", _LOSS)
    cdef double loss
    cdef i64 n
    if not (delta > 0 and isfinite(delta)):
        raise ValueError(f"huber: delta = {delta} must be a finite number > 0")
    n = _take(d, x, targets, grad)
    with nogil:
        loss = d.run.huber(d.view[0].buf, d.view[1].buf, d.view[2].buf, n, delta)
    return loss

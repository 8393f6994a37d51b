"""Sums, means and norms of flat vectors, and sums down the columns of a matrix (csrc/vector.h)."""
from tinydl._kernels.ops.door cimport READ, SHARED, WRITE, Door
from tinydl._kernels.td cimport i64


cdef i64 _take(Door d, a, b, out) except -1:
    """Takes two vectors and what becomes of them; gives how many elements."""
    d.take(a, READ | SHARED)
    d.take(b, READ | SHARED)
    d.take(out, WRITE)
    d.same(0, 1)
    d.same(0, 2)
    d.apart()
    return d.size(0)


def add(a, b, out):
    """out := a + b; in place"""
    cdef Door d = Door("add", ("a", "b", "out"))
    cdef i64 n = _take(d, a, b, out)
    with nogil:
        d.run.add(d.view[0].buf, d.view[1].buf, d.view[2].buf, n)
    return out


def accumulate(out, x):
    """out += x"""
    cdef Door d = Door("accumulate", ("out", "x"))
    cdef void *po = d.take(out, WRITE)
    cdef const void *px = d.take(x, READ | SHARED)
    d.same(0, 1)
    d.apart()
    with nogil:
        d.run.accumulate(po, px, d.size(0))
    return out


def divide(x, double d):
    """x := x / d"""
    cdef Door door = Door("divide", ("x",))
    cdef void *px = door.take(x, WRITE)
    if d == 0:
        raise ZeroDivisionError("divide: d = 0")
    with nogil:
        door.run.divide(px, d, door.size(0))
    return x


def scale(x, double a):
    """x := a x"""
    cdef Door d = Door("scale", ("x",))
    cdef void *px = d.take(x, WRITE)
    with nogil:
        d.run.scale(px, a, d.size(0))
    return x


def weighted_mean(a, b, out, double wa, double wb):
    """out := wa a + wb b; in place"""
    cdef Door d = Door("weighted_mean", ("a", "b", "out"))
    cdef i64 n = _take(d, a, b, out)
    with nogil:
        d.run.weighted_mean(d.view[0].buf, d.view[1].buf, d.view[2].buf, n, wa, wb)
    return out


def squared_norm(x):
    """sum of x^2, added in double"""
    cdef Door d = Door("squared_norm", ("x",))
    cdef const void *px = d.take(x, READ)
    cdef double norm
    with nogil:
        norm = d.run.squared_norm(px, d.size(0))
    return norm


def all_finite(x):
    """True where no number of x is infinite or NaN"""
    cdef Door d = Door("all_finite", ("x",))
    cdef const void *px = d.take(x, READ)
    cdef int finite
    with nogil:
        finite = d.run.all_finite(px, d.size(0))
    return finite != 0


def column_sum(x, out, bint accumulate=False):
    """out := sum over the rows of x (R, C), or out += with `accumulate`

    The error is at most (min(R, 4096) + max(0, ceil(log2(R / 4096))) + 1) eps / 2 times the sum of magnitudes.
    """
    cdef Door d = Door("column_sum", ("x", "out"))
    cdef const void *px = d.take(x, READ)
    cdef void *py = d.take(out, WRITE)
    d.rows(0)
    d.vector(1, d.view[0].shape[1], "one for each column of x")
    d.apart()
    with nogil:
        d.run.column_sum(px, py, d.view[0].shape[0], d.view[0].shape[1], accumulate)
    return out

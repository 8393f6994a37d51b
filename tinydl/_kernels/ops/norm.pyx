"""Layer norm and batch norm (csrc/norm.h).

The errors of their sums grow as log n: csrc/vector.h bounds those along a row, csrc/td.h those down a column.
"""
from libc.stdlib cimport free, malloc

from tinydl._kernels.ops.door cimport OPTIONAL, READ, SHARED, WRITE, Door
from tinydl._kernels.td cimport i64, td_partials


def layer_norm(x, gamma, beta, out, mean, rstd, double eps=1e-5):
    """out := (x - mean) rstd gamma + beta, rstd = 1 / sqrt(var + eps), over each row of x (R, C); x in place

    gamma, beta (C,) or None; mean, rstd (R,) are written, for layer_norm_backward.
    """
    cdef Door d = Door("layer_norm", ("x", "gamma", "beta", "out", "mean", "rstd"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef const void *pg = d.take(gamma, READ | OPTIONAL)
    cdef const void *pb = d.take(beta, READ | OPTIONAL)
    cdef void *py = d.take(out, WRITE)
    cdef void *pm = d.take(mean, WRITE)
    cdef void *ps = d.take(rstd, WRITE)
    cdef i64 R, C
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.vector(1, C, "one for each column of x")
    d.vector(2, C, "one for each column of x")
    d.same(0, 3)
    d.vector(4, R, "one for each row of x")
    d.vector(5, R, "one for each row of x")
    d.apart()
    with nogil:
        d.run.layer_norm(px, pg, pb, py, pm, ps, R, C, eps)
    return out


cdef _norm_backward(str kernel, bint by_row, dy, x, gamma, mean, rstd, out, dgamma, dbeta, bint accumulate):
    cdef Door d = Door(kernel, ("dy", "x", "gamma", "mean", "rstd", "out", "dgamma", "dbeta"))
    cdef const void *pdy = d.take(dy, READ | SHARED)
    cdef const void *px = d.take(x, READ)
    cdef const void *pg = d.take(gamma, READ | OPTIONAL)
    cdef const void *pm = d.take(mean, READ)
    cdef const void *ps = d.take(rstd, READ)
    cdef void *pdx = d.take(out, WRITE)
    cdef void *pdg = d.take(dgamma, WRITE | OPTIONAL)
    cdef void *pdb = d.take(dbeta, WRITE | OPTIONAL)
    cdef i64 R, C, n_bytes
    cdef void *partial = NULL
    cdef int i
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.same(0, 1)
    d.same(0, 5)
    for i in (2, 6, 7):
        d.vector(i, C, "one for each column of x")
    for i in (3, 4):
        d.vector(i, R if by_row else C, f"one for each {'row' if by_row else 'column'} of x")
    d.apart()
    n_bytes = td_partials(R) * 2 * C * d.run.itemsize
    if by_row and n_bytes:
        partial = malloc(<size_t>n_bytes)
        if partial == NULL:
            raise MemoryError(f"{kernel}: no {n_bytes} bytes for partial sums")
    with nogil:
        if by_row:
            d.run.layer_norm_backward(pdy, px, pg, pm, ps, pdx, pdg, pdb, R, C, accumulate, partial)
            free(partial)
        else:
            d.run.batch_norm_backward(pdy, px, pg, pm, ps, pdx, pdg, pdb, R, C, accumulate)
    return out


def layer_norm_backward(dy, x, gamma, mean, rstd, out, dgamma=None, dbeta=None, bint accumulate=False):
    """out := gradient of layer_norm by x; dgamma := sum(dy h), dbeta := sum(dy) over rows, h = (x - mean) rstd,
    or += with `accumulate`; dy in place"""
    return _norm_backward("layer_norm_backward", True, dy, x, gamma, mean, rstd, out, dgamma, dbeta, accumulate)


def batch_norm(x, gamma, beta, out, mean, rstd, batch_mean=None, batch_var=None, double eps=1e-5):
    """out := (x - mean) rstd gamma + beta, rstd = 1 / sqrt(var + eps), over each column of x (R, C), R > 0; x in place

    gamma, beta (C,) or None; mean, rstd (C,) are written, for batch_norm_backward; so are batch_mean and batch_var
    (C,), for running statistics: there the variance is the unbiased one (0 for a single row).
    """
    cdef Door d = Door("batch_norm", ("x", "gamma", "beta", "out", "mean", "rstd", "batch_mean", "batch_var"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef const void *pg = d.take(gamma, READ | OPTIONAL)
    cdef const void *pb = d.take(beta, READ | OPTIONAL)
    cdef void *py = d.take(out, WRITE)
    cdef void *pm = d.take(mean, WRITE)
    cdef void *ps = d.take(rstd, WRITE)
    cdef void *pbm = d.take(batch_mean, WRITE | OPTIONAL)
    cdef void *pbv = d.take(batch_var, WRITE | OPTIONAL)
    cdef i64 R, C
    cdef int i
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.same(0, 3)
    for i in (1, 2, 4, 5, 6, 7):
        d.vector(i, C, "one for each column of x")
    d.apart()
    if R == 0:
        raise d.wrong("the mean of no rows is undefined")
    with nogil:
        d.run.batch_norm(px, pg, pb, py, pm, ps, pbm, pbv, R, C, eps)
    return out


def batch_norm_inference(x, gamma, beta, running_mean, running_var, out, double eps=1e-5):
    """out := (x - running_mean) / sqrt(running_var + eps) gamma + beta over the columns of x (R, C); x in place"""
    cdef Door d = Door("batch_norm_inference", ("x", "gamma", "beta", "running_mean", "running_var", "out"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef const void *pg = d.take(gamma, READ | OPTIONAL)
    cdef const void *pb = d.take(beta, READ | OPTIONAL)
    cdef const void *pm = d.take(running_mean, READ)
    cdef const void *pv = d.take(running_var, READ)
    cdef void *py = d.take(out, WRITE)
    cdef i64 R, C
    cdef int i
    d.rows(0)
    R, C = d.view[0].shape[0], d.view[0].shape[1]
    d.same(0, 5)
    for i in range(1, 5):
        d.vector(i, C, "one for each column of x")
    d.apart()
    with nogil:
        d.run.batch_norm_inference(px, pg, pb, pm, pv, py, R, C, eps)
    return out


def batch_norm_backward(dy, x, gamma, mean, rstd, out, dgamma=None, dbeta=None, bint accumulate=False):
    """out := gradient of batch_norm by x; dgamma := sum(dy h), dbeta := sum(dy) over rows, h = (x - mean) rstd,
    or += with `accumulate`; dy in place"""
    return _norm_backward("batch_norm_backward", False, dy, x, gamma, mean, rstd, out, dgamma, dbeta, accumulate)

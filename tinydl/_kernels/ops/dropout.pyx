"""Dropout: the mask is a hash of where a number stands (csrc/dropout.h)."""
from tinydl._kernels.ops.door cimport INT64, OPTIONAL, READ, SHARED, WRITE, Door
from tinydl._kernels.td cimport i64, u64


def dropout(x, out, double rate, u64 seed, u64 step, u64 layer=0, ids=None, i64 first_id=0):
    """out := x / (1 - rate) where hash(seed, step, layer, sample, column) >= rate 2^32, else 0; x (R, C); in place

    ids (R,) int64 numbers the samples; without it they are first_id, first_id + 1, ... The backward pass is the same.
    """
    cdef Door d = Door("dropout", ("x", "out", "ids"))
    cdef const void *px = d.take(x, READ | SHARED)
    cdef void *py = d.take(out, WRITE)
    cdef const i64 *pi = <const i64 *>d.take(ids, READ | INT64 | OPTIONAL)
    if not 0 <= rate <= 1:
        raise ValueError(f"dropout: rate = {rate} is outside 0..1")
    d.rows(0)
    d.same(0, 1)
    d.vector(2, d.view[0].shape[0], "one for each row of x")
    d.apart()
    with nogil:
        d.run.dropout(px, py, d.view[0].shape[0], d.view[0].shape[1], rate, seed, step, layer, pi, first_id)
    return out

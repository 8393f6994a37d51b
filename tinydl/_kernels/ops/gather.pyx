"""Rows of any dtype, picked by their numbers (csrc/gather.h)."""
from tinydl._kernels.ops.door cimport ANY, INT64, READ, WRITE, Door, dtype_of
from tinydl._kernels.td cimport i64, td_source


def gather_rows(source, index, out):
    """out[r] := source[index[r]], converted to out's dtype

    source (N, C) of any real dtype, index (R,) int64 in 0..N-1, out (R, C). IndexError names the first bad index;
    rows before it are written.
    """
    cdef Door d = Door("gather_rows", ("source", "index", "out"))
    cdef td_source s
    cdef i64 bad
    cdef const i64 *rows
    cdef void *py
    s.data = d.take(source, READ | ANY)
    rows = <const i64 *>d.take(index, READ | INT64)
    py = d.take(out, WRITE)
    d.rows(0)
    d.rows(2)
    d.vector(1, d.view[2].shape[0], "one for each row of out")
    if d.view[0].shape[1] != d.view[2].shape[1]:
        raise d.wrong("source and out must have the same number of columns")
    d.apart()
    s.rows, s.row_items, s.dtype = d.view[0].shape[0], d.view[0].shape[1], dtype_of(&d.view[0])
    with nogil:
        bad = d.run.gather_rows(&s, rows, py, d.view[2].shape[0])
    if bad >= 0:
        raise IndexError(f"gather_rows: index[{bad}] = {rows[bad]} is outside the {s.rows} rows of source")
    return out

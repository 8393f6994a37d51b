"""What is run: sources of samples, and programs, which are compiled plans."""
import numpy as np

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strcmp

from tinydl._kernels._dispatch cimport table
from tinydl._kernels.td cimport (
    TD_GRAD, TD_IN, TD_MAX_DIMS, TD_MAX_REALS, TD_MAX_REFS, TD_NONE, TD_OUT, TD_PARAM, TD_STATE, TD_WORK, td_op, td_partials,
)

SPACES = {"none": TD_NONE, "param": TD_PARAM, "grad": TD_GRAD, "work": TD_WORK, "state": TD_STATE, "in": TD_IN, "out": TD_OUT}
DTYPES = {"float32": 0, "float64": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
          "uint32": 8, "bool": 9}
PAGE, HUGE_PAGE = 4 << 10, 2 << 20
#: rows of the operands of late products, at most: so many are packed in one go
MOST_LATE_ROWS = 400
ALIGNING = 2 * PAGE     # bytes that `aligned` takes beyond the vector itself (on huge pages: addresses only)


def partial_sums(n_terms):
    """How many partial sums a sum of so many terms keeps beside itself (csrc/td.h): 0 up to 4096 terms."""
    return td_partials(n_terms)


def aligned(n_items, dtype):
    """Zeros on 4 KiB of their own and more: vector loads never straddle two cache lines, and a processor that reads ahead in
    one array, which it does to the end of such a page, does not take lines of another that a thread beside it writes (a
    step of W1 in two shards took 5 % less). Those of two huge pages and more lie on such, where the system has them: a TLB
    holds few small ones (a step of W4 took 4 % less)."""
    dtype = np.dtype(dtype)
    size = n_items * dtype.itemsize
    raw = _on_huge_pages(size) if size >= 2 * HUGE_PAGE else None
    if raw is None:
        raw = np.zeros(size + ALIGNING, np.uint8)
    start = -raw.__array_interface__["data"][0] % PAGE
    return raw[start:start + size].view(dtype)


def _on_huge_pages(size):
    """`size` bytes of zeros from the beginning of a huge page on, the rest behind the last full one on small pages;
    None where the system cannot say it. Errors: MemoryError."""
    import mmap
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        memory = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as e:
        raise MemoryError(f"no memory for {size:,} bytes") from e
    raw = np.frombuffer(memory, np.uint8)
    start = -raw.__array_interface__["data"][0] % HUGE_PAGE
    try:
        memory.madvise(mmap.MADV_HUGEPAGE, start, size // HUGE_PAGE * HUGE_PAGE)
    except OSError:
        return None     # a kernel built without them
    return raw[start:start + size]


cdef class Source:
    """Rows of samples that batches are gathered from: `array` (rows, ...), C-contiguous."""

    def __init__(self, array):
        if not array.flags.c_contiguous or array.dtype.name not in DTYPES or not array.dtype.isnative:
            raise ValueError(f"a source is a C-contiguous array of {', '.join(DTYPES)}; got {array.dtype}, "
                             f"strides {array.strides} for shape {array.shape}")
        self.array = array
        self.s.data = pointer(array)
        self.s.rows = array.shape[0]
        self.s.row_items = array.size // max(1, array.shape[0])
        self.s.dtype = DTYPES[array.dtype.name]


cdef class Program:
    """A plan ready to run.

    ops: (kernel name, refs [(space, offset in bytes)], dims [(fixed, per sample)], reals, label) each.
    in_items, target_items: elements of one row of x, and of y (0: none). hooks: Python objects with
    run(local, arrays); an op named "python" calls hook dims[0]. late: the first of the products that the update may make
    instead (fold.pyx), and the one behind the last: by their parameters, disjoint, a' b with k growing with the rows.
    """

    def __cinit__(self, bint single, list ops, int64_t work_bytes, int64_t max_rows, int64_t n_grads,
                  int64_t in_items, int64_t target_items, hooks=(), hook_shapes=(), late=(0, 0)):
        cdef int i, j
        self.single = single
        self.k = table(single)
        self.work_bytes = work_bytes
        self.max_rows = max_rows
        self.n_grads = n_grads
        self.in_items = in_items
        self.target_items = target_items
        self.hooks = list(hooks)
        self.hook_shapes = list(hook_shapes)
        self.n_hooks = len(self.hooks)
        self.n_ops = len(ops)
        self.late, self.late_end = late
        self.labels = [op[4] for op in ops]
        self.ops = <td_op *>calloc(max(1, self.n_ops), sizeof(td_op))
        if self.ops == NULL:
            raise MemoryError
        for i, (name, refs, dims, reals, _) in enumerate(ops):
            if len(refs) > TD_MAX_REFS or len(dims) > TD_MAX_DIMS or len(reals) > TD_MAX_REALS:
                raise ValueError(f"operation {name}: {len(refs)} refs, {len(dims)} dims, {len(reals)} reals is too many")
            j = 0
            key = name.encode()
            while self.k.ops[j].name != NULL and strcmp(self.k.ops[j].name, key) != 0:
                j += 1
            if self.k.ops[j].name == NULL:
                raise ValueError(f"no operation is called {name!r}")
            self.ops[i].fn = self.k.ops[j].fn
            for j, (space, offset) in enumerate(refs):
                self.ops[i].ref[j].space = SPACES[space]
                self.ops[i].ref[j].offset = offset
            for j, (fixed, per_sample) in enumerate(dims):
                self.ops[i].dim[j].fixed = fixed
                self.ops[i].dim[j].per_sample = per_sample
            for j, real in enumerate(reals):
                self.ops[i].real[j] = real
        if not 0 <= self.late <= self.late_end <= self.n_ops:
            raise ValueError(f"late={late}: from and to, of {self.n_ops} operations")
        for i in range(self.late, self.late_end):
            if self.ops[i].dim[2].fixed or self.ops[i].dim[2].per_sample * max_rows > MOST_LATE_ROWS:
                raise ValueError(f"a late product's inner dimension is {self.ops[i].dim[2].per_sample} a sample; at most "
                                 f"{MOST_LATE_ROWS} for {max_rows} samples")
            self.late_k = max(self.late_k, self.ops[i].dim[2].per_sample * max_rows)
            self.late_a = max(self.late_a, self.ops[i].dim[0].fixed * self.ops[i].dim[2].per_sample * max_rows)

    def __dealloc__(self):
        free(self.ops)

    cdef int check(self, Source x, Source y) except -1:
        """ValueError where rows of x or y are not as long as the plan's buffers."""
        if x.s.row_items != self.in_items:
            raise ValueError(f"a sample of x has {x.s.row_items} values; the plan is for {self.in_items}")
        if self.target_items and (y is None or y.s.row_items != self.target_items):
            raise ValueError(f"a sample of y has {0 if y is None else y.s.row_items} values; the plan is for {self.target_items}")
        return 0

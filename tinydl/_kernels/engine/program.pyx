"""Sources, which samples are read from, and programs, which are plans compiled for the engine."""
from math import prod

import numpy as np

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strcmp

from tinydl._kernels import schema

from tinydl._kernels._dispatch cimport table
from tinydl._kernels.td cimport (
    TD_ADDRESS, TD_GRAD, TD_IN, TD_MAX_SOURCES, TD_MIX, TD_NONE, TD_OUT, TD_PARAM, TD_STATE, TD_WORK, td_ctx, td_kernels, td_op,
    td_op_fn, td_partials, td_source,
)

SPACES = {"none": TD_NONE, "param": TD_PARAM, "grad": TD_GRAD, "work": TD_WORK, "state": TD_STATE, "in": TD_IN, "out": TD_OUT,
          "address": TD_ADDRESS}
#: those of sources, by `dtype.str`, which says the order of bytes, too (`dtype.name` takes NumPy ten times as long to tell)
DTYPES = {np.dtype(name).str: number for number, name in enumerate(schema.DTYPES)}
#: changes of pictures by their numbers in C; places in `mix` of Pictures
CHANGES = {name: number for number, name in enumerate(schema.CHANGES)}
MIX = TD_MIX
cdef int INT64 = DTYPES[np.dtype(np.int64).str]
PAGE, HUGE_PAGE = 4 << 10, 2 << 20
#: rows that the operands of late products may have: the matrix product packs this many in one go
MOST_LATE_ROWS = 400
ALIGNING = 2 * PAGE     # bytes that `aligned` allocates beyond the vector itself (on huge pages they cost no memory)


def partial_sums(n_terms):
    """How many partial sums a sum of so many terms keeps beside itself (csrc/td.h): 0 up to 4096 terms."""
    return td_partials(n_terms)


def aligned(n_items, dtype):
    """Zeros (n_items,) that begin at a page of 4 KiB and share no page with another array. So vector loads never straddle two
    cache lines, and a processor that prefetches to the end of a page does not fetch lines that another thread writes (a step of
    W1 in two shards took 5 % less time). Arrays of two huge pages (2 MiB each) or more lie on huge pages, where the system
    offers them: the TLB covers more memory with them (a step of W4 took 4 % less)."""
    dtype = np.dtype(dtype)
    size = n_items * dtype.itemsize
    raw = _on_huge_pages(size) if size >= 2 * HUGE_PAGE else None
    if raw is None:
        raw = np.zeros(size + ALIGNING, np.uint8)
    start = -raw.__array_interface__["data"][0] % PAGE
    return raw[start:start + size].view(dtype)


def _on_huge_pages(size):
    """`size` bytes of zeros that begin at a huge page; what is left beyond the last full huge page lies on small ones. None
    where the system offers no huge pages. MemoryError where there is no memory."""
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
        return None     # the kernel was built without huge pages
    return raw[start:start + size]


cdef class Pictures:
    """What is done to rows of a source that are pictures of `shape` (C, H, W) when they are gathered (csrc/pictures.h).

    scale, shift: float64 (C,), x becomes scale x + shift; None: as it is. changes: (name, numbers) of schema.CHANGES each. mix:
    None, or float64 (MIX + 1,), ascending from 0 to 1: quantiles of the share that a picture has in its mixture with one of
    `rows` (int64; None: of all).
    """

    def __cinit__(self, shape, scale=None, shift=None, changes=(), mix=None, rows=None):
        cdef int i, j
        self.p.C, self.p.H, self.p.W = shape
        for name, array, dtype, size in (("scale", scale, np.float64, shape[0]), ("shift", shift, np.float64, shape[0]),
                                         ("mix", mix, np.float64, MIX + 1), ("rows", rows, np.int64, None)):
            if array is not None and (array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous or not len(array)
                                      or size not in (None, len(array))):
                raise ValueError(f"{name}: {array.dtype} {array.shape}; must be {np.dtype(dtype)} ({'n' if size is None else size},)")
        if (scale is None) != (shift is None):
            raise ValueError("scale and shift come together")
        self.scale, self.shift, self.mix, self.rows = scale, shift, mix, rows
        if scale is not None:
            self.p.scale, self.p.shift = <const double *>pointer(scale), <const double *>pointer(shift)
        if mix is not None:
            self.p.mix = <const double *>pointer(mix)
        if rows is not None:
            self.p.rows, self.p.n_rows = <const int64_t *>pointer(rows), len(rows)
        self.p.n = len(changes)
        self.change = <td_change *>calloc(max(1, len(changes)), sizeof(td_change))
        if self.change == NULL:
            raise MemoryError
        self.p.change = self.change
        for i, (name, numbers) in enumerate(changes):
            self.change[i].kind = CHANGES[name]
            if numbers.keys() != set(schema.CHANGES[name]):
                raise ValueError(f"{name} takes {', '.join(schema.CHANGES[name])}; got {', '.join(numbers)}")
            for j, number in enumerate(schema.CHANGES[name]):
                self.change[i].number[j] = numbers[number]

    def __dealloc__(self):
        free(self.change)


cdef class Source:
    """Rows of samples that batches are gathered from: `array` (rows, ...), C-contiguous; or sequences of unequal lengths, an
    object with `steps` (all steps, ...), `offsets` (rows + 1,) int64 among them, `padding`, and `shape` (rows, most steps, ...).

    pictures: what is done to rows on the way, with draws by `key`.
    """

    def __init__(self, array, Pictures pictures=None, uint64_t key=0):
        shape, offsets = array.shape, None
        if hasattr(array, "offsets"):
            offsets, padding, array = array.offsets, array.padding, array.steps
        if not array.flags.c_contiguous or array.dtype.str not in DTYPES:
            raise ValueError(f"a source is a C-contiguous array of {', '.join(schema.DTYPES)}; got {array.dtype}, "
                             f"strides {array.strides} for shape {array.shape}")
        self.array, self.shape = array, shape
        self.s.data = pointer(array)
        self.s.rows = shape[0]
        self.s.row_items = prod(shape[1:])
        self.s.dtype = DTYPES[array.dtype.str]
        self.itemsize = array.itemsize
        if offsets is not None:
            self.offsets = np.ascontiguousarray(offsets, np.int64) * prod(shape[2:])
            self.s.offsets = <const int64_t *>pointer(self.offsets)
            self.s.padding = padding
        self.s.key = key
        if pictures is not None:
            if self.s.row_items != pictures.p.C * pictures.p.H * pictures.p.W:
                raise ValueError(f"rows of {self.s.row_items} values as pictures of {pictures.p.C}x{pictures.p.H}x{pictures.p.W}")
            self.pictures, self.s.pictures = pictures, &pictures.p


cdef td_op_fn operation(const td_kernels *k, str name) except NULL:
    """The table's function of that name."""
    cdef int j = 0
    key = name.encode()
    while k.ops[j].name != NULL and strcmp(k.ops[j].name, key) != 0:
        j += 1
    if k.ops[j].name == NULL:
        raise ValueError(f"no operation is called {name!r}")
    return k.ops[j].fn


cdef class Program:
    """A plan ready to run.

    ops: (name, refs [(space, offset in bytes)], sizes [(fixed, per sample)], reals, label) each, in the schema's order.
    sources: (name, elements of one row) of each, the model's n_inputs first. hooks: Python objects with run(local, arrays); "python" runs one.
    hook_places: for each hook, of each array (space, offset in bytes, shape, dtype, writable), -1 in a shape being the
    batch's rows, or None. late: the first of the products that the update may make instead (reduction.pyx), and for each
    (m, n, k per sample, a, b, c): a and b (space, offset), c the offset in the gradients; by their parameters, disjoint.
    tables: whose rows are marked where the gradient is not 0 (plan/gradients.py), by their parameters.
    """

    def __cinit__(self, bint single, list ops, int64_t work_bytes, int64_t max_rows, int64_t n_grads,
                  sources, int n_inputs, hooks=(), hook_places=(), late=(0, ()), tables=()):
        cdef int i, j
        cdef LateProduct *product
        self.single = single
        self.k = table(single)
        self.work_bytes = work_bytes
        self.max_rows = max_rows
        self.n_grads = n_grads
        self.names, self.source_items = [name for name, _ in sources], [items for _, items in sources]
        self.n_inputs = n_inputs
        self.hooks = list(hooks)
        self.hook_places = list(hook_places)
        self.n_ops = len(ops)
        self.late, products = late
        self.n_late = len(products)
        tables = list(tables)
        self.n_tables = len(tables)
        self.labels = [op[4] for op in ops]
        self.operations = [op[0] for op in ops]     # the names of what `ops` has
        if len(self.source_items) > TD_MAX_SOURCES:
            raise ValueError(f"{len(self.source_items)} inputs and targets; at most {TD_MAX_SOURCES}")
        self.ops = <td_op *>calloc(max(1, self.n_ops), sizeof(td_op))
        self.late_product = <LateProduct *>calloc(max(1, self.n_late), sizeof(LateProduct))
        self.table = <Table *>calloc(max(1, self.n_tables), sizeof(Table))
        if self.ops == NULL or self.late_product == NULL or self.table == NULL:
            raise MemoryError
        for i, (at, items, step, mark) in enumerate(tables):
            self.table[i].at, self.table[i].items, self.table[i].step, self.table[i].mark = at, items, step, mark
            self.table[i].n = (self.table[i].items + self.table[i].step - 1) // self.table[i].step
            self.n_marks += self.table[i].n
        for i, (name, refs, sizes, reals, _) in enumerate(ops):
            declared = schema.OPERATIONS[name]
            if (len(refs), len(sizes), len(reals)) != (len(declared.operands), len(declared.sizes), len(declared.real_numbers)):
                raise ValueError(f"{declared}: got {len(refs)} operands, {len(sizes)} sizes, {len(reals)} reals")
            self.ops[i].fn = operation(self.k, name)
            for j, (space, offset) in enumerate(refs):
                self.ops[i].ref[j].space = SPACES[space]
                self.ops[i].ref[j].offset = offset
            for j, (fixed, per_sample) in enumerate(sizes):
                self.ops[i].dim[j].fixed = fixed
                self.ops[i].dim[j].per_sample = per_sample
            for j, real in enumerate(reals):
                self.ops[i].real[j] = real
        if not 0 <= self.late <= self.late + self.n_late <= self.n_ops:
            raise ValueError(f"late products {self.late} to {self.late + self.n_late} of {self.n_ops} operations")
        for i, (m, n, k, a, b, c) in enumerate(products):
            if k * max_rows > MOST_LATE_ROWS:
                raise ValueError(f"a late product's inner dimension is {k} a sample; at most {MOST_LATE_ROWS} for {max_rows} samples")
            product = &self.late_product[i]
            product.m, product.n, product.k_per_sample, product.c = m, n, k, c
            product.a.space, product.a.offset = SPACES[a[0]], a[1]
            product.b.space, product.b.offset = SPACES[b[0]], b[1]
            self.late_k = max(self.late_k, product.k_per_sample * max_rows)
            self.late_a = max(self.late_a, product.m * product.k_per_sample * max_rows)

    def __dealloc__(self):
        free(self.ops)
        free(self.late_product)
        free(self.table)
        free(self.short)

    def set_shorter(self, list forms):
        """forms: (steps, Program), the shortest first. A batch runs the first one whose steps are enough for its longest
        sequence, as source 1 (int64) has their lengths, else this program. All have the same operations, but for sizes."""
        cdef int i
        cdef Program form
        if self.n_late or any([(<Program?>form).n_ops != self.n_ops or form.work_bytes > self.work_bytes for _, form in forms]):
            raise ValueError("shorter forms of another program, or of one with late products")
        self.short = <Short *>calloc(max(1, len(forms)), sizeof(Short))
        if self.short == NULL:
            raise MemoryError
        self.shorter = forms
        for i, (steps, form) in enumerate(forms):
            self.short[i].steps, self.short[i].ops = steps, form.ops
        self.n_short = len(forms)

    cdef td_op *ops_for(self, const td_ctx *ctx) noexcept nogil:
        """The operations that the batch in ctx runs."""
        cdef const td_source *lengths = &ctx.source[1]
        cdef int64_t i, row, most = 0
        if not self.n_short or lengths.dtype != INT64:
            return self.ops
        for i in range(ctx.n):
            row = i if ctx.index == NULL else ctx.index[i]
            if row < 0 or row >= lengths.rows:
                return self.ops         # the gather fails
            most = max(most, (<const int64_t *>lengths.data)[row])
        for i in range(self.n_short):
            if most <= self.short[i].steps:
                return self.short[i].ops
        return self.ops

    cdef int check(self, list sources) except -1:
        """ValueError where there are others than the plan is for, or rows of other lengths."""
        cdef int i
        if len(sources) < len(self.source_items):
            raise ValueError(f"{len(sources)} sources; the plan is for {len(self.source_items)}")
        for i, items in enumerate(self.source_items):
            if (<Source?>sources[i]).s.row_items != items:
                raise ValueError(f"a sample of {self.names[i]} has {(<Source>sources[i]).s.row_items} values; the plan is for {items}")
        return 0

"""One operation of the schema with arrays: checked at the door, run without the GIL.

    call("layer_norm", x=x, gamma=None, beta=None, out=y, mean=mean, rstd=rstd, eps=1e-5)

It is what plans run, for those who have arrays and no plan: the tests, and the losses of a validation.
"""
import numpy as np

from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from tinydl._kernels import schema

from tinydl._kernels._dispatch cimport table
from tinydl._kernels.engine.program cimport Source, operation, pointer
from tinydl._kernels.td cimport (
    TD_ADDRESS, TD_BAD_GRADIENT, TD_BAD_INDEX, TD_BAD_NUMBER, TD_BAD_VALUE, TD_MAX_SOURCES, TD_NO_PATH, TD_OK, TD_TOO_FEW, td_ctx, td_kernels, td_op,
    td_partials,
)


def call(str name not None, *, sources=(), index=None, int64_t first_id=0, uint64_t seed=0, uint64_t step=0, bint and_weight=False,
         **arguments):
    """Run one operation; arguments: its operands (arrays, or None), sizes, settings and reals by the schema's names.

    Returns the first array written, or the number that the operation gives. Sizes come from the arrays' shapes; strides of
    strided operands too. sources: arrays, or Sources, whose rows `index` (int64) are gathered. seed, step, first_id: of random masks.
    TypeError and ValueError say what does not fit: dtypes, shapes, C order, alignment, read-only outputs, overlaps.
    IndexError: a row outside a source.
    """
    cdef td_op op
    cdef td_ctx ctx
    cdef int i, status
    cdef void *scratch
    cdef const td_kernels *k
    declared = schema.OPERATIONS.get(name)
    if declared is None:
        raise ValueError(f"no operation is called {name!r}; there are {', '.join(schema.OPERATIONS)}")
    known = {*declared.operands, *declared.sizes, *declared.real_numbers}
    if not arguments.keys() <= known:
        raise TypeError(f"{declared}: {', '.join(sorted(arguments.keys() - known))} is none of its arguments")
    arrays = {n: arguments.get(n) for n in declared.operands}
    dtype = _checked(declared, arrays)
    sizes = _sizes(declared, arrays, arguments)
    _apart(declared, arrays)
    if len(sources) > TD_MAX_SOURCES:
        raise ValueError(f"{len(sources)} sources; at most {TD_MAX_SOURCES}")
    k = table(dtype == np.float32)
    memset(&op, 0, sizeof(op))
    memset(&ctx, 0, sizeof(ctx))
    op.fn = operation(k, name)
    if declared.partial and arrays["partial"] is None:
        terms, items = declared.partial_terms(sizes)
        if td_partials(terms):
            arrays["partial"] = np.empty(td_partials(terms) * items, dtype)
    if declared.room:
        arrays["room"] = np.empty(declared.room_items(sizes), dtype)
    for i, array in enumerate(arrays.values()):
        if array is not None:
            op.ref[i].space, op.ref[i].offset = TD_ADDRESS, <int64_t>pointer(array)
    for i, size in enumerate(sizes.values()):
        op.dim[i].fixed = size
    for i, (real, default) in enumerate(declared.real_numbers.items()):
        value = arguments.get(real, default)
        if value is None:
            raise TypeError(f"{declared}: {real} is missing")
        op.real[i] = value
    held = [a if isinstance(a, Source) else Source(a) for a in sources]
    for i in range(len(held)):
        ctx.source[i] = (<Source>held[i]).s
    if index is not None:
        if not isinstance(index, np.ndarray) or index.dtype != np.int64 or index.ndim != 1 or not index.flags.c_contiguous:
            raise TypeError(f"{name}: index must be a contiguous array of int64, one dimension")
        ctx.index = <const int64_t *>pointer(index)
    ctx.n = sizes.get("B", 0)
    ctx.weight = sizes.get("R", sizes.get("n", 0))
    if index is not None and len(index) < ctx.n:
        raise ValueError(f"{name}: an index of {len(index)} for {ctx.n} rows")
    if "source" in sizes:
        if not 0 <= sizes["source"] < len(held):
            raise ValueError(f"{name}: source {sizes['source']} of {len(held)}")
        source = held[sizes["source"]]
        if declared.operands["out"].dtype and source.array.dtype.kind not in "iub":
            raise TypeError(f"{name}: source {sizes['source']} is {source.array.dtype}; needs integers")
        if sizes["I"] != (<Source>source).s.row_items:
            raise ValueError(f"{name}: rows of {sizes['I']} from a source whose rows have {(<Source>source).s.row_items} values")
    ctx.first_id, ctx.seed, ctx.step = first_id, seed, step
    with nogil:
        scratch = malloc(<size_t>k.matmul_scratch + 64)
        if scratch != NULL:
            ctx.scratch = <void *>((<uintptr_t>scratch + 63) // 64 * 64)        # the start of a cache line
            status = op.fn(&op, &ctx)
            free(scratch)
        else:
            status = -1
    if status == -1:
        raise MemoryError(f"{name}: no {k.matmul_scratch} bytes of scratch memory")
    if status == TD_BAD_INDEX:
        raise IndexError(f"{name}: row {ctx.detail} is outside the source")
    if status == TD_BAD_VALUE:
        raise ValueError(f"{name}: the value {ctx.detail} is outside its range")
    if status == TD_TOO_FEW:
        raise ValueError(f"{name} takes 2 values of each column or more; got {ctx.detail}")
    if status == TD_BAD_GRADIENT:
        raise FloatingPointError(f"{name}: x has what is not finite")
    if status not in (TD_OK, TD_BAD_NUMBER, TD_NO_PATH):    # a number that is not finite is the caller's to look at
        raise RuntimeError(f"{name} ended with status {status}")
    if declared.number:
        if and_weight:
            return ctx.number, ctx.weight
        return ctx.number
    return next((a for n, a in arrays.items() if declared.operands[n].written), None)


def weighted_mean(a, b, out, double wa, double wb):
    """out := wa a + wb b, of vectors of one dtype and length; out may be a or b. What `call` does of that name, for those who
    do it in each update: its checks take longer than a short vector."""
    cdef int64_t n = len(a)
    cdef const void *left = pointer(a)
    cdef const void *right = pointer(b)
    cdef void *to = pointer(out)
    cdef const td_kernels *k = table(a.dtype == np.float32)
    for array in (a, b, out):
        if array.ndim != 1 or len(array) != n or array.dtype != a.dtype or not array.flags.c_contiguous:
            raise ValueError(f"weighted_mean: a {a.shape}, b {b.shape}, out {out.shape} of {a.dtype}, {b.dtype}, {out.dtype}; "
                             "all must be vectors alike")
    if a.dtype != np.float32 and a.dtype != np.float64:
        raise TypeError(f"weighted_mean: {a.dtype}; must be float32 or float64")
    with nogil:
        k.weighted_mean(left, right, to, n, wa, wb)


#: what an operand takes by its `dtype` in the schema: each array's `dtype.str`, which says the order of bytes, too
DTYPES = {name: (np.dtype(name).str,) for name in schema.DTYPES}
DTYPES |= {None: DTYPES["float32"] + DTYPES["float64"], "any": sum(DTYPES.values(), ())}


def _checked(declared, arrays):
    """The dtype that all floats have."""
    dtype, first = None, None
    for name, operand in declared.operands.items():
        a = arrays[name]
        if a is None:
            if operand.optional:
                continue
            raise TypeError(f"{declared.name}: {name} is missing; {declared}")
        wanted = operand.dtype or "float32 or float64"
        if not isinstance(a, np.ndarray) or a.dtype.str not in DTYPES[operand.dtype]:
            raise TypeError(f"{declared.name}: {name} is {a.dtype if isinstance(a, np.ndarray) else f'a {type(a).__name__}'}; "
                            f"needs an array of {wanted}")
        if operand.dtype in (None, "any"):
            if dtype is not None and a.dtype != dtype:
                raise TypeError(f"{declared.name}: {first} is {dtype} but {name} is {a.dtype}")
            dtype, first = a.dtype, first or name
        if not a.flags.aligned:
            raise ValueError(f"{declared.name}: {name} is not aligned to its items of {a.itemsize} bytes")
        if operand.written and not a.flags.writeable:
            raise ValueError(f"{declared.name}: {name} is read-only")
        if operand.strided:
            if a.ndim != 2 or any(s % a.itemsize for s in a.strides) or not (
                    _step(a, 0) == 1 or _step(a, 1) == 1) or min(_step(a, 0), _step(a, 1)) < 1:
                raise ValueError(f"{declared.name}: {name} must be a matrix with its rows or its columns side by side; "
                                 f"got shape {a.shape}, strides {a.strides} bytes")
        elif not a.flags.c_contiguous:
            raise ValueError(f"{declared.name}: {name} is not C-contiguous: shape {a.shape}, strides {a.strides}")
    return dtype


def _step(a, axis):
    """Elements from one to the next along an axis; where there is no next one, as makes a matrix of it."""
    if a.shape[axis] > 1 and a.size:
        return a.strides[axis] // a.itemsize
    return 1 if axis == 1 or _step(a, 1) != 1 else max(1, a.shape[1])


def _sizes(declared, arrays, arguments):
    """All sizes by name, in the schema's order."""
    sizes = {}

    def wrong(rule):
        shapes = ", ".join(f"{n} {a.shape}" for n, a in arrays.items() if a is not None)
        return ValueError(f"{declared.name}: {rule}; got {shapes}")
    shape = None    # of all, where the operation is element by element: any number of axes, all the same
    elementwise = {o.shape for o in declared.operands.values() if o.shape and not o.optional} == {("n",)}
    for name, operand in declared.operands.items():
        a = arrays[name]
        if a is None or operand.shape is None:
            continue
        if elementwise and operand.shape == ("n",):
            shape = a.shape if shape is None else shape
            if a.shape != shape:
                raise wrong(f"{name} must have the shape {shape}")
            sizes["n"] = a.size
            continue
        if a.ndim != len(operand.shape):
            raise wrong(f"{name} must have {len(operand.shape)} dimensions, [{', '.join(operand.shape)}]")
        for letter, length in zip(operand.shape, a.shape):
            if sizes.setdefault(letter, length) != length:
                raise wrong(f"{letter} of {name} is {length}, and {sizes[letter]} before; {declared}")
        if operand.strided:
            sizes[f"{name}_row"], sizes[f"{name}_col"] = _step(a, 0), _step(a, 1)
    for letter in declared.at_least_one.split():
        if sizes[letter] == 0:
            raise wrong(f"the mean of no {'rows' if letter == 'R' else 'elements'} is undefined")
    for total, part in (("n", "S"), ("R", "S"), ("n", "C")):
        if total in sizes and part in sizes and "S" in declared.sizes and sizes[part] and sizes[total] % sizes[part]:
            raise wrong(f"{total} = {sizes[total]} must be a multiple of {part} = {sizes[part]}")
    out = {}
    for name, default in declared.sizes.items():
        value = sizes.get(name, arguments.get(name, default))
        if value is None:
            raise TypeError(f"{declared}: {name} is missing")
        out[name] = value
    return out


def _apart(declared, arrays):
    """What is written overlaps nothing, but for an input that it may be written over and exactly is."""
    given = [(n, a, *np.lib.array_utils.byte_bounds(a)) for n, a in arrays.items() if a is not None and a.size]
    for name, a, start, end in given:
        if not declared.operands[name].written:
            continue
        for other, b, first, last in given:
            if other != name and start < last and first < end and not (
                    (name, other) in declared.pairs and start == first and end == last):
                raise ValueError(f"{declared.name}: {name} overlaps {other} in memory: bytes {start:#x}-{end:#x} and "
                                 f"{first:#x}-{last:#x}")

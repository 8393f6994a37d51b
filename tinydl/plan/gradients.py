"""What is done about gradients of parameters: large ones come last, where the update may make them; rows of large tables are
marked where they are not 0; all are checked."""
from __future__ import annotations

from itertools import takewhile
from typing import Any

from tinydl._kernels.engine import MOST_LATE_ROWS
from tinydl.plan.builder import Builder
from tinydl.plan.operation import Op, ref
from tinydl.plan.values import Buffer, Rows

#: gradients that may be left to the update: bytes of one, and of all, from which on no cache holds them; rows and columns, of
#: which fewer would make poor pieces; multiply-adds of all in a batch, for nothing interrupts an update
LATE_BYTES, LATE_MODEL, LATE_SIDE, LATE_WORK = 1 << 20, 4 << 20, 256, 3e9


def make_last(ops: list[Op], n_params: int, itemsize: int, max_rows: int) -> tuple[list[Op], list[Op]]:
    """Move the products that are large gradients behind everything else, by their parameters: the update may make them
    piece by piece instead, and use up each piece while a cache holds it (engine/reduction.pyx). Returns all, and those."""
    writes = [w.offset for op in ops for w in op.writes if w.space == "grad"]
    late: list[Op] = []
    work = 0.0

    def may_wait(op: Op) -> bool:
        m, n, k = (op.sizes[s] for s in "mnk")
        out = op.buffer("out")
        return (isinstance(m, int) and isinstance(n, int) and isinstance(k, Rows) and m * n * itemsize >= LATE_BYTES
                and min(m, n) >= LATE_SIDE and k.per_sample * max_rows <= MOST_LATE_ROWS
                and [op.sizes[s] for s in ("a_row", "a_col", "b_row", "b_col", "accumulate", "activation")] == [1, m, n, 1, 0, 0]
                and op.places["bias"] is None and op.places["saved"] is None
                and out is not None and out.space == "grad" and writes.count(out.offset) == 1)
    if n_params * itemsize >= LATE_MODEL:
        for op in [op for op in ops if op.name == "matmul" and may_wait(op)]:
            if work + op.multiply_adds(max_rows) <= LATE_WORK:
                work += op.multiply_adds(max_rows)
                late.append(op)
                op.notes.append("(or by the update)")
    late.sort(key=lambda op: op.writes[0].offset)
    return [op for op in ops if op not in late] + late, late


#: bytes of a table whose rows are marked: less is cleared and updated as a whole in as little time; and elements that one mark is
#: for at least, four cache lines of float32
MARKED_BYTES, MARKED_ITEMS = 1 << 20, 64


def mark_tables(ops: list[Op], itemsize: int) -> list[tuple[int, int, int, int]]:
    """Have the operations mark which rows of large tables they write, where nothing else writes the gradient (as a layer that is
    tied to the table does). Returns for the engine, of each table in their order: the first element, all elements, elements a
    mark, and the first mark."""
    tables: dict[int, list[Op]] = {}
    other = set()
    for op in ops:
        for w in op.writes:
            if w.space == "grad" and op.name in ("embedding_backward", "embedding_bag_backward"):
                tables.setdefault(w.offset, []).append(op)
            elif w.space == "grad":
                other.add(w.offset)
    found, marks = [], 0
    for offset, writers in sorted(tables.items()):
        N, D = (int(writers[0].sizes[name]) for name in "ND")
        if offset in other or N * D * itemsize < MARKED_BYTES:
            continue
        each = max(1, MARKED_ITEMS // D)
        for op in writers:
            op.sizes |= {"marks": marks, "each": each}
        found.append((offset // itemsize, N * D, each * D, marks))
        marks += -(-N // each)
    return found


def late_product(op: Op, itemsize: int) -> tuple[Any, ...]:
    """What the engine is told of one (Program's `late`)."""
    m, n, k = (op.sizes[s] for s in "mnk")
    return m, n, k.per_sample, ref(op.places["a"]), ref(op.places["b"]), ref(op.places["out"])[1] // itemsize


def check_gradients(b: Builder) -> None:
    """Products watch what they write, and so do sums of rows of marked tables; what others write is looked at, and all of it
    where one of them had a suspicion.
    The last product, where no parameter is read any more, also makes those that will be updated this thread's own."""
    size = b.dtype.itemsize
    written = [(op, w) for op in b.ops for w in op.writes if w.space == "grad"]
    for op, _ in written:
        if op.name == "matmul":
            op.sizes["watched"] = 1
    behind = list(takewhile(lambda op: not any(r.space == "param" for r in op.reads), reversed(b.ops)))
    for op in [op for op in behind if op.name == "matmul" and op.sizes["watched"] == 1][:1]:
        op.sizes["watched"] = 2

    def watches(op: Op) -> bool:
        return op.name == "matmul" or op.sizes.get("marks", -1) != -1
    others = {w.offset for op, w in written if not watches(op)}
    watched = {w.offset: w.offset + w.items * size for op, w in written if watches(op) and w.offset not in others}
    at, end = 0, b.n_params * size
    for start, stop in [*sorted(watched.items()), (end, end)]:
        if at < start:
            _check(b, at, (start - at) // size, suspected=0)
        at = stop
    if watched:
        _check(b, 0, b.n_params, suspected=1)


def _check(b: Builder, offset: int, n: int, *, suspected: int) -> None:
    gradients = Buffer(n, False, "grad", offset, b.dtype, "gradients")
    b.emit("check_finite", x=gradients, n=n, suspected=suspected, label="check")

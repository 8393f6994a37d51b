"""The plan compiler: a model's layers emit operations, the plan fuses, places and freezes them.

    b = Builder(dtype, training=True, ...)
    x = b.input(shape)                      # rows of the batch, gathered by index
    y, backward = layer.emit(b, x)          # forward operations, and how to emit the backward ones
    dy = loss.emit(b, y)                    # targets, loss, its gradient
    backward(dy)                            # backward operations, gradients into the slot's vector
    program = b.compile(max_rows)           # fuse, place buffers, encode

A Value is what flows between layers: a buffer and the shape of one sample in it. Buffers are placed by
their lives: two that are never alive together share memory, and an operation that may work in place does.
Large gradients of weights come last, where the update may make them instead (`_make_last`).
All sizes are (fixed + per sample * rows), so one program serves every batch up to max_rows.

Fusions: an activation whose gradient needs only its output moves into the matrix product before it;
its derivative into the product that makes the gradient; softmax is one operation with its loss.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._kernels.engine import MOST_LATE_ROWS, Program, partial_sums
from tinydl.nn.values import FROM_OUTPUT, KINDS, Buffer, Rows, Value

if TYPE_CHECKING:
    from tinydl.nn.layer import Parameter, Statistic

__all__ = ["Builder", "Plan"]

ALIGN = 64
#: gradients that may be left to the update: bytes of one, and of all, from which on no cache holds them; rows and columns, of
#: which fewer would make poor pieces; multiply-adds of all in a batch, for nothing interrupts an update
LATE_BYTES, LATE_MODEL, LATE_SIDE, LATE_WORK = 1 << 20, 4 << 20, 256, 3e9


@dataclass(eq=False)
class Op:
    """One operation. `in_place` = (i, j): it may read reads[i] and write writes[j] at the same place."""

    name: str
    reads: list[Buffer | None]
    writes: list[Buffer | None]
    dims: list[int | Rows]
    reals: list[float]
    label: str
    in_place: tuple[int, int] | None = None
    notes: list[str] = field(default_factory=list)

    def multiply_adds(self, rows: float) -> float:
        """Of a matrix product for a batch of that many rows; 0 of anything else."""
        if self.name != "matmul":
            return 0
        return prod((d.per_sample * rows if isinstance(d, Rows) else d) for d in self.dims[:3])

    def encode(self) -> tuple[Any, ...]:
        refs = [("none", 0) if r is None else (r.space, r.offset) for r in (*self.reads, *self.writes)]
        dims = [(0, d.per_sample) if isinstance(d, Rows) else (int(d), 0) for d in self.dims]
        return (self.name, refs, dims, self.reals, self.label)


class Builder:
    """Collects the operations of one plan; see the module's docstring."""

    def __init__(self, dtype: np.dtype[Any], *, training: bool, n_params: int, n_statistics: int) -> None:
        self.dtype, self.training = np.dtype(dtype), training
        self.n_params, self.n_statistics = n_params, n_statistics
        self.ops: list[Op] = []
        self.hooks: list[Any] = []
        self.hook_shapes: list[list[tuple[tuple[int, ...], np.dtype[Any], bool]]] = []
        self.output: Value | None = None
        self.in_items = self.target_items = 0
        self._written: set[int] = set()       # parameters that already have a gradient in this plan
        self._scope: list[str] = []
        self._n_random = 0

    # ------------------------------------------------------------------ what layers call
    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Operations emitted inside are labelled with `name`."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    @property
    def path(self) -> str:
        return ".".join(self._scope)

    def buffer(self, items: int, *, per_row: bool = True, itemsize: int | None = None, name: str = "") -> Buffer:
        return Buffer(items, per_row, "work", 0, itemsize or self.dtype.itemsize, name or self.path)

    def value(self, shape: tuple[int, ...], *, needs_grad: bool = True) -> Value:
        """A new value of the batch's rows; its memory is found at the end."""
        return Value(self.buffer(prod(shape)), shape, needs_grad)

    def input(self, shape: tuple[int, ...]) -> Value:
        """The batch's rows of x."""
        size = self.in_items = prod(shape)
        rows = Buffer(size, True, "in", 0, self.dtype.itemsize, "x")
        self.emit("gather", [], [self.buffer(size, name="x")], label="input")
        return Value(rows, shape, needs_grad=False)

    def param(self, p: Parameter) -> Buffer:
        return Buffer(p.size, False, "param", p.offset * self.dtype.itemsize, self.dtype.itemsize, p.name)

    def grad(self, p: Parameter) -> tuple[Buffer, int]:
        """Where p's gradient goes, and whether to add to it (1: a layer used twice) or overwrite it (0)."""
        accumulate = int(p.offset in self._written)
        self._written.add(p.offset)
        return Buffer(p.size, False, "grad", p.offset * self.dtype.itemsize, self.dtype.itemsize, p.name), accumulate

    def statistic(self, s: Statistic, *, batch: bool) -> Buffer:
        """A running statistic, or the place in the slot's vector for this batch's."""
        at = (self.n_params + s.offset if batch else s.offset) * self.dtype.itemsize
        return Buffer(s.size, False, "grad" if batch else "state", at, self.dtype.itemsize, s.name)

    def random_key(self) -> int:
        """A number of its own for each random layer."""
        self._n_random += 1
        return self._n_random - 1

    def emit(self, name: str, reads: Sequence[Buffer | Value | None], writes: Sequence[Buffer | Value | None],
             dims: Sequence[int | Rows] = (), reals: Sequence[float] = (), *, label: str | None = None,
             in_place: tuple[int, int] | None = None) -> None:
        """Append one operation of csrc/ops.h; reads, writes, dims, reals as its comment there says."""
        def buffers(values: Sequence[Buffer | Value | None]) -> list[Buffer | None]:
            return [v.buffer if isinstance(v, Value) else v for v in values]
        self.ops.append(Op(name, buffers(reads), buffers(writes), list(dims), [float(r) for r in reals],
                           self.path if label is None else label, in_place))

    def matmul(self, m: int | Rows, n: int, k: int | Rows, a: Buffer, b: Buffer, c: Buffer, *, trans_a: bool = False,
               trans_b: bool = False, bias: Buffer | None = None, accumulate: int = 0) -> None:
        """c (m, n) := (c +) op(a) (m, k) @ op(b) (k, n) + bias. Of m and k at most one grows with the rows."""
        a_strides = (1, m) if trans_a else (k, 1)
        b_strides = (1, k) if trans_b else (n, 1)
        self.emit("matmul", [a, b, bias, None], [c], [m, n, k, *a_strides, *b_strides, accumulate, 0, 0], [0.0])

    def python(self, hook: Any, reads: Sequence[Value | Buffer | None], writes: Sequence[Value | Buffer | None],
               shapes: Sequence[tuple[int, ...]]) -> None:
        """A Python object's run(local, arrays): an array for each read (read-only), then each write, in `shapes`.

        Shapes are of one sample, or whole for buffers that are not per row. A run may return the loss.
        """
        self.emit("python", reads, writes, [len(self.hooks)])
        self.hooks.append(hook)
        specs = []
        for i, (place, shape) in enumerate(zip([*reads, *writes], shapes, strict=True)):
            buffer = place.buffer if isinstance(place, Value) else place
            labels = buffer is not None and buffer.name == "labels"
            whole = buffer is not None and not buffer.per_row
            specs.append((shape if whole else (-1, *shape), np.dtype(np.int64) if labels else self.dtype, i >= len(reads)))
        self.hook_shapes.append(specs)

    # ------------------------------------------------------------------ compiling
    def compile(self, max_rows: int) -> Plan:
        """Fuse, place, encode: the plan for batches of up to max_rows rows."""
        n_emitted = len(self.ops)
        if self.output is not None:
            self._deliver(self.output)
        self._fuse()
        self._read_apart()
        late = (0, 0)
        if self.training and self.n_params:
            late = self._make_last(max_rows)
            self._check_gradients()
        self._room_for_partial_sums(max_rows)
        bytes_needed, unshared = self._place(max_rows)
        program = Program(self.dtype == np.float32, [op.encode() for op in self.ops], bytes_needed, max_rows,
                          (self.n_params + self.n_statistics) if self.training else 0, self.in_items, self.target_items,
                          self.hooks, self.hook_shapes, late)
        return Plan(program, self.ops, bytes_needed, unshared, max_rows, n_emitted)

    def _deliver(self, y: Value) -> None:
        """The last operation that writes y writes the caller's array instead; a y that nobody wrote is copied."""
        out = Buffer(y.size, True, "out", 0, self.dtype.itemsize, "output")
        if y.buffer.space != "work":
            self.emit("copy", [y], [out], [Rows(y.size)], label="output")
            return
        for op in self.ops:
            op.reads = [out if r is y.buffer else r for r in op.reads]
            op.writes = [out if w is y.buffer else w for w in op.writes]

    def _uses(self) -> dict[Buffer, list[int]]:
        """Where each buffer of the workspace (or the output) is read or written. Reading the batch's rows uses
        the buffer that `gather` may have put them in."""
        uses: dict[Buffer, list[int]] = {}
        rows = next((op.writes for op in self.ops if op.name == "gather"), [])
        for i, op in enumerate(self.ops):
            for place in (*op.reads, *op.writes):
                for b in rows if place is not None and place.space == "in" else [place]:
                    if b is not None and b.space in ("work", "out"):
                        uses.setdefault(b, []).append(i)
        return uses

    def _read_apart(self) -> None:
        """Where products with the same number of columns alone read the batch's rows, a sample being one row of theirs,
        `gather` may note where the rows lie instead of copying them together."""
        columns: set[int | Rows | None] = set()
        for op in self.ops:
            is_rows = [r is not None and r.space == "in" for r in op.reads]
            if any(is_rows):
                is_product = op.name == "matmul" and is_rows == [True, False, False, False]
                columns.add(op.dims[1] if is_product and {op.dims[0], op.dims[2]} == {Rows(1), self.in_items} else None)
        n = columns.pop() if len(columns) == 1 and self.in_items > 1 else None
        for op in self.ops:
            if op.name == "gather" and n is not None:
                op.writes.append(Buffer(1, True, "work", 0, 8, "addresses"))
                op.dims.append(n)

    def _fuse(self) -> None:
        """Move an activation (or its derivative) into the matrix product just before it, where nobody else looks."""
        uses = self._uses()
        kept: list[Op] = []
        for i, op in enumerate(self.ops):
            before = kept[-1] if kept else None
            x = op.reads[0] if op.reads else None
            if (before is not None and before.name == "matmul" and x is not None and before.writes[0] is x
                    and x.space == "work" and uses[x] == [i - 1, i] and before.dims[8] == 0):
                kind = int(op.dims[1]) if op.name.startswith("activation") else -1     # type: ignore[arg-type]
                if op.name == "activation" and (list(KINDS)[kind] in FROM_OUTPUT or not self.training):
                    before.writes[0], before.dims[8], before.reals[0] = op.writes[0], kind, op.reals[0]
                    before.notes.append(f"+ {list(KINDS)[kind]}")
                    kept.append(Op("fused", [], [], [], [], ""))      # keeps positions; dropped below
                    continue
                if op.name == "activation_backward":
                    before.reads[3], before.writes[0] = op.reads[1], op.writes[0]
                    before.dims[8], before.reals[0] = kind, op.reals[0]
                    before.notes.append(f"* {list(KINDS)[kind]}'")
                    kept.append(Op("fused", [], [], [], [], ""))
                    continue
            kept.append(op)
        self.ops = [op for op in kept if op.name != "fused"]

    def _make_last(self, max_rows: int) -> tuple[int, int]:
        """Move the products that are large gradients behind everything else, by their parameters: the update may make them
        piece by piece instead, and use up each piece while a cache holds it (engine/fold.pyx). First of them, and end."""
        writes = [w.offset for op in self.ops for w in op.writes if w is not None and w.space == "grad"]
        size, late, work = self.dtype.itemsize, [], 0.0

        def may_wait(op: Op) -> bool:
            m, n, k = op.dims[:3]
            c = op.writes[0]
            return (isinstance(m, int) and isinstance(n, int) and isinstance(k, Rows) and m * n * size >= LATE_BYTES
                    and min(m, n) >= LATE_SIDE and k.per_sample * max_rows <= MOST_LATE_ROWS
                    and op.dims[3:9] == [1, m, n, 1, 0, 0] and op.reads[2:] == [None, None]
                    and c is not None and c.space == "grad" and writes.count(c.offset) == 1)
        if self.n_params * size >= LATE_MODEL:
            for op in [op for op in self.ops if op.name == "matmul" and may_wait(op)]:
                if work + op.multiply_adds(max_rows) <= LATE_WORK:
                    work += op.multiply_adds(max_rows)
                    late.append(op)
                    op.notes.append("(or by the update)")
        self.ops = [op for op in self.ops if op not in late]
        first = len(self.ops)
        self.ops += sorted(late, key=lambda op: op.writes[0].offset if op.writes[0] else 0)
        return first, len(self.ops)

    def _check_gradients(self) -> None:
        """Products watch what they write; what others write is looked at, and all of it where a product had a suspicion.
        The last product, where no parameter is read any more, also makes those that will be updated this thread's own."""
        size = self.dtype.itemsize
        written = [(op, w) for op in self.ops for w in op.writes if w is not None and w.space == "grad"]
        for op, _ in written:
            if op.name == "matmul":
                op.dims[9] = 1
        behind = list(takewhile(lambda op: not any(r is not None and r.space == "param" for r in op.reads), reversed(self.ops)))
        for op in [op for op in behind if op.name == "matmul" and op.dims[9] == 1][:1]:
            op.dims[9] = 2
        others = {w.offset for op, w in written if op.name != "matmul"}
        watched = {w.offset: w.offset + w.items * size for op, w in written if op.name == "matmul" and w.offset not in others}
        at, end = 0, self.n_params * size
        for start, stop in [*sorted(watched.items()), (end, end)]:
            if at < start:
                self._check(at, (start - at) // size, "gradients", suspected=0)
            at = stop
        if watched:
            self._check(0, self.n_params, "gradients", suspected=1)

    def _check(self, offset: int, n: int, name: str, *, suspected: int) -> None:
        gradients = Buffer(n, False, "grad", offset, self.dtype.itemsize, name)
        self.ops.append(Op("check_gradient", [gradients], [], [n, suspected], [], "check"))

    def _room_for_partial_sums(self, max_rows: int) -> None:
        """Sums of so many terms that they are added in a tree (csrc/td.h) need room for those that wait."""
        for op in self.ops:
            d = [d.per_sample * max_rows if isinstance(d, Rows) else d for d in op.dims[:3]]
            terms, items = ((d[2], d[0] * d[1]) if op.name == "matmul" else
                            (d[0], 2 * d[1]) if op.name == "layer_norm_backward" else (0, 0))
            if partial_sums(terms):
                op.writes.append(self.buffer(partial_sums(terms) * items, per_row=False, name="partial sums"))

    def _place(self, rows: int) -> tuple[int, int]:
        """Offsets in the workspace for all buffers, by first fit over their lives; bytes used, bytes unshared."""
        uses = self._uses()
        lives = {b: [u[0], u[-1]] for b, u in uses.items() if b.space == "work"}
        # an operation that may work in place hands its input's memory to its output
        home: dict[Buffer, Buffer] = {}

        def root(b: Buffer) -> Buffer:
            while b in home:
                b = home[b]
            return b
        for i, op in enumerate(self.ops):
            if op.in_place is None:
                continue
            x, y = op.reads[op.in_place[0]], op.writes[op.in_place[1]]
            if (x in lives and y in lives and x is not y and y is not None and x is not None and y not in home
                    and lives[root(x)][1] == i and lives[y][0] == i
                    and (x.items * x.itemsize, x.per_row) == (y.items * y.itemsize, y.per_row)
                    and all(r is not x for j, r in enumerate(op.reads) if j != op.in_place[0])):
                home[y] = root(x)
                lives[root(x)][1] = max(lives[root(x)][1], lives[y][1])
        placed: list[tuple[int, int, list[int]]] = []      # start, end, life
        roots = [b for b in lives if b not in home]
        for b in sorted(roots, key=lambda b: (-b.bytes(rows), lives[b][0])):
            size, (first, last) = -(-b.bytes(rows) // ALIGN) * ALIGN, lives[b]
            at = 0
            for start, end, life in sorted(placed, key=lambda p: p[0]):
                if life[0] <= last and first <= life[1] and start < at + size and at < end:
                    at = end
            b.offset = at
            placed.append((at, at + size, lives[b]))
        for b in home:
            b.offset = root(b).offset
        return max((end for _, end, _ in placed), default=0), sum(-(-b.bytes(rows) // ALIGN) * ALIGN for b in lives)


@dataclass(frozen=True, eq=False)
class Plan:
    """A compiled plan: `program` runs it (tinydl._kernels.engine.Replica); `describe()` explains it."""

    program: Program
    ops: list[Op]
    work_bytes: int
    unshared_bytes: int
    max_rows: int
    n_emitted: int

    def describe(self) -> str:
        """Operations in order, their shapes, bytes and fusions; then the memory."""
        def text(b: Buffer | None) -> str:
            if b is None:
                return "-"
            where = f"@{b.offset}" if b.space == "work" else f":{b.name}" if b.space in ("param", "grad", "state") else ""
            return f"{b.space}{where}[{'B,' if b.per_row else ''}{b.items}]"
        rows = [("#", "layer", "operation", "reads", "writes", "bytes")]
        for i, op in enumerate(self.ops):
            moved = sum(b.bytes(self.max_rows) for b in (*op.reads, *op.writes) if b is not None)
            rows.append((str(i), op.label or "-", " ".join([op.name, *op.notes]), " ".join(map(text, op.reads)),
                         " ".join(map(text, op.writes)), f"{moved:,}"))
        widths = [max(len(r[c]) for r in rows) for c in range(6)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        fused = self.n_emitted - sum(op.name not in ("check_gradient", "copy") for op in self.ops)
        flops = 2 * sum(op.multiply_adds(self.max_rows) for op in self.ops)
        lines.append(f"{len(self.ops)} operations for up to B = {self.max_rows} rows, {fused} fused away; "
                     f"{flops / 1e6:.4g} MFLOP in matrix products; workspace {self.work_bytes:,} bytes "
                     f"({self.unshared_bytes:,} if nothing shared memory)")
        return "\n".join(lines)


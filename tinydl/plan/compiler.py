"""From what a builder has collected to a Plan: fuse, place, encode."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinydl._kernels.engine import SPACES, Program, partial_sums
from tinydl.plan.builder import Builder
from tinydl.plan.by_step import ByStep
from tinydl.plan.fusion import fuse, read_apart
from tinydl.plan.gradients import check_gradients, late_product, make_last, mark_tables
from tinydl.plan.operation import Op, Place, ref
from tinydl.plan.placing import place_buffers
from tinydl.plan.values import Buffer, Rows, Value

Array = np.ndarray[Any, Any]


def compile_plan(b: Builder, max_rows: int, *, may_defer: bool = True) -> Plan:
    """The plan for batches of up to max_rows rows. The builder is used up. may_defer: large gradients may be left to the
    update."""
    n_emitted = len(b.ops)
    if b.outputs:
        _deliver(b)
    b.ops = fuse(b.ops, b.training)
    if b.sources:
        read_apart(b.ops, b.sources[0][1])
    late: list[Op] = []
    tables: list[tuple[int, int, int, int]] = []
    itemsize = b.dtype.itemsize
    if b.training and b.n_params:
        if may_defer:
            b.ops, late = make_last(b.ops, b.n_params, itemsize, max_rows)
        tables = mark_tables(b.ops, itemsize)
        check_gradients(b)
    _room(b, max_rows)
    bytes_needed, unshared = place_buffers(b.ops, max_rows)
    first = b.ops.index(late[0]) if late else 0
    program = Program(b.dtype == np.float32, [op.encode() for op in b.ops], bytes_needed, max_rows,
                      (b.n_params + b.n_statistics) if b.training else 0, b.sources, b.n_inputs,
                      b.hooks, _hook_places(b), (first, [late_product(op, itemsize) for op in late]), tables)
    return Plan(program, b.ops, bytes_needed, unshared, max_rows, n_emitted, b.weight_shape, b.constants, b.by_step)


def _room(b: Builder, max_rows: int) -> None:
    """What operations need for themselves: of sums of so many terms that they are added in a tree (csrc/td.h), those that wait;
    and what their declarations say."""
    for op in b.ops:
        if not (op.declared.partial or op.declared.room):
            continue
        sizes = {name: s.per_sample * max_rows if isinstance(s, Rows) else s for name, s in op.sizes.items()}
        terms, items = op.declared.partial_terms(sizes)
        if partial_sums(terms):
            op.places["partial"] = b.buffer(partial_sums(terms) * items, per_row=False, name="partial sums"), 0
        if op.declared.room:
            op.places["room"] = b.buffer(op.declared.room_items(sizes), per_row=False, name="room"), 0


def _hook_places(b: Builder) -> list[list[Any]]:
    """For each hook, what the engine makes its arrays of."""
    places: list[list[Any]] = [[] for _ in b.hooks]
    for op in b.ops:
        if op.name != "python":
            continue
        hook = op.sizes["hook"]
        for (name, where), shape in zip(op.places.items(), b.hook_shapes[hook], strict=True):
            if where is None:
                places[hook].append(None)
            else:
                space, offset = ref(where)
                places[hook].append((SPACES[space], offset, shape, where[0].dtype, name in op.outputs))
    return places


def _deliver(b: Builder) -> None:
    """The outputs, one behind the other in a sample's part of the caller's array. Of one output the last operation that
    writes it writes that array; several, or one that nobody wrote or that is only a part of its buffer, are copied."""
    out = Buffer(sum(y.size for y in b.outputs), True, "out", 0, b.dtype, "output")
    y = b.outputs[0]
    if len(b.outputs) > 1 or y.buffer.space != "work" or not y.is_whole or y.buffer.dtype != b.dtype:
        at = 0
        for y in b.outputs:
            b.move(y, Value(out, y.shape, False, at), label="output")
            at += y.size
        return
    for op in b.ops:
        for name, where in op.places.items():
            if where is not None and where[0] is y.buffer:
                op.places[name] = out, where[1]


@dataclass(frozen=True, eq=False)
class Plan:
    """A compiled plan: `program` runs it (tinydl._kernels.engine.Replica); `describe()` explains it."""

    program: Program
    ops: list[Op]
    work_bytes: int
    unshared_bytes: int
    max_rows: int
    n_emitted: int
    weight_shape: tuple[int, ...] | None
    constants: list[Array]      # at whose addresses operations read
    by_step: list[ByStep]       # likewise

    def reach(self, step: int) -> None:
        """Have operations find what they read by the step, for AHEAD steps from this one on. No worker may run meanwhile."""
        for numbers in self.by_step:
            numbers.reach(step)

    @cached_property
    def least_rows(self) -> int:
        """Rows that a batch must have at least: in training, batch norm takes 2 values of each feature or more."""
        per_sample = [op.sizes["R"].per_sample for op in self.ops if op.name == "batch_norm"]
        return -(-2 // min(per_sample, default=2))

    def describe(self) -> str:
        """Operations in order, their shapes, bytes and fusions; then the memory."""
        def text(name: str, place: Place | None) -> str:
            if place is None:
                return f"{name} -"
            b, element = place
            where = f"@{b.offset}" if b.space == "work" else f":{b.name}" if b.space in ("param", "grad", "state") else ""
            part = f"+{element}" if element else ""
            return f"{name} {b.space}{where}{part}[{'B,' if b.per_row else ''}{b.items}]"
        rows = [("#", "layer", "operation", "reads", "writes", "bytes")]
        for i, op in enumerate(self.ops):
            moved = sum(b.bytes(self.max_rows) for b in (*op.reads, *op.writes))
            reads, writes = ("  ".join(text(n, p) for n, p in op.places.items() if (n in op.outputs) == written)
                             for written in (False, True))
            rows.append((str(i), op.label or "-", " ".join([op.name, *op.notes]), reads, writes, f"{moved:,}"))
        widths = [max(len(r[c]) for r in rows) for c in range(6)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        fused = self.n_emitted - sum(op.name not in ("check_finite", "copy") for op in self.ops)
        flops = 2 * sum(op.multiply_adds(self.max_rows) for op in self.ops)
        lines.append(f"{len(self.ops)} operations for up to B = {self.max_rows} rows, {fused} fused away; "
                     f"{flops / 1e6:.4g} MFLOP in matrix products; workspace {self.work_bytes:,} bytes "
                     f"({self.unshared_bytes:,} if nothing shared memory)")
        return "\n".join(lines)

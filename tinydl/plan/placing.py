"""Where buffers of the workspace lie: two that are never alive together share memory."""
from __future__ import annotations

from tinydl.plan.operation import Op
from tinydl.plan.values import Buffer

ALIGN = 64


def uses_of(ops: list[Op]) -> dict[Buffer, list[int]]:
    """Where each buffer of the workspace (or the output) is read or written. Reading the batch's rows uses
    the buffer that `gather` may have put them in."""
    uses: dict[Buffer, list[int]] = {}
    rows = next((op.writes for op in ops if op.name == "gather"), [])
    for i, op in enumerate(ops):
        for place in op.places.values():
            for b in [] if place is None else rows if place[0].space == "in" else [place[0]]:
                if b.space in ("work", "out"):
                    uses.setdefault(b, []).append(i)
    return uses


def place_buffers(ops: list[Op], rows: int) -> tuple[int, int]:
    """Offsets in the workspace for all buffers, by first fit over their lives; bytes used, bytes unshared."""
    uses = uses_of(ops)
    lives = {b: [u[0], u[-1]] for b, u in uses.items() if b.space == "work"}
    # an operation that may work in place hands its input's memory to its output
    home: dict[Buffer, Buffer] = {}

    def root(b: Buffer) -> Buffer:
        while b in home:
            b = home[b]
        return b
    for i, op in enumerate(ops):
        reads = op.reads if op.declared.pairs else []
        for out, into in op.declared.pairs:
            x, y = op.buffer(into), op.buffer(out)
            if (x in lives and y in lives and x is not y and y is not None and x is not None and y not in home
                    and lives[root(x)][1] == i and lives[y][0] == i and reads.count(x) == 1
                    and (x.bytes(1), x.per_row) == (y.bytes(1), y.per_row)):
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

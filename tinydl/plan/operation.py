"""Op: one operation of a plan, while it is built."""
from __future__ import annotations

from math import prod
from typing import Any

from tinydl._kernels.schema import Operation
from tinydl.plan.values import Buffer, Rows

Place = tuple[Buffer, int]          # and the element of a sample's part where it begins


class Op:
    """One operation: where its operands are (None: not there), its sizes, settings and reals, all by the schema's names. Those
    of a Python layer, which the schema does not know, are numbered. outputs: the operands that it writes. notes: what fusions
    did to it, for `Plan.describe`."""

    def __init__(self, declared: Operation, places: dict[str, Place | None], sizes: dict[str, Any], reals: dict[str, float],
                 label: str, outputs: frozenset[str]) -> None:
        self.declared, self.name = declared, declared.name
        self.places, self.sizes, self.reals, self.label, self.outputs = places, sizes, reals, label, outputs
        self.notes: list[str] = []

    @property
    def reads(self) -> list[Buffer]:
        return [p[0] for n, p in self.places.items() if p is not None and n not in self.outputs]

    @property
    def writes(self) -> list[Buffer]:
        return [p[0] for n, p in self.places.items() if p is not None and n in self.outputs]

    def buffer(self, operand: str) -> Buffer | None:
        place = self.places[operand]
        return None if place is None else place[0]

    def multiply_adds(self, rows: float) -> float:
        """Of a matrix product or a convolution for a batch of that many rows; 0 of anything else."""
        if self.name in ("conv2d", "conv_transpose2d", "conv2d_by_weight"):
            return rows * float(prod(self.sizes[s] for s in ("Ho", "Wo", "O", "kh", "kw", "C"))) / float(self.sizes["G"])
        if self.name in ("depthwise2d", "depthwise_transpose2d", "depthwise2d_by_weight"):
            return rows * float(prod(self.sizes[s] for s in ("Ho", "Wo", "K", "C")))
        if self.name != "matmul":
            return 0
        return prod((d.per_sample * rows if isinstance(d, Rows) else d) for d in (self.sizes[s] for s in "mnk"))

    def encode(self) -> tuple[Any, ...]:
        refs = [ref(self.places[o]) for o in self.declared.operands]
        sizes = [(0, d.per_sample) if isinstance(d, Rows) else (d, 0) for d in (self.sizes[s] for s in self.declared.sizes)]
        return (self.name, refs, sizes, [self.reals[r] for r in self.declared.real_numbers], self.label)


def ref(place: Place | None) -> tuple[str, int]:
    """Space and offset in bytes."""
    return ("none", 0) if place is None else (place[0].space, place[0].offset + place[1] * place[0].dtype.itemsize)

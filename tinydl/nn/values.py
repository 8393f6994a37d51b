"""What flows between layers while a plan is built: sizes, buffers, values; and the activations' numbers."""
from __future__ import annotations

from dataclasses import dataclass
from math import prod

#: activation kinds, numbered as in csrc/td.h
KINDS = {"identity": 0, "relu": 1, "leaky_relu": 2, "elu": 3, "sigmoid": 4, "tanh": 5, "gelu": 6, "gelu_tanh": 7, "silu": 8}
#: those whose derivative is a function of the output: they may overwrite their input
FROM_OUTPUT = ("relu", "leaky_relu", "elu", "sigmoid", "tanh")


@dataclass(frozen=True)
class Rows:
    """A size that grows with the batch: `per_sample` for each of its rows."""

    per_sample: int = 1


@dataclass(eq=False)
class Buffer:
    """`items` elements for each row of the batch (or in all, where not per_row) somewhere in `space`."""

    items: int
    per_row: bool = True
    space: str = "work"
    offset: int = 0
    itemsize: int = 4
    name: str = ""

    def bytes(self, rows: int) -> int:
        return self.items * self.itemsize * (rows if self.per_row else 1)


@dataclass(eq=False)
class Value:
    """A buffer and the shape of one sample in it; needs_grad: whether anything before it has parameters."""

    buffer: Buffer
    shape: tuple[int, ...]
    needs_grad: bool = True

    @property
    def size(self) -> int:
        return prod(self.shape)

"""What flows between layers while a plan is built: sizes, buffers, values, matrices (values seen as such), and parameters."""
from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)

Initializer = Any


class Rows:
    """A size that grows with the batch: `per_sample` for each of its samples."""

    def __init__(self, per_sample: int = 1) -> None:
        self.per_sample = per_sample

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self.per_sample == other.per_sample

    def __hash__(self) -> int:
        return hash((Rows, self.per_sample))

    def __repr__(self) -> str:
        return f"Rows({self.per_sample})"


Size = int | Rows


class Buffer:
    """`items` elements for each sample of the batch (or in all, where not per_row) somewhere in `space`, `offset` bytes from
    its beginning."""

    def __init__(self, items: int, per_row: bool = True, space: str = "work", offset: int = 0,
                 dtype: np.dtype[Any] = FLOAT32, name: str = "") -> None:
        self.items, self.per_row, self.space, self.offset, self.dtype, self.name = items, per_row, space, offset, dtype, name

    def bytes(self, rows: int) -> int:
        return self.items * self.dtype.itemsize * (rows if self.per_row else 1)


class Matrix:
    """Two axes of a buffer: n_rows by n_cols, elements row_step and col_step apart, from element `offset` on."""

    def __init__(self, buffer: Buffer, n_rows: Size, n_cols: Size, row_step: int, col_step: int, offset: int = 0) -> None:
        self.buffer, self.n_rows, self.n_cols, self.row_step, self.col_step = buffer, n_rows, n_cols, row_step, col_step
        self.offset = offset

    @property
    def T(self) -> Matrix:
        """The same, transposed: nothing moves."""
        return Matrix(self.buffer, self.n_cols, self.n_rows, self.col_step, self.row_step, self.offset)


class Value:
    """One sample's array of this shape for each sample of the batch (of a buffer that is not per_row: one array), and where
    it lies: from element `offset` of a sample's part of the buffer on, elements `strides` apart (left out: C order).

    needs_grad: whether anything before it has parameters. Slices, transposes and reshapes are values of the same buffer.
    """

    def __init__(self, buffer: Buffer, shape: tuple[int, ...], needs_grad: bool = True, offset: int = 0,
                 strides: tuple[int, ...] | None = None) -> None:
        self.buffer, self.shape, self.needs_grad, self.offset = buffer, shape, needs_grad, offset
        self.strides = c_strides(shape) if strides is None else strides

    def __repr__(self) -> str:
        return f"Value({self.shape}, {self.buffer.dtype}, {self.buffer.name or self.buffer.space})"

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its buffer, in C order."""
        if self.offset or self.size != self.buffer.items:
            return False
        steps = c_strides(self.shape)
        return self.strides == steps or all(
            n == 1 or s == c for n, s, c in zip(self.shape, self.strides, steps, strict=True))

    def part(self, axis: int, start: int, size: int, step: int = 1) -> Value:
        """`size` places of one axis, from `start` on, `step` apart: the same memory."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = size, strides[axis] * step
        return Value(self.buffer, tuple(shape), self.needs_grad, offset, tuple(strides))

    def permute(self, axes: tuple[int, ...]) -> Value:
        """The axes in another order: the same memory."""
        return Value(self.buffer, tuple(self.shape[a] for a in axes), self.needs_grad, self.offset,
                     tuple(self.strides[a] for a in axes))

    def order(self) -> tuple[int, ...]:
        """Axes in the order that they lie in, if that makes it whole: x.permute(x.order()) is; else as they are. What is done
        element by element can keep it."""
        axes = tuple(sorted(range(len(self.shape)), key=lambda a: -self.strides[a] * (self.shape[a] > 1)))
        return axes if self.permute(axes).is_whole else tuple(range(len(self.shape)))

    def matrix(self) -> Matrix | None:
        """The last axis as columns, all others (and the samples) as rows; None where those do not lie evenly."""
        shape, steps = self.shape or (1,), self.strides or (1,)
        step: int | None = None
        rows = 1
        outer = [*zip(shape[:-1], steps[:-1], strict=True)]
        if self.buffer.per_row:
            outer.insert(0, (2, self.buffer.items))         # as if of two samples: there is a next one
        for n, s in reversed(outer):
            if n == 1:
                continue
            if step is None:
                step = s
            elif s != step * rows:
                return None
            rows *= n
        if self.buffer.per_row:
            return Matrix(self.buffer, Rows(rows // 2), shape[-1], step or shape[-1], steps[-1], self.offset)
        return Matrix(self.buffer, rows, shape[-1], step or shape[-1], steps[-1], self.offset)


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Elements between neighbours along each axis, in C order."""
    strides, step = [1] * len(shape), 1
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = step = step * shape[axis]
    return tuple(strides)


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """What undoes a permutation of axes."""
    return tuple(axes.index(i) for i in range(len(axes)))


class Parameter:
    """A trained array: `shape`, how it begins, and, once it is in a model, `data`: a view of the model's arena.

    Layers that are given the same one, before they are put into a Model, share it:

        >>> from tinydl import Model, nn
        >>> first, second = nn.Linear(4, 4), nn.Linear(4, 4)
        >>> second.weight = first.weight
        >>> list(Model(nn.Sequential(first, second)).state_dict())
        ['0.weight', '0.bias', '1.bias']
    """

    def __init__(self, shape: tuple[int, ...], init: Initializer, fans: tuple[int, int] | None = None) -> None:
        self.shape, self.init, self.fans = tuple(int(s) for s in shape), init, fans
        self.name, self.offset = "", -1
        self.frozen = False         # whether training leaves it as it is: Model.freeze
        self.owner: Callable[[], object] | None = None      # a weak reference to the model that it is in
        self.data: np.ndarray[Any, Any] | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to no model, and has no values until it does."""
        return {**self.__dict__, "owner": None, "data": None, "offset": -1}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or '?'}, {self.shape})"


class Statistic(Parameter):
    """A running array that batches, not gradients, move: running += momentum * (batch - running)."""

    def __init__(self, shape: tuple[int, ...], init: Initializer, momentum: float) -> None:
        super().__init__(shape, init)
        self.momentum = momentum

"""PositionalEncoding: which step is which, added to sequences."""
# B batch, T steps, C d_model
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.nn.steps import piece
from tinydl.plan import Buffer, Builder, Rows, Value

Shape = tuple[int, ...]


@register
class PositionalEncoding(Layer):
    """y = x + p, one row of p (max_len, d_model) for each step: samples (T, d_model) of T up to max_len.

    learned: p is a parameter, `weight`, normally distributed with deviation 0.02. Otherwise (Vaswani et al. 2017) p is, of step t
    and columns 2 i and 2 i + 1, the sine and the cosine of t / 10000^(2 i / d_model).

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> Model(nn.PositionalEncoding(4)).predict(np.zeros((1, 2, 4))).round(2).tolist()
        [[[0.0, 1.0, 0.0, 1.0], [0.8399999737739563, 0.5400000214576721, 0.009999999776482582, 1.0]]]
    """

    @_hints.arguments
    def __init__(self, d_model: int, max_len: int = 5000, *, learned: bool = False) -> None:
        if d_model < 1 or max_len < 1:
            raise ValueError(f"PositionalEncoding({d_model}, max_len={max_len}): both must be at least 1")
        self.d_model, self.max_len, self.learned = int(d_model), int(max_len), bool(learned)
        if learned:
            self.weight = Parameter((self.max_len, self.d_model), initializers.small_normal)

    def config(self) -> dict[str, Any]:
        return {"d_model": self.d_model, "max_len": self.max_len, "learned": self.learned}

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 2 or shape[1] != self.d_model or shape[0] > self.max_len:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be (T, {self.d_model}), T at most {self.max_len}")
        return shape

    def positions(self, T: int, first: int = 0) -> np.ndarray[Any, Any]:
        """The sines and cosines of T steps from the first-th on (T, d_model)."""
        columns = np.arange(self.d_model)
        angle = np.arange(first, first + T)[:, None] / 10000.0 ** (columns // 2 * 2 / self.d_model)
        return np.where(columns % 2 == 0, np.sin(angle), np.cos(angle))

    def rows(self, T: int, first: int) -> np.ndarray[Any, Any]:
        """p of T steps from the first-th on, as it is now (T, d_model)."""
        if not self.learned:
            return self.positions(T, first)
        assert self.weight.data is not None
        return self.weight.data.reshape(self.weight.shape)[first:first + T]

    def step(self, b: Builder, x: Value, by_step: Callable[[Callable[[int], Any]], Buffer]) -> Value:
        """One step x (1, d_model) in inference; by_step: where operations of step t find what a function says of t."""
        p = by_step(lambda t: self.rows(1, t))
        y = b.value(x.shape, needs_grad=False)
        b.move(x, y)
        b.move(Value(p, x.shape, False), y, accumulate=1)
        return y

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        T, C = self.output_shape(x.shape)
        p = b.param(self.weight, (self.max_len, C)) if self.learned else Value(b.constant(self.positions(T)), (T, C), False)
        trained = self.learned and b.trains(self.weight)
        y = b.value(x.shape, needs_grad=x.needs_grad or trained)
        b.move(x, y)
        b.move(p.part(0, 0, T), y, accumulate=1)

        def backward(dy: Value | None) -> Value | None:
            if dy is not None and trained:
                dw, more = b.grad(self.weight)
                if not more:
                    b.emit("fill", out=dw, n=self.weight.size)
                b.emit("column_sum", x=b.whole(dy), out=piece(b, dw, 0, T), R=Rows(), C=T * C, accumulate=1)
            return dy if x.needs_grad else None
        return y, backward

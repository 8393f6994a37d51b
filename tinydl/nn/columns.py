"""Scale: a trained number for each column (the last axis); PReLU: one for each channel or column."""
# C columns
from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, ClassVar

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.plan import Builder, Rows, Value


@register
class Scale(Layer):
    """y = weight x, a weight for each column of the last axis, which begin at 1. In front of a network on a table the columns
    that help are scaled up: a soft selection of features (Holzmueller et al. 2024, "Better by Default").

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> Model(nn.Sequential(nn.Scale(3), nn.Linear(3, 2))).predict(np.ones((4, 3))).shape
        (4, 2)
    """

    @_hints.arguments
    def __init__(self, num_features: int) -> None:
        if num_features < 1:
            raise ValueError(f"Scale({num_features}): at least 1 feature")
        self.num_features = int(num_features)
        self.weight = Parameter((self.num_features,), initializers.ones)

    def config(self) -> dict[str, Any]:
        return {"num_features": self.num_features}

    def input_shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return _checked(self, shape, self.num_features)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        C = self.num_features
        x, R = b.whole(x), Rows(x.size // C)
        y = b.value(x.shape, needs_grad=x.needs_grad or b.trains(self.weight))
        b.emit("scale_columns", x=x, scale=b.param(self.weight), out=y, R=R, C=C)

        def backward(dy: Value | None) -> Value | None:
            if dy is None:
                return None
            dy = b.whole(dy)
            if b.trains(self.weight):
                dw, more = b.grad(self.weight)
                each = b.value(x.shape)
                b.emit("multiply", a=dy, b=x, out=each, n=Rows(x.size))
                b.emit("column_sum", x=each, out=dw, R=R, C=C, accumulate=more)
            if not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.emit("scale_columns", x=dy, scale=b.param(self.weight), out=dx, R=R, C=C)
            return dx
        return y, backward


@register
class PReLU(Layer):
    """y = x where x > 0, else weight x (He et al. 2015): PyTorch's nn.PReLU.

    num_parameters: 1 for all, or one for each channel, which is a sample's first axis, (C,), (C, L) or (C, H, W); with axis=-1
    one for each column of the last axis instead, (T, C), as behind nn.Linear or nn.LSTM. init: where they begin. As PyTorch says,
    weight decay harms them (`optim.AdamW(groups=...)` can leave them out).

        >>> from tinydl import Model, nn
        >>> Model(nn.PReLU(2)).predict([[[-4.0, 4.0], [-8.0, 8.0]]]).tolist()
        [[[-1.0, 4.0], [-2.0, 8.0]]]
    """

    axis: int
    added_arguments: ClassVar[Mapping[str, Any]] = {"axis": -1}

    @_hints.arguments
    def __init__(self, num_parameters: int = 1, init: float = 0.25, axis: int = 0) -> None:
        if num_parameters < 1:
            raise ValueError(f"PReLU({num_parameters}): at least 1 parameter")
        if not isfinite(init):
            raise ValueError(f"PReLU(init={init}): a finite number")
        if axis not in (0, -1):
            raise ValueError(f"PReLU(axis={axis!r}): 0 for channels on a sample's first axis, as behind nn.Conv2d, or -1 for the "
                             "last, as behind nn.LSTM")
        self.num_parameters, self.init, self.axis = int(num_parameters), float(init), int(axis)
        self.weight = Parameter((self.num_parameters,), self._begin)

    def _begin(self, rng: Any, shape: tuple[int, ...], fans: tuple[int, int]) -> Any:
        return initializers.ones(rng, shape, fans) * self.init

    def config(self) -> dict[str, Any]:
        return {"num_parameters": self.num_parameters, "init": self.init, "axis": self.axis}

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.num_parameters > 1 and self.axis == 0 and shape[:1] != (self.num_parameters,):
            columns = shape[-1:] == (self.num_parameters,)
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be ({self.num_parameters}, ...)"
                             + "; slopes for the last axis, as behind nn.Linear or nn.LSTM, are axis=-1" * columns)
        return shape if self.num_parameters == 1 or self.axis == 0 else _checked(self, shape, self.num_parameters)

    def channels_first(self, shape: tuple[int, ...]) -> bool:
        """Whether slopes are for the first of several axes."""
        return self.num_parameters > 1 and self.axis == 0 and len(shape) > 1

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        self.output_shape(x.shape)
        if not self.channels_first(x.shape):
            return self._by_columns(b, x)
        n = len(x.shape)
        last, first = (*range(1, n), 0), (n - 1, *range(n - 1))
        y, back = self._by_columns(b, x.permute(last))

        def backward(dy: Value | None) -> Value | None:
            dx = back(None if dy is None else dy.permute(last))
            return None if dx is None else dx.permute(first)
        return y.permute(first), backward

    def _by_columns(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        """Of the last axis."""
        C = self.num_parameters
        x, R = b.whole(x), Rows(x.size // C)
        y = b.value(x.shape, needs_grad=x.needs_grad or b.trains(self.weight))
        b.emit("prelu", x=x, slope=b.param(self.weight), out=y, R=R, C=C)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not y.needs_grad:
                return None
            dx, each = b.value(x.shape), b.value(x.shape)
            b.emit("prelu_backward", dy=b.whole(dy), x=x, slope=b.param(self.weight), out=dx, by_slope=each, R=R, C=C)
            if b.trains(self.weight):
                dw, more = b.grad(self.weight)
                b.emit("column_sum", x=each, out=dw, R=R, C=C, accumulate=more)
            return dx if x.needs_grad else None
        return y, backward


def _checked(layer: Layer, shape: tuple[int, ...], columns: int) -> tuple[int, ...]:
    if not shape or shape[-1] != columns:
        raise ValueError(f"{layer!r} on samples of shape {shape}: the last axis must be {columns}")
    return shape

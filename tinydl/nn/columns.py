"""Scale and PReLU: a trained number for each column (the last axis)."""
# C columns
from __future__ import annotations

from math import isfinite
from typing import Any

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
    """y = x where x > 0, else weight x (He et al. 2015): PyTorch's nn.PReLU, but that columns are those of the last axis.

    num_parameters: 1 for all, or one for each column; init: where they begin. As PyTorch says, weight decay harms them
    (`optim.AdamW(groups=...)` can leave them out).
    """

    @_hints.arguments
    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        if num_parameters < 1:
            raise ValueError(f"PReLU({num_parameters}): at least 1 parameter")
        if not isfinite(init):
            raise ValueError(f"PReLU(init={init}): a finite number")
        self.num_parameters, self.init = int(num_parameters), float(init)
        self.weight = Parameter((self.num_parameters,), self._begin)

    def _begin(self, rng: Any, shape: tuple[int, ...], fans: tuple[int, int]) -> Any:
        return initializers.ones(rng, shape, fans) * self.init

    def config(self) -> dict[str, Any]:
        return {"num_parameters": self.num_parameters, "init": self.init}

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.num_parameters == 1 else _checked(self, shape, self.num_parameters)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        C = self.num_parameters
        x, R = b.whole(x), Rows(x.size // C)
        y = b.value(self.output_shape(x.shape), needs_grad=x.needs_grad or b.trains(self.weight))
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

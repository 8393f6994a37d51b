"""UnitNormalization and CosineSimilarity: vectors of length 1 along the last axis, and the cosine of the angle between two."""
# C the last axis
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.nn.merge import Dot
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]


def checked(layer: str, eps: float) -> float:
    if not 0 < eps < float("inf"):
        raise ValueError(f"{layer}(eps={eps}): above 0")
    return float(eps)


@register
class UnitNormalization(Layer):
    """y = x / sqrt(sum(x^2) + eps) along the last axis (L2 normalisation; Keras has it by this name). PyTorch's F.normalize
    divides by max(|x|, 1e-12): where |x| is 0.01 or more, that is the same to 5e-9, and zeros stay zeros in both.

        >>> from tinydl import Model, nn
        >>> Model(nn.UnitNormalization(), "float64").predict([[3.0, 4.0]]).round(6).tolist()
        [[0.6, 0.8]]
    """

    @_hints.arguments
    def __init__(self, eps: float = 1e-12) -> None:
        self.eps = checked("UnitNormalization", eps)

    def config(self) -> dict[str, Any]:
        return {"eps": self.eps}

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: Shape) -> Shape:
        if not shape:
            raise ValueError(f"{self!r} needs at least one axis in a sample")
        return shape

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        C = self.output_shape(x.shape)[-1]
        x = b.whole(x)
        R, y, rstd = Rows(x.size // C), b.value(x.shape, needs_grad=x.needs_grad), b.buffer(x.size // C)
        gamma = b.constant(np.full(C, C ** -0.5))       # of the root of the mean square the kernel makes that of the sum
        b.emit("rms_norm", x=x, gamma=gamma, out=y, rstd=rstd, R=R, C=C, eps=self.eps / C)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.emit("rms_norm_backward", dy=dy, x=x, gamma=gamma, rstd=rstd, out=dx, R=R, C=C)
            return dx
        return y, backward


@register
class CosineSimilarity(Dot):
    """y = sum(a b) / (|a| |b|) along the last axis of two inputs, each divided by its length as UnitNormalization does: (..., C),
    (..., C) -> (..., 1), from -1 to 1. PyTorch's nn.CosineSimilarity drops the axis, and has eps=1e-8.

        >>> from tinydl import Model, nn
        >>> a, b = nn.Input((2,)), nn.Input((2,))
        >>> Model(inputs=[a, b], outputs=nn.CosineSimilarity()([a, b])).predict(([[1.0, 0.0]], [[0.0, 2.0]])).tolist()
        [[0.0]]
    """

    @_hints.arguments
    def __init__(self, eps: float = 1e-12) -> None:
        self.eps = checked("CosineSimilarity", eps)

    def config(self) -> dict[str, Any]:
        return {"eps": self.eps}

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        self.output_shape(*(x.shape for x in xs))
        unit = UnitNormalization(self.eps)
        units, backs = zip(*(unit.emit(b, x) for x in xs), strict=True)
        y, back = super().emit(b, *units)

        def backward(dy: Value | None) -> tuple[Value | None, ...]:
            return tuple(each(d) for each, d in zip(backs, back(dy), strict=True))
        return y, backward

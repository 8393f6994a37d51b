"""GaussianNoise and GaussianSample: normal random numbers in training, none in inference.

They are a hash of (seed, step, layer, sample, element), as Dropout's mask is: the same for a sample whichever thread, batch or
order it comes in, and never stored.
"""
from __future__ import annotations

from typing import Any

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]


@register
class GaussianNoise(Layer):
    """y = x + std z, z normal, in training; y = x in inference. `data.augment.GaussianNoise` does it to pictures as they are
    read, this layer to any value inside a model.

        >>> from tinydl import Model, nn
        >>> Model(nn.GaussianNoise(0.1)).predict([[1.0, 2.0]]).tolist()
        [[1.0, 2.0]]
    """

    @_hints.arguments
    def __init__(self, std: float = 1.0) -> None:
        if not 0 <= std < float("inf"):
            raise ValueError(f"GaussianNoise(std={std}): 0 or more")
        self.std = float(std)

    def config(self) -> dict[str, Any]:
        return {"std": self.std}

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        if not b.training or self.std == 0:
            return x, lambda dy: dy
        y = b.value(x.shape, needs_grad=x.needs_grad)
        b.emit("normal_noise", x=b.whole(x), out=y, B=Rows(), C=x.size, layer=b.random_key(), deviation=self.std)
        return y, lambda dy: dy


@register
class GaussianSample(Layer):
    """A draw from a normal distribution, through which gradients go: y = m + exp(s / 2) z, z normal, in training; y = m in
    inference (Kingma and Welling 2014, the reparametrisation of variational autoencoders).

    The last axis of x is twice as long as that of y: first the means m, then the logarithms s of variances, as
    losses.GaussianNLL and losses.GaussianKL take them.

        >>> from tinydl import Model, nn
        >>> Model(nn.GaussianSample()).predict([[1.0, 2.0, -5.0, -5.0]]).tolist()
        [[1.0, 2.0]]
    """

    @_hints.arguments
    def __init__(self) -> None:
        pass

    def output_shape(self, shape: Shape) -> Shape:
        if not shape or shape[-1] % 2:
            raise ValueError(f"{self!r} on samples of shape {shape}: the last axis has means, then as many "
                             "logarithms of variances")
        return *shape[:-1], shape[-1] // 2

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        shape = self.output_shape(x.shape)
        axis, n = len(shape) - 1, shape[-1]
        m, s = x.part(axis, 0, n), b.whole(x.part(axis, n, n))
        y = b.value(shape, needs_grad=x.needs_grad)
        if not b.training:
            b.move(m, y)
        else:
            how: dict[str, Any] = {"B": Rows(), "C": y.size, "layer": b.random_key()}
            b.emit("normal_noise", x=m, log_variance=s, out=y, **how)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx, ds = b.value(x.shape), b.value(shape)
            b.move(dy, dx.part(axis, 0, n))
            b.emit("normal_noise_backward", dy=dy, log_variance=s, out=ds, **how)
            b.move(ds, dx.part(axis, n, n))
            return dx
        return y, backward

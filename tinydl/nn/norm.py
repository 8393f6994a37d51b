"""LayerNorm and BatchNorm1d: y = (x - mean) / sqrt(var + eps) * weight + bias."""
from __future__ import annotations

# B batch, C normalised elements (LayerNorm) or features (BatchNorm1d)
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import numpy as np

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.layer import Backward, Layer, Parameter, Statistic, register
from tinydl.plan import Buffer, Builder, Rows, Value


def checked_eps(layer: str, eps: float, name: str = "eps") -> float:
    """It as a float; ValueError where it is negative or not finite."""
    if not 0 <= eps < float("inf"):
        raise ValueError(f"{layer}({name}={eps}): at least 0 and finite")
    return float(eps)


@register
class LayerNorm(Layer):
    """mean and var over the last axes of each sample (Ba et al. 2016). normalized_shape: their sizes."""

    @_hints.arguments
    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, elementwise_affine: bool = True) -> None:
        shape = tuple(np.ravel(normalized_shape).tolist())
        if not shape or min(shape) < 1:
            raise ValueError(f"LayerNorm({normalized_shape}): sizes must be at least 1")
        self.normalized_shape, self.eps = shape, checked_eps("LayerNorm", eps)
        self.weight = Parameter(shape, initializers.ones) if elementwise_affine else None
        self.bias = Parameter(shape, initializers.zeros) if elementwise_affine else None

    def config(self) -> dict[str, Any]:
        return {"normalized_shape": list(self.normalized_shape), "eps": self.eps,
                "elementwise_affine": self.weight is not None}

    def input_shape(self) -> tuple[int, ...]:
        return self.normalized_shape

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-len(self.normalized_shape):] != self.normalized_shape:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must end with {self.normalized_shape}")
        return shape

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        size = prod(self.normalized_shape)
        per_sample = x.size // size
        y = b.value(self.output_shape(x.shape), needs_grad=x.needs_grad or b.trains(self.weight, self.bias))
        mean, rstd = b.buffer(per_sample), b.buffer(per_sample)
        gamma, beta = (_flat(b, p, self.normalized_shape) for p in (self.weight, self.bias))
        b.emit("layer_norm", x=x, gamma=gamma, beta=beta, out=y, mean=mean, rstd=rstd, R=Rows(per_sample), C=size, eps=self.eps)
        return y, _backward(b, "layer_norm_backward", self, x, mean, rstd, size)


@register
class BatchNorm1d(Layer):
    """mean and var over the batch, one for each feature (Ioffe and Szegedy 2015); running ones in inference.

    Samples are (num_features,) or, behind a convolution, (num_features, L), as PyTorch's: a feature's mean is over the batch and
    all L. With axis=-1 features are on the last axis instead, (T, num_features), as behind nn.Linear, nn.LSTM or attention.

    Every replica normalises its batch by that batch's own mean and variance. The running statistics take one step
    per update: running += momentum (m - running), m being the mean over the samples of the group's batches
    (variances unbiased, as PyTorch's), averaged in the gradients' fixed order. So they, too, have the same bits for
    any number of threads, and a failed batch leaves no trace in them.

    It trains on at least 2 values of each feature, which are 2 samples of shape (num_features,): `Trainer.init` refuses a
    batch_size of 1. Where only an epoch's last, smaller batch has 1 sample, that batch fails and is left out, as the log and
    the history say; drop_last=True leaves it out from the beginning. Strategy shard cuts no parts of fewer than 2.

    To fine-tune a network with the statistics that it came with, `model.freeze("*.running_*")`: training then normalises by the
    running statistics, as prediction does, and leaves them as they are. No sample depends on others then, nor on the strategy.

        >>> from tinydl import Model, nn
        >>> convolutions = nn.Sequential(nn.Conv1d(1, 16, 7, padding=3), nn.BatchNorm1d(16), nn.ReLU())
        >>> Model(convolutions, seed=0).output_shape((1, 100))
        (16, 100)
        >>> Model(nn.Sequential(nn.LSTM(4, 16), nn.BatchNorm1d(16, axis=-1)), seed=0).output_shape((100, 4))
        (100, 16)
    """

    axis: int
    added_arguments: ClassVar[Mapping[str, Any]] = {"axis": -1}

    @property
    def mixes_samples(self) -> bool:
        """Not with running statistics that are frozen."""
        return not self.running_mean.frozen

    @_hints.arguments
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True, axis: int = 0) -> None:
        if num_features < 1 or not 0 <= momentum <= 1:
            raise ValueError(f"{type(self).__name__}({num_features}, momentum={momentum}): at least 1 feature, momentum in 0..1")
        if axis not in (0, -1):
            raise ValueError(f"{type(self).__name__}(axis={axis!r}): 0 for features on a sample's first axis, as behind "
                             "nn.Conv1d, or -1 for the last, as behind nn.LSTM")
        self.axis = int(axis)
        self.num_features, self.eps = int(num_features), checked_eps(type(self).__name__, eps)
        self.momentum = float(momentum)
        self.weight = Parameter((num_features,), initializers.ones) if affine else None
        self.bias = Parameter((num_features,), initializers.zeros) if affine else None
        self.running_mean = Statistic((num_features,), initializers.zeros, self.momentum)
        self.running_var = Statistic((num_features,), initializers.ones, self.momentum)

    def config(self) -> dict[str, Any]:
        return {"num_features": self.num_features, "eps": self.eps, "momentum": self.momentum,
                "affine": self.weight is not None, "axis": self.axis}

    def input_shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        c = self.num_features
        if self.axis == 0 and (len(shape) not in (1, 2) or shape[0] != c):
            last = "; features on the last axis, as behind nn.Linear or nn.LSTM, are axis=-1" if shape[-1:] == (c,) else ""
            images = "; nn.BatchNorm2d is for images" if len(shape) == 3 else ""
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be ({c},) or ({c}, L){last}{images}")
        if shape[-1:] != (c,) and self.axis == -1:
            raise ValueError(f"{self!r} on samples of shape {shape}: the last axis must be {c}")
        return shape

    def features_first(self, shape: tuple[int, ...]) -> bool:
        """Whether features are on the first of several axes."""
        return self.axis == 0 and len(shape) > 1

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        self.output_shape(x.shape)
        if not self.features_first(x.shape):
            return self._by_columns(b, x)
        n = len(x.shape)
        last, first = (*range(1, n), 0), (n - 1, *range(n - 1))
        y, back = self._by_columns(b, b.whole(x.permute(last)))

        def backward(dy: Value | None) -> Value | None:
            dx = back(None if dy is None else dy.permute(last))
            return None if dx is None else dx.permute(first)
        return y.permute(first), backward

    def _by_columns(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        """Of the last axis."""
        c = self.num_features
        rows = Rows(x.size // c)
        y = b.value(x.shape, needs_grad=x.needs_grad or b.trains(self.weight, self.bias))
        gamma, beta = (_flat(b, p, (c,)) for p in (self.weight, self.bias))
        running = self.running_mean, self.running_var
        rstd = b.buffer(c, per_row=False)
        if not b.training or all(s.frozen for s in running):
            stats = [b.statistic(s, (c,), batch=False) for s in running]
            b.emit("batch_norm_inference", x=x, gamma=gamma, beta=beta, running_mean=stats[0], running_var=stats[1], out=y,
                   rstd=rstd if b.training else None, R=rows, C=c, eps=self.eps)
            return y, _backward(b, "batch_norm_backward", self, x, stats[0].buffer, rstd, c, N=rows, constant=1)
        mean = b.buffer(c, per_row=False)
        stats = [b.statistic(s, (c,), batch=True) for s in running]
        b.emit("batch_norm", x=x, gamma=gamma, beta=beta, out=y, mean=mean, rstd=rstd, batch_mean=stats[0], batch_var=stats[1],
               R=rows, C=c, eps=self.eps)
        return y, _backward(b, "batch_norm_backward", self, x, mean, rstd, c, N=rows)


def _flat(b: Builder, p: Parameter | None, shape: tuple[int, ...] | None = None) -> Buffer | None:
    """A parameter, which must have this shape, as a vector."""
    return None if p is None else b.param(p, shape).buffer


def _backward(b: Builder, kernel: str, layer: LayerNorm | BatchNorm1d, x: Value, mean: Buffer, rstd: Buffer,
              size: int, **sizes: Any) -> Backward:
    def backward(dy: Value | None) -> Value | None:
        dx = b.value(x.shape)       # the kernels write it even where nobody needs it
        dgamma, dbeta, more, more_beta = None, None, 0, 0
        if layer.weight is not None and b.trains(layer.weight):
            dgamma, more = b.grad(layer.weight)
        if layer.bias is not None and b.trains(layer.bias):
            dbeta, more_beta = b.grad(layer.bias)
        b.emit(kernel, dy=dy, x=x, gamma=_flat(b, layer.weight), mean=mean, rstd=rstd, out=dx, dgamma=dgamma and dgamma.buffer,
               dbeta=dbeta and dbeta.buffer, R=Rows(x.size // size), C=size, more=more, more_beta=more_beta, **sizes)
        return dx if x.needs_grad else None
    return backward

"""BatchNorm2d, GroupNorm, InstanceNorm2d, InstanceNorm1d: of images, by channels; RMSNorm, of the last axes."""
from __future__ import annotations

# C channels, G groups of them: samples (C, H, W), or of a GroupNorm (C, ...)
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import numpy as np

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.images import Shape, image
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.nn.norm import BatchNorm1d, checked_eps
from tinydl.plan import Builder, Rows, Value


@register
class BatchNorm2d(BatchNorm1d):
    """BatchNorm1d of images (C, H, W): mean and var of each channel over the batch and all pixels; num_features: C

        >>> from tinydl import Model, nn
        >>> list(Model(nn.BatchNorm2d(3)).state_dict())
        ['weight', 'bias', 'running_mean', 'running_var']
    """

    added_arguments: ClassVar[Mapping[str, Any]] = {}

    @_hints.arguments
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__(num_features, eps, momentum, affine)

    def config(self) -> dict[str, Any]:
        return {name: value for name, value in super().config().items() if name != "axis"}

    def input_shape(self) -> Any:
        """Not known: images may have any size."""
        return None

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape, self.num_features)
        return shape


class Grouped(Layer):
    """Statistics of each sample's groups of channels, over all pixels."""

    num_channels: int
    num_groups: int
    eps: float
    weight: Parameter | None
    bias: Parameter | None

    def keeps_shape(self) -> bool:
        return True

    def _parameters(self, affine: bool) -> None:
        if self.num_channels > 16384:
            raise ValueError(f"{type(self).__name__} of {self.num_channels} channels; at most 16384")
        self.weight = Parameter((self.num_channels,), initializers.ones) if affine else None
        self.bias = Parameter((self.num_channels,), initializers.zeros) if affine else None

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        self.output_shape(x.shape)
        n, C, G = len(x.shape), self.num_channels, self.num_groups
        last, first = (*range(1, n), 0), (n - 1, *range(n - 1))
        x = b.whole(x.permute(last))
        gamma, beta = (b.param(p, (C,)) if p else None for p in (self.weight, self.bias))
        y = b.value(x.shape, needs_grad=x.needs_grad or b.trains(self.weight, self.bias))
        mean, rstd = b.buffer(G), b.buffer(G)
        sizes: dict[str, Any] = {"B": Rows(), "P": prod(x.shape[:-1]), "C": C, "G": G}
        b.emit("group_norm", x=x, gamma=gamma, beta=beta, out=y, mean=mean, rstd=rstd, eps=self.eps, **sizes)

        def backward(dy: Value | None) -> Value | None:
            assert dy is not None
            dx = b.value(x.shape)       # the kernel writes it even where nobody needs it
            dgamma, more = b.grad(self.weight) if self.weight and b.trains(self.weight) else (None, 0)
            dbeta, more_beta = b.grad(self.bias) if self.bias and b.trains(self.bias) else (None, 0)
            b.emit("group_norm_backward", dy=dy.permute(last), x=x, gamma=gamma, mean=mean, rstd=rstd, out=dx, dgamma=dgamma,
                   dbeta=dbeta, more=more, more_beta=more_beta, **sizes)
            return dx.permute(first) if x.needs_grad else None
        return y.permute(first), backward


@register
class GroupNorm(Grouped):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, mean and var of each sample's groups of channels (Wu and He 2018)

    Samples (num_channels, ...). A group is num_channels / num_groups channels side by side, with all their pixels; weight and
    bias have a number for each channel.

        >>> from tinydl import Model, nn
        >>> Model(nn.GroupNorm(2, 4)).predict([[[1.0], [3.0], [5.0], [9.0]]]).round().tolist()
        [[[-1.0], [1.0], [-1.0], [1.0]]]
    """

    @_hints.arguments
    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm({num_groups}, {num_channels}): num_groups must divide num_channels")
        self.num_groups, self.num_channels, self.eps = int(num_groups), int(num_channels), checked_eps("GroupNorm", eps)
        self._parameters(affine)

    def config(self) -> dict[str, Any]:
        return {"num_groups": self.num_groups, "num_channels": self.num_channels, "eps": self.eps,
                "affine": self.weight is not None}

    def output_shape(self, shape: Shape) -> Shape:
        if not shape or shape[0] != self.num_channels:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be ({self.num_channels}, ...)")
        return shape


class InstanceNorm(Grouped):
    """What InstanceNorm1d and InstanceNorm2d share."""

    axes: ClassVar[int]

    @_hints.arguments
    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = False) -> None:
        if num_features < 1:
            raise ValueError(f"{type(self).__name__}({num_features}): at least 1 channel")
        self.num_features = self.num_groups = self.num_channels = int(num_features)
        self.eps = checked_eps(type(self).__name__, eps)
        self._parameters(affine)

    def config(self) -> dict[str, Any]:
        return {"num_features": self.num_features, "eps": self.eps, "affine": self.weight is not None}

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape, self.num_features, self.axes + 1)
        if prod(shape[1:]) < 2:
            raise ValueError(f"{self!r} on samples of shape {shape}: one {'pixel' if self.axes == 2 else 'place'} less its own "
                             "mean is 0 whatever it is")
        return shape


@register
class InstanceNorm2d(InstanceNorm):
    """y = (x - mean) / sqrt(var + eps), mean and var of each channel of each image (C, H, W) (Ulyanov et al. 2016); with affine,
    times weight plus bias. As PyTorch's without running statistics.

        >>> from tinydl import Model, nn
        >>> Model(nn.InstanceNorm2d(1)).predict([[[[1.0, 3.0]]]]).round().tolist()
        [[[[-1.0, 1.0]]]]
    """

    axes = 2


@register
class InstanceNorm1d(InstanceNorm):
    """InstanceNorm2d along one axis: mean and var of each channel of each sample (C, L)

        >>> from tinydl import Model, nn
        >>> Model(nn.InstanceNorm1d(1)).predict([[[1.0, 3.0]]]).round().tolist()
        [[[-1.0, 1.0]]]
    """

    axes = 1


@register
class RMSNorm(Layer):
    """y = x / sqrt(mean(x^2) + eps) * weight over the last axes of each sample (Zhang and Sennrich 2019)

    normalized_shape: their sizes. eps: None is the least difference from 1 in the model's dtype, as in PyTorch.

        >>> from tinydl import Model, nn
        >>> Model(nn.RMSNorm(2), "float64").predict([[1.0, 7.0]]).round(1).tolist()      # divided by 5
        [[0.2, 1.4]]
    """

    @_hints.arguments
    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float | None = None,
                 elementwise_affine: bool = True) -> None:
        shape = tuple(np.ravel(normalized_shape).tolist())
        if not shape or min(shape) < 1:
            raise ValueError(f"RMSNorm({normalized_shape}): sizes must be at least 1")
        self.normalized_shape, self.eps = shape, None if eps is None else checked_eps("RMSNorm", eps)
        self.weight = Parameter(shape, initializers.ones) if elementwise_affine else None

    def config(self) -> dict[str, Any]:
        return {"normalized_shape": list(self.normalized_shape), "eps": self.eps, "elementwise_affine": self.weight is not None}

    def input_shape(self) -> Shape:
        return self.normalized_shape

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-len(self.normalized_shape):] != self.normalized_shape:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must end with {self.normalized_shape}")
        return shape

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        size, x = prod(self.normalized_shape), b.whole(x)
        rows = x.size // size
        y = b.value(self.output_shape(x.shape), needs_grad=x.needs_grad or b.trains(self.weight))
        gamma = b.param(self.weight, self.normalized_shape).buffer if self.weight else None
        rstd = b.buffer(rows)
        eps = float(np.finfo(b.dtype).eps) if self.eps is None else self.eps
        b.emit("rms_norm", x=x, gamma=gamma, out=y, rstd=rstd, R=Rows(rows), C=size, eps=eps)

        def backward(dy: Value | None) -> Value | None:
            assert dy is not None
            dx = b.value(x.shape)
            dgamma, more = b.grad(self.weight) if self.weight and b.trains(self.weight) else (None, 0)
            b.emit("rms_norm_backward", dy=dy, x=x, gamma=gamma, rstd=rstd, out=dx, dgamma=dgamma and dgamma.buffer,
                   sums=b.buffer(size, per_row=False) if more else None, R=Rows(rows), C=size, more=more)
            return dx if x.needs_grad else None
        return y, backward

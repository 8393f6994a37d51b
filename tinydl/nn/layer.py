"""The base of all layers: parameters, children, and how a layer emits its operations.

A layer holds no activations and no mode: what it computes in training and in inference is decided by the
plan that it emits into (`b.training`). Adding a layer is one file: subclass Layer, write `config`,
`output_shape` and `emit`, and register it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from tinydl.nn.arguments import RecordsArguments

if TYPE_CHECKING:
    from tinydl.nn.values import Value
    from tinydl.plan import Builder

    Backward = Callable[[Value | None], Value | None]

__all__ = ["Layer", "Parameter", "Statistic", "register"]

Initializer = Any

#: layer classes by name, for Model.load
REGISTRY: dict[str, type[Layer]] = {}


L = TypeVar("L", bound="type[Layer]")


def register(cls: L) -> L:
    """Class decorator: Model.load can rebuild this layer from its name and config."""
    REGISTRY[cls.__name__] = cls
    return cls


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


class Layer(RecordsArguments):
    """One step of a model. See `tinydl.nn` for those that exist and `PythonLayer` for writing one in NumPy."""

    #: whether a sample's output in training depends on the samples beside it, so on how batches are cut: strategy "auto" then
    #: cuts none
    mixes_samples: ClassVar[bool] = False

    def parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of this layer's own, in a fixed order."""
        return ((k, v) for k, v in vars(self).items() if type(v) is Parameter)

    def statistics(self) -> Iterator[tuple[str, Statistic]]:
        """(name, running statistic) of this layer's own, in a fixed order."""
        return ((k, v) for k, v in vars(self).items() if isinstance(v, Statistic))

    def children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of the layers inside, in order."""
        return iter(())

    def walk(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """(path, layer) of this layer and all inside, depth first; a layer used twice comes twice."""
        yield path, self
        for name, child in self.children():
            yield from child.walk(f"{path}.{name}" if path else name)

    def named_parameters(self) -> Iterator[tuple[str, Layer, Parameter]]:
        """(name, layer, parameter) of all parameters and running statistics of this layer and those inside; name: the layer's
        path and its own. One that is shared comes with each of its names."""
        for path, layer in self.walk():
            for name, p in (*layer.parameters(), *layer.statistics()):
                yield f"{path}.{name}" if path else name, layer, p

    def replace_parameter(self, old: Parameter, new: Parameter) -> None:
        """Have `new` wherever this layer has `old`."""
        for name in [k for k, v in vars(self).items() if v is old]:
            setattr(self, name, new)

    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample that this layer needs, where it knows."""
        return None

    def keeps_shape(self) -> bool:
        """Whether an output always has its sample's shape: what comes behind then says what comes in. Override it in a layer
        whose own `output_shape` only checks."""
        return type(self).output_shape is Layer.output_shape

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one sample after this layer; ValueError where `shape` does not fit."""
        return shape

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        """Emit forward operations; return the output and a function that emits the backward ones.

        That function takes the gradient of the output and returns the gradient of x, or None where
        x.needs_grad is false (then it need not be computed).
        """
        raise NotImplementedError(f"{type(self).__name__}.emit")

    def flops(self, shape: tuple[int, ...]) -> int:
        """Multiply-adds for one sample, forward."""
        return 0

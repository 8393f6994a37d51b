"""The base of all layers: parameters, children, and how a layer emits its operations.

A layer holds no activations and no mode: what it computes in training and in inference is decided by the
plan that it emits into (`b.training`). Adding a layer is one file: subclass Layer, write `config`,
`output_shape` and `emit`, and register it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tinydl.plan import Builder, Parameter, Statistic, Value

Backward = Callable[[Value | None], Value | None]

__all__ = ["Backward", "Layer", "Parameter", "Statistic", "register"]

#: layer classes by name, for Model.load
REGISTRY: dict[str, type[Layer]] = {}


L = TypeVar("L", bound="type[Layer]")


def register(cls: L) -> L:
    """Class decorator: Model.load can rebuild this layer from its name and config."""
    REGISTRY[cls.__name__] = cls
    return cls


class Layer:
    """One step of a model. See `tinydl.nn` for those that exist and `PythonLayer` for writing one in NumPy."""

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

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-ready."""
        return {}

    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample that this layer needs, where it knows."""
        return None

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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"

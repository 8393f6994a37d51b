"""Sequential and Residual: layers made of layers."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Rows, Value, inverse


@register
class Sequential(Layer):
    """The layers one after another; `model[i]` is the i-th.

        >>> from tinydl import nn
        >>> nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))[1]
        ReLU()
    """

    def __init__(self, *layers: Layer) -> None:
        for i, layer in enumerate(layers):
            if isinstance(layer, (list, tuple)):
                raise TypeError(f"Sequential takes layers, not a {type(layer).__name__} of them: nn.Sequential(*layers)")
            if not isinstance(layer, Layer):
                raise _hints.expected(f"layer {i} of Sequential", Layer, layer)
        self.layers = layers

    def __getitem__(self, i: int) -> Layer:
        return self.layers[i]

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def config(self) -> dict[str, Any]:
        return {}

    def children(self) -> Iterator[tuple[str, Layer]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def input_dtype(self) -> str:
        first = next((layer for layer in self.layers if not layer.moves_only), None)
        return "float32" if first is None else first.input_dtype()

    def input_shape(self) -> tuple[int, ...] | None:
        for layer in self.layers:
            shape = layer.input_shape()
            if shape is not None or not layer.keeps_shape():
                return shape
        return None

    def keeps_shape(self) -> bool:
        return all(layer.keeps_shape() for layer in self.layers)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for i, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except ValueError as e:
                raise ValueError(f"layer {i}: {e}") from None
        return shape

    def flops(self, shape: tuple[int, ...]) -> int:
        total = 0
        for layer in self.layers:
            total += layer.flops(shape)
            shape = layer.output_shape(shape)
        return total

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        backwards = []
        for name, layer in self.children():
            with b.scope(name):
                x, back = layer.emit(b, x)
            backwards.append((name, back))

        def backward(dy: Value | None) -> Value | None:
            for name, back in reversed(backwards):
                if dy is None:
                    break
                with b.scope(name):
                    dy = back(dy)
            return dy
        return x, backward


@register
class Residual(Layer):
    """y = x + layer(x) (He et al. 2016)"""

    def __init__(self, layer: Layer) -> None:
        if not isinstance(layer, Layer):
            raise _hints.expected("layer", Layer, layer)
        self.layer = layer

    def config(self) -> dict[str, Any]:
        return {}

    def __repr__(self) -> str:
        return f"Residual({self.layer!r})"

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield "layer", self.layer

    def input_shape(self) -> tuple[int, ...] | None:
        return self.layer.input_shape()

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        inside = self.layer.output_shape(shape)
        if inside != shape:
            raise ValueError(f"{self!r}: the layer turns samples of shape {shape} into {inside}; they must stay as they are")
        return shape

    def flops(self, shape: tuple[int, ...]) -> int:
        return self.layer.flops(shape)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        self.output_shape(x.shape)
        with b.scope("layer"):
            inside, back = self.layer.emit(b, x)
        order = inside.order()
        y = b.value(inside.permute(order).shape, needs_grad=x.needs_grad or inside.needs_grad)
        b.emit("add", a=inside.permute(order), b=x.permute(order), out=y, n=Rows(x.size))

        def backward(dy: Value | None) -> Value | None:
            with b.scope("layer"):
                through = back(dy) if inside.needs_grad else None
            if not x.needs_grad or dy is None or through is None:
                return dy if x.needs_grad else None
            dx = b.value(y.shape)
            b.emit("add", a=through.permute(order), b=dy.permute(order), out=dx, n=Rows(x.size))
            return dx.permute(inverse(order))
        return y.permute(inverse(order)), backward

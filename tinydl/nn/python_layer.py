"""PythonLayer: a layer that a user writes with NumPy alone; one operation of the same plan as all others."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinydl.nn.initializers import get
from tinydl.nn.layer import Backward, Layer, Parameter
from tinydl.plan import Builder, Value
from tinydl.plan.values import Initializer

Array = np.ndarray[Any, Any]


class PythonLayer(Layer):
    """Subclass it, and write forward and backward with NumPy.

    forward(x) -> (y, saved): x (B, ...) read-only; y (B, *output_shape); `saved` comes back in backward.
    backward(dy, saved) -> dx, or (dx, {"name": gradient, ...}) where the layer has parameters of its own
    (`add_parameter` in the constructor; `self.parameter("name")` is its array).

    In parallel training each replica has its own deep copy of the layer (parameters are shared), so it may keep
    state in `self`; a layer that cannot be copied runs on one replica. A saved model's file holds the arguments that the
    constructor was called with (numbers, strings, lists, tuples, dicts, layers; for others override `config`), and
    `Model.load(path, custom_layers={"Name": Class})` calls it with them again. In inference the layer itself is used,
    by several threads at once where there are several. It takes the GIL while it runs. Check a new one with
    `tinydl.testing.check_gradients`.

        >>> class Square(PythonLayer):
        ...     def forward(self, x): return x * x, x
        ...     def backward(self, dy, saved): return 2 * saved * dy
    """

    def forward(self, x: Array) -> tuple[Array, Any]:
        raise NotImplementedError(f"{type(self).__name__}.forward(x) -> (y, saved)")

    def backward(self, dy: Array, saved: Any) -> Array | tuple[Array, Mapping[str, Array]]:
        raise NotImplementedError(f"{type(self).__name__}.backward(dy, saved) -> dx")

    def add_parameter(self, name: str, shape: tuple[int, ...], init: str | Initializer = "zeros") -> None:
        """Declare a trained array, before the layer is put into a Model."""
        fans = (shape[0], shape[-1]) if shape else (1, 1)
        setattr(self, "_parameter_" + name, Parameter(shape, get(init) if isinstance(init, str) else init, fans))

    def parameter(self, name: str) -> Array:
        """The array of a declared parameter: a view of the model's, as of now."""
        data = getattr(self, "_parameter_" + name).data
        if data is None:
            raise RuntimeError(f"parameter {name!r} has no values before the layer is in a Model")
        return data  # type: ignore[no-any-return]

    def parameters(self) -> Iterator[tuple[str, Parameter]]:
        return ((k.removeprefix("_parameter_"), v) for k, v in super().parameters())

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        own = list(self.parameters())
        y = b.value(self.output_shape(x.shape), needs_grad=x.needs_grad or b.trains(*(p for _, p in own)))
        key = f"{b.path}#{len(b.hooks)}"
        b.python(_Forward(self, key, b.training), [b.whole(x)], [y])

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not y.needs_grad:
                return None
            dx = b.value(x.shape) if x.needs_grad else None
            grads = [None if p.frozen else b.grad(p) for _, p in own]
            hook = _Backward(self, key, [(name, 0 if g is None else g[1]) for (name, _), g in zip(own, grads, strict=True)])
            # x is read again so that `saved` may hold a view of it
            b.python(hook, [b.whole(dy), b.whole(x)], [dx, *(None if g is None else g[0] for g in grads)])
            return dx
        return y, backward


class _Forward:
    def __init__(self, layer: PythonLayer, key: str, training: bool) -> None:
        self.layer, self.key, self.training = layer, key, training

    def run(self, local: dict[str, Any], arrays: list[Array]) -> None:
        x, y = arrays
        result = self.layer.forward(x)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"{type(self.layer).__name__}.forward must return (y, saved); got {type(result).__name__}")
        out = np.asarray(result[0])
        if out.shape != y.shape:
            raise ValueError(f"{type(self.layer).__name__}.forward returned shape {out.shape}; {y.shape} was expected "
                             "(override output_shape where a layer changes the shape)")
        y[...] = out
        if self.training:
            local[self.key] = result[1]


class _Backward:
    def __init__(self, layer: PythonLayer, key: str, grads: list[tuple[str, int]]) -> None:
        self.layer, self.key, self.grads = layer, key, grads

    def run(self, local: dict[str, Any], arrays: list[Array | None]) -> None:
        dy, _x, dx, *out = arrays
        assert dy is not None
        result = self.layer.backward(dy, local.pop(self.key))
        name = type(self.layer).__name__
        grads: Mapping[str, Array] = {}
        if isinstance(result, tuple):
            result, grads = result
        if set(grads) != {n for n, _ in self.grads}:
            raise ValueError(f"{name}.backward must return gradients for {sorted(n for n, _ in self.grads)}; "
                             f"got {sorted(grads)}")
        if dx is not None:
            if np.shape(result) != dx.shape:
                raise ValueError(f"{name}.backward returned shape {np.shape(result)}; {dx.shape} was expected")
            dx[...] = result
        for (parameter, more), place in zip(self.grads, out, strict=True):
            if place is None:       # frozen
                continue
            grad = grads[parameter]
            if np.shape(grad) != place.shape:
                raise ValueError(f"{name}.backward: gradient of {parameter!r} has shape {np.shape(grad)}, not {place.shape}")
            place[...] = place + grad if more else grad

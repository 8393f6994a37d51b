"""PythonLayer: a layer that a user writes with NumPy alone; one operation of the same plan as all others."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np

from tinydl.nn.initializers import get
from tinydl.nn.layer import Backward, Layer, Parameter, Symbol
from tinydl.plan import Builder, Value
from tinydl.plan.values import Initializer

Array = np.ndarray[Any, Any]


class PythonLayer(Layer):
    """Subclass it, and write forward and backward with NumPy.

    forward(x) -> (y, saved): x (B, ...) read-only; y (B, *output_shape); `saved` comes back in backward.
    backward(dy, saved) -> dx, or (dx, {"name": gradient, ...}) where the layer has parameters of its own
    (`add_parameter` in the constructor; `self.parameter("name")` is its array).

    Of several inputs: forward(a, b, ...) -> (y, saved), an array each, and backward returns a gradient for each, (da, db, ...),
    with the dict of parameters' gradients behind them where there are any. Inputs that are integers (as categories) come as
    int64, and their gradient is None. The layer is called on a list of symbolic values: y = MyLayer()([a, b]). A model of
    nothing but a layer for integers says so by `input_dtype`, which returns "int64" then.

    In parallel training each replica has its own deep copy of the layer (parameters are shared), so it may keep
    state in `self`; a layer that cannot be copied runs on one replica. A saved model's file holds the arguments that the
    constructor was called with (numbers, strings, lists, tuples, dicts, layers; for others override `config`), and
    `Model.load(path, custom_layers={"Name": Class})` calls it with them again. In inference the layer itself is used,
    by several threads at once where there are several. It takes the GIL while it runs. Check a new one with
    `tinydl.testing.check_gradients`.

        >>> class Square(PythonLayer):
        ...     def forward(self, x): return x * x, x
        ...     def backward(self, dy, saved): return 2 * saved * dy

    Numbers scaled by how often their category was seen:

        >>> class PerCount(PythonLayer):
        ...     def __init__(self, counts): self.counts = counts
        ...     def forward(self, x, category):
        ...         scale = 1 / np.array(self.counts)[category][:, None]
        ...         return x * scale, scale
        ...     def backward(self, dy, scale): return dy * scale, None
        >>> from tinydl import Model, nn
        >>> x, category = nn.Input((2,), name="x"), nn.Input((), "int64", name="category")
        >>> model = Model(inputs=[x, category], outputs=PerCount([1, 4])([x, category]))
        >>> model.predict({"x": np.ones((3, 2)), "category": np.array([0, 1, 1])}).tolist()
        [[1.0, 1.0], [0.25, 0.25], [0.25, 0.25]]
    """

    n_inputs, any_dtype = None, True

    def forward(self, *xs: Array) -> tuple[Array, Any]:
        raise NotImplementedError(f"{type(self).__name__}.forward(x) -> (y, saved)")

    def backward(self, dy: Array, saved: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.backward(dy, saved) -> dx")

    def __call__(self, inputs: Symbol | Sequence[Symbol], *more: Any) -> Symbol:
        out = super().__call__(inputs, *more)
        try:
            signature(self.forward).bind(*out.inputs)
        except TypeError:
            raise TypeError(f"{self!r} is called on {len(out.inputs)} values, and there is {type(self).__name__}.forward"
                            f"{signature(self.forward)}") from None
        return out

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

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        own = list(self.parameters())
        y = b.value(self.output_shape(*(x.shape for x in xs)),
                    needs_grad=any(x.needs_grad for x in xs) or b.trains(*(p for _, p in own)))
        key = f"{b.path}#{len(b.hooks)}"
        xs = tuple(b.whole(x) for x in xs)
        b.python(_Forward(self, key, b.training), xs, [y])

        def backward(dy: Value | None) -> Any:
            if dy is None or not y.needs_grad:
                return (None,) * len(xs) if len(xs) > 1 else None
            dxs = [b.value(x.shape) if x.needs_grad else None for x in xs]
            grads = [None if p.frozen else b.grad(p) for _, p in own]
            more = [(name, 0 if g is None else g[1]) for (name, _), g in zip(own, grads, strict=True)]
            # the inputs are read again so that `saved` may hold views of them
            places = [None if g is None else g[0] for g in grads]
            b.python(_Backward(self, key, len(xs), more), [b.whole(dy), *xs], [*dxs, *places])
            return tuple(dxs) if len(dxs) > 1 else dxs[0]
        return y, backward


class _Forward:
    def __init__(self, layer: PythonLayer, key: str, training: bool) -> None:
        self.layer, self.key, self.training = layer, key, training

    def run(self, local: dict[str, Any], arrays: list[Array]) -> None:
        *xs, y = arrays
        result = self.layer.forward(*xs)
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
    def __init__(self, layer: PythonLayer, key: str, n_inputs: int, grads: list[tuple[str, int]]) -> None:
        self.layer, self.key, self.n_inputs, self.grads = layer, key, n_inputs, grads

    def run(self, local: dict[str, Any], arrays: list[Array | None]) -> None:
        n = self.n_inputs
        dy, dxs, out = arrays[0], arrays[1 + n:1 + 2 * n], arrays[1 + 2 * n:]
        assert dy is not None
        result = self.layer.backward(dy, local.pop(self.key))
        name = type(self.layer).__name__
        results = list(result) if isinstance(result, tuple) else [result]
        grads: Mapping[str, Array] = results.pop() if isinstance(results[-1], Mapping) else {}
        if len(results) != n:
            raise ValueError(f"{name}.backward returned {len(results)} gradients of inputs; forward takes {n}")
        if set(grads) != {n for n, _ in self.grads}:
            raise ValueError(f"{name}.backward must return gradients for {sorted(n for n, _ in self.grads)}; "
                             f"got {sorted(grads)}")
        for i, (dx, result) in enumerate(zip(dxs, results, strict=True)):
            if dx is None:
                continue
            if result is None or np.shape(result) != dx.shape:
                which = f" for input {i}" if n > 1 else ""
                got = "None" if result is None else f"shape {np.shape(result)}"
                raise ValueError(f"{name}.backward returned {got}{which}; {dx.shape} was expected")
            dx[...] = result
        for (parameter, more), place in zip(self.grads, out, strict=True):
            if place is None:       # frozen
                continue
            grad = grads[parameter]
            if np.shape(grad) != place.shape:
                raise ValueError(f"{name}.backward: gradient of {parameter!r} has shape {np.shape(grad)}, not {place.shape}")
            place[...] = place + grad if more else grad

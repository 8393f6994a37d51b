"""check_gradients: whether a layer's (or loss's) backward is the derivative of its forward."""
from __future__ import annotations

import copy
from typing import Any

import numpy as np

from tinydl._kernels import engine
from tinydl.losses import Joint, Loss, PythonLoss
from tinydl.model import Model
from tinydl.nn import Layer
from tinydl.nn.graph import named_outputs, unnamed_outputs
from tinydl.plan import Buffer, Builder, Value, compile_plan

Array = np.ndarray[Any, Any]

__all__ = ["check_gradients"]


class _Projection(PythonLoss):
    """sum(w y) with fixed random w: its gradient by y is w, so every output counts."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        self.w = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)

    def forward(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        return float(np.sum(self.w * outputs)), self.w


def _projection(rng: np.random.Generator, n: int, output: Any) -> tuple[Loss, Any]:
    """A loss that every output counts in, each in its own measure, and targets for it."""
    if not isinstance(output, dict) and not (output and isinstance(output[0], tuple)):
        one = _Projection(rng, (n, *output))
        return one, np.zeros_like(one.w)
    shapes = output if isinstance(output, dict) else dict(enumerate(output))
    each: dict[Any, Loss | None] = {name: _Projection(rng, (n, *shape)) for name, shape in shapes.items()}
    targets = {name: np.zeros((n, *shape)) for name, shape in shapes.items()}
    return (Joint(each), targets) if isinstance(output, dict) else (Joint(list(each.values())), tuple(targets.values()))


def check_gradients(layer: Layer, x: Any, *, loss: Loss | None = None, targets: Any = None, seed: int = 0,
                    tolerance: float = 1e-6) -> float:
    """Compare the gradients of `layer` by x (B, ...) and by its parameters with central differences, in float64.

    x: of several inputs, a tuple of arrays; those of integers have no gradient. loss, targets: through this loss (default: a
    random projection of the outputs). Returns the largest error,
    relative to the largest gradient of its array; AssertionError names the array and element where it exceeds
    `tolerance` (differences with h = 6e-6 are good to about 1e-9 for smooth layers; keep x away from kinks).

        >>> import numpy as np
        >>> from tinydl import nn
        >>> check_gradients(nn.Tanh(), np.linspace(-1, 1, 6).reshape(2, 3)) < 1e-6
        True
    """
    given = x if isinstance(x, tuple) else (np.array(x, np.float64),)
    xs: list[Array] = [np.array(a, np.int64 if np.asarray(a).dtype.kind in "iub" else np.float64) for a in given]
    model, n = Model(copy.deepcopy(layer), "float64", seed), len(xs[0])
    output: Any = named_outputs(model.layer, model.layer.output_shape(*(a.shape[1:] for a in xs)))
    if loss is None:
        loss, targets = _projection(np.random.default_rng(seed), n, output)
    targets = targets if isinstance(targets, (dict, tuple)) else np.asarray(targets)
    sources = [*xs, *loss.sources(loss.check_targets(targets, output))]
    b = Builder(model.dtype, training=True, n_params=model.params.size, n_statistics=model.statistics.size)
    inputs = [b.input(a.shape[1:], name=f"x{i}", integer=a.dtype.kind == "i") for i, a in enumerate(xs)]
    for a, value in zip(xs, inputs, strict=True):
        value.needs_grad = a.dtype.kind == "f"
    y, backward = model.layer.emit(b, *inputs)
    dxs = backward(unnamed_outputs(model.layer, loss.emit(b, named_outputs(model.layer, y))))
    b.no_gradient(model._parameters.values())
    by_x = [(i, a, dx) for i, (a, dx) in enumerate(zip(xs, dxs if isinstance(dxs, tuple) else (dxs,), strict=True))
            if a.dtype.kind == "f"]
    ends = np.cumsum([0, *(dx.size for _, _, dx in by_x)]).tolist()
    for (_, _, dx), at in zip(by_x, ends[:-1], strict=True):
        b.move(dx, Value(Buffer(ends[-1], True, "out", 0, b.dtype, "dx"), dx.shape, False, at))
    replica = engine.Replica(compile_plan(b, n).program, model.params, model.statistics)
    vector = np.full(model.params.size + model.statistics.size, np.nan)      # a gradient is written, not added to what is there
    out: Array = np.empty((n, ends[-1]))

    def loss_now() -> float:
        return float(replica.run([engine.Source(a) for a in sources], None, n, vector, out=out, seed=seed))

    loss_now()
    analytic: dict[str, tuple[Array, Array]] = {
        "x" if len(xs) == 1 else f"x[{i}]": (a, out[:, at:at + dx.size].reshape(a.shape).copy())
        for (i, a, dx), at in zip(by_x, ends[:-1], strict=True)}
    for name, p in model._parameters.items():
        assert p.data is not None
        analytic[name] = (p.data, vector[p.offset:p.offset + p.size].reshape(p.shape).copy())
    worst = 0.0
    for name, (array, gradient) in analytic.items():
        numeric = np.empty_like(gradient)
        flat, into = array.reshape(-1), numeric.reshape(-1)
        for i in range(flat.size):
            kept = flat[i]
            h = 6e-6 * max(1.0, abs(kept))
            flat[i] = kept + h
            above = loss_now()
            flat[i] = kept - h
            below = loss_now()
            flat[i] = kept
            into[i] = (above - below) / (2 * h)
        error = np.abs(gradient - numeric) / max(1.0, float(np.abs(numeric).max(initial=0.0)))
        if error.size and not error.max() <= tolerance:
            at = np.unravel_index(int(np.nanargmax(np.where(np.isnan(error), np.inf, error))), error.shape)
            raise AssertionError(f"{layer!r}: gradient by {name}{list(map(int, at))} is {gradient[at]:.9g}; "
                                 f"differences give {numeric[at]:.9g} (tolerance {tolerance:g})")
        worst = max(worst, float(error.max(initial=0.0)))
    return worst

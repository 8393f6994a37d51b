"""check_gradients: whether a layer's (or loss's) backward is the derivative of its forward."""
from __future__ import annotations

import copy
from typing import Any

import numpy as np

from tinydl._kernels import engine
from tinydl.losses import Loss, PythonLoss
from tinydl.model import Model
from tinydl.nn import Layer
from tinydl.plan import Buffer, Builder, Rows, compile_plan

Array = np.ndarray[Any, Any]

__all__ = ["check_gradients"]


class _Projection(PythonLoss):
    """sum(w y) with fixed random w: its gradient by y is w, so every output counts."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        self.w = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)

    def forward(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        return float(np.sum(self.w * outputs)), self.w


def check_gradients(layer: Layer, x: Any, *, loss: Loss | None = None, targets: Any = None, seed: int = 0,
                    tolerance: float = 1e-6) -> float:
    """Compare the gradients of `layer` by x (B, ...) and by its parameters with central differences, in float64.

    loss, targets: through this loss (default: a random projection of the outputs). Returns the largest error,
    relative to the largest gradient of its array; AssertionError names the array and element where it exceeds
    `tolerance` (differences with h = 6e-6 are good to about 1e-9 for smooth layers; keep x away from kinks).

        >>> import numpy as np
        >>> from tinydl import nn
        >>> check_gradients(nn.Tanh(), np.linspace(-1, 1, 6).reshape(2, 3)) < 1e-6
        True
    """
    x = np.array(x, np.float64)
    model = Model(copy.deepcopy(layer), "float64", seed)
    rng = np.random.default_rng(seed)
    output = model.layer.output_shape(x.shape[1:])
    if loss is None:
        loss, targets = _Projection(rng, (len(x), *output)), np.zeros((len(x), *output))
    targets = loss.check_targets(np.asarray(targets), output)
    b = Builder(model.dtype, training=True, n_params=model.params.size, n_statistics=model.statistics.size)
    source = b.input(x.shape[1:])
    source.needs_grad = True
    y, backward = model.layer.emit(b, source)
    dx = backward(loss.emit(b, y))
    assert dx is not None
    b.emit("copy", x=dx, out=Buffer(dx.size, True, "out", 0, b.dtype, "dx"), n=Rows(dx.size))
    replica = engine.Replica(compile_plan(b, len(x)).program, model.params, model.statistics)
    vector = np.full(model.params.size + model.statistics.size, np.nan)      # a gradient is written, not added to what is there
    out = np.empty_like(x)

    def value() -> float:
        return float(replica.run([engine.Source(x), engine.Source(targets)], None, len(x), vector, out=out, seed=seed))

    value()
    analytic = {"x": (x, out.copy())}
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
            above = value()
            flat[i] = kept - h
            below = value()
            flat[i] = kept
            into[i] = (above - below) / (2 * h)
        error = np.abs(gradient - numeric) / max(1.0, float(np.abs(numeric).max(initial=0.0)))
        if error.size and not error.max() <= tolerance:
            at = np.unravel_index(int(np.nanargmax(np.where(np.isnan(error), np.inf, error))), error.shape)
            raise AssertionError(f"{layer!r}: gradient by {name}{list(map(int, at))} is {gradient[at]:.9g}; "
                                 f"differences give {numeric[at]:.9g} (tolerance {tolerance:g})")
        worst = max(worst, float(error.max(initial=0.0)))
    return worst

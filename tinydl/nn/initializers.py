"""How parameters begin. An initialiser is called with (rng, shape, fans) and returns float64 values; `unit_variance` changes
a model's by what its layers make of data.

fans = (fan_in, fan_out). gain for ReLU networks is sqrt(2) (He et al. 2015), 1 for linear and sigmoid ones;
Xavier: Glorot and Bengio 2010; LeCun: LeCun et al. 1998, for SELU. `default_linear` is
PyTorch's for Linear: uniform in +-1/sqrt(fan_in), which is
kaiming_uniform with a = sqrt(5).
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints

Array = np.ndarray[Any, np.dtype[np.float64]]
if TYPE_CHECKING:       # numpy.random takes a while to import, and not every program needs it
    from tinydl.nn.layer import Layer, Parameter
    Initializer = Callable[[np.random.Generator, tuple[int, ...], tuple[int, int]], Array]


def kaiming_uniform(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """uniform in +-sqrt(6 / fan_in)"""
    return rng.uniform(-1, 1, shape) * sqrt(6 / max(1, fans[0]))


def kaiming_normal(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """normal with variance 2 / fan_in"""
    return rng.standard_normal(shape) * sqrt(2 / max(1, fans[0]))


def xavier_uniform(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """uniform in +-sqrt(6 / (fan_in + fan_out))"""
    return rng.uniform(-1, 1, shape) * sqrt(6 / max(1, sum(fans)))


def xavier_normal(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """normal with variance 2 / (fan_in + fan_out)"""
    return rng.standard_normal(shape) * sqrt(2 / max(1, sum(fans)))


def lecun_normal(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """normal with variance 1 / fan_in"""
    return rng.standard_normal(shape) / sqrt(max(1, fans[0]))


def default_linear(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """uniform in +-1 / sqrt(fan_in)"""
    return rng.uniform(-1, 1, shape) / sqrt(max(1, fans[0]))


def normal(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """normal with mean 0 and variance 1"""
    return rng.standard_normal(shape)


def small_normal(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """normal with mean 0 and deviation 0.02, as of tables and positions of transformers"""
    return 0.02 * rng.standard_normal(shape)


def zeros(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """0"""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """1"""
    return np.ones(shape)


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f for f in (kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal, lecun_normal, default_linear,
                                  normal, small_normal, zeros, ones)}


#: layers that `unit_variance` scales, by their names, since their files import this one
PRODUCTS = ("Linear", "LinearEnsemble", "LinearBatchEnsemble", "Conv1d", "Conv2d", "ConvTranspose1d",
            "ConvTranspose2d")


def get(name: str) -> Initializer:
    """The initialiser called `name`; ValueError lists those that exist."""
    if name not in INITIALIZERS:
        raise ValueError(f"init={name!r}: choose one of {', '.join(INITIALIZERS)}"
                         + " (He's are called kaiming, Glorot's xavier)" * str(name).startswith(("he_", "glorot_")))
    return INITIALIZERS[name]


def unit_variance(model: Any, x: Any) -> None:
    """Layer by layer, scales the weights of a Model's linear and convolutional layers such that what they make of x has variance
    1, and sets their biases to 0 (Mishkin and Matas 2016, "All you need is a good init", without its orthogonal beginning).

    x: arrays of samples, as `model.predict` takes them, prepared as for training; some hundred are enough. What is frozen, or
    shared with another layer, stays as it is. ValueError where a layer makes the same number of all: nothing is changed then.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> x = np.random.default_rng(0).normal(size=(200, 8))
        >>> model = Model(nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1)), seed=0)
        >>> nn.initializers.unit_variance(model, x)
        >>> round(float(model.predict(x).std()), 3)
        1.0
    """
    from tinydl.nn.graph import Graph
    from tinydl.nn.interpret import interpret
    Model = type(model)         # which is on a higher floor
    if not hasattr(Model, "predict"):
        raise TypeError(f"model must be a Model, such as {_hints.EXAMPLES['Model']}; got {Model.__name__}")
    uses: dict[Parameter, int] = {}
    for _, _, p in model.layer.named_parameters():
        uses[p] = uses.get(p, 0) + 1
    changed: dict[Parameter, Array] = {}

    def own(p: Parameter | None) -> bool:
        return p is not None and not p.frozen and uses[p] == 1

    def call(path: str, layer: Layer, inputs: Sequence[Any]) -> Any:
        n = len(inputs)
        alone = Model(Graph(copy.deepcopy(layer), inputs=[
            {"name": f"x{i}", "shape": x.shape[1:], "dtype": "int64" if x.dtype.kind in "iub" else "float32"}
            for i, x in enumerate(inputs)], calls=[(0, range(n))], outputs=[n]), model.dtype.name)

        def outputs() -> Any:
            for (_, _, there), (_, _, here) in zip(layer.named_parameters(), alone.layer.named_parameters(), strict=True):
                _values(here)[...] = changed.get(there, _values(there))
            return alone.predict(tuple(inputs) if n > 1 else inputs[0])

        weight: Any = getattr(layer, "weight", None)
        bias: Any = getattr(layer, "bias", None)
        if type(layer).__name__ not in PRODUCTS or not own(weight):
            return outputs()
        if own(bias):
            changed[bias] = np.zeros(bias.shape)
        deviation = float(np.std(outputs(), dtype=np.float64))
        if not 0 < deviation < float("inf"):
            raise ValueError(f"layer {path or type(layer).__name__}: what it makes of x has the deviation {deviation}, which no "
                             "scale of its weights makes 1: give samples that differ, and are finite")
        changed[weight] = _values(weight) / np.float64(deviation)
        return outputs()

    interpret(model.layer, model._arrays(x), call)
    for p, value in changed.items():
        _values(p)[...] = value


def _values(p: Parameter) -> Any:
    assert p.data is not None       # it is in a model
    return p.data

"""How parameters begin. An initialiser is called with (rng, shape, fans) and returns float64 values.

fans = (fan_in, fan_out). gain for ReLU networks is sqrt(2) (He et al. 2015), 1 for linear and sigmoid ones;
Xavier: Glorot and Bengio 2010; LeCun: LeCun et al. 1998, for SELU. `default_linear` is
PyTorch's for Linear: uniform in +-1/sqrt(fan_in), which is
kaiming_uniform with a = sqrt(5).
"""
from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
if TYPE_CHECKING:       # numpy.random takes a while to import, and not every program needs it
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


def zeros(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """0"""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: tuple[int, ...], fans: tuple[int, int]) -> Array:
    """1"""
    return np.ones(shape)


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f for f in (kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal, lecun_normal, default_linear,
                                  normal, zeros, ones)}


def get(name: str) -> Initializer:
    """The initialiser called `name`; ValueError lists those that exist."""
    if name not in INITIALIZERS:
        raise ValueError(f"init={name!r}: choose one of {', '.join(INITIALIZERS)}")
    return INITIALIZERS[name]

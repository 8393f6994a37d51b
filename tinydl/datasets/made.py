"""Made data: a spiral to classify, a sine and a cosine to fit."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.data import ArrayDataset


@_hints.arguments
def spiral(n_classes: int = 3, n_samples: int = 300, noise: float = 0.2, seed: int | None = 0,
           batch_size: int = 32) -> ArrayDataset:
    """Arms of a spiral around the origin, one a class: x (n_samples, 2) in the unit disc, y labels 0 to n_classes - 1.

    n_samples: of all classes together; the first ones get one more where it does not divide. noise: the standard
    deviation of a point's angle, in radians.

        >>> spiral().x.shape
        (300, 2)
    """
    if not 1 <= n_classes <= n_samples or not 0 <= noise < np.inf:
        raise ValueError(f"spiral(n_classes={n_classes}, n_samples={n_samples}, noise={noise}): at least 1 class, a sample "
                         "for each, and finite noise from 0 up")
    sizes = [len(part) for part in np.array_split(np.arange(n_samples), n_classes)]
    y = np.repeat(np.arange(n_classes), sizes)
    radius = np.concatenate([np.arange(size) / size for size in sizes])
    angle = 2 * np.pi * y / n_classes + 4 * radius + noise * _rng(seed).standard_normal(n_samples)
    x = np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1)
    return ArrayDataset(x.astype(np.float32), y, batch_size)


@_hints.arguments
def sine(n_samples: int = 1000, noise: float = 0.0, seed: int | None = 0, batch_size: int = 32) -> ArrayDataset:
    """x (n_samples, 1) evenly over 0 to 2 pi, y = sin(x) + noise of that standard deviation; float32."""
    return _wave(np.sin, n_samples, noise, seed, batch_size)


@_hints.arguments
def cosine(n_samples: int = 1000, noise: float = 0.0, seed: int | None = 0, batch_size: int = 32) -> ArrayDataset:
    """x (n_samples, 1) evenly over 0 to 2 pi, y = cos(x) + noise of that standard deviation; float32."""
    return _wave(np.cos, n_samples, noise, seed, batch_size)


def _wave(f: Callable[[Any], Any], n_samples: int, noise: float, seed: int | None, batch_size: int) -> ArrayDataset:
    if n_samples < 1 or not 0 <= noise < np.inf:
        raise ValueError(f"n_samples={n_samples}, noise={noise}: at least 1 sample, and finite noise from 0 up")
    x = np.linspace(0, 2 * np.pi, n_samples)[:, None]
    y = f(x) + noise * _rng(seed).standard_normal(x.shape)
    return ArrayDataset(x.astype(np.float32), y.astype(np.float32), batch_size)


def _rng(seed: int | None) -> np.random.Generator:
    if seed is not None and seed < 0:
        raise ValueError(f"seed={seed}: a whole number of at least 0, or None")
    return np.random.default_rng(seed)

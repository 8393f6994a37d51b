"""Made data: a spiral to classify, a sine and a cosine to fit."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinydl.data import ArrayDataset


def spiral(n_classes: int = 3, n_per_class: int = 100, noise: float = 0.2, seed: int = 0, batch_size: int = 32) -> ArrayDataset:
    """Arms of a spiral around the origin, one a class: x (n_classes * n_per_class, 2), y labels. noise: radians.

        >>> spiral().x.shape
        (300, 2)
    """
    if n_classes < 1 or n_per_class < 1 or not noise >= 0:
        raise ValueError(f"spiral(n_classes={n_classes}, n_per_class={n_per_class}, noise={noise}): at least 1, 1 and 0")
    rng = np.random.default_rng(seed)
    radius = np.tile(np.arange(n_per_class) / n_per_class, n_classes)
    y = np.repeat(np.arange(n_classes), n_per_class)
    angle = 4 * (y + radius) + noise * rng.standard_normal(len(y))
    x = np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1)
    return ArrayDataset(x.astype(np.float32), y, batch_size)


def _wave(f: Callable[[Any], Any], n: int, noise: float, seed: int, batch_size: int) -> ArrayDataset:
    if n < 1 or not noise >= 0:
        raise ValueError(f"n={n}, noise={noise}: at least 1 and 0")
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 2 * np.pi, n)[:, None]
    return ArrayDataset(x.astype(np.float32), (f(x) + noise * rng.standard_normal(x.shape)).astype(np.float32), batch_size)


def sine(n: int = 1000, noise: float = 0.0, seed: int = 0, batch_size: int = 32) -> ArrayDataset:
    """x (n, 1) evenly over 0..2 pi, y = sin(x) + noise of that deviation."""
    return _wave(np.sin, n, noise, seed, batch_size)


def cosine(n: int = 1000, noise: float = 0.0, seed: int = 0, batch_size: int = 32) -> ArrayDataset:
    """x (n, 1) evenly over 0..2 pi, y = cos(x) + noise of that deviation."""
    return _wave(np.cos, n, noise, seed, batch_size)

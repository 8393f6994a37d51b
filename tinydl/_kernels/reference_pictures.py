"""What csrc/pictures.h and csrc/augment.h do to pictures x (C, H, W), in NumPy: the tests' oracle."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinydl._kernels.reference_hash import hashes, splitmix

Floats = npt.NDArray[Any]
Draws = npt.NDArray[np.uint32]


def key_of(key: int, *numbers: int) -> int:
    """splitmix(... splitmix(key + numbers[0]) + numbers[1] ...)"""
    k = np.array([key], np.uint64)
    for number in numbers:
        k = splitmix(k + np.array([int(number) % 2**64], np.uint64))
    return int(k[0])


def draws(key: int, n: int) -> Draws:
    return np.asarray(hashes(np.array([key], np.uint64), n)[0])


def below(draw: np.uint32, n: int) -> int:
    """0..n-1"""
    return int(draw) * n >> 32


def crop(x: Floats, d: Draws, height: float, width: float, edge: float, fill: float) -> Floats:
    h, w = int(height), int(width)
    around = ((0, 0), (h, h), (w, w))
    wide = np.pad(x, around, "edge") if edge else np.pad(x, around, constant_values=fill)
    top, left = below(d[0], 2 * h + 1), below(d[1], 2 * w + 1)
    return wide[:, top:top + x.shape[1], left:left + x.shape[2]]


def horizontal_flip(x: Floats, d: Draws, p: float) -> Floats:
    return x[:, :, ::-1] if d[0] < p * 2**32 else x


def vertical_flip(x: Floats, d: Draws, p: float) -> Floats:
    return x[:, ::-1] if d[0] < p * 2**32 else x


def rotate90(x: Floats, d: Draws) -> Floats:
    return np.rot90(x, below(d[0], 4), (1, 2))


def gaussian_noise(x: Floats, d: Draws, sigma: float) -> Floats:
    half = (x.size + 1) // 2
    radius = np.sqrt(-2 * np.log((d[:2 * half:2] + 1.0) / 2**32))
    turn = 2 * np.pi * (d[1:2 * half:2] / 2**32 - 0.5)
    z = np.concatenate([radius * np.cos(turn), radius * np.sin(turn)])[:x.size]
    return x + sigma * z.reshape(x.shape)


def cutout(x: Floats, d: Draws, height: float, width: float, p: float, fill: float) -> Floats:
    if d[2] >= p * 2**32:
        return x
    top, left = below(d[0], x.shape[1]) - int(height) // 2, below(d[1], x.shape[2]) - int(width) // 2
    out = x.copy()
    out[:, max(top, 0):max(top + int(height), 0), max(left, 0):max(left + int(width), 0)] = fill
    return out


CHANGES: dict[str, Callable[..., Floats]] = {f.__name__: f for f in (
    crop, horizontal_flip, vertical_flip, rotate90, gaussian_noise, cutout)}


def picture(x: Floats, key: int, row: int, scale: Floats | None = None, shift: Floats | None = None,
            changes: Sequence[tuple[str, Mapping[str, float]]] = ()) -> Floats:
    """Row `row` of x (n, C, H, W), float64."""
    out: Floats = x[row].astype(np.float64)
    if scale is not None and shift is not None:
        out = out * scale[:, None, None] + shift[:, None, None]
    for k, (name, numbers) in enumerate(changes):
        out = CHANGES[name](out, draws(key_of(key, row, k), out.size + 4), **numbers)
    return out


def mixing(key: int, row: int, quantiles: Floats, rows: npt.NDArray[np.int64]) -> tuple[int, float]:
    """The row that it is mixed with, and its own share."""
    d = draws(key_of(key, row, -1), 2)
    at = int(d[1]) / 2**32 * (len(quantiles) - 1)
    return int(rows[below(d[0], len(rows))]), float(np.interp(at, np.arange(len(quantiles)), quantiles))

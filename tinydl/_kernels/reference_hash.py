"""The hashes of csrc/dropout.h, in NumPy."""
from __future__ import annotations

import numpy as np
import numpy.typing as npt


def splitmix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hashes(key: npt.NDArray[np.uint64], columns: int) -> npt.NDArray[np.uint32]:
    """(R,) keys -> (R, columns)"""
    k0, k1 = key.astype(np.uint32)[:, None], (key >> np.uint64(32)).astype(np.uint32)[:, None]
    h = np.arange(columns, dtype=np.uint32) ^ k0
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = ((h ^ (h >> np.uint32(15))) + k1) * np.uint32(0x846CA68B)
    return np.asarray(h ^ (h >> np.uint32(16)))

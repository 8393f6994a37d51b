"""The 1,797 handwritten digits of the UCI test set, 8x8 pixels; where they come from is in digits.txt."""
from __future__ import annotations

import os.path

import numpy as np

from tinydl.data import ArrayDataset


def digits(batch_size: int = 32) -> ArrayDataset:
    """x (1797, 64) float32 in 0..1, y (1797,) labels 0..9.

        >>> digits().x.shape
        (1797, 64)
    """
    with np.load(os.path.join(os.path.dirname(__file__), "digits.npz"), allow_pickle=False) as f:
        return ArrayDataset(f["x"].reshape(-1, 64).astype(np.float32) / 16, f["y"], batch_size)

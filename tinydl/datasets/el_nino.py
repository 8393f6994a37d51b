"""A real series: the sea's temperature off Peru, month by month; where it comes from is in el_nino.txt."""
from __future__ import annotations

import os.path

import numpy as np

from tinydl.data import WindowDataset


def el_nino(window: int = 24, horizon: int = 3, batch_size: int = 32) -> WindowDataset:
    """The temperature of the Pacific's surface off Peru, degrees Celsius, in each of the 732 months from 1950 to 2010, where El
    Nino warms it every few years: x is `window` months, y the `horizon` months behind them. `.series` is all, (732, 1) float64.

        >>> data = el_nino()
        >>> data.series[:3].ravel().tolist()
        [23.11, 24.2, 25.37]
        >>> data[0][0].shape, data[0][1].shape
        ((24, 1), (3,))
    """
    with np.load(os.path.join(os.path.dirname(__file__), "el_nino.npz"), allow_pickle=False) as f:
        return WindowDataset(f["hundredths"] / 100, window, horizon, batch_size=batch_size)

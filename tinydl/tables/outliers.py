"""Wild values of a target: one of 1e30 among ones is a mistake, whatever a table is about, and would be all that is learnt.

A column of a table is scaled by its middle half and held back smoothly (`numeric`), so that a wild value in it does no harm. A
target is not: it is what is predicted. So wild values are found, to be named, and to be taken for the farthest value that is not.
"""
# n rows
from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: times as far from the median as all that is nearer
GAP = 1e5


def wild(y: Array) -> Array:
    """Which of y (n,), finite, are wild: those beyond a gap. Seen from the median, the next value is GAP times as far as all that
    are nearer, and as the interquartile range.

    Targets with heavy tails have no such gap: their largest values are of all sizes. Of 6,200 samples each of log-normal
    distributions with sigma 3 and 4, and of Pareto's with an exponent of 1, which has no mean, none had one; with an exponent of
    0.7 five. Where the quartiles are equal their range is the median's distance from 0, or of zeros mostly the median distance of
    the others.
    """
    with np.errstate(over="ignore"):        # of 1e308 and -1e308 it is infinite, which is far
        lower, median, upper = np.quantile(y, (0.25, 0.5, 0.75)).tolist()
        away = np.abs(y - median)
        others = away[away > 0]
        width = (upper - lower) or abs(median) or (float(np.median(others)) if len(others) else 0.0)
        order = np.argsort(away, kind="stable")
        beyond = away[order] > GAP * np.maximum(np.r_[0.0, away[order][:-1]], width)
    out = np.zeros(len(y), bool)
    if beyond.any():
        out[order[int(beyond.argmax()):]] = True
    return out


def told(values: Array, known: Array, place: str = "") -> str:
    """What is to be said of wild values beside the known ones. place: of the first, as " in row 3", if not said before."""
    value, low, high, more = values[0], known.min(), known.max(), len(values) - 1
    return (f"{value:g}{place}" + (f", and {more:,} more like it" if more else "") + f", where others are from {low:g} to "
            f"{high:g}: is it a mistake? It is trained on as {np.clip(value, low, high):g}; correct it, or leave that row out")

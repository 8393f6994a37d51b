"""A column of numbers for a model: gaps filled and marked, scaled by its middle half, wild values held back."""
# n rows
from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinydl.tables.columns import Array, RowError, first

#: beyond which a square, or a difference of two, would overflow
HUGE = 1e150


@dataclass(frozen=True)
class Numbers:
    """y = z / sqrt(1 + (z / 3)^2) with z = (x - median) factor, as in RealMLP (Holzmueller et al. 2024, "Better by Default").

    factor is 1 / (upper quartile - lower quartile), or 2 / (max - min) where the quartiles are equal; so |y| < 3 for any x, and
    y is nearly z for most. A missing value is taken for the median. factor 0: the values that there are are all equal, and
    have no y. marked: beside y comes 1 where the value is missing and else 0. clipped: False gives z for y.
    """

    median: float
    factor: float
    marked: bool
    clipped: bool = True

    @classmethod
    def fit(cls, x: Array, label: str, *, scale: bool = True) -> Numbers | None:
        """Of x (n,), NaN where a value is missing. None where there is nothing to learn from it: all is equal, or missing."""
        check(x, label)
        gaps = np.isnan(x)
        marked = bool(gaps.any())
        known = x[~gaps] if marked else x
        if not len(known):
            return None
        with np.errstate(over="ignore"):
            low, lower, median, upper, high = np.quantile(np.clip(known, -HUGE, HUGE), (0, 0.25, 0.5, 0.75, 1)).tolist()
        width = (upper - lower) or (high - low) / 2
        if width < 1 / HUGE:
            return cls(median, 0.0, True, scale) if marked else None
        return cls(median, 1 / width if scale else 1.0, marked, scale)

    @property
    def n_outputs(self) -> int:
        return (self.factor != 0) + self.marked

    def names(self, label: str) -> list[str]:
        return [label] * (self.factor != 0) + [f"{label} missing"] * self.marked

    def transform(self, x: Array, label: str, out: Array) -> None:
        """Write the columns of x (n,) into out (n, n_outputs)."""
        check(x, label)
        gaps = np.isnan(x)
        if self.factor:
            x = np.where(gaps, self.median, x)
            if self.clipped:
                with np.errstate(over="ignore"):
                    z = np.clip((np.clip(x, -HUGE, HUGE) - self.median) * self.factor, -HUGE, HUGE)
                out[:, 0] = z / np.sqrt(1 + (z / 3) ** 2)
            else:
                out[:, 0] = np.clip(x, -3e38, 3e38)
        if self.marked:
            out[:, -1] = gaps

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(x: Array, label: str) -> None:
    """ValueError names the row of an infinity."""
    infinite = np.isinf(x)
    if infinite.any():
        row = first(infinite)
        raise RowError(f"column {label!r} is {x[row]}", row, "; numbers must be finite: put a value in, NaN for a missing one, "
                       "or leave that row out")

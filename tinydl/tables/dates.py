"""A column of dates for a model: its parts, each a column of numbers."""
# n rows
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl.tables.columns import Array
from tinydl.tables.numeric import Numbers

PARTS = ("year", "month", "day of year sin", "day of year cos", "weekday", "hour")


def parts(x: Array) -> dict[str, Array]:
    """Of dates (n,) their parts as float64, NaN where a date is missing: month is 1 to 12, weekday 0 (Monday) to 6, hour with its
    minutes as a fraction; the day of the year as an angle, of which December's last day is beside January's first."""
    gaps = np.isnat(x)
    x = np.where(gaps, np.datetime64(0, "s"), x).astype("datetime64[s]")
    years, months, days = (x.astype(f"datetime64[{unit}]") for unit in "YMD")
    angle = 2 * np.pi * (days - years).astype(np.int64) / 365.25
    found = {
        "year": years.astype(np.int64) + 1970, "month": (months - years).astype(np.int64) + 1,
        "day of year sin": np.sin(angle), "day of year cos": np.cos(angle),
        "weekday": (days.astype(np.int64) + 3) % 7,         # 1970 began on a Thursday
        "hour": (x - days).astype(np.int64) / 3600,
    }
    return {name: np.where(gaps, np.nan, values) for name, values in found.items()}


class Dates:
    """Those parts that differ from row to row in fit, as `Numbers`, and, where dates were missing there, a column that marks
    them."""

    def __init__(self, found: dict[str, Numbers], marked: bool) -> None:
        self.found, self.marked = found, marked

    @classmethod
    def fit(cls, x: Array, label: str, *, scale: bool = True) -> Dates | None:
        """Of x (n,). None where all dates are equal, or missing."""
        marked = bool(np.isnat(x).any())
        found = {}
        for name, values in parts(x).items():
            numbers = Numbers.fit(values, label, scale=scale)
            if numbers is not None and numbers.factor:
                found[name] = Numbers(numbers.median, numbers.factor, False, numbers.clipped)
        return cls(found, marked) if found or (marked and not np.isnat(x).all()) else None

    @property
    def n_outputs(self) -> int:
        return len(self.found) + self.marked

    def names(self, label: str) -> list[str]:
        return [f"{label} {name}" for name in self.found] + [f"{label} missing"] * self.marked

    def transform(self, x: Array, label: str, out: Array) -> None:
        """Write the columns of x (n,) into out (n, n_outputs)."""
        values = parts(x)
        for i, (name, numbers) in enumerate(self.found.items()):
            numbers.transform(values[name], label, out[:, i:i + 1])
        if self.marked:
            out[:, -1] = np.isnat(x)

    def to_dict(self) -> dict[str, Any]:
        return {"parts": {name: numbers.to_dict() for name, numbers in self.found.items()}, "marked": self.marked}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Dates:
        return cls({name: Numbers(**numbers) for name, numbers in state["parts"].items()}, state["marked"])

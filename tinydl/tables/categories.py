"""A column of categories for a model: codes by frequency, or columns of 0 and 1."""
# n rows, K categories
from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from tinydl.tables.columns import Array, RowError, is_gap

#: codes that are no category's: a gap; a category that was too rare in fit, or not there
MISSING, OTHER = 0, 1
FIRST = 2
#: categories that have a code however rare they are; beyond these, one that came once says less than all others together
COMMON = 1000

WHAT_TO_DO = "turn it into text or numbers, or leave it out"

Form = Literal["codes", "one-hot", "binary"]


@dataclass(frozen=True)
class Categories:
    """Categories (text, numbers or booleans) as codes: 0 for a missing one, 1 for one that `fit` has not seen or that was rare
    there, 2 for the most frequent, 3 for the next, ...; of equally frequent ones the smaller first, numbers before text. Of more
    than COMMON those alone have one that came more than once.

    form "codes": the codes, one of 2 + K. "one-hot": a column of 0 and 1 for each category, before them one for missing ones
    (marked) and one for others (rare), each where `fit` had such; so a row that has none is all 0. "binary", of two
    categories: one column of 0 (the smaller) and 1, one half where it is neither, and a column for missing ones (marked).
    """

    values: list[Any]
    form: Form
    marked: bool
    rare: bool

    @classmethod
    def fit(cls, x: Array, label: str, *, one_hot_up_to: int = 0, binary: bool = False, most: int = 1000,
            min_count: int = 1) -> Categories | None:
        """Of x (n,). None where all rows are of one category, or missing."""
        counts: Counter[Any] = Counter()
        missing = 0
        for value, n in Counter(_hashable(x, label)).items():
            if is_gap(value):
                missing += n
            else:
                counts[_plain(value, x, label)] += n
        frequent = sorted((v for v, n in counts.items() if n >= min_count), key=lambda v: (-counts[v], *_order(v)))[:most]
        frequent = frequent[:COMMON] + [v for v in frequent[COMMON:] if counts[v] > 1]
        rare = len(frequent) < len(counts)
        if len(frequent) + rare + (missing > 0) < 2:
            return None
        if binary and len(frequent) == 2 and not rare:
            return cls(sorted(frequent, key=_order), "binary", missing > 0, False)
        small = 0 < len(frequent) + rare <= one_hot_up_to
        return cls(frequent, "one-hot" if small else "codes", missing > 0, rare)

    @property
    def cardinality(self) -> int:
        """Of the codes."""
        return FIRST + len(self.values)

    @property
    def n_outputs(self) -> int:
        """Columns of numbers."""
        return {"codes": 0, "one-hot": self.marked + self.rare + len(self.values), "binary": 1 + self.marked}[self.form]

    def names(self, label: str) -> list[str]:
        if self.form == "codes":
            return []
        missing = [f"{label} missing"] * self.marked
        if self.form == "binary":
            return [f"{label}={self.values[1]}", *missing]
        return [*missing, *[f"{label}=other"] * self.rare, *(f"{label}={v}" for v in self.values)]

    def codes(self, x: Array, label: str) -> Array:
        """int32 (n,). ValueError where the column was of text and is of numbers, or the other way round: nothing would be
        known then."""
        number = {value: FIRST + i for i, value in enumerate(self.values)}
        values = _hashable(x, label)
        codes = np.array([number.get(value, -1) for value in values], np.int32)
        unknown = np.flatnonzero(codes < 0)
        kinds: set[type] = set()
        for row in unknown.tolist():
            if is_gap(values[row]):
                codes[row] = MISSING
            else:
                value = _plain(values[row], x, label)
                codes[row] = number.get(value, OTHER)
                kinds.add(str if isinstance(value, str) else float)
        if len(kinds) == 1 and len(codes) and codes.max() < FIRST:
            known = {str if isinstance(v, str) else float for v in self.values}
            if known and not kinds & known:
                row = next(int(r) for r in unknown if codes[r] == OTHER)
                was, now = ("text", "numbers") if str in known else ("numbers", "text")
                raise RowError(f"column {label!r} was of {was} and is of {now}, as {values[row]!r}", row,
                               f": give it as it was, as {self.values[0]!r}")
        return codes

    def transform(self, codes: Array, out: Array) -> None:
        """Write the columns of numbers of codes (n,) into out (n, n_outputs)."""
        if self.form == "binary":
            out[:, 0] = np.where(codes >= FIRST, codes - FIRST, 0.5)
            if self.marked:
                out[:, 1] = codes == MISSING
        elif self.form == "one-hot":
            at = np.full(self.cardinality, -1)
            at[MISSING] = 0 if self.marked else -1
            at[OTHER] = int(self.marked) if self.rare else -1
            at[FIRST:] = self.marked + self.rare + np.arange(len(self.values))
            place = at[codes]
            out[...] = 0
            rows = np.flatnonzero(place >= 0)
            out[rows, place[rows]] = 1

    def to_dict(self) -> dict[str, Any]:
        return {"values": self.values, "form": self.form, "marked": self.marked, "rare": self.rare}


def _hashable(x: Array, label: str) -> Sequence[Hashable]:
    values: list[Any] = x.tolist()
    try:
        for kind in set(map(type, values)):
            if kind.__hash__ is None:
                raise TypeError(kind.__name__)
        return values
    except TypeError as e:
        row = next(i for i, v in enumerate(values) if type(v).__hash__ is None)
        raise RowError(f"column {label!r} holds {e}", row, f": {WHAT_TO_DO}") from None


def _plain(value: Any, x: Array, label: str) -> Any:
    """As JSON has it."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if type(value).__name__ == "Interval":
        return _interval(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, (Real, Decimal)) and abs(float(value)) != float("inf"):
        return float(value)
    row = next(i for i, v in enumerate(x.tolist()) if v is value or v == value)
    raise RowError(f"column {label!r} holds {value!r} ({type(value).__name__})", row, f": {WHAT_TO_DO}")


def _interval(value: Any) -> str:
    """One of pandas.cut and qcut, as "(0, 18]". Its ends are integers or floats for the same cuts: floats beside a gap."""
    left, right = (repr(float(v)).removesuffix(".0") if isinstance(v, Real) else str(v) for v in (value.left, value.right))
    return f"{'[' if value.closed_left else '('}{left}, {right}{']' if value.closed_right else ')'}"


def _order(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value

"""TableEncoder: a table of any columns as numbers and codes of categories."""
# n rows, F columns of numbers, C columns of codes
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tinydl.data.frames import differences, listed
from tinydl.tables.categories import Categories
from tinydl.tables.columns import Array, Column, RowError, columns, first, read
from tinydl.tables.dates import Dates
from tinydl.tables.numeric import Numbers

VERSION = 1


class Encoded(NamedTuple):
    """What a model takes: numbers float32 (n, F), and categories int32 (n, C), codes below `TableEncoder.cardinalities`."""

    numbers: Array
    categories: Array


class TableEncoder:
    """Learns how to turn a table into arrays, and does it: `fit` on the rows to train on, `transform` for any.

    A table is a DataFrame of pandas, polars or narwhals, a pyarrow Table, a dict of columns (of masked arrays, too, whose masked
    values are missing), or an array of two axes. Columns go by their kind:
     - numbers (also integers of few different values): scaled by median and quartiles and smoothly clipped, as in RealMLP (see
       `tables.numeric.Numbers`); a missing one is the median, and where `fit` had any, a column beside marks them. An infinity is
       refused.
     - booleans: a column of 0 and 1.
     - categories, text, and whatever `categorical` names: codes for embeddings, or columns of 0 and 1. Missing ones have a
       code (0), and so have, together, those that are rare and those that `fit` has not seen (1).
     - dates: refused, unless dates=True, which makes columns of year, month, day of the year (sine and cosine), weekday and hour.
    A column that is constant in `fit`, or all missing, is left out (`left_out`).

    categorical: names of columns (of a table without names, their places) that are categories though they look like numbers.
    one_hot_up_to: categories of at most so many are columns of 0 and 1 among the numbers; of more they are codes. None: all are
    such columns. binary: columns of two categories are one column of 0 and 1.
    max_categories: how many of a column have a code of their own, the most frequent; beyond a thousand those alone that come more
    than once. min_count: how many rows of `fit` a category needs for that.
    scale: False leaves numbers as they are.

    In `transform` columns go by their names, in whatever order; ValueError says which are missing or unknown. An array without
    names goes by place.

        >>> table = {"age": [30, None, 50, 41], "town": ["Bonn", "Ulm", None, "Bonn"]}
        >>> encoder = TableEncoder().fit(table)
        >>> numbers, categories = encoder.transform({"town": ["Bonn", "Rome", None], "age": [41, None, 1000]})
        >>> numbers.round(1).tolist()
        [[0.0, 0.0], [0.0, 1.0], [3.0, 0.0]]
        >>> categories.tolist(), encoder.cardinalities
        ([[2], [1], [0]], [4])
        >>> encoder.number_names
        ['age', 'age missing']
    """

    def __init__(self, *, categorical: Sequence[Any] = (), dates: bool = False, one_hot_up_to: int | None = 0,
                 binary: bool = False, max_categories: int = 1000, min_count: int = 1, scale: bool = True) -> None:
        if isinstance(categorical, str):
            raise TypeError(f"categorical={categorical!r}: a list of columns, as [{categorical!r}]")
        for name, value in (("one_hot_up_to", one_hot_up_to), ("max_categories", max_categories), ("min_count", min_count)):
            low = 0 if name == "one_hot_up_to" else 1
            if not (value is None and low == 0) and (not isinstance(value, (int, np.integer)) or value < low):
                raise ValueError(f"{name}={value!r}: a whole number of at least {low}")
        self.categorical, self.dates, self.binary, self.scale = list(categorical), bool(dates), bool(binary), bool(scale)
        self.one_hot_up_to, self.max_categories, self.min_count = one_hot_up_to, int(max_categories), int(min_count)
        #: the names of the table's columns, in order; None where it had none, and before `fit`
        self.feature_names: list[str] | None = None
        #: why columns were left out, by their labels
        self.left_out: dict[str, str] = {}
        self._labels: list[str] | None = None
        self._parts: list[Numbers | Categories | Dates | None] = []
        self._kinds: list[str] = []

    def __repr__(self) -> str:
        if self._labels is None:
            return "TableEncoder(not fitted)"
        return (f"TableEncoder({len(self._labels)} columns: {len(self.number_names)} of numbers, {len(self.cardinalities)} of "
                f"codes, {len(self.left_out)} left out)")

    # ------------------------------------------------------------------ fit
    def fit(self, x: Any) -> TableEncoder:
        """Learn from the rows of x; returns the encoder. ValueError names what cannot be encoded, with its column and row."""
        labels, values, n = columns(x)
        if not n:
            raise ValueError("x is a table without rows")
        names = _names(labels)
        categorical = self._places(labels)
        self.left_out, parts, kinds = {}, [], []
        for i, (label, value) in enumerate(zip(map(str, labels), values, strict=True)):
            column = read(value, label, category=i in categorical)
            part = self._fit(column, label)
            if part is None:
                self.left_out[label] = "all values are missing" if column.kind == "nothing" or _all_missing(column) else (
                    "all values are equal" if column.kind != "categories" or self.min_count == 1 else
                    f"no two values of it are in {self.min_count} rows or more")
            parts.append(part)
            kinds.append(column.kind)
        self.feature_names, self._labels, self._parts, self._kinds = names, list(map(str, labels)), parts, kinds
        return self

    def _fit(self, column: Column, label: str) -> Numbers | Categories | Dates | None:
        if column.kind == "numbers":
            return Numbers.fit(column.values, label, scale=self.scale)
        if column.kind == "booleans":
            flags = Categories.fit(column.values, label, binary=True, one_hot_up_to=2)
            return None if flags is None else replace(flags, values=[bool(v) for v in flags.values])
        if column.kind == "dates":
            if not self.dates:
                raise ValueError(f"column {label!r} holds dates ({column.dtype}): dates=True takes them by their parts (year, "
                                 "month, day, weekday, hour); or turn it into numbers (days since a date), or leave it out")
            return Dates.fit(column.values, label, scale=self.scale)
        if column.kind == "categories":
            return Categories.fit(
                column.values, label, one_hot_up_to=1 << 62 if self.one_hot_up_to is None else self.one_hot_up_to,
                binary=self.binary, most=self.max_categories, min_count=self.min_count)
        return None

    def _places(self, labels: list[Any]) -> set[int]:
        """Of the columns that are named as categorical."""
        unknown = [c for c in self.categorical if c not in labels]
        if unknown:
            raise ValueError(f"categorical names {listed(unknown)}, which the table does not have; it has {listed(labels)}")
        return {labels.index(c) for c in self.categorical}

    # ------------------------------------------------------------------ transform
    def transform(self, x: Any) -> Encoded:
        """numbers float32 (n, F) and categories int32 (n, C) of the rows of x, which has the columns of `fit`."""
        self._check_fitted()
        _, values, n = self._columns(x)
        parts = self._parts
        numbers = np.empty((n, sum(part.n_outputs for part in parts if part is not None)), np.float32)
        categories = np.empty((n, len(self.cardinalities)), np.int32)
        at = column_of_codes = 0
        for label, kind, part, value in zip(self._labels or [], self._kinds, parts, values, strict=True):
            if part is None:
                continue
            out = numbers[:, at:at + part.n_outputs]
            at += part.n_outputs
            column = _as_fitted(read(value, label, category=kind == "categories"), kind, label)
            if isinstance(part, Categories):
                codes = part.codes(column.values, label)
                if part.form == "codes":
                    categories[:, column_of_codes] = codes
                    column_of_codes += 1
                else:
                    part.transform(codes, out)
            else:
                part.transform(column.values, label, out)
        return Encoded(numbers, categories)

    def fit_transform(self, x: Any) -> Encoded:
        """fit(x), then transform(x)."""
        return self.fit(x).transform(x)

    def _columns(self, x: Any) -> tuple[list[Any], list[Any], int]:
        """Those of `fit`, in its order."""
        labels, values, n = columns(x)
        names, wanted = _names(labels), self._labels or []
        if names is not None and self.feature_names is not None:
            if set(names) != set(self.feature_names):
                raise ValueError("x does not have the columns that the encoder was fitted on: "
                                 f"{differences(names, self.feature_names)}")
            by_name = dict(zip(names, values, strict=True))
            return wanted, [by_name[name] for name in self.feature_names], n
        if len(values) != len(wanted):
            raise ValueError(f"x has {len(values)} columns; the encoder was fitted on {len(wanted)}: {listed(wanted)}")
        return wanted, values, n

    def _check_fitted(self) -> None:
        if self._labels is None:
            raise ValueError("the TableEncoder is not fitted: call fit(x) first")

    # ------------------------------------------------------------------ what comes out
    @property
    def cardinalities(self) -> list[int]:
        """Of each column of codes: they run from 0 to one less."""
        return [part.cardinality for part in self._parts if isinstance(part, Categories) and part.form == "codes"]

    @property
    def number_names(self) -> list[str]:
        """What each column of numbers is."""
        return [name for label, part in zip(self._labels or [], self._parts, strict=True) if part is not None
                for name in part.names(label)]

    @property
    def category_names(self) -> list[str]:
        """The label of each column of codes."""
        return [label for label, part in zip(self._labels or [], self._parts, strict=True)
                if isinstance(part, Categories) and part.form == "codes"]

    # ------------------------------------------------------------------ files
    def to_dict(self) -> dict[str, Any]:
        """All that it knows, ready for JSON."""
        self._check_fitted()
        kinds = {Numbers: "numbers", Categories: "categories", Dates: "dates"}
        return {
            "version": VERSION, "named": self.feature_names is not None, "left_out": dict(self.left_out),
            "options": {"categorical": self.categorical, "dates": self.dates, "one_hot_up_to": self.one_hot_up_to,
                        "binary": self.binary, "max_categories": self.max_categories, "min_count": self.min_count,
                        "scale": self.scale},
            "columns": [{"label": label, "kind": kind, **({} if part is None else {"as": kinds[type(part)], **part.to_dict()})}
                        for label, kind, part in zip(self._labels or [], self._kinds, self._parts, strict=True)],
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> TableEncoder:
        """The encoder that `to_dict` described; ValueError where it did not."""
        try:
            if state["version"] > VERSION:
                raise ValueError(f"the encoder's state is of version {state['version']}; this tinydl reads up to {VERSION}")
            encoder = cls(**state["options"])
            encoder.left_out = dict(state["left_out"])
            encoder._labels = [str(column["label"]) for column in state["columns"]]
            encoder.feature_names = list(encoder._labels) if state["named"] else None
            for column in state["columns"]:
                rest = {name: value for name, value in column.items() if name not in ("label", "kind", "as")}
                encoder._kinds.append(column["kind"])
                encoder._parts.append(None if "as" not in column else Dates.from_dict(rest) if column["as"] == "dates" else
                                      {"numbers": Numbers, "categories": Categories}[column["as"]](**rest))
        except (KeyError, TypeError) as e:
            raise ValueError(f"this is not the state of a TableEncoder ({type(e).__name__}: {e})") from None
        return encoder


def _names(labels: list[Any]) -> list[str] | None:
    """Labels that are names; None of numbers."""
    named = [label for label in labels if isinstance(label, str)]
    if not named:
        return None
    if len(named) < len(labels):
        other = next(label for label in labels if not isinstance(label, str))
        raise ValueError(f"x has columns whose names are text, as {named[0]!r}, and others, as {other!r}: let all of them be "
                         "text, or none")
    if len(set(named)) < len(named):
        raise ValueError(f"x has more than one column {listed(sorted({n for n in named if named.count(n) > 1}))}: columns are "
                         "told apart by their names")
    return [str(label) for label in named]


def _all_missing(column: Column) -> bool:
    if column.kind == "dates":
        return bool(np.isnat(column.values).all())
    return column.kind != "categories" and bool(np.isnan(column.values).all())


def _as_fitted(column: Column, kind: str, label: str) -> Column:
    """The column as it was in fit; ValueError where it is of another kind now."""
    n = len(column.values)
    if column.kind == kind:
        return column
    if column.kind == "nothing" or (column.kind == "numbers" and np.isnan(column.values).all()):
        nothing: Array = np.full(n, np.datetime64("NaT", "us")) if kind == "dates" else np.full(n, np.nan)
        return Column(kind, nothing, column.dtype)
    if kind == "numbers" and column.kind == "booleans":
        return Column(kind, column.values, column.dtype)
    if kind == "booleans" and column.kind == "numbers":
        bad = ~np.isin(column.values, (0, 1)) & ~np.isnan(column.values)
        if not bad.any():
            return Column(kind, column.values, column.dtype)
        row = first(bad)
    else:
        row = next((i for i, v in enumerate(column.values.tolist()) if not isinstance(v, (int, float, type(None)))), 0)
    raise RowError(f"column {label!r} was of {kind} when the encoder was fitted; it is of {column.kind} now, as "
                   f"{column.values[row:row + 1].tolist()[0]!r}", row, ": give it as it was")

"""A table as columns of a few kinds. No library of tables is imported: each column is asked for NumPy by its own conversion."""
# n rows
from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from tinydl.data.frames import as_numbers, columns_of, decoded, dtype_of, is_category, makes_table, native

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Column:
    """One column: its kind and its values (n,).

    kind: "numbers" (float64, NaN where one is missing), "booleans" (the same, of 0 and 1), "dates" (datetime64, NaT),
    "categories" (objects or numbers, as they are), "nothing" (all are missing).
    """

    kind: str
    values: Array
    dtype: str


def columns(x: Any, name: str = "x") -> tuple[list[Any], list[Any], int]:
    """The labels of a table's columns, the columns as they are, and the number of rows; ValueError where x is no table."""
    if (method := makes_table(x)) and (method == "toarray" or not isinstance(x, Mapping)):
        raise ValueError(f"{name} is a {type(x).__name__}, which is no table: give {name}.{method}()")
    if isinstance(x, Mapping):
        labels, values = list(x), list(x.values())
    elif (table := None if isinstance(x, np.ndarray) else columns_of(x)) is not None:
        labels, values = table
    else:
        a = x if isinstance(x, np.ndarray) else np.asarray(x, None if hasattr(x, "__array__") else object)
        if hasattr(a, "mask"):
            raise ValueError(f"{name} is a masked array: fill it ({name}.filled(value))")
        if a.ndim != 2:
            what = f"an array of shape {a.shape}" if a.ndim else type(x).__name__
            raise ValueError(f"{name} must be a table (of pandas, polars or pyarrow, a dict of columns, or a 2-D array); "
                             f"it is {what}")
        labels, values = list(range(a.shape[1])), list(a.T)
    if not values:
        raise ValueError(f"{name} is a table without columns")
    sizes = [len(v) for v in values]
    if len(set(sizes)) > 1:
        other = next(i for i, n in enumerate(sizes) if n != sizes[0])
        raise ValueError(f"the columns of {name} are of several lengths: {labels[0]!r} has {sizes[0]} rows, {labels[other]!r} "
                         f"{sizes[other]}")
    return labels, values, sizes[0]


def read(column: Any, label: str, *, category: bool = False) -> Column:
    """A column by its dtype; of objects by what they are. category: whatever it is, it is categories."""
    column = native(column)
    dtype = dtype_of(column)
    column = _with_gaps(column) if isinstance(column, np.ndarray) and hasattr(column, "mask") else decoded(column)
    as_category = category or is_category(column) or dtype.startswith("dictionary")
    a = np.asarray(column, object) if isinstance(column, (list, tuple)) else np.asarray(column)
    if a.ndim != 1:
        raise ValueError(f"column {label!r} must have one value a row; it has shape {a.shape}")
    if a.dtype.kind == "S":
        a = np.char.decode(a, "utf-8")
    if as_category and a.dtype.kind in "biufOUM":
        if a.dtype.kind == "M":
            gaps = np.isnat(a)
            a = a.astype(str).astype(object)
            a[gaps] = None
        return Column("categories", a, dtype)
    if a.dtype == object:
        return _of_objects(a, label, dtype)
    if a.dtype.kind in "iuf":
        return Column("numbers", a.astype(np.float64), dtype)
    if a.dtype.kind == "b":
        return Column("booleans", a.astype(np.float64), dtype)
    if a.dtype.kind == "M":
        return Column("dates", a, dtype)
    if a.dtype.kind == "U" or a.dtype.kind == "T":          # T: StringDType
        return Column("categories", a, dtype)
    how = ", as seconds by .dt.total_seconds()" if a.dtype.kind == "m" else ", text or dates"
    raise ValueError(f"column {label!r} is {dtype if dtype != 'None' else a.dtype}: turn it into numbers{how}, or leave it out")


def _with_gaps(column: Any) -> Array:
    """A masked array (n,), of which NumPy would take what lies under the mask, with missing values there."""
    if column.dtype.kind in "fiu":
        return np.asarray(column.astype(np.float64).filled(np.nan))
    if column.dtype.kind == "M":
        return np.asarray(column.filled(np.datetime64("NaT", "us")))
    out: Array = column.data.astype(object)
    out[np.broadcast_to(column.mask, out.shape)] = None
    return out


def is_gap(value: Any) -> bool:
    """Whether it stands for a missing value: None, NaN, NaT, pandas.NA."""
    return value is None or (isinstance(value, (float, np.floating, Decimal)) and value != value) or (
        type(value).__name__ in ("NAType", "NaTType")) or (isinstance(value, np.datetime64) and bool(np.isnat(value)))


def _of_objects(a: Array, label: str, dtype: str) -> Column:
    values = a.tolist()
    kinds = set(map(type, values))
    known = {kind for kind in kinds if kind is not type(None) and kind.__name__ not in ("NAType", "NaTType")}
    if known <= {float} and all(map(is_gap, values)):
        return Column("nothing", a, dtype)
    if all(issubclass(kind, (bool, np.bool_)) or kind is float for kind in known) and not known <= {float}:
        others = {float(v) for v in values if type(v) is float and v == v}
        if not others:
            return Column("booleans", as_numbers(a).astype(np.float64), dtype)
    if all(issubclass(kind, (Real, Decimal)) for kind in known):
        return Column("numbers", as_numbers(a).astype(np.float64), dtype)
    if all(issubclass(kind, (datetime.date, np.datetime64)) or kind is float for kind in known):
        if not any(type(v) is float and v == v for v in values):
            return Column("dates", np.array([_date(v) for v in values], "datetime64[us]"), dtype)
    return Column("categories", a, dtype)


def _date(value: Any) -> Any:
    """Without a time zone, in UTC."""
    if is_gap(value):
        return np.datetime64("NaT", "us")
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(value, "us")


class RowError(ValueError):
    """What is wrong in a row: "... in row 3 ...". Whoever took these rows out of a table says by `of` which one it is there."""

    def __init__(self, before: str, row: int, after: str) -> None:
        super().__init__(f"{before} in row {row}{after}")
        self.before, self.row, self.after = before, row, after

    def of(self, rows: Array) -> RowError:
        """The same of the table that these rows (numbers) were taken out of."""
        return RowError(self.before, int(rows[self.row]), self.after)

    def __reduce__(self) -> tuple[Any, ...]:
        return RowError, (self.before, self.row, self.after)


def first(mask: Array) -> int:
    """The first row where it holds."""
    return int(np.argmax(mask))

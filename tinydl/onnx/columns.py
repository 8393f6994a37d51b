"""A TableEncoder in the graph: an input for each column of a table as it is, and what the model takes of them.

Inputs are (rows, 1), by the columns' names: numbers, booleans and dates as float64, NaN where one is missing, dates as seconds
since 1970 in UTC; text as strings, "" where it is missing. What is computed is what the encoder computes, in float64 as it does;
but an infinity, which it refuses, is taken for the largest number.
"""
# F columns of numbers, C columns of codes, K categories
from __future__ import annotations

from math import pi
from typing import Any

import numpy as np

from tinydl.onnx.writer import Array, Tensor, Writer
from tinydl.tables import TableEncoder
from tinydl.tables.categories import FIRST, MISSING, OTHER, Categories
from tinydl.tables.dates import Dates
from tinydl.tables.numeric import HUGE, Numbers

#: name, and the dtype of its elements: float64, or object for text
Column = tuple[str, np.dtype[Any]]


def column_inputs(encoder: TableEncoder) -> list[Column]:
    """The inputs: of columns that are left out there is none."""
    found = []
    for label, part in zip(encoder._labels or [], encoder._parts, strict=True):
        if part is not None:
            found.append((label, np.dtype(object if isinstance(part, Categories) and _text(part, label) else np.float64)))
    return found


def _text(part: Categories, label: str) -> bool:
    kinds = {isinstance(v, str) for v in part.values}
    if len(kinds) > 1:
        raise ValueError(f"column {label!r} has categories of text and of numbers; an input of an ONNX file is of one kind: turn "
                         "the column into text before training")
    return kinds == {True}


def encoded(w: Writer, encoder: TableEncoder, *, one_embedding: bool) -> tuple[Tensor | None, Tensor | None]:
    """numbers (F,) and codes (C,), None where there is none. one_embedding: whether codes count on from column to column."""
    numbers, codes, first = [], [], 0
    for label, part in zip(encoder._labels or [], encoder._parts, strict=True):
        if isinstance(part, Categories):
            code = _codes(w, part, label)
            if part.form == "codes":
                codes.append(w.op("Add", code, w.integers(first)) if first else code)
                first += part.cardinality if one_embedding else 0
            else:
                numbers.append(_looked_up(w, part, code))
        elif isinstance(part, Numbers):
            numbers += _numbers(w, part, label)
        elif isinstance(part, Dates):
            numbers += _dates(w, part, label)
    F, C = len(encoder.number_names), len(encoder.cardinalities)
    return (Tensor(_joined(w, numbers), (F,)) if F else None), (Tensor(_joined(w, codes), (C,), True) if C else None)


def _joined(w: Writer, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else w.op("Concat", *parts, axis=1)


def _double(values: Any) -> Array:
    return np.asarray(values, np.float64)


def _number(w: Writer, x: str) -> str:
    """float64 as the model's dtype."""
    return w.op("Cast", x, to=w.onnx.helper.np_dtype_to_tensor_dtype(w.dtype))


def _limited(w: Writer, x: str, most: float) -> str:
    return w.op("Min", w.op("Max", x, _double(-most)), _double(most))


# ---------------------------------------------------------------------- categories
def _codes(w: Writer, part: Categories, label: str) -> str:
    """int64 (rows, 1)."""
    n = len(part.values)
    if not n:
        return w.op("Where", w.op("IsNaN", label), np.array(MISSING), np.array(OTHER))
    if _text(part, label):
        keys = list(part.values) + ([] if "" in part.values else [""])
        codes = [FIRST + i for i in range(n)] + [MISSING] * (len(keys) - n)
        return w.op("LabelEncoder", label, domain="ai.onnx.ml", keys_strings=keys, values_int64s=codes, default_int64=OTHER)
    known = w.op("Cast", w.op("Equal", label, _double([float(v) for v in part.values])), to=w.onnx.TensorProto.INT64)
    place = w.op("ReduceSum", w.op("Mul", known, np.arange(FIRST, FIRST + n)), w.integers(1))
    none = w.op("Where", w.op("IsNaN", label), np.array(MISSING), np.array(OTHER))
    return w.op("Where", w.op("Equal", place, np.array(0)), none, place)


def _looked_up(w: Writer, part: Categories, code: str) -> str:
    """Columns of 0 and 1: a row of a table for each code."""
    table = np.empty((part.cardinality, part.n_outputs), np.float32)
    part.transform(np.arange(part.cardinality, dtype=np.int32), table)
    return w.op("Gather", w.numbers(table), w.op("Squeeze", code, w.integers(1)), axis=0)


# ---------------------------------------------------------------------- numbers and dates
def _numbers(w: Writer, part: Numbers, x: str) -> list[str]:
    gaps = w.op("IsNaN", x)
    found = []
    if part.factor:
        filled = w.op("Where", gaps, _double(part.median), x)
        if part.clipped:
            z = w.op("Mul", w.op("Sub", _limited(w, filled, HUGE), _double(part.median)), _double(part.factor))
            z = _limited(w, z, HUGE)
            third = w.op("Div", z, _double(3))
            y = w.op("Div", z, w.op("Sqrt", w.op("Add", w.op("Mul", third, third), _double(1))))
        else:
            y = _limited(w, filled, 3e38)
        found.append(_number(w, y))
    if part.marked:
        found.append(_number(w, gaps))
    return found


def _dates(w: Writer, part: Dates, x: str) -> list[str]:
    gaps = w.op("IsNaN", x)
    parts = _parts(w, w.op("Floor", w.op("Where", gaps, _double(0), x)))
    found = []
    for name, numbers in part.found.items():
        found += _numbers(w, numbers, w.op("Where", gaps, _double(np.nan), parts[name]))
    return [*found, *([_number(w, gaps)] if part.marked else [])]


def _parts(w: Writer, seconds: str) -> dict[str, str]:
    """What `tinydl.tables.dates.parts` computes, by the calendar's arithmetic: days as years of 400-year eras that begin in March
    (Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    def floor(x: str, by: float) -> str:
        return w.op("Floor", w.op("Div", x, _double(by)))

    def add(x: str, y: Any, times: float = 1) -> str:
        return w.op("Add", x, w.op("Mul", y, _double(times)) if isinstance(y, str) else _double(y))
    days = floor(seconds, 86400)
    z = add(days, 719468)
    era = floor(z, 146097)
    day = add(z, era, -146097)                                                                          # of the era
    year = floor(add(add(add(day, floor(day, 1460), -1), floor(day, 36524)), floor(day, 146096), -1), 365)      # of the era
    of_year = add(day, add(add(w.op("Mul", year, _double(365)), floor(year, 4)), floor(year, 100), -1), -1)     # from March
    month = floor(add(w.op("Mul", of_year, _double(5)), 2), 153)
    late = w.op("Cast", w.op("Less", month, _double(9.5)), to=w.onnx.TensorProto.DOUBLE)              # March to December: 1
    month = add(add(month, -9), late, 12)
    year = add(add(add(year, era, 400), 1), late, -1)
    before = add(year, -1)
    january = add(w.op("Mul", add(year, -1970), _double(365)), add(add(add(floor(before, 4), floor(before, 100), -1), floor(
        before, 400)), -477))
    angle = w.op("Mul", add(days, january, -1), _double(2 * pi / 365.25))
    weekday = add(days, 3)
    return {"year": year, "month": month, "day of year sin": w.op("Sin", angle),
            "day of year cos": w.op("Sin", add(angle, pi / 2)),         # of which there is no cosine in float64
            "weekday": add(weekday, floor(weekday, 7), -7), "hour": w.op("Div", add(seconds, days, -86400), _double(3600))}

"""A table's target: a number a row, or one of several classes."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl.cli.cells import Format, quoted, short
from tinydl.cli.errors import CommandError
from tinydl.cli.tables import Array, Table
from tinydl.tables.outliers import told, wild

#: Whole numbers are classes where at most FEW are different, or at most MOST of which each comes FEW_ROWS times on average. Of
#: three or more each must come twice on average: in a table of a dozen rows few are different, whatever they mean.
FEW, FEW_ROWS, MOST = 20, 5, 100


def task_of(table: Table, asked: str | None) -> str:
    """ "classification" or "regression", as asked; else regression of numbers with decimals, or of many whole ones."""
    if asked is not None:
        return asked
    assert table.y is not None
    if table.y.dtype.kind == "U":
        different = set(table.y.tolist())
        numbers: Sequence[Any] = [table.format.number(text) for text in different]
        if None not in numbers:     # what is infinite is named where numbers are asked for
            numbers = [value for value in numbers if math.isfinite(value)]
    else:
        numbers = np.unique(table.y).tolist()
    if any(v is None for v in numbers) or len(numbers) < 2:
        return "classification"
    whole = all(float(v).is_integer() for v in numbers)
    n, rows = len(numbers), len(table.y)
    few = n <= MOST and not _many(n, rows) and (n == 2 or 2 * n <= rows)
    return "classification" if whole and few else "regression"


def _many(different: int, rows: int) -> bool:
    return different > FEW and different * FEW_ROWS > rows


def regression_target(table: Table, target: str, why: str) -> Array:
    """y as float64 (n, 1); CommandError names a value that is no number, as `why` says it should be."""
    assert table.y is not None
    if table.y.dtype.kind != "U":
        return table.y.astype(np.float64)[:, None]
    out = np.empty((len(table.y), 1))
    for row, text in enumerate(table.y.tolist()):
        value = _number(text, table.format)
        if value is None:
            infinite = table.format.number(text) is not None
            raise CommandError(f"{table.where(row)}, column {target!r}: {short(text)} is " + (
                f"not finite: correct it, or say --missing={short(text)} to leave such rows out" if infinite else
                f"not a number, as {why}"))
        out[row] = value
    return out


def without_wild(table: Table, target: str, y: Array) -> tuple[Array, str | None]:
    """y (n, 1) with values that must be mistakes held back to the range of the others, and a note that names them; None where
    there are none."""
    found = wild(y[:, 0])
    if not found.any():
        return y, None
    known = y[~found, 0]
    note = f"{table.where(int(found.argmax()))}, column {target!r}: {told(y[found, 0], known)}"
    return np.clip(y, known.min(), known.max()), note


def class_labels(table: Table, target: str, *, asked: bool) -> tuple[list[str], Array]:
    """The names of the classes in order, and each row's class as int64 (n,). asked: --task classification was said."""
    assert table.y is not None
    if table.y.dtype.kind == "U":
        texts: Sequence[str] = table.y.tolist()
    else:
        texts = [str(int(v)) if float(v).is_integer() else str(v) for v in table.y]
    different = sorted(set(texts))
    numbers = [_number(text, table.format) for text in different]
    if None not in numbers:
        value = dict(zip(different, numbers, strict=True))
        different.sort(key=lambda text: value[text] or 0.0)
    if len(different) < 2:
        raise CommandError(f"column {target!r} holds one class only, {short(different[0])}: there is nothing to learn")
    if not asked and _many(len(different), len(texts)):
        raise CommandError(f"column {target!r} holds {len(different)} different values in {len(texts)} rows: is it the right "
                           "--target? If so, say --task classification")
    number_of = {name: i for i, name in enumerate(different)}
    return different, np.array([number_of[text] for text in texts], np.int64)


def known_classes(table: Table, target: str, classes: list[str]) -> Array:
    """Each row's class as its place in `classes`, int64 (n,), by its name or its number (1.0 is 1); CommandError names one that
    is not there."""
    assert table.y is not None
    place: dict[str | float, int] = {}
    for i, name in enumerate(classes):      # what is written alike first
        number = _number(name, table.format)
        if number is not None:
            place.setdefault(number, i)
    place.update({name: i for i, name in enumerate(classes)})
    texts: Sequence[str] = table.y.tolist() if table.y.dtype.kind == "U" else [str(v) for v in table.y.tolist()]
    out = np.empty(len(texts), np.int64)
    for row, text in enumerate(texts):
        number = None if text in place else _number(text, table.format)
        at = place.get(text if number is None else number)
        if at is None:
            raise CommandError(f"{table.where(row)}, column {target!r}: {short(text)} is no class that the model knows "
                               f"({quoted(classes)}): correct it, or say --missing {short(text)} to leave such rows out")
        out[row] = at
    return out


def _number(text: str, format: Format) -> float | None:
    value = format.number(text)
    return value if value is not None and math.isfinite(value) else None

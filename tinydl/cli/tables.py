"""Reading a person's table: CSV in one pass, or .npz. Whatever is wrong is said with its line and column."""
from __future__ import annotations

import csv
import math
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinydl.cli.errors import CommandError

Array = np.ndarray[Any, Any]

TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Table:
    """n rows: x (n, len(names)) float64, finite; y as it stands in the file, or None; row number -> where that is."""

    names: list[str]
    x: Array
    y: Array | None
    where: Callable[[int], str]


def read_table(path: Path, target: str | None = None, features: Sequence[str] | None = None) -> Table:
    """The table in `path`: to train on (`target` named, all other columns are features), or only its `features`."""
    if path.is_dir():
        raise CommandError(f"{path} is a folder; a CSV or .npz file is needed")
    with _said_of(path):
        if path.suffix.lower() == ".npz":
            return _read_npz(path, features)
        return _read_csv(path, target, features)


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CommandError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as e:
        raise CommandError(f"{path} is not a CSV in UTF-8: {e.reason} at byte {e.start}") from None
    except csv.Error as e:
        raise CommandError(f"{path} is not a CSV: {e}") from None


# ---------------------------------------------------------------------- CSV
def _read_csv(path: Path, target: str | None, features: Sequence[str] | None) -> Table:
    with open(path, newline="", encoding="utf-8-sig") as f:
        reader = csv.reader(f)
        header = [name.strip() for name in next((row for row in reader if row), [])]
        if not header:
            raise CommandError(f"{path} is empty; a CSV with a header is needed")
        names = _columns(path, header, target, features)
        at = [header.index(name) for name in names]
        target_at = header.index(target) if target is not None else None
        values, labels, lines = array("d"), [], array("q")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise CommandError(f"{path}, line {reader.line_num}: {len(row)} cells; the header has {len(header)}")
            try:
                try:
                    numbers = [float(row[i]) for i in at]
                except ValueError:
                    numbers = [_float(row[i]) for i in at]
                bad = not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers))
            except ValueError:
                bad = True
            if bad:
                raise CommandError(f"{path}, line {reader.line_num}, {_complaint(row, at, header)}")
            values.extend(numbers)
            lines.append(reader.line_num)
            if target_at is not None:
                label = row[target_at].strip()
                if not label or label.lower() == "nan":
                    raise CommandError(f"{path}, line {reader.line_num}, column {target!r}: the target is missing")
                labels.append(label)
    if not lines:
        raise CommandError(f"{path} has a header and no rows")
    x = np.frombuffer(values, np.float64).reshape(len(lines), len(names))
    return Table(names, x, np.array(labels) if target is not None else None, lambda row: f"{path}, line {lines[row]}")


def _columns(path: Path, header: list[str], target: str | None, features: Sequence[str] | None) -> list[str]:
    """The feature columns."""
    if "" in header:
        raise CommandError(f"{path}: column {header.index('') + 1} has no name; name it in the header, or leave it out")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CommandError(f"{path}: column {_quoted(twice)} comes more than once")
    hint = "; are its cells separated by commas?" if len(header) == 1 and any(c in header[0] for c in ";\t|") else ""
    if features is not None:
        missing = [name for name in features if name not in header]
        if missing:
            raise CommandError(f"{path}: the model needs column {_quoted(missing)}, which is missing{hint}")
        return list(features)
    if target is None:
        raise CommandError(f"--target COLUMN is needed; {path} has {_quoted(header)}{hint}")
    if target not in header:
        raise CommandError(f"{path} has no column {target!r}; it has {_quoted(header)}{hint}")
    if len(header) == 1:
        raise CommandError(f"{path} has no column but the target {target!r}")
    return [name for name in header if name != target]


def _complaint(row: list[str], at: list[int], header: list[str]) -> str:
    for i in at:
        cell = row[i].strip()
        try:
            number = _float(cell)
        except ValueError:
            what = f"{_short(cell)} is not a number" if cell else "the cell is empty"
            return f"column {header[i]!r}: {what}"
        if not math.isfinite(number):
            return f"column {header[i]!r}: {cell} is not a finite number"
    raise AssertionError


def _float(cell: str) -> float:
    """The number in a cell; True and False, as pandas writes a column of bool, are 1 and 0."""
    cell = cell.strip().lower()
    return float(TRUTH.get(cell, cell))


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(map(_short, names[:8]))
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


# ---------------------------------------------------------------------- npz
def _read_npz(path: Path, features: Sequence[str] | None) -> Table:
    wanted = ("x", "y") if features is None else ("x",)
    try:
        with zipfile.ZipFile(path) as z:
            names = {n.removesuffix(".npy"): n for n in z.namelist()}
            missing = [key for key in wanted if key not in names]
            if missing:
                raise CommandError(f"{path} has no array {_quoted(missing)}; it has {_quoted(sorted(names)) or 'none'}")
            arrays = [_array(path, z, names[key], key) for key in wanted]
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error, NotImplementedError) as e:
        raise CommandError(f"{path} is not an .npz file, or is truncated: {e}") from None
    x, y = arrays[0], arrays[1] if features is None else None
    if x.ndim < 2 or x.dtype.kind not in "fiub":
        raise CommandError(f"{path}: x must be numbers of shape (rows, features); it is {x.dtype} of shape {x.shape}")
    if not x.size:
        raise CommandError(f"{path}: x is empty, of shape {x.shape}")
    x = x.reshape(len(x), -1).astype(np.float64)
    if features is not None and x.shape[1] != len(features):
        raise CommandError(f"{path}: x has {x.shape[1]} features; the model needs {len(features)}")
    _check_finite(path, "x", x)
    if y is not None:
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.shape != (len(x),) or y.dtype.kind not in "fiubUS":
            raise CommandError(f"{path}: y must have one value for each of the {len(x)} rows of x; it is {y.dtype} of "
                               f"shape {y.shape}")
        if y.dtype.kind == "f":
            _check_finite(path, "y", y[:, None])
        elif y.dtype.kind in "US":
            y = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
    return Table(list(features or (f"x{i}" for i in range(x.shape[1]))), x, y, lambda row: f"{path}, row {row}")


def _array(path: Path, z: zipfile.ZipFile, name: str, key: str) -> Array:
    with z.open(name) as f:
        try:
            return np.asarray(np.lib.format.read_array(f, allow_pickle=False))
        except ValueError as e:
            if "pickle" in str(e).lower():
                remedy = "x=np.asarray(x, 'float64')" if key == "x" else "y=np.asarray(y, 'int64'), or 'float64' or str"
                raise CommandError(f"{path}: {key} holds Python objects (pickled), as of a table with columns of several types; "
                                   f"save numbers or text: np.savez(path, {remedy}, ...)") from None
            raise


def _check_finite(path: Path, key: str, values: Array) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = map(int, bad[0])
        raise CommandError(f"{path}: {key} holds {values[row, column]} in row {row}"
                           f"{f', column {column}' if values.shape[1] > 1 else ''}")


# ---------------------------------------------------------------------- targets
def regression_target(table: Table, target: str) -> Array:
    """y as float64 (n, 1); CommandError names a value that is no number."""
    assert table.y is not None
    if table.y.dtype.kind != "U":
        return table.y.astype(np.float64)[:, None]
    out = np.empty((len(table.y), 1))
    for row, text in enumerate(table.y):
        value = _number(text)
        if value is None:
            raise CommandError(f"{table.where(row)}, column {target!r}: {_short(str(text))} is not a number, as "
                               "--task regression needs")
        out[row] = value
    return out


def class_labels(table: Table, target: str, *, asked: bool) -> tuple[list[str], Array]:
    """The names of the classes in order, and each row's class as int64 (n,). asked: --task classification was said."""
    assert table.y is not None
    if table.y.dtype.kind == "U":
        texts: Sequence[str] = table.y.tolist()
    else:
        texts = [str(int(v)) if float(v).is_integer() else str(v) for v in table.y]
    different = sorted(set(texts))
    numbers = [_number(text) for text in different]
    if all(v is not None for v in numbers):
        if not asked and not all(v.is_integer() for v in numbers if v is not None):
            raise CommandError(f"column {target!r} holds numbers with decimals: say --task regression to predict its "
                               "value (or --task classification to take each different one as a class)")
        different.sort(key=float)
    if len(different) < 2:
        raise CommandError(f"column {target!r} holds one class only, {_short(different[0])}: there is nothing to learn")
    if not asked and len(different) > 20 and len(different) * 5 > len(texts):
        what = ("say --task regression to predict its value, or --task classification" if None not in numbers
                else "is it the right --target? If so, say --task classification")
        raise CommandError(f"column {target!r} holds {len(different)} different values in {len(texts)} rows: {what}")
    number_of = {name: i for i, name in enumerate(different)}
    return different, np.array([number_of[text] for text in texts], np.int64)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

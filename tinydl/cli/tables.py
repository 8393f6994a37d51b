"""Reading a person's table: text with separators, in one pass mostly; .npz; Parquet and Feather. Whatever is wrong is said with
its line and column."""
from __future__ import annotations

import csv
import io
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tinydl.cli.cells import MISSING, Bad, Cells, Format, Memo, complain, decimal_of, quoted
from tinydl.cli.errors import CommandError
from tinydl.cli.sources import Source, name_of, separator_of, standard_input
from tinydl.tables.columns import columns, read

Array = np.ndarray[Any, Any]

GAP = "the cell is empty, and the model was trained on a table without missing values"
#: rows that are turned into columns at once: few enough for their cells to stay in the cache
BLOCK = 256
#: rows that are looked at for how the file is written
FIRST = 4096
#: names that writers give to a column that numbers the rows
INDEX_NAMES = ("", "Unnamed: 0", "index", "rownames", "row.names", "__index_level_0__")


@dataclass(frozen=True)
class Reading:
    """How to read, as the options say; None: as the file looks. missing: besides those of `cells.MISSING`."""

    separator: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    index: bool = False
    categorical: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """n rows. columns: name -> values (n,): float64 with NaN, datetime64 with NaT, or objects (text, None). y: the target as it
    stands in the file, or None. where: row number -> its place. notes: what was decided, a line each.
    more_gaps: rows that were left out, since they have no target, have missing features."""

    columns: dict[str, Array]
    n: int
    y: Array | None
    where: Callable[[int], str]
    notes: list[str] = field(default_factory=list)
    format: Format = field(default_factory=Format)
    more_gaps: bool = False

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    @property
    def all_numbers(self) -> bool:
        """Whether all columns are of numbers, and none is missing in any row of the file: predictions may be asked for all."""
        return not self.more_gaps and all(c.dtype.kind == "f" and not np.isnan(c).any() for c in self.columns.values())

    @property
    def x(self) -> Array:
        """The columns of numbers side by side, float64 (n, columns)."""
        return np.column_stack(list(self.columns.values()))


def read_table(path: Path, target: str | None = None, features: Mapping[str, str] | None = None,
               reading: Reading | None = None) -> Table:
    """The table in `path`: to train on (`target` named, all other columns are features), or only its `features`, of these kinds
    ("numbers", "categories", "dates"; numbers that may not be missing are "full")."""
    reading = reading or Reading()
    if not standard_input(path) and path.is_dir():
        raise CommandError(f"{path} is a folder; a CSV, .npz, Parquet or Feather file is needed")
    with _said_of(path):
        if path.suffix.lower() == ".npz":
            return _read_npz(path, None if features is None else list(features))
        source = Source(path)
        if source.magic.startswith((b"PAR1", b"ARROW1", b"FEA1")):
            return _read_arrow(source, target, features, reading)
        return _read_text(source, target, features, reading)


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CommandError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as e:
        raise CommandError(f"{name_of(path)} is not text in UTF-16, as its first bytes say: {e.reason} at byte "
                           f"{e.start}") from None
    except csv.Error as e:
        raise CommandError(f"{name_of(path)} is not a CSV: {e}") from None


# ---------------------------------------------------------------------- which columns
def _wanted(name: str, header: list[str], target: str | None, features: Mapping[str, str] | None, reading: Reading,
            notes: list[str], seen: Callable[[int], Sequence[Any]]) -> list[str]:
    """The names of the feature columns. seen: of a column by its place, the cells of the first rows."""
    if features is not None:
        missing = [f for f in features if f not in header]
        if missing:
            raise CommandError(f"{name}: the model needs column {quoted(missing)}, which is missing")
        twice = [f for f in features if header.count(f) > 1]
        if twice:
            raise CommandError(f"{name}: column {quoted(twice)} comes more than once")
        return list(features)
    ignored = set(reading.ignore)
    for what, names in (("--ignore", reading.ignore), ("--categorical", reading.categorical)):
        unknown = [n for n in names if n not in header]
        if unknown:
            raise CommandError(f"{what}: {name} has no column {quoted(unknown)}; it has {quoted(header)}")
    left: set[int] = set()
    if reading.index:
        left.add(0)
    elif header[0] in INDEX_NAMES and header[0] != target and header[0] not in ignored and len(set(seen(0))) == len(seen(0)):
        left.add(0)
        notes.append(f"column 1 ({header[0]!r} in the header) numbers or names the rows: left out" if header[0] else
                     "column 1 has no name and numbers or names the rows: left out")
    for i, h in enumerate(header):          # as separators at the ends of lines make
        if not h and i not in left and not any(str(cell).strip() for cell in seen(i)):
            left.add(i)
            notes.append(f"column {i + 1} has no name and is empty: left out")
    kept = [h for i, h in enumerate(header) if i not in left and h not in ignored]
    if "" in kept:
        at = next(i for i, h in enumerate(header) if not h and i not in left)
        raise CommandError(f"{name}: column {at + 1} has no name; name it in the header, or leave it out"
                           + " by --index" * (at == 0))
    twice = sorted({n for n in kept if kept.count(n) > 1})
    if twice:
        raise CommandError(f"{name}: column {quoted(twice)} comes more than once")
    hint = "; say what separates its cells, by --separator" if len(header) == 1 and any(c in header[0] for c in ",;\t|") else ""
    if target is None:
        raise CommandError(f"--target COLUMN is needed; {name} has {quoted(kept)}{hint}")
    if target not in kept:
        why = " that is not left out" if target in header else ""
        raise CommandError(f"{name} has no column {target!r}{why}; it has {quoted(kept)}{hint}")
    if len(kept) == 1:
        raise CommandError(f"{name} has no column but the target {target!r}")
    return [n for n in kept if n != target]


# ---------------------------------------------------------------------- text
def _read_text(source: Source, target: str | None, features: Mapping[str, str] | None, reading: Reading) -> Table:
    encoding, notes = source.encoding(), []
    try:
        return _read_csv(source, encoding, target, features, reading, [])
    except UnicodeDecodeError:
        if encoding == "utf-16":
            raise
        notes.append(f"{source.name} is not UTF-8: read as Latin-1")
    return _read_csv(source, "latin-1", target, features, reading, notes)


def _read_csv(source: Source, encoding: str, target: str | None, features: Mapping[str, str] | None, reading: Reading,
              notes: list[str]) -> Table:
    separator = reading.separator or separator_of(source, encoding)
    kinds: dict[str, str] = dict.fromkeys(reading.categorical, "categories") if features is None else dict(features)
    with _rows(source, encoding, separator) as rows:
        header = [name.strip() for name in next(rows, (0, []))[1]]
        if not header:
            raise CommandError(f"{source.name} is empty; a CSV with a header is needed")
        first = list(islice(rows, FIRST))
    if first and all(len(row) == len(header) + 1 for _, row in first):      # as R writes the names of rows
        header = ["", *header]
    names = _wanted(source.name, header, target, features, reading, notes,
                    lambda i: [row[i] for _, row in first if len(row) > i])
    at = [header.index(name) for name in names]
    target_at = header.index(target) if target is not None else None
    looked_at = at if target_at is None else [*at, target_at]
    decimal = reading.decimal or decimal_of([[row[i] for _, row in first if len(row) > i] for i in looked_at], separator)
    if decimal == "," and not reading.decimal:
        notes.append("decimals stand behind a comma")
    form = Format(decimal, MISSING | frozenset(reading.missing))
    late: set[str] = set()
    for _ in range(2):
        cells = [Cells(n, form, "numbers" if kinds.get(n) == "full" else kinds.get(n), n in late) for n in names]
        labels, lines, without, more_gaps = _collect(source, encoding, separator, header, at, target_at, cells, form)
        late = {c.name for c in cells if c.late}
        if not late:
            break
    if not lines:
        raise CommandError(f"{source.name} has a header and no rows" if not without else
                           f"column {target!r} of {source.name} is missing in all {without} rows")
    columns = {}
    for c in cells:
        columns[c.name] = c.column()
        if c.bad is None and kinds.get(c.name) == "full" and np.isnan(columns[c.name]).any():
            c.bad = Bad(int(np.isnan(columns[c.name]).argmax()), GAP)
    bad = min((c for c in cells if c.bad is not None), key=lambda c: c.bad.row if c.bad else 0, default=None)
    if bad is not None and bad.bad is not None:
        raise complain(bad.name, f"{source.name}, line {lines[bad.bad.row]}", bad)
    if without:
        notes.append(f"{without:,} row{'s' * (without > 1)} without a target: left out")
    return Table(columns, len(lines), np.array(labels) if target is not None else None,
                 lambda row: f"{source.name}, line {lines[row]}", notes, form, more_gaps)


@contextmanager
def _rows(source: Source, encoding: str, separator: str) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The rows that are not blank, with the numbers of their lines."""
    with source.open() as f:
        text = io.TextIOWrapper(f, encoding=encoding, newline="")
        reader = csv.reader(text, delimiter=separator)
        yield ((reader.line_num, row) for row in reader if row)
        text.detach()


def _collect(source: Source, encoding: str, separator: str, header: list[str], at: list[int], target_at: int | None,
             cells: list[Cells], form: Format) -> tuple[list[str], array[int], int, bool]:
    """Fill `cells`, block by block; the targets, the lines, how many rows were left out since they have no target, and whether
    any of these has a missing feature."""
    labels: list[str] = []
    known_label = Memo(form.text)
    lines, without, more_gaps = array("q"), 0, False
    width = len(header)
    with _rows(source, encoding, separator) as rows:
        next(rows)
        while block := list(islice(rows, BLOCK)):
            for line, row in block:
                if len(row) != width:
                    raise CommandError(f"{source.name}, line {line}: {len(row)} cells; the header has {width}")
            if target_at is not None:
                known = [(line, row) for line, row in block if known_label[row[target_at]] is not None]
                if len(known) < len(block):
                    without += len(block) - len(known)
                    more_gaps = more_gaps or any(form.text(row[i]) is None for _, row in block for i in at
                                                 if known_label[row[target_at]] is None)
                block = known
                labels += [row[target_at].strip() for _, row in block]
            lines.extend(line for line, _ in block)
            turned = list(zip(*(row for _, row in block), strict=True))
            for c, i in zip(cells, at, strict=True):
                c.add(turned[i] if turned else ())
    return labels, lines, without, more_gaps


# ---------------------------------------------------------------------- Parquet and Feather
def _read_arrow(source: Source, target: str | None, features: Mapping[str, str] | None, reading: Reading) -> Table:
    try:
        from pyarrow import feather, lib, parquet
    except ImportError:
        raise CommandError(f"{source.name}: reading Parquet and Feather needs pyarrow (pip install pyarrow)") from None
    try:
        with source.open() as f:
            table = parquet.read_table(f) if source.magic.startswith(b"PAR1") else feather.read_table(f)
    except (lib.ArrowException, OSError) as e:
        raise CommandError(f"{source.name} is damaged or truncated: {str(e).splitlines()[0]}") from None
    labels, values, n = columns(table)
    by_name, notes = dict(zip(labels, values, strict=True)), list[str]()
    names = _wanted(source.name, labels, target, features, reading, notes,
                    lambda i: np.asarray(values[i]).tolist())
    found: dict[str, Array] = {}
    for name in names:
        kind = (features or {}).get(name) or ("categories" if name in reading.categorical else None)
        try:
            column = read(by_name[name], name, category=kind == "categories")
        except ValueError as e:
            raise CommandError(f"{source.name}: {e}") from None
        x = column.values
        if column.kind == "nothing":
            x = np.full(n, np.nan)
        if column.kind == "categories":
            x = np.array([None if gap else str(v) for v, gap in zip(x.tolist(), _gaps(x), strict=True)], object)
        wanted = {"full": "numbers"}.get(str(kind), kind)
        if wanted is not None and {"booleans": "numbers", "nothing": wanted}.get(column.kind, column.kind) != wanted:
            raise CommandError(f"{source.name}: column {name!r} holds {column.kind}; the model was trained on {wanted}")
        if kind == "full" and np.isnan(x).any():
            raise CommandError(f"{source.name}, row {int(np.isnan(x).argmax())}, column {name!r}: {GAP}")
        if x.dtype.kind == "f" and np.isinf(x).any():
            row = int(np.isinf(x).argmax())
            raise CommandError(f"{source.name}, row {row}, column {name!r}: {x[row]} is not a finite number")
        found[name] = x
    rows, y, more_gaps = np.arange(n), None, False
    if target is not None:
        column = read(by_name[target], target)
        if column.kind == "dates":
            raise CommandError(f"{source.name}: the target {target!r} holds dates; numbers or classes can be predicted")
        gaps = np.array(_gaps(column.values), bool)
        if gaps.any():
            notes.append(f"{gaps.sum():,} row{'s' * (gaps.sum() > 1)} without a target: left out")
        rows = np.flatnonzero(~gaps)
        more_gaps = any(x.dtype.kind == "f" and bool(np.isnan(x[gaps]).any()) for x in found.values())
        y = column.values[rows]
        y = np.array([str(v) for v in y.tolist()]) if column.kind == "categories" else y
        found = {name: x[rows] for name, x in found.items()}
    if not len(rows):
        raise CommandError(f"{source.name} has no rows" if not n else
                           f"column {target!r} of {source.name} is missing in all {n} rows")
    return Table(found, len(rows), y, lambda row: f"{source.name}, row {rows[row]}", notes, more_gaps=more_gaps)


def _gaps(x: Array) -> list[bool]:
    return [v is None or v != v or type(v).__name__ in ("NAType", "NaTType") for v in x.tolist()]


# ---------------------------------------------------------------------- npz
def _read_npz(path: Path, features: Sequence[str] | None) -> Table:
    wanted = ("x", "y") if features is None else ("x",)
    try:
        with zipfile.ZipFile(path) as z:
            names = {n.removesuffix(".npy"): n for n in z.namelist()}
            if "x" not in names and "X" in names:
                names["x"] = names.pop("X")
            missing = [key for key in wanted if key not in names]
            if missing:
                raise CommandError(f"{path} has no array {quoted(missing)}; it has {quoted(sorted(names)) or 'none'}")
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
    names_of_columns = list(features or (f"x{i}" for i in range(x.shape[1])))
    return Table(dict(zip(names_of_columns, x.T, strict=True)), len(x), y, lambda row: f"{path}, row {row}")


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

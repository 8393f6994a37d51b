"""What is read of a person's table, and how: the options, the columns that count, and the table as it comes out."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinydl.cli.cells import Format, quoted
from tinydl.cli.errors import CommandError

Array = np.ndarray[Any, Any]

GAP = "the cell is empty, and the model was trained on a table without missing values"
#: names that writers give to a column that numbers the rows
INDEX_NAMES = ("", "Unnamed: 0", "index", "rownames", "row.names", "__index_level_0__")


@dataclass(frozen=True)
class Reading:
    """How to read, as the options say; None: as the file looks. missing: besides those of `cells.MISSING`. keep: columns whose
    cells are wanted as they stand."""

    separator: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    index: bool = False
    categorical: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """n rows. columns: name -> values (n,): float64 with NaN, datetime64 with NaT, or objects (text, None). y: the target as it
    stands in the file, or None. where: row number -> its place. notes: what was decided, a line each.
    by_place: columns have no names of their own. kept: Reading.keep's cells, "" where one is missing."""

    columns: dict[str, Array]
    n: int
    y: Array | None
    where: Callable[[int], str]
    notes: list[str] = field(default_factory=list)
    format: Format = field(default_factory=Format)
    by_place: bool = False
    kept: dict[str, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    @property
    def x(self) -> Array:
        """The columns of numbers side by side, float64 (n, columns)."""
        return np.column_stack(list(self.columns.values()))


def wanted(name: str, header: list[str], target: str | None, features: Mapping[str, str] | None, reading: Reading,
            notes: list[str], seen: Callable[[int], Sequence[Any]]) -> list[str]:
    """The names of the feature columns; CommandError where these, or others that are asked for, are not there.
    seen: of a column by its place, the cells of the first rows."""
    unknown = [n for n in reading.keep if n not in header]
    if unknown:
        raise CommandError(f"--id: {name} has no column {quoted(unknown)}; it has {quoted(header)}")
    twice = [n for n in reading.keep if header.count(n) > 1]
    if twice:
        raise CommandError(f"--id: column {quoted(twice)} comes more than once in {name}")
    if features is not None:
        missing = [f for f in features if f not in header]
        if missing:
            raise CommandError(f"{name}: the model needs column{'s' * (len(missing) > 1)} {quoted(missing)}, which "
                               f"{'are' if len(missing) > 1 else 'is'} missing")
        if target is not None and target not in header:
            raise CommandError(f"{name} has no column {target!r}, which the model predicts: without it predictions cannot be "
                               f"compared with anything; it has {quoted(header)}")
        twice = [f for f in (*features, *([] if target is None else [target])) if header.count(f) > 1]
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
    separated = len(header) == 1 and any(c in header[0].strip() for c in ",;\t| ")
    hint = "; say what separates its cells, by --separator" if separated else ""
    if target is None:
        raise CommandError(f"--target COLUMN is needed; {name} has {quoted(kept)}{hint}")
    if target not in kept:
        why = " that is not left out" if target in header else ""
        raise CommandError(f"{name} has no column {target!r}{why}; it has {quoted(kept)}{hint}")
    if len(kept) == 1:
        said = "; ".join(["", *notes]) + (": a name in the header keeps it" if 0 in left and not header[0] else "")
        raise CommandError(f"{name} has no column but the target {target!r}{said}")
    return [n for n in kept if n != target]

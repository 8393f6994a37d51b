"""Tables as text with separators, read in one pass mostly; what is wrong is said with its line and column."""
from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

import numpy as np

from tinydl.cli.cells import MISSING, Bad, Cells, Format, Memo, complain, decimal_of
from tinydl.cli.errors import CommandError
from tinydl.cli.reading import GAP, Reading, Table, wanted
from tinydl.cli.sources import Source, separator_of

#: rows that are turned into columns at once: few enough for their cells to stay in the cache
BLOCK = 256
#: rows that are looked at for how the file is written
FIRST = 4096


def read_text(source: Source, target: str | None, features: Mapping[str, str] | None, reading: Reading) -> Table:
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
    names = wanted(source.name, header, target, features, reading, notes,
                   lambda i: [row[i] for _, row in first if len(row) > i])
    at = [header.index(name) for name in names]
    target_at = header.index(target) if target is not None else None
    keep_at = [header.index(name) for name in reading.keep]
    looked_at = at if target_at is None else [*at, target_at]
    decimal = reading.decimal or decimal_of([[row[i] for _, row in first if len(row) > i] for i in looked_at], separator)
    if decimal == "," and not reading.decimal:
        notes.append("decimals stand behind a comma")
    form = Format(decimal, MISSING | frozenset(reading.missing))
    late: set[str] = set()
    for _ in range(2):
        cells = [Cells(n, form, "numbers" if kinds.get(n) == "full" else kinds.get(n), n in late) for n in names]
        labels, lines, without, kept = _collect(source, encoding, separator, header, at, target_at, keep_at, cells, form)
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
    for c in cells if features is None else ():
        if (text := c.other_date()) is not None:
            notes.append(f"column {c.name!r} looks like dates, as {text!r}, and is taken for categories: dates are written as "
                         "2026-01-31")
    if without:
        notes.append(f"{without:,} row{'s' * (without > 1)} without a target: left out")
    return Table(columns, len(lines), np.array(labels) if target is not None else None,
                 lambda row: f"{source.name}, line {lines[row]}", notes, form,
                 kept=dict(zip(reading.keep, kept, strict=True)))


@contextmanager
def _rows(source: Source, encoding: str, separator: str) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The rows that are not blank, with the numbers of their lines."""
    with source.open() as f:
        text = io.TextIOWrapper(f, encoding=encoding, newline="")
        reader = csv.reader(text, delimiter=separator)
        yield ((reader.line_num, row) for row in reader if row)
        text.detach()


def _collect(source: Source, encoding: str, separator: str, header: list[str], at: list[int], target_at: int | None,
             keep_at: list[int], cells: list[Cells], form: Format,
             ) -> tuple[list[str], array[int], int, list[list[str]]]:
    """Fill `cells`, block by block; the targets, the lines, how many rows were left out since they have no target, and the cells
    of the columns keep_at."""
    labels: list[str] = []
    known_label = Memo(form.text)
    lines, without = array("q"), 0
    kept: list[list[str]] = [[] for _ in keep_at]
    width = len(header)
    with _rows(source, encoding, separator) as rows:
        again = [name.strip() for name in next(rows, (0, []))[1]]
        if not again or again != header[-len(again):]:      # where rows have names, `header` is longer by one
            raise CommandError(f"{source.name} changed while it was read")
        while block := list(islice(rows, BLOCK)):
            for line, row in block:
                if len(row) != width:
                    raise CommandError(f"{source.name}, line {line}: {len(row)} cells; the header has {width}")
            if target_at is not None:
                known = [(line, row) for line, row in block if known_label[row[target_at]] is not None]
                if len(known) < len(block):
                    without += len(block) - len(known)
                block = known
                labels += [row[target_at].strip() for _, row in block]
            lines.extend(line for line, _ in block)
            turned = list(zip(*(row for _, row in block), strict=True))
            for c, i in zip(cells, at, strict=True):
                c.add(turned[i] if turned else ())
            for values, i in zip(kept, keep_at, strict=True):
                values.extend(turned[i] if turned else ())
    return labels, lines, without, kept

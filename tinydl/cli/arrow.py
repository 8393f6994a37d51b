"""Tables as Parquet and Feather, where pyarrow is installed."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinydl.cli.errors import CommandError
from tinydl.cli.reading import GAP, Array, Reading, Table, wanted
from tinydl.cli.sources import Source
from tinydl.tables.columns import columns, read


def read_arrow(source: Source, target: str | None, features: Mapping[str, str] | None, reading: Reading) -> Table:
    try:
        from pyarrow import feather, lib, parquet
    except ImportError:
        raise CommandError(f"{source.name}: reading Parquet and Feather needs pyarrow (pip install pyarrow)") from None
    try:
        with source.open() as f:
            table = parquet.ParquetFile(f).read() if source.magic.startswith(b"PAR1") else feather.read_table(f)
    except (lib.ArrowException, OSError) as e:
        raise CommandError(f"{source.name} is damaged or truncated: {str(e).splitlines()[0]}") from None
    labels, values, n = columns(table)
    by_name, notes = dict(zip(labels, values, strict=True)), list[str]()
    names = wanted(source.name, labels, target, features, reading, notes,
                   lambda i: np.asarray(values[i]).tolist())
    found: dict[str, Array] = {}
    for name in names:
        kind = (features or {}).get(name) or ("categories" if name in reading.categorical else None)
        try:
            column = read(by_name[name], name, category=kind == "categories")
        except ValueError as e:
            raise CommandError(f"{source.name}: {e}") from None
        x = _single(column.values, source, name)
        if column.kind == "nothing":
            x = np.full(n, np.nan)
        if column.kind == "categories":
            x = np.array([None if gap else str(v) for v, gap in zip(x.tolist(), _gaps(x), strict=True)], object)
        needed = {"full": "numbers"}.get(str(kind), kind)
        if needed is not None and {"booleans": "numbers", "nothing": needed}.get(column.kind, column.kind) != needed:
            raise CommandError(f"{source.name}: column {name!r} holds {column.kind}; the model was trained on {needed}")
        if kind == "full" and np.isnan(x).any():
            raise CommandError(f"{source.name}, row {int(np.isnan(x).argmax())}, column {name!r}: {GAP}")
        if x.dtype.kind == "f" and np.isinf(x).any():
            row = int(np.isinf(x).argmax())
            raise CommandError(f"{source.name}, row {row}, column {name!r}: {x[row]} is not a finite number")
        found[name] = x
    rows, y = np.arange(n), None
    if target is not None:
        column = read(by_name[target], target)
        if column.kind == "dates":
            raise CommandError(f"{source.name}: the target {target!r} holds dates; numbers or classes can be predicted")
        gaps = np.array(_gaps(_single(column.values, source, target)), bool)
        if without := int(gaps.sum()):
            notes.append(f"{without:,} row{'s' * (without > 1)} without a target: left out")
        rows = np.flatnonzero(~gaps)
        y = column.values[rows]
        y = np.array([str(v) for v in y.tolist()]) if column.kind == "categories" else y
        found = {name: x[rows] for name, x in found.items()}
    kept = {name: ["" if v is None else str(v) for v in table.column(name).to_pylist()] for name in reading.keep}
    if not len(rows):
        raise CommandError(f"{source.name} has no rows" if not n else
                           f"column {target!r} of {source.name} is missing in all {n} rows")
    return Table(found, len(rows), y, lambda row: f"{source.name}, row {rows[row]}", notes,
                 kept={name: [cells[row] for row in rows] for name, cells in kept.items()})


def _single(x: Array, source: Source, name: str) -> Array:
    """x; CommandError where a cell holds several values."""
    for row, v in enumerate(x.tolist() if x.dtype.kind == "O" else ()):
        if isinstance(v, (list, tuple, dict, np.ndarray)):
            what = "values by name" if isinstance(v, dict) else "a list"
            raise CommandError(f"{source.name}, row {row}, column {name!r}: the cell holds {what}, and one value is needed: make "
                               f"columns of it, or say --ignore {name!r}")
    return x


def _gaps(x: Array) -> list[bool]:
    return [v is None or v != v or type(v).__name__ in ("NAType", "NaTType") for v in x.tolist()]

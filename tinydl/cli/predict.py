"""tinydl predict: the predictions for a table, as CSV."""
from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinydl import Model
from tinydl.cli.common import check_format, check_replaces_nothing, check_writable, reading
from tinydl.cli.errors import CommandError
from tinydl.cli.features import kinds
from tinydl.cli.saved import load, outputs, softmax
from tinydl.cli.tables import Table, read_table
from tinydl.serialization import write_atomically


def run(options: argparse.Namespace) -> int:
    """`tinydl predict`; its exit code."""
    path, out = Path(options.file), Path(options.out) if options.out else None
    model = load(Path(options.model))
    facts = model.metadata["table"]
    if out is not None:
        check_replaces_nothing(out, "--out", path, Path(options.model))
        check_format(out, "--out", "CSV")
        check_writable(out, "--out")
    elif sys.stdout is None:
        raise CommandError("standard output is closed; say --out FILE")
    if options.proba and facts["classes"] is None:
        raise CommandError(f"--proba is for classes; {options.model} predicts a number, {facts['target']!r}")
    header = columns(facts, options.proba)
    taken = next((name for i, name in enumerate(options.id) if name in header or name in options.id[:i]), None)
    if taken is not None:
        raise CommandError(f"--id {taken}: there would be two columns of that name")
    options.missing = [*(options.missing or ()), *facts.get("missing", ())]
    table = read_table(path, features=kinds(facts), reading=reading(options))
    rows = predictions(model, table, options.proba)
    if options.id:
        header = [*options.id, *header]
        rows = ([*cells, *row] for *cells, row in zip(*(table.kept[name] for name in options.id), rows, strict=True))
    if out is None:
        _write_csv(sys.stdout, header, rows)
    else:
        text = io.StringIO()
        _write_csv(text, header, rows)
        write_atomically(out, lambda f: f.write(text.getvalue().encode()))
    return 0


def columns(facts: dict[str, Any], proba: bool = False) -> list[str]:
    """Of the predictions: the class and the probabilities of all (proba: these alone), or the value."""
    return ["prediction"] * (not proba) + [f"probability_{name}" for name in facts["classes"] or ()]


def predictions(model: Model, table: Table, proba: bool = False) -> Iterator[list[str]]:
    """A row a prediction, of those columns."""
    facts, y = model.metadata["table"], outputs(model, table)
    if facts["classes"] is None:
        return ([repr(v)] for v in y.tolist())
    names = facts["classes"]
    return ([names[best]] * (not proba) + [f"{v:.6g}" for v in row]
            for best, row in zip(y.argmax(1).tolist(), softmax(y), strict=True))


def _write_csv(f: Any, header: list[str], rows: Iterator[list[str]]) -> None:
    writer = csv.writer(f, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)

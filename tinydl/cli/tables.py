"""Reading a person's table: text with separators (text.py), Parquet and Feather (arrow.py), .npz (npz.py)."""
from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tinydl.cli.arrow import read_arrow
from tinydl.cli.errors import CommandError
from tinydl.cli.npz import read_npz
from tinydl.cli.reading import Array, Reading, Table
from tinydl.cli.sources import Source, name_of, standard_input
from tinydl.cli.text import read_text

__all__ = ["Array", "Reading", "Table", "read_table"]


def read_table(path: Path, target: str | None = None, features: Mapping[str, str] | None = None,
               reading: Reading | None = None) -> Table:
    """The table in `path`: to train on (all columns but `target` are features), or only its `features`, of these kinds
    ("numbers", "categories", "dates"; numbers that may not be missing are "full"), with the `target` where it is named. An .npz
    has y, where features are not given or the target is named."""
    reading = reading or Reading()
    if not standard_input(path) and path.is_dir():
        raise CommandError(f"{path} is a folder; a CSV, .npz, Parquet or Feather file is needed")
    with _said_of(path):
        if path.suffix.lower() == ".npz":
            if reading.keep:
                raise CommandError(f"--id is of columns, and {path} has none: it is an .npz")
            return read_npz(path, None if features is None else list(features), features is None or target is not None)
        source = Source(path)
        if source.magic.startswith((b"PAR1", b"ARROW1", b"FEA1")):
            return read_arrow(source, target, features, reading)
        return read_text(source, target, features, reading)


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

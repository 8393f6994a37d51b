"""Loggers: each epoch's figures as a line of a file, which other programs read while training goes on."""
from __future__ import annotations

import io
from abc import abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tinydl import _hints
from tinydl.callbacks.base import Callback
from tinydl.log import log
from tinydl.serialization import place_for, plain, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.history import EpochRecord
    from tinydl.training import Training

__all__ = ["CSVLogger", "JSONLLogger"]

Row = dict[str, Any]


def figures_of(record: EpochRecord) -> Row:
    """The fields of a record, and the validation's figures beside them. A figure named as a field is `validation_` and that."""
    row = asdict(record)
    figures = row.pop("figures")
    return row | {f"validation_{name}" if name in row else name: value for name, value in figures.items()}


class _EpochFile(Callback):
    """A file with a line an epoch, of one training: where that begins anew, so does the file; where it goes on from a
    checkpoint, the lines of later epochs are taken out first."""

    def __init__(self, path: str | Path) -> None:
        from pathlib import Path
        self.path = Path(path)
        self._last: int | None = None           # the epoch of its last line; None: it was given up

    @abstractmethod
    def _lines(self, rows: list[Row]) -> str:
        """The whole file."""

    @abstractmethod
    def _line(self, row: Row) -> str | None:
        """What to append; None where the whole file must be written."""

    @abstractmethod
    def _rows(self, text: str) -> list[Row]:
        """The file's rows; a line that was cut off is left out. ValueError where it is no such file."""

    def _kept(self, epochs: int) -> list[Row]:
        """The rows of the first `epochs` epochs."""
        try:
            with open(self.path, encoding="utf-8", newline="") as f:
                text = f.read()
        except FileNotFoundError:
            return []
        return [row for row in self._rows(text) if int(row["epoch"]) <= epochs]

    def _write(self, rows: list[Row]) -> None:
        write_atomically(self.path, lambda f: f.write(self._lines(rows).encode()))

    def on_train_start(self, trainer: Training) -> None:
        if trainer.rank:        # one file, of the rank that saves
            return
        place_for(self.path)
        epochs = trainer.epoch
        if epochs or trainer.batches_done:
            try:
                rows = self._kept(epochs)
            except (ValueError, KeyError, TypeError) as e:
                raise ValueError(f"{self.path} is no file of {type(self).__name__} ({e}); training goes on from epoch {epochs} "
                                 "and would replace it: remove it, or name another") from None
        else:
            rows = []
        self._attempt(lambda: self._write(rows), epochs)

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        if self._last is None:
            return
        row = figures_of(record)
        line = self._line(row) if record.epoch > self._last else None

        def write() -> None:
            if line is None:
                self._write([*self._kept(record.epoch - 1), row])
            else:
                with open(self.path, "a", encoding="utf-8", newline="") as f:
                    f.write(line)
        self._attempt(write, record.epoch)

    def _attempt(self, write: Any, epoch: int) -> None:
        try:
            write()
            self._last = epoch
        except OSError as e:
            log.warning("cannot write %s (%s): training goes on without that log", self.path, e)
            self._last = None


class CSVLogger(_EpochFile):
    """Writes each epoch's figures into `path` as a line of comma-separated values: the fields of EpochRecord (epoch, loss,
    seconds, samples, updates, failed_batches, validation_loss, learning_rate, gradient_norm), then the evaluator's. What an
    epoch lacks is an empty cell, NaN is `nan`. pandas.read_csv reads it, also while training goes on.

    The file is of one training. One that begins anew replaces it; one that goes on, by another `train` or from a checkpoint,
    adds to it, and takes out the lines of epochs later than the checkpoint's first, so no epoch is there twice. ValueError
    where training goes on and the file is another one's. A file that cannot be written (disk full) is given up with one
    warning, and training goes on.

        >>> CSVLogger("log.csv").path.name
        'log.csv'
    """

    @_hints.arguments
    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._columns: list[str] = []

    def _lines(self, rows: list[Row]) -> str:
        import csv
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if rows:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def _line(self, row: Row) -> str | None:
        if list(row) != self._columns:
            return None
        return self._lines([row]).partition("\n")[2]

    def _rows(self, text: str) -> list[Row]:
        import csv
        whole = text[:text.rfind("\n") + 1]
        try:
            return list(csv.DictReader(io.StringIO(whole, newline=""), strict=True))
        except csv.Error as e:
            raise ValueError(str(e)) from None


class JSONLLogger(_EpochFile):
    """Writes each epoch's figures into `path` as a line with a JSON object (JSON Lines): what `CSVLogger` writes as cells. NaN
    and infinity, which JSON lacks, are null. pandas.read_json(path, lines=True) reads it. What a file holds where training
    begins anew, or goes on, is as CSVLogger says.

        >>> JSONLLogger("log.jsonl").path.name
        'log.jsonl'
    """

    @_hints.arguments
    def __init__(self, path: str | Path) -> None:
        super().__init__(path)

    def _lines(self, rows: list[Row]) -> str:
        return "".join(self._line(row) for row in rows)

    def _line(self, row: Row) -> str:
        import json
        return json.dumps(plain(row, null=True), allow_nan=False) + "\n"

    def _rows(self, text: str) -> list[Row]:
        import json
        rows = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is no JSON object")
        return rows

"""Monitor: what each epoch brought, kept, printed a line an epoch, and plotted on request."""
from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.history import EpochRecord, History
from tinydl.log import log
from tinydl.plotting import plot_histories
from tinydl.serialization import plain

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EpochRecord", "History", "Monitor"]


class Monitor:
    """Has the History that the trainer keeps, prints a line an epoch, and appends each epoch to `log_file` as a line of JSON.

    log_file: a path, or None; a figure that is NaN or infinite is null there (`callbacks.JSONLLogger` keeps a log of one
    training, without the lines of epochs that are done again). quiet: print nothing. A log, or standard
    output, that cannot be written (disk full, read-only, closed, a pipe that nobody reads any more) is given up with one
    warning; training goes on. It never opens a
    window: `plot(path)` writes a picture.
    """

    @_hints.arguments
    def __init__(self, log_file: str | Path | None = None, *, quiet: bool = False) -> None:
        self.log_file = log_file
        self.quiet = quiet
        self.history = History()

    def start_training(self, n_epochs: int, n_samples: int | None) -> None:
        """Called as `train` begins; n_samples: of one epoch, None where unknown."""

    def start_epoch(self, epoch: int) -> None:
        """Called as each epoch begins."""

    def progress(self, epoch: int, samples: int, loss: float) -> None:
        """Called a few times a second: samples done in this epoch, mean loss so far."""

    def end_epoch(self, record: EpochRecord) -> None:
        """Called as each epoch ends, when the history has it: print and log. Where the validation was interrupted, or
        failed, that is when training goes on and it has been done again."""
        if not self.quiet:
            try:
                print(record.line(), flush=True)
            except Exception as e:
                log.warning("cannot print (%s): training goes on without a line an epoch", e)
                self.quiet = True
        if self.log_file is not None:
            import json
            try:
                line = {**asdict(record), "samples_per_second": record.samples_per_second}
                text = json.dumps(plain(line, null=True), allow_nan=False)
                with open(self.log_file, "a", encoding="utf-8") as f:
                    f.write(text + "\n")
            except Exception as e:
                log.warning("cannot write %s (%s): training goes on without that log", self.log_file, e)
                self.log_file = None

    def end_training(self) -> None:
        """Called as `train` ends, in whatever way."""

    @property
    def best_loss(self) -> float | None:
        """The lowest training loss of an epoch."""
        best = self.history.best("loss")
        return None if best is None else best.loss

    @property
    def best_validation_loss(self) -> float | None:
        """The lowest validation loss of an epoch."""
        best = self.history.best("validation_loss") if self.history.records else None
        return None if best is None else best.validation_loss

    @property
    def best_accuracy(self) -> float | None:
        """The highest validation accuracy of an epoch."""
        best = self.history.best("accuracy", highest=True) if self.history.records else None
        return None if best is None else best.accuracy

    def plot(self, path: str | Path) -> Path:
        """Write the curves of loss (and accuracy) as a picture; ImportError names the extra where matplotlib is missing."""
        from pathlib import Path
        return plot_histories({"": self.history}, Path(path))

"""Monitor: what each epoch brought, kept, printed a line an epoch, and plotted on request."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.log import log
from tinydl.serialization import plain

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EpochRecord", "History", "Monitor"]


@dataclass
class EpochRecord:
    """One epoch. loss: the mean over the samples that arrived; figures: validation's, by the evaluator's names."""

    epoch: int
    loss: float
    seconds: float
    samples: int
    updates: int
    failed_batches: int = 0
    validation_loss: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    learning_rate: float | None = None      # of its last update
    gradient_norm: float | None = None      # the mean over its updates, before clipping: where the optimizer has a clip_norm

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds if self.seconds > 0 else 0.0

    @property
    def accuracy(self) -> float | None:
        return self.figures.get("accuracy")

    def line(self, width: int = 0) -> str:
        """One line for people."""
        parts = [f"epoch {self.epoch:>{width}}", f"loss {self.loss:.4f}"]
        figures = {**({} if self.validation_loss is None else {"loss": self.validation_loss}), **self.figures}
        if figures:
            parts.append("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        if self.failed_batches:
            parts.append(f"{self.failed_batches} failed batches")
        parts += [f"{self.seconds:.2f} s", f"{self.samples_per_second:,.0f} samples/s"]
        return "  ".join(parts)


class History:
    """The epochs of a training, in order.

    history["loss"] is a list with a value an epoch (any field of EpochRecord, or an evaluator's figure);
    `records` are the epochs, `failures` the batches that failed. `interrupted`: whether the last `train` has not come to its
    end: it has in its last epoch, or by early stopping, not where Ctrl-C, an exception, `stop` or `shutdown` ended it.
    """

    if not TYPE_CHECKING:       # a type checker would take every attribute for one that is there
        __getattr__ = _hints.attribute

    def __init__(self) -> None:
        self.records: list[EpochRecord] = []
        self.failures: list[Any] = []
        self.interrupted = False

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.records)

    def __getitem__(self, name: str) -> list[Any]:
        """A value an epoch; KeyError names those that there are."""
        if any(name in r.figures for r in self.records):
            return [r.figures.get(name) for r in self.records]
        if self.records and not hasattr(self.records[0], name):
            raise KeyError(_hints.figure(name, [*asdict(self.records[0]), *self.records[-1].figures]))
        return [getattr(r, name) for r in self.records]

    def best(self, name: str, highest: bool = False) -> EpochRecord | None:
        """The epoch with the lowest (or highest) value of `name`; None where there is none."""
        values = [(v, r) for v, r in zip(self[name], self.records, strict=True) if v is not None and v == v]
        if not values:
            return None
        return (max if highest else min)(values, key=lambda p: p[0])[1]

    def skipped_indices(self) -> np.ndarray[Any, Any]:
        """The numbers of all samples that were left out, in the order in which they were (int64); `np.save` keeps them.
        A sample left out in two epochs is there twice."""
        held = [f.indices for f in self.failures if f.indices is not None and not f.fatal]
        return np.concatenate(held) if held else np.empty(0, np.int64)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs{', last: ' + self.records[-1].line() if self.records else ''})"


class Monitor:
    """Has the History that the trainer keeps, prints a line an epoch, and appends each epoch to `log_file` as a line of JSON.

    log_file: a path, or None; a figure that is NaN or infinite is null there. quiet: print nothing. A log, or standard
    output, that cannot be written (disk full, read-only, closed, a pipe that nobody reads any more) is given up with one
    warning; training goes on. It never opens a
    window: `plot(path)` writes a picture.
    """

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

        from tinydl.plotting import plot_histories
        return plot_histories({"": self.history}, Path(path))

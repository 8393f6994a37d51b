"""Progress of a training: a bar on a terminal, at most ten plain lines elsewhere."""
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from tinydl.monitor import EpochRecord, Monitor

LINES = 10
BAR = "{desc} {percentage:3.0f}% |{bar}| {rate_noinv_fmt}  {remaining} left"


def on_terminal() -> bool:
    """Whether a bar makes sense."""
    return (sys.stdout is not None and sys.stdout.isatty() and sys.stderr is not None and sys.stderr.isatty()
            and os.environ.get("TERM") != "dumb")


class Progress(Monitor):
    """A Monitor that shows one training named `title` as a bar over all its epochs, or as lines."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        super().__init__(quiet=True)
        self.title, self.silent = title, quiet
        self._bar: Any = None
        self._n_epochs, self._n_samples, self._first = 0, 0, 0

    def start_training(self, n_epochs: int, n_samples: int | None) -> None:
        self._n_epochs, self._n_samples, self._first = n_epochs, n_samples or 0, len(self.history)
        if self.silent or not on_terminal():
            return
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[misc, unused-ignore]
            monitor_interval = 0        # without tqdm's own thread

        self._bar = Bar(total=n_epochs * self._n_samples, desc=self.title, unit=" samples", unit_scale=True,
                        bar_format=BAR, mininterval=0.1, delay=0.1, file=sys.stderr,
                        ncols=min(shutil.get_terminal_size().columns, 120) - 1, nrows=2)

    def progress(self, epoch: int, samples: int, loss: float) -> None:
        self._show((epoch - 1 - self._first) * self._n_samples + samples, loss)

    def end_epoch(self, record: EpochRecord) -> None:
        super().end_epoch(record)
        done = len(self.history) - self._first
        self._show(done * self._n_samples, record.loss)
        lines_due, lines_before = done * LINES // self._n_epochs, (done - 1) * LINES // self._n_epochs
        if not self.silent and self._bar is None and lines_due > lines_before:
            failed = f"  {record.failed_batches} failed batches" if record.failed_batches else ""
            print(f"{self.title}  epoch {record.epoch:>{len(str(self._n_epochs))}}  loss {record.loss:.4f}  "
                  f"{record.samples_per_second:,.0f} samples/s{failed}", flush=True)

    def end_training(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, samples: int, loss: float) -> None:
        if self._bar is not None:
            if loss == loss:        # not known yet in the middle of an epoch
                self._bar.set_description_str(f"{self.title}  loss {loss:.4f}", refresh=False)
            self._bar.update(samples - self._bar.n)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under a header, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
             for row in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])

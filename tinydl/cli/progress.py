"""Progress of a training: a bar on a terminal, at most ten plain lines elsewhere."""
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from tinydl.monitor import EpochRecord, Monitor

LINES = 10
#: seconds before there is a bar at all
DELAY = 0.1
BAR = "{desc} {percentage:3.0f}% |{bar}| {rate_noinv_fmt}  {remaining} left"


def on_terminal() -> bool:
    """Whether a bar makes sense: it is drawn on stderr, and what comes out goes to stdout."""
    try:
        return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:      # it is closed
        return False


def try_print(text: str) -> None:
    """print(text), as far as anybody can read it: words end no training."""
    with suppress(OSError, ValueError):
        print(text)


class Progress(Monitor):
    """A Monitor that shows one training named `title` as a bar over all its epochs, or as lines; these with the `figure` of the
    validation, times `scale`, where there is one. A bar, or lines, that
    cannot be shown (tqdm obeys variables like TQDM_ASCII, and stumbles over some; nobody reads any more) are given up
    with one warning on stderr; training goes on, without a bar with lines."""

    def __init__(self, title: str, *, quiet: bool = False, figure: str | None = None, scale: float = 1.0) -> None:
        super().__init__(quiet=True)
        self.title, self.silent, self.figure, self.scale = title, quiet, figure, scale
        self._bar: Any = None
        self._n_epochs, self._n_samples, self._first = 0, 0, 0

    def start_training(self, n_epochs: int, n_samples: int | None) -> None:
        self._n_epochs, self._n_samples, self._first = n_epochs, n_samples or 0, len(self.history)
        if not self.silent and on_terminal():
            self._show(self._begin)

    def _begin(self) -> None:
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[misc, unused-ignore]
            monitor_interval = 0        # without tqdm's own thread

            def __del__(self) -> None:
                """It is closed where training ends: here it would raise again what has raised before."""

        self._bar = Bar(total=self._n_epochs * self._n_samples, desc=self.title, unit=" samples", unit_scale=True,
                        bar_format=BAR, mininterval=0.1, delay=DELAY, file=sys.stderr,
                        ncols=min(shutil.get_terminal_size().columns, 120) - 1, nrows=2)

    def progress(self, epoch: int, samples: int, loss: float) -> None:
        self._move((epoch - 1 - self._first) * self._n_samples + samples, loss)

    def end_epoch(self, record: EpochRecord) -> None:
        super().end_epoch(record)
        done, n = len(self.history) - self._first, max(1, self._n_epochs)
        self._move(done * self._n_samples, record.loss)
        if self._bar is None and done * LINES // n > (done - 1) * LINES // n:
            failed = f"  {record.failed_batches} failed batches" if record.failed_batches else ""
            figure = f"{self.figure} {record.figures[self.figure] * self.scale:.5g}  " if self.figure in record.figures else ""
            line = (f"{self.title}  epoch {record.epoch:>{len(str(self._n_epochs))}}  loss {record.loss:.4f}  {figure}"
                    f"{record.samples_per_second:,.0f} samples/s{failed}")
            self._show(partial(print, line, flush=True))

    def end_training(self) -> None:
        if self._bar is not None:
            self._show(self._bar.close)
            self._bar = None

    def _move(self, samples: int, loss: float) -> None:
        def move() -> None:
            if loss == loss:        # not known yet in the middle of an epoch
                self._bar.set_description_str(f"{self.title}  loss {loss:.4f}", refresh=False)
            self._bar.update(samples - self._bar.n)
        if self._bar is not None:
            self._show(move)

    def _show(self, what: Callable[[], object]) -> None:
        """what(), unless there is to be nothing. Where that fails the bar is given up, or if there is none the lines."""
        if self.silent:
            return
        try:
            what()
        except Exception as e:
            bar = self._bar is not None or what == self._begin
            self._bar, self.silent = None, not bar
            with suppress(Exception):
                print(f"tinydl: no {'progress bar' if bar else 'lines of progress'} ({type(e).__name__}: {e}); training goes on",
                      file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]], left: bool = False) -> str:
    """Rows under a header, the first column to the left and the others to the right (or all to the left)."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.rjust(w) if i and not left else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
                       ).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])

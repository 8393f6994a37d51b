"""auto: the fastest way here, found by a few timed updates."""
from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinydl.parallel.strategies.base import Strategy, check_count
from tinydl.parallel.strategies.group import Group
from tinydl.parallel.strategies.serial import Serial
from tinydl.parallel.strategies.shard import Shard

if TYPE_CHECKING:
    from tinydl.parallel.job import Setting

log = logging.getLogger("tinydl")

#: seconds of a timed run, and the share of what was measured below which it is measured again
TRIAL, DROP = 0.02, 0.7
#: seconds between looks at the throughput, and at least between two measurings
LOOK, PATIENCE = 2.0, 5.0


@dataclass
class Candidate:
    """A way to run, and the samples a second that it brought: the best of its timed runs."""

    strategy: Strategy
    n_threads: int
    samples_per_second: float = 0.0
    update_seconds: float = field(default=0.0, repr=False)

    def __str__(self) -> str:
        threads = f"{self.n_threads} thread{'s' * (self.n_threads > 1)}"
        return f"{self.strategy.name}, {threads}: {self.samples_per_second:,.0f} samples/s"


class Auto(Strategy):
    """Times serial training and shards over several thread counts, on real batches whose updates count, and goes on
    with the fastest; measures again when the throughput drops.

    With batches_per_update (groups) or shards_per_batch fixed, only the thread counts are tried, and the result has
    the same bits whatever is chosen. `tuning` is what was measured; it is said once at INFO.
    """

    name = "auto"

    def __init__(self, batches_per_update: int | None = None, shards_per_batch: int | None = None) -> None:
        self.batches_per_update = check_count("batches_per_update", batches_per_update)
        self.shards_per_batch = check_count("shards_per_batch", shards_per_batch)
        if batches_per_update and shards_per_batch:
            raise ValueError("batches_per_update and shards_per_batch: one of them")
        self.tuning: list[Candidate] = []
        self._asked = 0
        self._runs = 0
        self._chosen: Candidate | None = None
        self._measured_at = 0.0
        self._said = False

    def _fixed(self) -> Strategy | None:
        if self.batches_per_update:
            return Group(self.batches_per_update)
        return Shard(self.shards_per_batch) if self.shards_per_batch else None

    def cut(self, n_threads: int) -> tuple[int, int]:
        fixed = self._fixed()
        return (1, 1) if fixed is None else fixed.cut(n_threads)

    def _begin(self, n_threads: int) -> None:
        counts = sorted({1, n_threads, *(2**i for i in range(1, 11) if 2**i < n_threads)})
        fixed = self._fixed()
        self.tuning = [Candidate(fixed or (Serial() if n == 1 else Shard(n)), n) for n in counts]
        self._asked, self._runs, self._chosen = n_threads, 0, None

    def setting(self, n_threads: int) -> tuple[Setting, int | None]:
        from tinydl.parallel.job import Setting
        if n_threads != self._asked:
            self._begin(n_threads)
        if len(self.tuning) == 1:
            self._chosen = self.tuning[0]
        c = self._chosen or self.tuning[self._runs % len(self.tuning)]
        mode = "parallel" if c.n_threads > 1 else "serial" if isinstance(c.strategy, Serial) else "simplified"
        setting = Setting(mode, c.n_threads, *c.strategy.cut(c.n_threads), c.strategy)
        if not c.update_seconds:
            return setting, 2       # untimed: caches fill, threads wake
        seconds = LOOK if self._chosen else TRIAL
        return setting, max(2, round(seconds / c.update_seconds))

    def ran(self, setting: Setting, seconds: float, samples: int, updates: int) -> None:
        if not samples or not seconds or not updates:
            return
        if self._chosen is not None:
            c = self._chosen
            c.update_seconds = seconds / updates
            drop = c.samples_per_second and updates > 2 and samples / seconds < DROP * c.samples_per_second
            if len(self.tuning) > 1 and drop and time.monotonic() - self._measured_at > PATIENCE:
                log.info("throughput fell to %s samples/s: measuring again", f"{samples / seconds:,.0f}")
                self._begin(self._asked)
            return
        c = self.tuning[self._runs % len(self.tuning)]
        if self._runs >= len(self.tuning):
            c.samples_per_second = max(c.samples_per_second, samples / seconds)
        c.update_seconds = seconds / updates
        self._runs += 1
        if self._runs == 3 * len(self.tuning):
            self._chosen = max(self.tuning, key=lambda c: c.samples_per_second)
            self._measured_at = time.monotonic()
            if not self._said:
                self._said = True
                log.info("strategy auto: %s (measured: %s)", self._chosen, "; ".join(map(str, self.tuning)))

"""auto: serial training, or shards over several threads where timed updates show that they are faster."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tinydl.log import log
from tinydl.parallel.execution.epoch import Setting
from tinydl.parallel.strategies.base import Strategy, check_count
from tinydl.parallel.strategies.group import Group
from tinydl.parallel.strategies.serial import Serial
from tinydl.parallel.strategies.shard import Shard

if TYPE_CHECKING:
    from tinydl.parallel.execution.epoch import RunTiming
    from tinydl.parallel.execution.resources import Resources

#: Seconds that an epoch on one thread must take before threads are tried. Starting threads takes 0.3 to 1 ms a run: in such
#: epochs that is less than 1 %, and a trial of 10 ms can tell it from the updates. In shorter ones it cannot. What that costs:
#: epochs of 50 to 200 ms, which two threads may make by a quarter to a half shorter, stay serial (strategy shard is for those).
LONG = 0.2
#: Seconds of a trial, and the share of an epoch that it is at most. At 10 to 20 ms, those starts are 10 % or less of a
#: trial; shards on two threads were measured to be 35 to 87 % faster, so that does not hide them.
TRIAL, SHARE = 0.02, 0.05
#: Trials of each way in one look; the fastest counts. A thread on a busy CPU may lose 7 ms of one trial to a neighbour.
TRIALS = 2
#: Seconds trained from one look to the next: at least, and as a multiple of the seconds that the last look lost. So no
#: more than 1 / 50, 2 %, of the time is lost to looking.
EVERY, PER_LOST = 2.0, 50.0
#: How much faster another way must be to take over: long runs of one way repeat within 1 to 5 % on a shared machine.
GAIN = 0.05
#: The best way's throughput as a share of its last look's, below which the next look does not wait: arbitrary, and well
#: outside of those 5 %. A neighbour on one of two CPUs makes shards 2 to 4 times as slow.
DROP = 0.7


@dataclass
class Candidate:
    """A way to train: a strategy on a number of threads; and how many samples a second it trained in the last look (0: it was
    not tried)."""

    strategy: Strategy
    n_threads: int
    samples_per_second: float = 0.0
    rates: list[float] = field(default_factory=list, repr=False)    # samples a second, trial by trial of this look

    def __str__(self) -> str:
        threads = f"{self.n_threads} thread{'s' * (self.n_threads > 1)}"
        speed = f"{self.samples_per_second:,.0f} samples/s" if self.samples_per_second else "not tried"
        return f"{self.strategy.name}, {threads}: {speed}"


class Auto(Strategy):
    """Serial training, or each batch in shards over 2, 4, ... or all threads, whichever is fastest here.

    Training begins serially. Epochs that take less than 0.2 seconds on one thread stay serial: there is too little to win.
    In longer ones (and where the number of batches is not known) auto takes a look: each way runs twice for a few updates,
    of 20 milliseconds and a twentieth of an epoch at most, or one update where that is longer. Those are real updates on the
    next batches, so nothing is computed twice. The fastest way goes on. Another look comes after 2 seconds, or after 50 times the
    seconds that the last one lost; at once when the way chosen brings less than 0.7 of what it brought in its trials.

    What that costs: looking takes 2 % of the time at most, apart from the first look, in which each way that loses may lose
    0.1 seconds or the time of two updates. Where threads become slow after they were chosen, what runs then (2 seconds, as
    planned) is still trained with them. In epochs under 0.2 seconds, it costs what threads could have saved.

    The updates are serial training's, up to rounding. A model with BatchNorm (a layer that `mixes_samples`) is trained
    serially: parts of a batch would be normalised each by itself, so trials would change what is computed. With
    batches_per_update (groups) or shards_per_batch fixed, only the numbers of threads are tried, from one on, and the result
    has the same bits whatever is chosen. `Trainer.tuning` is what was measured; the first choice is logged at INFO.
    """

    name = "auto"

    def __init__(self, batches_per_update: int | None = None, shards_per_batch: int | None = None) -> None:
        self.batches_per_update = check_count("batches_per_update", batches_per_update)
        self.shards_per_batch = check_count("shards_per_batch", shards_per_batch)
        if batches_per_update and shards_per_batch:
            raise ValueError("batches_per_update and shards_per_batch: one of them")
        self._cuts = True                       # whether batches may be cut
        self._asked = 0                         # the number of threads that `tuning` is for
        self.tuning: list[Candidate] = []

    def forget(self, resources: Resources) -> None:
        self._cuts = self._fixed() is not None or not any(layer.mixes_samples for _, layer in resources.model.layer.walk())
        self._asked, self.tuning = 0, []

    def _fixed(self) -> Strategy | None:
        if self.batches_per_update:
            return Group(self.batches_per_update)
        return Shard(self.shards_per_batch) if self.shards_per_batch else None

    def update_signature(self, setting: Setting) -> list[int] | None:
        return super().update_signature(setting) if self._fixed() else None

    def cut(self, n_threads: int) -> tuple[int, int]:
        fixed = self._fixed()
        return (1, 1) if fixed is None else fixed.cut(n_threads)

    def _begin(self, n_threads: int) -> None:
        fixed = self._fixed()
        self.tuning = [Candidate(fixed or (Serial() if n == 1 else Shard(n)), n)
                       for n in (_counts(n_threads) if self._cuts else [1])]
        self._asked, self._best, self._running = n_threads, self.tuning[0], self.tuning[0]
        self._epoch = self._update = 0.0        # seconds of an epoch on one thread, and of an update of the best way
        self._trained = 0.0                     # seconds so far, at the end of the last look, and at the next one
        self._looked = self._look_at = 0.0
        self._trials: list[Candidate] = []      # those that this look has still to run, the current one first
        self._said = False
        if not self._cuts and n_threads > 1:
            self._say("serial, since a layer's results depend on how a batch is cut (BatchNorm)")

    def _say(self, what: str) -> None:
        if not self._said:
            self._said = True
            log.info("strategy auto: %s", what)

    # ------------------------------------------------------------------ what to run
    def setting(self, n_threads: int, n_batches: int | None = None) -> tuple[Setting, int | None]:
        if n_threads != self._asked:
            self._begin(n_threads)
        way, updates, brief = self._next(n_batches)
        self._running = way
        mode = "parallel" if way.n_threads > 1 else "serial" if isinstance(way.strategy, Serial) else "simplified"
        return Setting(mode, way.n_threads, *way.strategy.cut(way.n_threads), way.strategy, keep=n_threads, brief=brief), updates

    def _next(self, n_batches: int | None) -> tuple[Candidate, int | None, bool]:
        """The way to run now, for how many updates at most, and whether the trainer is to come back after 50 ms (a batch
        in the Python driver). n_batches: of an epoch."""
        best, one = self._best, self.tuning[0]
        if len(self.tuning) == 1:
            return best, None, False
        if not self._update:                    # nothing is known yet
            return best, None, True
        if not self._trials:
            if best is one:
                self._epoch = float("inf") if n_batches is None else n_batches / best.strategy.cut(1)[0] * self._update
                if self._epoch < LONG:
                    self._say(f"serial, since epochs take less than {LONG:g} s")
                    return best, None, False
            if self._trained < self._look_at:
                return best, max(1, round(EVERY / self._update)), False
            self._begin_look()
        return self._trials[0], self._left, True

    def _begin_look(self) -> None:
        self._trials = self.tuning * TRIALS
        self._left = self._in_trial = max(1, round(min(TRIAL, SHARE * self._epoch) / self._update))
        self._seconds = self._samples = 0.0     # of the current trial
        self._look_seconds = self._look_samples = 0.0
        for way in self.tuning:
            way.rates.clear()

    # ------------------------------------------------------------------ what was measured
    def ran(self, setting: Setting, timing: RunTiming) -> None:
        self._trained += timing.wall
        if self._trials:
            self._tried(timing)
        elif timing.updates and timing.samples:
            self._update = timing.seconds / timing.updates
            rate = timing.samples / timing.seconds
            if rate < DROP * self._best.samples_per_second:
                self._look_at = min(self._look_at, self._looked + EVERY)
            if not self._best.rates:            # no look has measured it yet
                self._best.samples_per_second = rate

    def _tried(self, timing: RunTiming) -> None:
        """Count a run of a trial. The trial is over after its updates or 50 ms, or if no update was made; if no sample arrived
        in it, it does not count."""
        self._left -= timing.updates
        self._seconds, self._samples = self._seconds + timing.seconds, self._samples + timing.samples
        self._look_seconds, self._look_samples = self._look_seconds + timing.wall, self._look_samples + timing.samples
        if timing.updates and self._left > 0 and self._seconds < 0.05:
            return
        way = self._trials.pop(0)
        if self._samples:
            way.rates.append(self._samples / self._seconds)
        self._left, self._seconds, self._samples = self._in_trial, 0.0, 0.0
        if not self._trials:
            self._end_look()

    def _end_look(self) -> None:
        before, timed = self._best, [way for way in self.tuning if way.rates]
        for way in timed:
            way.samples_per_second = max(way.rates)
        fastest = max(timed, key=lambda way: way.samples_per_second, default=before)
        if not before.rates or fastest.samples_per_second > (1 + GAIN) * before.samples_per_second:
            self._best = fastest
        best = self._best
        if best is not before:
            self._update *= before.samples_per_second / best.samples_per_second
            log.debug("strategy auto: from %s to %s", before, best)
        lost = self._look_seconds - self._look_samples / best.samples_per_second if best.rates else self._look_seconds
        self._looked, self._look_at = self._trained, self._trained + max(EVERY, PER_LOST * lost)
        self._say(f"{best} (measured: {'; '.join(map(str, self.tuning))})")


def _counts(n_threads: int) -> list[int]:
    """Numbers of threads to try, where there are so many."""
    return sorted({1, n_threads, *(2**i for i in range(1, 11) if 2**i < n_threads)})

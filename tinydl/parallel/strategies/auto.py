"""auto: the fastest way here, found by timed updates that cost next to nothing."""
from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from tinydl.parallel.strategies.base import Strategy, check_count
from tinydl.parallel.strategies.group import Group
from tinydl.parallel.strategies.serial import Serial
from tinydl.parallel.strategies.shard import Shard

if TYPE_CHECKING:
    from tinydl.parallel.job import Lap, Setting

log = logging.getLogger("tinydl")

#: the share of the time trained that trials may lose; of that, what an epoch saves up at most is still there in the next one
COST = 0.01
#: seconds of a trial, at most, and the share of an epoch; updates at least: the first one starts the clock
TRIAL, TRIAL_OF_EPOCH, UPDATES = 0.001, 0.05, 2
#: seconds that starting a trial is thought to take, before there was one
START = 0.0005
#: seconds between two looks at what may be tried, at least and at most; and at whether several threads are still as fast
OFTEN, SELDOM, LOOK = 0.05, 2.0, 0.2
#: seconds of an epoch that is not cut for a trial: it waits for the next one's beginning, which is one run less
SHORT = 0.05
#: seconds between two runs of the best way that are noted, at least: that takes some microseconds
NOTED = 0.005
#: the time of an update as a share of the best way's, before there was one
UNKNOWN = 1.5
#: the time of an epoch as a share of the best way's, below which a way is given another one at once, as one whose updates
#: were faster is: the first one found its caches and CPUs cold
WARM_UP = 1.25
#: trials before a way is judged, those that are remembered, and the gain for which it takes over
ENOUGH, REMEMBERED, GAIN = 3, 5, 0.03
#: the share of its usual throughput below which the best way makes the others worth trying again
DROP = 0.7


@dataclass
class Candidate:
    """A way to run, and the samples a second that it brought when it ran last."""

    strategy: Strategy
    n_threads: int
    samples_per_second: float = 0.0
    #: of an update, without what starting takes: of the last run, and of the last ones; and what starting took
    update_seconds: float = field(default=0.0, repr=False)
    usual: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED), repr=False)
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED), repr=False)
    #: the time that its trials took, as a share of what the best way would have taken
    shares: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED), repr=False)
    trials: int = field(default=0, repr=False)
    #: when the last one was, in seconds trained
    tried: float = field(default=0.0, repr=False)
    setting: Setting | None = field(default=None, repr=False)

    def __str__(self) -> str:
        threads = f"{self.n_threads} thread{'s' * (self.n_threads > 1)}"
        return f"{self.strategy.name}, {threads}: {self.samples_per_second:,.0f} samples/s"

    @property
    def start(self) -> float:
        """Seconds that it takes to start."""
        return median(self.starts) if self.starts else START


class Auto(Strategy):
    """Trains serially and, a few updates at a time, by shards over several thread counts: on real batches whose updates
    count. A way that is faster in the median of its trials takes over, and the others are tried on, so it follows a
    machine that others use too.

    Trials are so short and so seldom that they lose a hundredth of the time trained, and, once each way was tried three
    times, a fiftieth of an epoch; one so short that a trial is more than that (half a millisecond, or several where other
    things have the CPUs) holds one at most. Then there is one of each way in 2 seconds, or when the throughput drops; of
    ways that are known to lose more, when twice as much was trained. Where that is likely to lose less, a trial is a
    whole epoch, so that starting counts for as much as it will; and where that was not much slower it has a second one,
    which counts: the first one found caches cold.

    With batches_per_update (groups) or shards_per_batch fixed, only the thread counts are tried, and the result has the
    same bits whatever is chosen. `tuning` is what was measured; it is said once at INFO.
    """

    name = "auto"

    def __init__(self, batches_per_update: int | None = None, shards_per_batch: int | None = None) -> None:
        self.batches_per_update = check_count("batches_per_update", batches_per_update)
        self.shards_per_batch = check_count("shards_per_batch", shards_per_batch)
        if batches_per_update and shards_per_batch:
            raise ValueError("batches_per_update and shards_per_batch: one of them")
        self.tuning: list[Candidate] = []
        self._asked = 0
        self._said = False

    def forget(self) -> None:
        self.tuning, self._asked, self._said = [], 0, False

    def _fixed(self) -> Strategy | None:
        if self.batches_per_update:
            return Group(self.batches_per_update)
        return Shard(self.shards_per_batch) if self.shards_per_batch else None

    def recipe(self, setting: Setting) -> list[int] | None:
        return super().recipe(setting) if self._fixed() else None

    def cut(self, n_threads: int) -> tuple[int, int]:
        fixed = self._fixed()
        return (1, 1) if fixed is None else fixed.cut(n_threads)

    def _begin(self, n_threads: int) -> None:
        counts = sorted({1, n_threads, *(2**i for i in range(1, 11) if 2**i < n_threads)})
        fixed = self._fixed()
        self.tuning = [Candidate(fixed or (Serial() if n == 1 else Shard(n)), n) for n in counts]
        self._asked, self._best, self._running = n_threads, self.tuning[0], self.tuning[0]
        self._trained = self._tried = 0.0       # seconds, and those of them at the last trial
        self._saved = 0.0                       # seconds that trials may lose now
        self._look_at = 0.0                     # until then, in seconds trained, the best way runs
        self._whole = (0, 0.0)                  # batches of epochs that it runs whole, until then
        self._note_at = 0.0                     # until then its runs are not noted
        self._updates = 1                       # of the best way's last run
        self._batches = 0                       # of the last trial's epoch
        self._way_back = 0.0                    # seconds that starting it takes after the trial; less than 0 where there is none
        self._again = 0                         # batches of the epoch that the last trial's way runs, too

    # ------------------------------------------------------------------ what to run
    def setting(self, n_threads: int, n_batches: int | None = None) -> tuple[Setting, int | None]:
        from tinydl.parallel.job import Setting
        if n_threads != self._asked:
            self._begin(n_threads)
        elif n_batches == self._whole[0] and self._trained < self._whole[1] and self._best.setting is not None:
            self._running = self._best
            return self._best.setting, None
        c, updates = self._next(n_batches)
        self._running = c
        mode = "parallel" if c.n_threads > 1 else "serial" if isinstance(c.strategy, Serial) else "simplified"
        brief = not self._best.update_seconds and len(self.tuning) > 1
        if c.setting is None or c.setting.brief != brief:
            c.setting = Setting(mode, c.n_threads, *c.strategy.cut(c.n_threads), c.strategy, keep=n_threads, brief=brief)
        return c.setting, updates

    def _next(self, n_batches: int | None) -> tuple[Candidate, int | None]:
        """The way to run now, and for how many updates. n_batches: of an epoch."""
        best = self._best
        others = [c for c in self.tuning if c is not best]
        if not others or not best.update_seconds:       # not known: then its run is a brief one, or an epoch's
            return best, None
        epoch = None if n_batches is None else n_batches / best.strategy.cut(best.n_threads)[0] * best.update_seconds
        if self._again and self._again == n_batches:
            return self._running, None
        self._again = 0
        if epoch is not None:
            self._saved = min(self._saved, COST * epoch)
        if self._look_at - self._trained < UPDATES * best.update_seconds:
            prices = {c.n_threads: self._price(c, epoch) for c in others}
            waits = {c.n_threads: self._wait(c, prices[c.n_threads], epoch) for c in others}
            if ready := [c for c in others if waits[c.n_threads] <= 0]:     # what costs nothing, then what was tried least
                c = min(ready, key=lambda c: (prices[c.n_threads] > 0, c.trials))
                updates = self._trial_updates(c, epoch)
                self._way_back, self._batches = best.start if updates else -best.start, n_batches or 0
                return c, updates
            most = LOOK if best.n_threads > 1 else SELDOM
            self._look_at = self._trained + min(max(min(waits.values()), OFTEN), most)
        if n_batches is not None and epoch is not None and epoch < SHORT:
            self._whole = n_batches, self._look_at - UPDATES * best.update_seconds
            return best, None
        return best, max(UPDATES, round((self._look_at - self._trained) / best.update_seconds))

    def _wait(self, c: Candidate, price: float, epoch: float | None) -> float:
        """Seconds until c may be tried for `price` seconds in epochs of so many."""
        known, short = len(c.shares) >= ENOUGH, epoch is not None and price > COST * epoch
        best_ran = self._trained > self._tried
        if price <= 0:          # a second opinion, not of the moment in which serial was slow
            return 0.0 if self._best.n_threads > 1 or (best_ran and self._saved >= 0) else OFTEN
        if not short:
            return max((price - self._saved) / COST, c.tried + SELDOM - self._trained if known else 0.0)
        apart = max(price * (len(self.tuning) - 1) / COST, SELDOM if known else 0.0)
        if known and price > START + c.start + self._best.start:    # slow, not only slow to start
            apart = max(apart, c.tried)
        return c.tried + apart - self._trained if best_ran else OFTEN

    def _trial_updates(self, c: Candidate, epoch: float | None) -> int | None:
        """Of a trial of c. None: all of a short epoch, where that is likely to lose less than starting the best way again."""
        update = self._best.update_seconds
        if epoch is None:
            return max(UPDATES, round(TRIAL / update))
        updates = max(UPDATES, round(min(TRIAL, TRIAL_OF_EPOCH * epoch) / update))
        return None if epoch < SHORT and (self._pace(c) - 1) * (epoch - updates * update) < self._best.start else updates

    def _pace(self, c: Candidate) -> float:
        """The time of an update of c as a share of the best way's: as usual, or the last time, where that was more."""
        return max(median(c.usual), c.update_seconds) / self._best.update_seconds if c.usual else UNKNOWN

    def _price(self, c: Candidate, epoch: float | None) -> float:
        """Seconds that a trial of c is likely to lose, with going back to the best; 0 where it was faster in its last one, or
        when it ran last than the best, whose throughput fell, is now."""
        best, updates = self._best, self._trial_updates(c, epoch)
        last = c.shares[-1] if c.shares else self._seconds(c) / self._seconds(best) if c.update_seconds else 1.0
        if last < 1 - GAIN:
            return 0.0
        if updates is None:
            assert epoch is not None
            return max(best.start, c.start - best.start + (self._pace(c) - 1) * epoch)
        share = min(c.shares, default=last)
        return c.start + max(0.0, share - 1) * updates * best.update_seconds + best.start

    # ------------------------------------------------------------------ what it brought
    def ran(self, setting: Setting, lap: Lap) -> None:
        if not lap.updates or not lap.samples:
            return
        c, best = self._running, self._best
        rest = self._trained == self._tried and self._way_back > 0 and lap.wall < SHORT     # of an epoch behind a trial: cold
        self._trained += lap.wall
        self._saved += COST * lap.wall
        if c is best and (rest or self._trained < self._note_at):
            return
        self._note_at = self._trained + NOTED
        timed = lap.steady_updates > 0          # else it was too short, or not native: starting is in its time
        c.update_seconds = lap.steady_seconds / lap.steady_updates if timed else lap.seconds / lap.updates
        c.samples_per_second = lap.samples / lap.updates / c.update_seconds
        c.starts.append(max(0.0, lap.wall - lap.updates * c.update_seconds))
        c.usual.append(c.update_seconds)
        if c is best:
            self._updates = lap.updates
            seconds = c.update_seconds if c.n_threads > 1 else min(list(c.usual)[-2:])     # serial runs: of two
            if seconds > sorted(c.usual)[len(c.usual) // 2] / DROP:
                log.debug("strategy auto: throughput fell to %s", c)
                self._look_at, self._whole = 0.0, (0, 0.0)
                for other in self.tuning:
                    other.shares.clear()
            return
        c.trials += 1
        self._tried = c.tried = self._trained
        self._look_at, self._whole, self._note_at = 0.0, (0, 0.0), 0.0
        self._saved -= max(0.0, lap.wall - lap.updates * best.update_seconds + self._way_back)
        share = self._seconds(c) / self._seconds(best)
        if self._way_back < 0:          # as much as the best way's runs: no need to reckon what starting is of that
            share = lap.wall / lap.updates / (best.update_seconds + best.start / lap.updates)
            faster = timed and c.update_seconds < (1 - GAIN) * best.update_seconds
            again = not self._again and 1 - GAIN <= share and (share < WARM_UP or faster)
            self._again = self._batches if again else 0
            if again:
                return
        c.shares.append(share)
        if not self._said and all(len(o.shares) >= ENOUGH for o in self.tuning if o is not best):
            self._said = True
            first = min((median(o.shares), i) for i, o in enumerate(self.tuning) if o is not best)
            chosen = self.tuning[first[1]] if first[0] < 1 - GAIN else best
            log.info("strategy auto: %s (measured: %s)", chosen, "; ".join(map(str, self.tuning)))
        if len(c.shares) >= ENOUGH and median(c.shares) < 1 - GAIN:
            log.debug("strategy auto: from %s to %s", best, c)
            before = median(c.shares)
            for other in self.tuning:
                other.shares.clear()
            best.shares.append(1 / before)
            self._best = c

    def _seconds(self, c: Candidate) -> float:
        """Seconds that an update takes in a run as long as the best way's last one."""
        return c.update_seconds + c.start / self._updates

"""auto: the fastest way here, found by timed updates that cost next to nothing."""
from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from tinydl.log import log
from tinydl.parallel.strategies.base import Strategy, check_count
from tinydl.parallel.strategies.group import Group
from tinydl.parallel.strategies.serial import Serial
from tinydl.parallel.strategies.shard import Shard

if TYPE_CHECKING:
    from tinydl.parallel.crew import Crew
    from tinydl.parallel.job import Lap, Setting
    from tinydl.parallel.pool import WorkerPool
    from tinydl.parallel.probe import Probed

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
#: the share of the best way's time that a way must be expected to take where trying it may cost more than a hundredth
PROMISE = 0.95
#: what starting c takes in its first trials, as a multiple of what it took in a probe: caches and CPUs are colder
COLD = 2.0
#: seconds for a byte of new memory: the system gives it when it is first written to
TOUCH = 1.5e-10
#: a probe's update may be longer than the model's by this factor, to say anything of it
LIKE = 1.3
#: seconds trained from one probe to the next, at least; and as long as was trained since the last change that was seen
AGAIN = 1.0
#: the time of an epoch as a share of the best way's, below which a way is given another one at once, as one whose updates
#: were faster is: the first one found its caches and CPUs cold
WARM_UP = 1.25
#: trials before a way is judged, those that are remembered, and the gain for which it takes over
ENOUGH, REMEMBERED, GAIN = 3, 5, 0.03
#: the share of its usual throughput below which the best way makes the others worth trying again
DROP = 0.7


@dataclass
class Candidate:
    """A way to run, and the samples a second that it brought when it ran last; 0 where it was not tried."""

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
        brought = f"{self.samples_per_second:,.0f} samples/s" if self.samples_per_second else "not tried"
        return f"{self.strategy.name}, {threads}: {brought}"


class Auto(Strategy):
    """Trains serially and, a few updates at a time, by shards over several thread counts: on real batches whose updates
    count. A way that is faster in the median of its trials takes over, and the others are tried on, so it follows a
    machine that others use too.

    No epoch is more than 2 percent longer than a serial one for it, while the machine stays as it is: trials are so short
    and so seldom that they lose a hundredth of an epoch. In epochs so short that one would lose more (of less than 50 to
    200 milliseconds, or of a second where a `probe` of the pool says that threads lose) threads are tried only where the
    probe promises that already the first such epoch is shorter than a serial one. It takes some milliseconds, in
    `Trainer.init` and then ever more seldom between two epochs. A trial is a whole epoch there, so that starting counts for
    as much as it will; where that was not much slower it has a second one, which counts: the first one found caches cold. A
    probe says nothing of layers in Python, and of data that is not in arrays: there threads are tried in epochs of 200
    milliseconds and more, and of 60 updates (with layers in Python 110).

    A model with BatchNorm (a layer that `mixes_samples`) is trained serially: parts of a batch would be normalised each by
    itself, so trials would change what is computed.

    With batches_per_update (groups) or shards_per_batch fixed, only the thread counts are tried, and the result has the
    same bits whatever is chosen. `tuning` is what was measured; it is said once at INFO.
    """

    name = "auto"

    def __init__(self, batches_per_update: int | None = None, shards_per_batch: int | None = None) -> None:
        self.batches_per_update = check_count("batches_per_update", batches_per_update)
        self.shards_per_batch = check_count("shards_per_batch", shards_per_batch)
        if batches_per_update and shards_per_batch:
            raise ValueError("batches_per_update and shards_per_batch: one of them")
        self._cuts = True       # whether batches may be cut
        self._forget()

    def forget(self, crew: Crew) -> None:
        self._cuts = self._fixed() is not None or not any(layer.mixes_samples for _, layer in crew.model.layer.walk())
        self._forget()

    def _forget(self) -> None:
        self.tuning: list[Candidate] = []
        self._asked, self._said = 0, False
        self._machine: dict[int, list[Probed]] = {}     # by numbers of threads
        self._new_bytes = 0                             # of a gradient vector, when it is new
        self._start_clock()

    def _start_clock(self) -> None:
        self._trained = self._tried = self._probed = 0.0    # seconds, those of them at the last trial, at the last probe
        self._probe_at, self._changed = AGAIN, 0.0      # and at the next one, and at the last change that was seen
        self._refused = False                           # whether epochs are too short to try a way

    def _fixed(self) -> Strategy | None:
        if self.batches_per_update:
            return Group(self.batches_per_update)
        return Shard(self.shards_per_batch) if self.shards_per_batch else None

    def recipe(self, setting: Setting) -> list[int] | None:
        return super().recipe(setting) if self._fixed() else None

    def cut(self, n_threads: int) -> tuple[int, int]:
        fixed = self._fixed()
        return (1, 1) if fixed is None else fixed.cut(n_threads)

    def before_epoch(self, crew: Crew, pool: WorkerPool) -> None:
        n = pool.n_threads
        if n == 1 or not self._cuts or (n in self._machine and not (self._refused and self._trained >= self._probe_at)):
            return
        from tinydl.parallel.probe import probe
        pool.heal()
        update = LIKE * self.tuning[0].update_seconds if self.tuning else None
        found = probe(pool, _counts(n)[1:], update, pin_threads=crew.pin_threads) if pool.alive else {}
        if not pool.alive:      # closed, or a parent's
            return
        self._machine, self._new_bytes = found or {n: []}, crew.model.params.nbytes
        self._probed, self._probe_at = self._trained, self._trained + max(AGAIN, self._trained - self._changed)
        self._look_at, self._whole = 0.0, (0, 0.0)

    def _begin(self, n_threads: int) -> None:
        fixed = self._fixed()
        counts = _counts(n_threads) if self._cuts else [1]
        self.tuning = [Candidate(fixed or (Serial() if n == 1 else Shard(n)), n) for n in counts]
        self._asked, self._best, self._running = n_threads, self.tuning[0], self.tuning[0]
        if not self._cuts and n_threads > 1:
            log.info("strategy auto: serial, since a layer's results depend on how a batch is cut (BatchNorm)")
        self._start_clock()
        self._saved = 0.0                       # seconds that trials may lose now
        self._look_at = 0.0                     # until then, in seconds trained, the best way runs
        self._whole = (0, 0.0)                  # batches of epochs that it runs whole, until then
        self._note_at = 0.0                     # until then its runs are not noted
        self._updates, self._timed = 1, True    # of the best way's last run, and whether its start was told from them
        self._batches = 0                       # of the last trial's epoch
        self._way_back = 0.0                    # seconds that starting it takes after the trial; less than 0 where there is none
        self._again = 0                         # batches of the epoch that the last trial's way runs, too

    # ------------------------------------------------------------------ what to run
    def setting(self, n_threads: int, n_batches: int | None = None) -> tuple[Setting, int | None]:
        if n_threads != self._asked:
            self._begin(n_threads)
        elif n_batches == self._whole[0] and self._trained < self._whole[1] and self._best.setting is not None:
            self._running = self._best
            return self._best.setting, None
        from tinydl.parallel.job import Setting
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
            self._refused = best.n_threads == 1 and math.inf in waits.values()
            self._say(self._best, waits)
            least = min((c.trials for c in others if waits[c.n_threads] < math.inf), default=0)
            for c in others:
                if prices[c.n_threads] > 0 and c.trials >= max(ENOUGH, 2 * least):     # dearer ones have to save up, too
                    waits[c.n_threads] = math.inf
            if ready := [c for c in others if waits[c.n_threads] <= 0]:     # what costs nothing, then what was tried least
                c = min(ready, key=lambda c: (prices[c.n_threads] > 0, c.trials))
                updates = self._trial_updates(c, epoch)
                start = self._start(best)
                self._way_back, self._batches = start if updates else -start, n_batches or 0
                return c, updates
            most = LOOK if best.n_threads > 1 else SELDOM
            self._look_at = self._trained + min(max(min(waits.values()), OFTEN), most)
        if n_batches is not None and epoch is not None and epoch < SHORT:
            self._whole = n_batches, self._look_at - UPDATES * best.update_seconds
            return best, None
        return best, max(UPDATES, round((self._look_at - self._trained) / best.update_seconds))

    def _wait(self, c: Candidate, price: float, epoch: float | None) -> float:
        """Seconds until c may be tried for `price` seconds in epochs of so many; infinite where it may not."""
        losing = self._expected(c) is not None and self._pace(c) >= 1      # threads that share a CPU may wait for milliseconds
        short = epoch is not None and price > (COST / 4 if losing else COST) * epoch
        known = len(c.shares) >= ENOUGH
        best_ran = self._trained > self._tried
        if epoch is not None and epoch < SHORT and len(self._best.usual) < ENOUGH:      # the first ones are not as usual
            return NOTED
        if price <= 0:          # a second opinion, not of the moment in which serial was slow
            return 0.0 if self._best.n_threads > 1 or best_ran else OFTEN
        if not short:
            return max((price - self._saved) / COST, c.tried + SELDOM - self._trained if known else 0.0)
        assert epoch is not None
        serial = self.tuning[0]
        if c is not serial and price > epoch * (serial.update_seconds / self._best.update_seconds - 1):
            return math.inf
        apart = max(price / COST, SELDOM if known else 0.0)         # such an epoch is still no longer than a serial one
        return c.tried + apart - self._trained if best_ran else OFTEN

    def _trial_updates(self, c: Candidate, epoch: float | None) -> int | None:
        """Of a trial of c. None: all of a short epoch, where that is likely to lose less than starting the best way again."""
        update = self._best.update_seconds
        if epoch is None:
            return max(UPDATES, round(TRIAL / update))
        updates = max(UPDATES if self._timed else 1, round(min(TRIAL, TRIAL_OF_EPOCH * epoch) / update))
        rest = (self._pace(c) - 1) * (epoch - updates * update)
        return None if epoch < SHORT and rest < COLD * self._start(self._best) else updates

    def _expected(self, c: Candidate) -> Probed | None:
        """What the probe of a model like this one says of c, until it was tried."""
        batches, parts = c.strategy.cut(c.n_threads)
        k, n = batches * parts, c.n_threads
        if (c.trials and c.tried >= self._probed) or self._asked not in self._machine or n > k:    # some would only wait
            return None
        like = [p for p in self._machine.get(n, ()) if p.update_seconds <= LIKE * self.tuning[0].update_seconds]
        return like[-1]._replace(pace=like[-1].pace * -(-k // n) * n / k) if like else None     # of 3 parts, 2 threads run 2

    def _usual(self) -> tuple[float, float]:
        """Seconds of an update and of a start that several threads, to be tried, are measured by: serial's best of late, so
        not of a moment in which something else had its CPU. Where several threads are the best way, as they are now."""
        best = self._best
        if best.n_threads > 1:
            return best.update_seconds, self._start(best)
        return min(best.usual), min(best.starts)

    def _start(self, c: Candidate) -> float:
        """Seconds that c takes to start."""
        expected = self._expected(c)
        return median(c.starts) if c.starts else START if expected is None else expected.start

    def _next_start(self, c: Candidate) -> float:
        """The same of its next trial, if that is the first: caches and CPUs are cold, and gradient vectors new."""
        if c.trials:
            return self._start(c)
        batches, parts = c.strategy.cut(c.n_threads)
        return COLD * self._start(c) + batches * parts * self._new_bytes * TOUCH

    def _pace(self, c: Candidate) -> float:
        """The time of an update of c as a share of the best way's: as usual, or the last time, where that was more."""
        expected, update = self._expected(c), self._best.update_seconds
        if expected is not None:
            return expected.pace * self.tuning[0].update_seconds / update
        return max(median(c.usual), c.update_seconds) / update if c.usual else UNKNOWN

    def _likely(self, c: Candidate, epoch: float | None) -> float:
        """The time that a trial of c is likely to take, as a share of the best way's."""
        best = self._best
        if self._expected(c) is not None and epoch is not None:
            update, start = self._usual()
            epoch *= update / best.update_seconds
            return (self._next_start(c) + self._pace(c) * epoch) / (start + epoch) / PROMISE * (1 - GAIN)
        return c.shares[-1] if c.shares else 1.0

    def _price(self, c: Candidate, epoch: float | None) -> float:
        """Seconds that a trial of c is likely to lose, with going back to the best; 0 where it is likely to be faster."""
        best, updates = self._best, self._trial_updates(c, epoch)
        if self._likely(c, epoch) < 1 - GAIN:
            return 0.0
        start, back = self._next_start(c), self._start(best)
        if updates is None:
            assert epoch is not None
            return max(back, start - back + (self._pace(c) - 1) * epoch)
        share = min(c.shares) if c.shares else self._pace(c)
        return start + max(0.0, share - 1) * updates * best.update_seconds + back

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
            self._updates, self._timed = lap.updates, timed
            recent = min(list(c.usual)[-2:]) if lap.wall < SHORT or c.n_threads == 1 else c.update_seconds
            if recent > sorted(c.usual)[len(c.usual) // 2] / DROP:
                log.debug("strategy auto: throughput fell to %s", c)
                self._look_at, self._whole = 0.0, (0, 0.0)
                self._probe_at, self._changed = min(self._probe_at, self._trained + AGAIN), self._trained
                for other in self.tuning:
                    other.shares.clear()
            return
        c.trials += 1
        self._tried = c.tried = self._trained
        self._look_at, self._whole, self._note_at = 0.0, (0, 0.0), 0.0
        self._saved -= max(0.0, lap.wall - lap.updates * best.update_seconds + self._way_back)
        share = self._seconds(c) / self._seconds(best)
        if self._way_back < 0:          # as much as the best way's runs: no need to reckon what starting is of that
            usual, start = self._usual()
            share = lap.wall / (lap.updates * usual + start)
            cold = not self._again and share >= 1 - GAIN
            faster = timed and c.update_seconds < (1 - GAIN) * usual
            stay = share < WARM_UP or faster if cold else share < 1 - GAIN and len(c.shares) + 1 < ENOUGH
            self._again = self._batches if stay else 0
            if cold and stay:
                return
        c.shares.append(share)
        first = min((median(o.shares), i) for i, o in enumerate(self.tuning) if o is not best and o.shares)
        self._say(self.tuning[first[1]] if first[0] < 1 - GAIN else best)
        if len(c.shares) >= ENOUGH and median(c.shares) < 1 - GAIN:
            log.debug("strategy auto: from %s to %s", best, c)
            before = median(c.shares)
            for other in self.tuning:
                other.shares.clear()
            best.shares.append(1 / before)
            self._best, self._refused = c, False

    def _seconds(self, c: Candidate) -> float:
        """Seconds that an update takes in a run as long as the best way's last one."""
        return c.update_seconds + self._start(c) / self._updates

    def _say(self, chosen: Candidate, waits: dict[int, float] | None = None) -> None:
        """At INFO, once, when all others were tried often enough, or are not to be tried: then their waits are infinite."""
        if not self._said and all(len(c.shares) >= ENOUGH or (waits or {}).get(c.n_threads) == math.inf
                                  for c in self.tuning if c is not self._best):
            self._said = True
            log.info("strategy auto: %s (measured: %s)", chosen, "; ".join(map(str, self.tuning)))


def _counts(n_threads: int) -> list[int]:
    """Numbers of threads to try, where there are so many."""
    return sorted({1, n_threads, *(2**i for i in range(1, 11) if 2**i < n_threads)})

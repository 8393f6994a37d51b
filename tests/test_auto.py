"""Strategy auto's choice, on simulated machines. That it trains as others do is in test_strategies.py."""
import pytest

from tinydl import Model, nn
from tinydl.parallel import probe
from tinydl.parallel.job import Lap
from tinydl.parallel.strategies import Auto


@pytest.fixture(autouse=True)
def probes(monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda machine, counts, *_, **__: machine.probed(counts))


class Simulated:
    """A machine on which an update takes seconds[n threads], starting a native run `start`, several threads `more`, and `cold`
    where another number ran before; an epoch has `length` updates. It is the crew and the pool, too."""

    def __init__(self, seconds, start=0.0003, length=1000, native=True, more=0.0, cold=0.0):
        self.seconds, self.start, self.length, self.native, self.more, self.cold = seconds, start, length, native, more, cold
        self.ran, self.n_probes, self.alive, self.heal = 1, 0, True, lambda: None
        self.model, self.pin_threads = Model(nn.Linear(1, 1)), False
        self.strategy = Auto()

    @property
    def n_threads(self):
        return max(self.seconds)

    def probed(self, counts):
        self.n_probes += 1
        one = self.seconds[1]
        return {n: [probe.Probed(one, self.seconds[n] / one, self.start + self.more)] for n in counts}

    def train(self, seconds):
        """Epochs for about that long, and their wall time as a share of serial's."""
        walls = []
        while sum(walls) < seconds:
            walls.append(self.epoch()[0])
        return sum(walls) / len(walls) / (self.length * self.seconds[1] + self.start)

    def epoch(self):
        """The wall time of one, and the updates of it that ran on each number of threads."""
        left, wall, by = self.length, 0.0, dict.fromkeys(self.seconds, 0)
        if self.native:
            self.strategy.before_epoch(self, self)
        while left:
            setting, most = self.strategy.setting(max(self.seconds), self.length)
            update = self.seconds[setting.n_threads]
            n = left if most is None else min(left, most)
            if setting.brief:
                n = min(n, max(1, round(0.05 / update)) if self.native else 1)
            start = self.start + (setting.n_threads > 1) * (self.more + self.cold * (setting.n_threads != self.ran))
            took, self.ran = n * update + start, setting.n_threads
            steady = (n - 1, (n - 1) * update) if self.native and n > 1 else (0, 0.0)
            self.strategy.ran(setting, Lap(n, 8 * n, took, *steady, took))
            left, wall, by[setting.n_threads] = left - n, wall + took, by[setting.n_threads] + n
        return wall, by


@pytest.mark.parametrize("update, native", [(2e-5, True), (3e-4, True), (3e-4, False), (3e-3, True), (3e-3, False),
                                            (0.2, True), (0.2, False)])
def test_auto_takes_the_fastest(update, native):
    machine = Simulated({1: update, 2: 0.6 * update, 4: 0.4 * update, 8: 1.2 * update}, native * 0.0003, native=native)
    for _ in range(max(3, round(3 / (1000 * update)))):         # three seconds' worth, or three epochs
        machine.epoch()
    wall, by = machine.epoch()
    assert by[4] > 0.9 * machine.length and wall < 0.5 * machine.length * update
    best = max(machine.strategy.tuning, key=lambda c: c.samples_per_second)
    assert (best.n_threads, best.strategy.name) == (4, "shard")
    assert best.samples_per_second == pytest.approx(8 / (0.4 * update), rel=0.05)


@pytest.mark.parametrize("native, slower", [(True, 0.9), (True, 1.0), (True, 1.3), (True, 4.0), (True, 30.0),
                                            (False, 1.0), (False, 1.3), (False, 2.0)])
@pytest.mark.parametrize("update", [8e-6, 3e-4, 0.003, 0.2])
@pytest.mark.parametrize("length", [1, 10, 100, 1000])
def test_auto_is_in_no_epoch_much_slower_than_serial(length, update, native, slower):
    machine = Simulated({1: update, 2: slower * update, 4: (1 + native) * slower * update}, native * 3e-4, length, native,
                        more=2e-4, cold=5e-4)
    serial = machine.length * update + machine.start
    walls = [machine.epoch()[0] for _ in range(20_000 // length if update < 0.2 else 30)]
    assert max(walls) < 1.02 * serial
    assert sum(walls) < 1.011 * len(walls) * serial


@pytest.mark.parametrize("length, tried", [(2000, False), (10_000, True)])
def test_ways_that_a_probe_says_lose_are_tried_in_long_epochs_only(length, tried):
    """On one CPU a trial of a millisecond may take seven."""
    machine = Simulated({1: 1e-4, 2: 1.1e-4}, length=length)
    machine.train(10)
    assert (machine.strategy.tuning[1].trials > 0) == tried


def test_auto_finds_by_a_probe_that_threads_have_become_fast():
    machine = Simulated({1: 2e-5, 2: 2.2e-5}, length=500)       # epochs of 10 ms, of which a trial loses 0.35
    assert machine.train(7) == pytest.approx(1) and machine.strategy.tuning[1].trials == 0
    assert machine.n_probes == 4        # after 0, 1, 2 and 4 seconds
    machine.seconds = {1: 2e-5, 2: 1.2e-5}      # serial updates are as fast as before
    machine.train(3)
    assert machine.train(5) < 0.7 and machine.n_probes == 5


def test_there_are_no_more_probes_where_threads_train():
    machine = Simulated({1: 2e-5, 2: 1.5e-5, 4: 0.8e-5}, length=500)
    assert machine.train(20) < 0.6 and machine.n_probes == 1


def test_auto_asks_for_a_probe_where_serial_training_has_become_slow():
    machine = Simulated({1: 2e-5, 2: 2.2e-5}, length=500)
    machine.train(9)
    probes = machine.n_probes
    machine.seconds = {1: 4e-5, 2: 2.2e-5}
    machine.train(3)
    assert machine.train(2) < 0.7 and machine.n_probes == probes + 1


@pytest.mark.parametrize("promised", [0.1, 0.7])
def test_auto_tries_threads_seldom_where_probes_say_too_much_of_them(promised):
    machine = Simulated({1: 2e-5, 2: 2.2e-5}, length=500)
    machine.probed = lambda counts: {n: [probe.Probed(7e-6, promised, 3e-4)] for n in counts}
    serial = 500 * 2e-5 + machine.start
    walls = [machine.epoch()[0] for _ in range(10_000)]
    assert 0 < sum(w > 1.02 * serial for w in walls) <= 2 * 8      # after 0, 1, 2, 4, ... 64 seconds: two epochs each
    machine.probed = lambda counts: {}          # its threads did not come
    assert machine.train(200) == pytest.approx(1)


@pytest.mark.parametrize("slow", [2, 3, 4, 5, 20, 21, 50])
def test_a_moment_in_which_something_else_has_the_cpus_does_not_end_training_by_threads(slow):
    machine = Simulated({1: 2e-5, 2: 1.2e-5}, length=500)
    while not (machine.strategy.tuning and machine.strategy.tuning[1].trials):
        machine.epoch()
    serially = 0
    for i in range(500):
        machine.seconds = {1: 2e-5, 2: 6e-5 if i == slow else 1.2e-5}
        serially += machine.epoch()[1][1] > 0
    assert machine.train(1) < 0.7
    assert serially < 20 if slow > 2 else serially < 130        # a second to the next probe


def test_threads_that_were_left_for_a_while_are_soon_found_again():
    machine = Simulated({1: 2e-5, 2: 1.2e-5}, length=500)
    assert machine.train(50) < 0.7
    machine.seconds = {1: 2e-5, 2: 3e-5}
    machine.train(5)
    assert machine.train(3) == pytest.approx(1)
    machine.seconds = {1: 2e-5, 2: 1.2e-5}
    machine.train(10)
    assert machine.train(5) < 0.7


def test_threads_that_have_lost_their_trial_are_tried_again_after_a_probe():
    machine = Simulated({1: 2e-5, 2: 2.2e-5}, length=500)
    machine.probed = lambda counts: {n: [probe.Probed(7e-6, 0.6, 3e-4)] for n in counts}
    machine.train(1)
    assert machine.strategy.tuning[1].trials == 2
    machine.seconds = {1: 2e-5, 2: 1.2e-5}
    machine.train(2)
    assert machine.train(5) < 0.7


def test_a_slow_moment_before_a_trial_of_serial_training_does_not_end_training_by_threads():
    def serial_epochs(slow, n=600):
        machine, found = Simulated({1: 2e-5, 2: 1.2e-5}, length=500), []
        for i in range(n):
            machine.seconds = {1: 2e-5, 2: 6e-5 if i == slow else 1.2e-5}
            if machine.epoch()[1][1]:
                found.append(i)
        return found, machine.strategy._best.n_threads
    found, best = serial_epochs(None)
    trial = next(i for i in found if i > 100)
    assert best == 2
    for slow in range(trial - 3, trial + 1):
        found, best = serial_epochs(slow, trial + 10)
        assert best == 2 and trial - 3 <= found[-1]


@pytest.mark.parametrize("slow", [0, 1])
def test_threads_are_not_judged_by_a_slow_moment_of_serial_training(slow):
    machine = Simulated({1: 2e-5, 2: 2.2e-5}, length=500)
    machine.probed = lambda counts: {n: [probe.Probed(7e-6, 0.6, 3e-4)] for n in counts}
    for i in range(150):
        machine.seconds = {1: 2.7e-5 if i % 2 == slow else 2e-5, 2: 2.2e-5}
        machine.epoch()
        assert machine.strategy._best.n_threads == 1
    assert 0 < machine.strategy.tuning[1].trials <= 4


def test_epochs_are_not_judged_by_the_first_ones():
    """Which find caches cold, and memory and data new: they are longer, and threads would be worth it."""
    machine = Simulated({1: 3e-5, 2: 2.4e-5}, length=300, more=2e-4)
    machine.epoch()
    machine.seconds = {1: 1e-5, 2: 0.8e-5}
    assert all(machine.epoch()[0] == pytest.approx(300 * 1e-5 + machine.start) for _ in range(500))


def test_auto_reckons_with_memory_that_is_new():
    machine = Simulated({1: 1e-3, 2: 0.6e-3}, 1e-4, 3)
    machine.model = Model(nn.Linear(1000, 2000))        # 8 MB: two gradients of that size take 2.4 ms to be there
    assert machine.train(2) == pytest.approx(1) and machine.strategy.tuning[1].trials == 0
    machine.length = 30
    assert machine.train(2) < 0.8


@pytest.mark.parametrize("two", [0.67, 0.88])
def test_auto_goes_on_looking_for_more_threads(two):
    """The first trial of 4 seems to bring little: they are slow to begin."""
    machine = Simulated({1: 3e-3, 2: two * 3e-3, 4: 0.46 * 3e-3}, 2e-4, 30, more=2e-4, cold=3e-4)
    machine.strategy.before_epoch(machine, machine)
    machine.strategy._machine = {2: machine.strategy._machine[2], 4: []}
    walls = [machine.epoch()[0] for _ in range(200)]
    assert walls[-1] < 0.5 * 30 * 3e-3 and max(walls) < 1.02 * 30 * 3e-3


@pytest.mark.parametrize("length", [60, 80, 150, 300])
@pytest.mark.parametrize("update", [0.02, 0.5])
def test_auto_finds_threads_without_a_probe_in_epochs_of_sixty_updates(update, length):
    machine = Simulated({1: update, 2: 0.6 * update, 4: 0.3 * update}, 0.0, length, native=False)
    walls = [machine.epoch()[0] for _ in range(60)]
    assert walls[-1] < 0.35 * length * update and max(walls) < 1.02 * length * update


def test_trials_that_cost_little_leave_something_for_others():
    machine = Simulated({1: 0.4, 2: 0.56, 4: 0.1}, 0.0, 100, native=False)
    walls = [machine.epoch()[0] for _ in range(40)]
    assert walls[-1] < 0.3 * 100 * 0.4 and max(walls) < 1.02 * 100 * 0.4


def test_a_probe_of_another_number_of_threads_says_nothing():
    machine = Simulated({1: 1e-4, 2: 0.6e-4}, length=1200)
    machine.strategy.before_epoch(machine, machine)
    machine.seconds = {1: 1e-4, 2: 0.6e-4, 4: 1e-3}         # reconfigured in the midst of an epoch
    machine.native = False                                  # so there is no other probe
    assert machine.epoch()[0] < 1.02 * 1200 * 1e-4 + 2 * machine.start


@pytest.mark.parametrize("k, promised", [(3, 0.88), (2, 0.66)])
def test_threads_that_do_not_divide_the_parts_bring_less(k, promised):
    machine = Simulated({1: 1e-4, 2: 0.66e-4}, length=10)
    machine.strategy = Auto(shards_per_batch=k)
    machine.epoch()
    assert machine.strategy._pace(machine.strategy.tuning[1]) == pytest.approx(promised)


def test_auto_does_not_believe_a_probe_of_larger_updates():
    machine = Simulated({1: 2e-6, 2: 1e-5}, length=50_000)
    machine.probed = lambda counts: {n: [probe.Probed(7e-6, 0.6, 3e-4), probe.Probed(5e-5, 0.5, 3e-4)] for n in counts}
    assert machine.train(5) == pytest.approx(1, abs=1e-3) and machine.strategy.tuning[1].trials == 0
    machine = Simulated({1: 4e-5, 2: 2.4e-5}, length=500)
    machine.probed = lambda counts: {n: [probe.Probed(7e-6, 0.6, 3e-4), probe.Probed(5e-5, 2.0, 3e-4)] for n in counts}
    assert machine.train(5) == pytest.approx(1)         # the larger one of those that are not much larger than its own
    machine.probed = lambda counts: {n: [probe.Probed(7e-6, 0.6, 3e-4), probe.Probed(6e-5, 2.0, 3e-4)] for n in counts}
    machine.train(50)
    assert machine.train(5) < 0.7


@pytest.mark.parametrize("update, length", [(2e-5, 500), (3e-4, 600), (1e-3, 200), (5e-3, 100), (1e-3, 5000)])
def test_auto_finds_threads_that_have_become_fast(update, length):
    """Something else had the second CPU at first; serial updates are as fast after as before."""
    machine = Simulated({1: update, 2: 4 * update}, length=length)
    assert machine.train(10) < 1.02
    machine.seconds = {1: update, 2: 0.6 * update}
    machine.train(12)
    assert machine.train(5) < 0.7


@pytest.mark.parametrize("update, length", [(2e-5, 500), (1e-3, 100), (1e-3, 200), (5e-3, 40)])
def test_auto_leaves_threads_that_become_slow_step_by_step(update, length):
    machine = Simulated({1: update, 2: 0.5 * update}, length=length)
    for share in (0.5, 0.68, 0.92, 1.25):       # none of them a drop
        machine.seconds = {1: update, 2: share * update}
        machine.train(10)
    assert machine.train(10) < 1.01


@pytest.mark.parametrize("seconds", [{1: 5e-3, 2: 5.2e-3, 4: 0.02}, {1: 2e-3, 2: 2.1e-3, 4: 0.01, 8: 0.02}], ids=str)
def test_auto_finds_many_threads_that_have_become_fast(seconds):
    machine = Simulated(seconds, length=50)
    assert machine.train(60) < 1.01
    assert machine.strategy._said
    most = max(seconds)
    machine.seconds = {**seconds, most: 0.5 * seconds[1]}
    machine.train(100)
    assert machine.train(5) < 0.7


@pytest.mark.parametrize("update, fast, length, cold", [
    (1.2e-4, 0.55, 10, 5e-4), (8e-6, 0.8, 500, 5e-4), (3e-4, 0.5, 4, 5e-4), (5e-3, 0.8, 4, 5e-4), (5e-5, 0.3, 10, 2e-3)])
def test_auto_finds_threads_that_are_slow_to_begin(update, fast, length, cold):
    """The first epoch with threads is as long as a serial one, or longer: those after it are not."""
    machine = Simulated({1: update, 2: fast * update}, 1e-4, length, more=1e-4, cold=cold)
    machine.train(3)
    epoch = length * update + 1e-4
    assert machine.train(5) < (length * fast * update + 2e-4 + 0.01 * epoch) / epoch


@pytest.mark.parametrize("length", [2, 10, 100])
@pytest.mark.parametrize("slower", [1.0, 1.3, 3.0])
def test_auto_loses_next_to_nothing_where_threads_are_slow_to_begin(length, slower):
    machine = Simulated({1: 1e-4, 2: slower * 1e-4}, 1e-4, length, more=2e-4, cold=1e-3)
    assert machine.train(0.5) < 1.02
    assert machine.train(5) < 1.01


def test_auto_does_not_leave_threads_for_one_cold_start():
    """Of epochs of three updates: what is left of one behind a trial of two is one update, and its start is not as usual."""
    machine = Simulated({1: 2.5e-4, 2: 1e-3, 4: 1.3e-4}, 1e-4, 3, more=5e-5, cold=1e-3)
    machine.train(3)
    best = []
    for _ in range(8000):
        machine.epoch()
        best.append(machine.strategy._best.n_threads)
    assert set(best) == {4}


def test_auto_begins_anew_with_another_model():
    machine = Simulated({1: 1e-4, 2: 0.7e-4}, length=100)
    while not (machine.strategy.tuning and machine.strategy._again):
        machine.epoch()
    assert machine.strategy.setting(2, 2000)[0].n_threads == 1      # not a whole epoch of any length
    machine.strategy._forget()
    assert not machine.strategy.tuning
    setting, most = machine.strategy.setting(2, 2000)
    assert setting.n_threads == 1 and setting.brief and most is None


def test_runs_of_the_best_way_are_noted_now_and_then_only():
    """Noting takes as long as several updates of a small model."""
    machine = Simulated({1: 1e-5, 2: 2e-5}, 5e-5, 5)
    machine.train(1.2)       # and the next probe is far
    candidate = machine.strategy.tuning[0]
    noted = candidate.usual = candidate.starts = []        # of all, not of the last few
    machine.train(0.5)
    assert 2 * 30 < len(noted) <= 2 * 101


def test_auto_follows_a_machine_that_changes():
    machine = Simulated({1: 3e-4, 2: 1.8e-4})
    for speeds, fastest in (({1: 3e-4, 2: 1.8e-4}, 2), ({1: 3e-4, 2: 6e-4}, 1), ({1: 3e-4, 2: 1.8e-4}, 2)):
        machine.seconds = speeds
        for _ in range(10):
            machine.epoch()
        assert machine.epoch()[1][fastest] > 980


@pytest.mark.parametrize("update, fast, length", [(2e-5, 0.6, 500), (3e-4, 0.6, 1000), (1e-3, 0.1, 20_000)])
def test_auto_leaves_threads_that_have_become_slow(update, fast, length):
    machine = Simulated({1: update, 2: fast * update}, length=length)
    while not machine.strategy.tuning or machine.strategy._best.n_threads == 1:
        machine.epoch()
    machine.seconds = {1: update, 2: 3 * update}        # something else has a CPU: every meeting waits for it
    _, by = machine.epoch()
    assert by[2] * 3 * update < 1.2 * 0.2 * 3 / fast        # what was planned as 0.2 seconds
    walls = [machine.epoch()[0] for _ in range(20)]
    assert sum(w > 1.2 * length * update for w in walls) <= (length * update < 0.05)      # a short one alone is no sign
    assert machine.strategy._best.n_threads == 1


def test_auto_does_not_start_threads_for_runs_of_one_update():
    machine = Simulated({1: 1e-4, 2: 0.6e-4}, start=1e-3, length=1)     # as with a callback after every update
    for _ in range(20_000):
        machine.epoch()
    assert machine.strategy.tuning[1].trials == 0

"""Strategy auto's choice, on simulated machines: no clock is read. That it trains as others do is in test_strategies.py."""
import pytest

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.parallel.execution.epoch import RunTiming
from tinydl.parallel.strategies import Auto, auto


class Simulated:
    """A machine on which an update of 8 samples takes seconds[n threads], starting a run on several threads `start`, and a
    look at whether a run is to come back is taken each `tick` seconds; an epoch has `length` updates."""

    def __init__(self, seconds, length=1000, start=0.0005, tick=0.05, known=True, strategy=None):
        self.seconds, self.length, self.start, self.tick, self.known = seconds, length, start, tick, known
        self.start *= tick > 0      # the Python driver starts its threads for every update
        self.strategy, self.by = strategy or Auto(), []

    def epoch(self):
        """The wall time of one; `by` is the number of threads of each of its updates."""
        left, wall, self.by = self.length, 0.0, []
        while left:
            setting, most = self.strategy.setting(max(self.seconds), self.length if self.known else None)
            n, update = setting.n_threads, self.seconds[setting.n_threads]
            updates = min(left, left if most is None else most)
            if setting.brief:
                updates = min(updates, int(self.tick / update) + 1)
            took = updates * update + (n > 1) * self.start
            self.strategy.ran(setting, RunTiming(updates, 8 * updates, took, took))
            left, wall, self.by = left - updates, wall + took, self.by + [n] * updates
        return wall

    def train(self, seconds):
        """Epochs for about so long: their mean time as a share of serial training's."""
        walls = []
        while sum(walls) < seconds:
            walls.append(self.epoch())
        return sum(walls) / len(walls) / (self.length * self.seconds[1])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("update, tick", [(3e-4, 0.05), (3e-3, 0.05), (3e-3, 0), (0.2, 0.05), (5.0, 0)])
def test_the_fastest_way_is_taken(update, tick, known):
    machine = Simulated({1: update, 2: 0.6 * update, 4: 0.4 * update, 8: 1.2 * update}, tick=tick, known=known)
    machine.epoch()
    assert machine.train(20) < 0.45
    best = max(machine.strategy.tuning, key=lambda c: c.samples_per_second)
    assert (best.n_threads, best.strategy.name) == (4, "shard")
    assert best.samples_per_second == pytest.approx(8 / (0.4 * update), rel=0.2)


def test_epochs_under_a_fifth_of_a_second_are_serial_and_that_is_said(caplog):
    caplog.set_level("INFO", "tinydl")
    machine = Simulated({1: 1.9e-4, 2: 1e-4})
    assert machine.train(10) == pytest.approx(1) and set(machine.by) == {1}
    assert [r.message for r in caplog.records] == ["strategy auto: serial, since epochs take less than 0.2 s"]
    assert [str(c) for c in machine.strategy.tuning] == ["serial, 1 thread: 42,105 samples/s", "shard, 2 threads: not tried"]


def test_threads_that_made_epochs_short_are_kept():
    machine = Simulated({1: 3e-4, 2: 1.5e-4})       # of 0.3 s, and 0.15 s
    machine.train(1)
    assert machine.train(10) < 0.53


@pytest.mark.parametrize("slower", [1.0, 1.3, 4.0, 30.0])
@pytest.mark.parametrize("update, length", [(2.1e-4, 1000), (0.01, 20), (0.01, 10_000), (1.0, 3)])
def test_looking_costs_two_percent_at_most_but_for_the_first_look(update, length, slower):
    machine = Simulated({1: update, 2: slower * update, 4: 2 * slower * update}, length)
    walls = [machine.epoch() for _ in range(max(3, round(200 / length / update)))]
    look = sum(2 * (0.05 + machine.seconds[n] + machine.start) for n in (2, 4))     # the last one is not made up for yet
    assert sum(walls) - len(walls) * length * update < 0.02 * sum(walls) + 2 * look


@pytest.mark.parametrize("before, after", [(0.6, 3.0), (3.0, 0.6), (0.5, 1.2), (30.0, 0.6)])
@pytest.mark.parametrize("length", [2000, 100_000])
def test_a_machine_that_changes_is_followed(length, before, after):
    machine = Simulated({1: 1e-3, 2: before * 1e-3}, length)
    machine.train(60)
    for share in (after, before, after):
        machine.seconds = {1: 1e-3, 2: share * 1e-3}
        machine.train(60)
        assert machine.train(10) < 1.02 * min(share, 1) + 0.03


def test_threads_that_become_slow_are_left_after_the_run_under_way():
    machine = Simulated({1: 1e-3, 2: 0.6e-3}, 20_000)
    machine.epoch()
    machine.seconds = {1: 1e-3, 2: 2e-3}
    machine.epoch()
    assert machine.by.count(2) < auto.EVERY / 0.6e-3 + 200


def test_a_slow_moment_of_one_trial_does_not_count():
    machine, slow = Simulated({1: 1e-3, 2: 0.6e-3}, 5000), [True]
    ran = machine.strategy.ran

    def once(setting, timing):
        if setting.n_threads == 2 and slow:
            slow.clear()
            timing = timing._replace(seconds=50 * timing.seconds)
        ran(setting, timing)
    machine.strategy.ran = once
    assert machine.train(5) < 0.75


def test_a_way_in_which_nothing_arrives_is_not_taken_and_its_trials_end():
    machine = Simulated({1: 1e-3, 2: 0.5e-3}, 1000)
    ran = machine.strategy.ran
    machine.strategy.ran = lambda setting, timing: ran(setting, timing if setting.n_threads == 1 else RunTiming(0, 0, 0.01, 0.01))
    machine.epoch()
    machine.epoch()
    assert machine.by.count(2) < 100 and "2 threads: not tried" in str(machine.strategy.tuning[1])


def test_another_number_of_threads_and_another_model_begin_anew():
    machine = Simulated({1: 1e-3, 2: 0.6e-3})
    machine.train(3)
    assert machine.by[-1] == 2
    setting, updates = machine.strategy.setting(4, 1000)
    assert (setting.n_threads, setting.brief, updates) == (1, True, None)
    assert [c.n_threads for c in machine.strategy.tuning] == [1, 2, 4]
    with Trainer(1, strategy=machine.strategy, thread_count=2, seed=0) as t:
        t.init(data.ArrayDataset([[0.0]] * 8, [[0.0]] * 8, 4), Model(nn.Linear(1, 1)), losses.MeanSquaredError(), optim.SGD(0.1))
        assert not t.tuning


@pytest.mark.parametrize("strategy, parts", [(Auto(batches_per_update=3), (3, 1)), (Auto(shards_per_batch=3), (1, 3))])
def test_with_the_cut_fixed_only_numbers_of_threads_are_tried(strategy, parts):
    machine = Simulated({1: 1e-3, 2: 0.6e-3, 4: 0.5e-3, 5: 0.4e-3}, 3000, strategy=strategy)
    machine.epoch()
    machine.epoch()
    assert machine.by[-1] == 5 and all(c.strategy.cut(c.n_threads) == parts for c in strategy.tuning)


def test_one_thread_is_serial():
    machine = Simulated({1: 1e-2})
    machine.epoch()
    setting, updates = machine.strategy.setting(1, 1000)
    assert (setting.mode, setting.brief, updates) == ("serial", False, None) and len(machine.strategy.tuning) == 1

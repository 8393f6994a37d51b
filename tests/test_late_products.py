"""Large gradients that are a matrix product are made by the update, piece by piece: the same bits as without, always."""
import threading
from functools import partial

import numpy as np
import pytest
from small import DRIVERS, classification, mlp, spoilt, wait_until

from tinydl import Model, Trainer, TrainingError, data, losses, nn, optim
from tinydl._kernels import engine
from tinydl.parallel import Replica
from tinydl.parallel.strategies import Group, Shard
from tinydl.plan import gradients

SETTLING = 3        # NativeRun.live: in an update


@pytest.fixture
def always(monkeypatch):
    """As if no cache held any gradient."""
    monkeypatch.setattr(gradients, "LATE_MODEL", 0)
    monkeypatch.setattr(gradients, "LATE_BYTES", 0)
    monkeypatch.setattr(gradients, "LATE_SIDE", 0)


def test_what_is_late():
    def late(model, rows):
        program = model.plan(max_rows=rows, loss=losses.SoftmaxCrossEntropy()).program
        return program.n_late
    large = mlp(600, 1000, 1000, 3)
    assert late(large, 32) == 2, large.plan(max_rows=32, loss=losses.SoftmaxCrossEntropy()).describe()
    assert "(or by the update)" in large.plan(max_rows=32, loss=losses.SoftmaxCrossEntropy()).describe()
    assert late(large, 401) == 0        # more rows than are packed together
    assert late(mlp(600, 1000, 3), 32) == 0     # a cache holds its gradients
    assert late(mlp(2000, 2000, 2000, 3), 400) == 1     # nothing interrupts an update
    twice = nn.Linear(1100, 1100)
    assert late(Model(nn.Sequential(twice, nn.ReLU(), twice)), 32) == 0     # its gradient is a sum


def train(kind, x, y, batch, model, threads, strategy, optimizer=None, **options):
    """Parameters, losses and books of an epoch; the slots' gradient vectors after it."""
    with Trainer(1, enable_parallel=True, thread_count=threads, strategy=strategy, seed=5, max_failed_fraction=1,
                 **options) as t:
        t.init(kind(x, y, batch), model, losses.SoftmaxCrossEntropy(), optimizer or optim.Adam(0.01))
        try:
            t.train(shuffle=False)
        except TrainingError:
            pass
        s = t.stats()
        slots = list(t.runtime.resources.slots)
        return (model.params.tobytes(), tuple(t.history["loss"]), s.done, s.retried, s.skipped, s.updates), slots


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("strategy", [Group(2), Shard(2), Shard(3), Group(4)], ids=str)
def test_they_are_not_written_and_change_no_bit(strategy, dtype):
    x, y = classification(5 * 37, 700)      # an odd last batch
    def run(n, threads):
        return train(data.ArrayDataset, x[:n], y[:n], 37, mlp(700, 1003, 1000, 3, dtype=dtype), threads, strategy)
    want, slots = run(len(x), 1)
    assert all(s[:700 * 1003].any() for s in slots)
    assert run(len(x), 4)[0] == want
    # of one update: what a worker left is made at once only where it takes another slot, so its last one is not
    assert not all(s[:700 * 1003].any() for s in run(37 * strategy.cut(4)[0], 4)[1][:strategy.cut(4)[0] * strategy.cut(4)[1]])


@pytest.mark.parametrize("seed", range(40))
def test_random_runs(always, seed):
    rng = np.random.default_rng(seed)
    inputs, width, more = rng.integers(1, 300, 3).tolist()
    batch, n_batches, k = rng.integers([2, 1, 1], [40, 12, 5]).tolist()
    x, y = classification(batch * (n_batches - 1) + int(rng.integers(1, batch + 1)), max(3, inputs))
    bad = [min(len(x) - 1, i * batch + rng.integers(batch)) for i in np.flatnonzero(rng.random(n_batches) < rng.choice([0, 0.3]))]
    strategy, dtype = (Group, Shard)[seed % 2](k), ("float32", "float64")[seed // 2 % 2]
    rule = (optim.SGD, optim.Adam, optim.RMSprop, lambda lr: optim.SGD(lr, momentum=0.9))[rng.integers(4)]
    results = [train(partial(spoilt, kind, rows=bad), x, y, batch, mlp(max(3, inputs), width, more, 3, dtype=dtype), threads,
                     strategy, rule(0.01), on_batch_failure="retry")[0] for kind in DRIVERS.values() for threads in (1, 2, 3, 5)]
    assert all(r == results[0] for r in results)


@pytest.mark.parametrize("strategy", [Group(3), Shard(2)], ids=str)
def test_one_worker_that_goes_on_alone(always, one_alone, strategy):
    x, y = classification(50, 30)
    kind = partial(spoilt, data.ArrayDataset, rows=[17])
    runs = [train(kind, x, y, 7, mlp(30, 40, 3), n, strategy, on_batch_failure="retry")[0] for n in (1, 2, 3)]
    assert runs[1] == runs[2] == runs[0]


def test_sequences(always):
    """A sample of several rows: the products' inner dimension grows by more than one with it."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5, 30)).astype(np.float32), rng.integers(0, 3, 40)

    def model():
        return Model(nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Flatten(), nn.Linear(200, 3)), seed=1)
    want, _ = train(data.ArrayDataset, x, y, 7, model(), 1, Group(2))
    assert all(train(kind, x, y, 7, model(), n, Group(2))[0] == want for kind in DRIVERS.values() for n in (2, 3))


def test_a_gradient_that_may_overflow_is_made_in_the_batch_and_looked_at(always):
    """Batches in turn whose first dW, about 100 x, is infinite, finite where its bound is not, and small."""
    rng = np.random.default_rng(0)
    scale = np.repeat(np.tile([1e38, 3e36, 1], 6), 4)[:, None]
    x, y = (rng.choice([-1, 1], (72, 20)) * scale).astype(np.float32), rng.integers(0, 3, 72)

    def model():
        m = Model(nn.Sequential(nn.Linear(20, 8, init="zeros"), nn.Linear(8, 3)), seed=0)
        m.load_state_dict({**m.state_dict(), "1.weight": 100 * rng2.standard_normal((8, 3))})
        return m
    results = []
    for kind in DRIVERS.values():
        for threads in (1, 2, 3):
            rng2 = np.random.default_rng(1)
            results.append(train(kind, x, y, 4, model(), threads, Group(2), optim.SGD(1e-45))[0])
    assert all(r == results[0] for r in results), [r[1:] for r in results]
    assert 6 <= results[0][4] < 18 and results[0][2] >= 6


def by_hand(model, x, y, rows, given_up=None):
    """A run of one group of two batches, and the slots, for two workers."""
    optimizer, loss = optim.Adam(0.01), losses.SoftmaxCrossEntropy()
    optimizer.bind(model.params, model.statistics, model.momenta)
    replicas = [Replica(model, loss, rows, plan=model.plan(max_rows=rows, loss=loss))]
    replicas.append(Replica(model, loss, rows, plan=replicas[0].plan))
    slots = [r.gradient_vector() for r in replicas]
    return engine.NativeRun([r.native for r in replicas], slots, [engine.Source(x), engine.Source(y)], None, np.arange(3) * rows,
                            optimizer.native(), seed=5, given_up=given_up), slots


@pytest.mark.parametrize("given_up", [False, True])
def test_a_worker_that_takes_another_slot_first_makes_what_it_left(given_up):
    """Its workspace is the only place where the first slot's operands are. A slot that was given up does not need it."""
    x, y = classification(64, 700)
    model = mlp(700, 1000, 1000, 3)
    alone = slice(0, 32 if given_up else 64)
    want, _ = train(data.ArrayDataset, x[alone], y[alone], 32, mlp(700, 1000, 1000, 3), 1, Group(2))
    run, slots = by_hand(model, x, y, 32, {1: TimeoutError()} if given_up else None)
    first = threading.Thread(target=run.work, args=(0,))
    first.start()
    wait_until(lambda: (run.statuses >= 0).all() or not first.is_alive())
    written = [bool(s[:700 * 1000].any()) for s in slots]
    run.work(1)
    first.join()
    assert run.workers.tolist() == [0, -1 if given_up else 0]
    assert written == [not given_up, False]
    assert model.params.tobytes() == want[0]


def test_an_end_within_what_a_worker_left_cancels_its_batch():
    """It takes the second slot, first makes what it left of the first, some 10 ms, and is told to end meanwhile."""
    x, y = classification(800, 1800)
    model = mlp(1800, 1800, 3)
    before = model.params.tobytes()
    for _ in range(50):         # until it is met there
        run, _ = by_hand(model, x, y, 400)
        worker = threading.Thread(target=run.work, args=(0,))
        worker.start()
        wait_until(lambda run=run: run.live[0, 0] == SETTLING or (run.statuses >= 0).all())
        run.cancel()
        run.work(1)
        worker.join()
        if engine.CANCELLED in run.statuses:
            assert run.updates == 0 and model.params.tobytes() == before
        if run.statuses[0] == engine.CANCELLED:
            return
        before = model.params.tobytes()         # it came too late
    pytest.fail("never met in 50 times")

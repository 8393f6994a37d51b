"""Updates of more batches than there are gradient vectors: run block by block, with the bits of a vector for each batch."""
import threading

import numpy as np
import pytest
from every_strategy import At13, Fails, check_books, digest, marked, with_layer
from small import mlp

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl._kernels import engine
from tinydl.parallel import GradientAggregator
from tinydl.parallel.execution import epoch
from tinydl.parallel.execution.aggregator import BlockMeans
from tinydl.parallel.strategies import Group, Shard

X, Y = marked(200)
W = np.random.default_rng(1).random(200) + 0.1
W[32:64] = 0                    # of whole batches
STAGES = {"none": {}, "every": {"clip_norm": 0.05, "clip_value": 0.01, "ema": 0.9}}


def model(*marks):
    layers = [Fails(*[m / 64 for m in marks]), nn.Linear(6, 60), nn.BatchNorm1d(60), nn.Tanh(), nn.Linear(60, 30), nn.Tanh(),
              nn.Linear(30, 3)]
    return Model(nn.Sequential(*layers), seed=0)


def trained(kind, strategy, threads, *marks, options=None, epochs=2, batch_size=2, shuffle=True):
    t = Trainer(epochs, enable_parallel=threads > 0, thread_count=threads, strategy=strategy, seed=5, max_failed_fraction=1.0)
    with t:
        t.init(kind(X, Y, batch_size, sample_weight=W), model(*marks), losses.SoftmaxCrossEntropy(),
               optim.Adam(0.01, **(options or {})))
        t.train(shuffle)
    check_books(t)
    return t


def bits(t):
    return (t.model.params.tobytes(), t.model.statistics.tobytes(), [v.tobytes() for v in t.optimizer.state.values()],
            t.optimizer.t, t.gradient_norms.tolist(), t.history["updates"], t.history["samples"], t.history["loss"])


@pytest.mark.parametrize("options", STAGES)
@pytest.mark.parametrize("strategy, batch_size", [(Group(9), 2), (Group(64), 2), (Group(100), 2), (Group(101), 2),
                                                  (Shard(21), 50)], ids=str)
def test_blocks_have_the_bits_of_a_slot_for_each_batch(driver, monkeypatch, strategy, batch_size, options):
    def run(threads):
        return trained(driver, strategy, threads, options=STAGES[options], batch_size=batch_size)
    got = {threads: run(threads) for threads in (1, 2, 3, 5)}       # blocks of 8, and of 16
    monkeypatch.setattr(epoch, "LEAST_BLOCK", 1024)
    want = run(2)
    assert len(want.resources.slots) >= min(64, strategy.cut(2)[0] * strategy.cut(2)[1])
    for threads, t in got.items():
        assert bits(t) == bits(want), threads
        assert len(t.resources.slots) <= (8 if threads < 5 else 16) + 4


@pytest.mark.parametrize("marks, updates", [((3, 77), 2), ((*range(0, 32, 2), 40), 2), (range(16, 200), 1), (range(184), 1)],
                         ids=["some", "the first blocks", "all but the first block", "all but the last one"])
def test_what_fails_is_not_in_the_mean_whatever_block_it_is_in(driver, monkeypatch, marks, updates):
    """Sample i is of mark i / 64; the two groups are of samples 0..127 and 128..199."""
    def run(threads):
        t = trained(driver, Group(64), threads, *marks, epochs=1, options=STAGES["every"], shuffle=False)
        assert t.history["updates"] == [updates]
        return bits(t)
    got = [run(threads) for threads in (1, 2)]
    monkeypatch.setattr(epoch, "LEAST_BLOCK", 1024)
    assert got == [run(2)] * 2


def test_an_update_of_64_batches_is_that_of_one_as_large(driver):
    """In float64; with the memory of eleven gradients, not 64, and of one small batch a thread, not of 128 samples."""
    trainers = []
    for batch_size, strategy in ((2, Group(64)), (128, "serial")):
        t = Trainer(1, enable_parallel=True, thread_count=2, strategy=strategy, seed=5)
        with t:
            t.init(driver(X[:128], Y[:128], batch_size), mlp(6, 40, 3, dtype="float64"), losses.SoftmaxCrossEntropy(),
                   optim.SGD(0.5))
            t.train(shuffle=False)
        trainers.append(t)
    small, large = trainers
    assert small.history["updates"] == large.history["updates"] == [1]
    np.testing.assert_allclose(small.model.params, large.model.params, rtol=1e-12, atol=1e-14)
    assert small.history["loss"] == pytest.approx(large.history["loss"], rel=1e-13)
    report = small.memory_report()
    assert report.n_slots == len(small.resources.slots) == 8 + 3
    assert report.workspace < large.memory_report().workspace


@pytest.mark.parametrize("k, threads, slots", [(8, 2, 8), (9, 2, 8 + 1), (16, 2, 8 + 1), (17, 2, 8 + 2), (64, 2, 8 + 3),
                                               (65, 2, 8 + 4), (1024, 2, 8 + 7), (64, 5, 16 + 2), (3, 5, 5), (1024, 64, 128 + 3)])
def test_how_many_vectors_there_are(k, threads, slots):
    strategy = Group(k)
    setting, _ = strategy.setting(threads)
    assert setting.n_slots == slots
    assert k == setting.block or (k > setting.block and setting.block & (setting.block - 1) == 0)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_means_of_blocks_are_nodes_of_the_tree(size):
    rng = np.random.default_rng(0)
    for k in range(1, 40):
        for share in (0.0, 0.3, 1.0):
            arrived = rng.random(k) >= share
            vectors, weights = rng.standard_normal((k, 5)).astype(np.float32), rng.random(k)
            blocks = [range(lo, min(lo + size, k)) for lo in range(0, k, size)]
            means = BlockMeans([np.empty(5, np.float32) for _ in range((len(blocks) - 1).bit_length())])
            results = []
            for slots in (range(k), *blocks):
                a = GradientAggregator(len(slots))
                for i, slot in enumerate(slots):
                    if arrived[slot]:
                        a.submit_gradients(vectors[slot], 1, i, weight=float(weights[slot]))
                    else:
                        a.submit_failure(i)
                results.append(a.mean())
            want, *others = results
            got = [means.add(mean, block is blocks[-1]) for mean, block in zip(others, blocks, strict=True)][-1]
            assert (want is None) == (got is None)
            if want is not None:
                assert got[0].tobytes() == want[0].tobytes() and got[1] == want[1]


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_ctrl_c_in_a_later_block_runs_the_group_again(driver, threads):
    """Batch 6 is of sample 13 where nothing is shuffled; the group is of 50."""
    class Interrupts:
        left = 1

        def __deepcopy__(self, memo):
            return self

        def __call__(self, x):
            if self.left:
                self.left = 0
                raise KeyboardInterrupt
            return x
    order = np.r_[60:73, 0:60, 73:100][::-1]        # sample 13 comes late
    results = []
    for what in (Interrupts(), lambda x: x):
        net = with_layer(At13(what))
        with Trainer(1, enable_parallel=threads > 0, thread_count=threads, strategy=Group(50), seed=5) as t:
            t.init(driver(X[order], Y[order], 2), net, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
            if isinstance(what, Interrupts):
                with pytest.raises(KeyboardInterrupt):
                    t.train(shuffle=False)
                assert t.optimizer.t == 0 or threads == 0
            t.train(shuffle=False)
            check_books(t)
        results.append(digest(net))
    assert len(set(results)) == 1


def test_a_batch_that_hangs_in_a_later_block_is_given_up(driver):
    entered, go_on = threading.Event(), threading.Event()

    class Hangs:
        def __deepcopy__(self, memo):
            return self

        def __call__(self, x):
            entered.set()
            go_on.wait(20)
            return x
    order = np.r_[60:73, 0:60, 73:100][::-1]
    with Trainer(1, thread_count=2, strategy=Group(25), seed=5, batch_timeout=0.2, max_failed_fraction=1.0) as t:
        t.init(driver(X[order], Y[order], 2), with_layer(At13(Hangs())), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        t.train(shuffle=False)
        go_on.set()
        check_books(t)
    assert entered.is_set() and t.history["failed_batches"] == [1] and t.history["updates"] == [2]
    assert t.history["samples"] == [98] and np.isfinite(t.model.params).all()


def test_more_batches_than_vectors_have_room_for():
    net = mlp(6, 3)
    with Trainer(1, seed=0) as t:
        t.init(data.ArrayDataset(X, Y, 2), net, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        t.train()
        replica, slot = t.resources.replicas[0], t.resources.slots[0]
        for slots, kept, room in (([slot.copy() for _ in range(3)], [slot.copy()], 3), ([slot, slot.copy()], [slot.copy()], 4)):
            with pytest.raises(ValueError, match=f"groups must be 1 to {room} batches each"):
                engine.NativeRun([replica.native], slots, t.resources.sources, None, np.arange(0, 201, 2), t.resources.rule(20),
                                 t=t.resources.state.t, groups=np.arange(0, 101, 5), kept=kept)

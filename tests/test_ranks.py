"""Several ranks: the parameters of one process, to the bit; here ranks are threads (tests/test_mpi.py has processes and MPI)."""
import threading
import time

import numpy as np
import pytest
from every_strategy import Fails, check_books, marked, with_layer
from threads_as_ranks import Request, communicators, on_ranks, results

from tinydl import Model, Trainer, callbacks, data, losses, nn, optim
from tinydl._kernels import engine
from tinydl.monitor import Monitor
from tinydl.parallel import GradientAggregator, RankError, RanksDifferError, TrainingError, format_parallel_stats
from tinydl.parallel.execution import epoch
from tinydl.parallel.ranks import Ranks, Results, join, share, shares
from tinydl.parallel.ranks.messages import UPDATE
from tinydl.parallel.strategies import Group, Local, Shard

pytestmark = [pytest.mark.filterwarnings("ignore:. ranks run .* batches of each update"),
              pytest.mark.filterwarnings("ignore:. ranks train .* copies of the model")]

BOTH = [Group(4), Local(2, 4)]
both = pytest.mark.parametrize("strategy", BOTH, ids=["group", "local"])

X, Y = marked(100)
W = np.random.default_rng(1).random(100) + 0.1


def model(*first):
    return Model(nn.Sequential(*first, nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Dropout(0.3), nn.Linear(9, 3)), seed=0)


def trainer(kind, strategy=None, threads=1, ranks=None, *, epochs=2, make=model, n=100, batch_size=8, seed=5, options=None,
            **more):
    t = Trainer(epochs, enable_parallel=threads > 0, thread_count=threads, strategy=strategy or Group(4), seed=seed, ranks=ranks,
                **more)
    t.init(kind(X[:n], Y[:n], batch_size, sample_weight=W[:n]), make(), losses.SoftmaxCrossEntropy(),
           optim.Adam(0.01, **(options or {})))
    return t


def trained(*args, **more):
    with trainer(*args, **more) as t:
        t.train()
    check_books(t)
    return t


def bits(t):
    return (t.model.params.tobytes(), t.model.statistics.tobytes(), [v.tobytes() for v in t.optimizer.state.values()],
            t.optimizer.t, t.gradient_norms.tolist(), t.history["loss"], t.history["updates"], t.history["samples"],
            [(f.epoch, f.batch_index, f.n_samples) for f in t.history.failures])


EVERY = {"clip_norm": 0.05, "clip_value": 0.01, "ema": 0.9}


# ---------------------------------------------------------------------- which batches, and the tree
@pytest.fixture(params=[0, 1 << 20], ids=["slices", "whole"])
def small(request, monkeypatch):
    """Whether vectors are sent in slices or whole."""
    monkeypatch.setattr("tinydl.parallel.ranks.ranks.SMALL", request.param)


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("k", range(1, 17))
def test_the_tree_over_ranks_is_the_tree_of_one(k, size, small):
    """Also of the last group of an epoch, with fewer batches, some of which do not arrive or weigh nothing."""
    rng = np.random.default_rng(k * 7 + size)
    for n in {k, k // 2 + 1, 1}:
        parts = [share(k, n, r, size) for r in range(size)]
        assert [i for part in parts for i in part] == list(range(n))
        vectors = rng.standard_normal((n, 37)).astype(np.float32)
        weights = np.where(rng.random(n) < 0.2, 0.0, rng.random(n) * 8)
        want = mean(vectors, weights)

        def exchange(ranks, parts=parts, vectors=vectors, weights=weights, n=n):
            own = parts[ranks.rank]
            vector, weight = mean(vectors[own.start:own.stop], weights[own.start:own.stop])
            table = np.zeros((n, 5))
            table[own.start:own.stop] = np.reshape([[i, weights[i], 1, 1, 8] for i in own], (-1, 5))
            return ranks.exchange(vector, weight, Results(1, 0, k, table)), vector, table
        for weight, vector, table in results(size, exchange):
            assert weight == want[1] and table[:, 0].tolist() == list(range(n)) and table[:, 1].tolist() == weights.tolist()
            assert not weight or vector.tobytes() == want[0].tobytes()


def mean(vectors, weights):
    tree = GradientAggregator(max(1, len(vectors)))
    for i, (v, w) in enumerate(zip(vectors, weights, strict=True)):
        tree.submit_gradients(v, 1, i, weight=w)
    found = tree.mean() if len(vectors) else None
    return (np.full(37, np.nan, np.float32), 0.0) if found is None else (found[0].copy(), found[1])


def test_shares_of_groups():
    groups = np.array([0, 6, 12, 15])
    assert shares(groups, 6, 0, 2).tolist() == [[0, 4], [6, 10], [12, 15]]
    assert shares(groups, 6, 1, 2).tolist() == [[4, 6], [10, 12], [15, 15]]


# ---------------------------------------------------------------------- training
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("k, size", [(4, 1), (4, 2), (4, 3), (4, 4), (6, 2), (1, 2)])
def test_ranks_have_the_bits_of_one_process(driver, k, size, threads, small):
    """Batches of 8, a last one of 4, groups that are incomplete, and all that is between average and update."""
    want = trained(driver, Group(k), 2, options=EVERY)
    for t in results(size, lambda ranks: trained(driver, Group(k), threads, ranks, options=EVERY)):
        assert bits(t) == bits(want)
        s = t.stats()
        assert (s.ranks, s.samples, s.updates, s.dispatched) == (size, 200, sum(want.history["updates"]), 26)
        assert 0 < s.awaiting < s.exchanging < s.waited and s.updating > 0
        assert size == 1 or f"ranks         {size}, {s.exchanging:.2f} s in exchanges" in format_parallel_stats(s)
        assert "worker -1" not in format_parallel_stats(s)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("k, every, size", [(4, 3, 1), (4, 3, 2), (3, 1, 2), (3, 1, 4), (4, 3, 3), (5, 2, 3), (2, 16, 4)])
def test_ranks_share_the_copies_of_strategy_local(driver, k, every, size, threads, small):
    """Also where a rank has none, and where the last round of an epoch has fewer batches than copies."""
    want = trained(driver, Local(every, k), 2, options=EVERY)
    for t in results(size, lambda ranks: trained(driver, Local(every, k), threads, ranks, options=EVERY)):
        assert bits(t) == bits(want)
        s, own = t.stats(), len(share(k, k, t.rank, size))
        assert (s.ranks, s.samples, s.updates, s.dispatched) == (size, 200, 26, 26)
        assert 0 < s.awaiting < s.exchanging <= s.waited * (1 + 1e-9) < 2 * s.seconds
        assert len(t.resources.model_copies) == t.memory_report().n_copies == max(1, own)
        assert {w for w in s.batches_by_worker if w >= 0} <= set(share(k, k, t.rank, size))


def test_a_round_is_one_exchange(driver, monkeypatch):
    calls, exchange = [], Ranks.exchange_round
    monkeypatch.setattr(Ranks, "exchange_round", lambda ranks, *what: (calls.append(ranks.rank), exchange(ranks, *what))[1])
    for every, rounds in ((1, 7), (2, 4), (7, 1), (2**31, 1)):
        calls.clear()
        results(2, lambda ranks, every=every: trained(driver, Local(every, 2), 1, ranks, epochs=1))
        assert sorted(calls) == [0] * rounds + [1] * rounds


def test_a_copy_without_the_optimizers_state_begins_anew_on_all_ranks(driver):
    want = trained(driver, Local(2, 4, average_state=False), options=EVERY)
    assert bits(want) != bits(trained(driver, Local(2, 4), options=EVERY))
    for t in results(2, lambda ranks: trained(driver, Local(2, 4, average_state=False), 1, ranks, options=EVERY)):
        assert bits(t) == bits(want)


def test_parts_of_a_batch_are_shared_too(driver):
    want = trained(driver, Shard(4), 2, batch_size=24)
    for t in results(2, lambda ranks: trained(driver, Shard(4), 1, ranks, batch_size=24)):
        assert bits(t) == bits(want)


def test_shares_that_are_run_in_blocks(driver, monkeypatch):
    monkeypatch.setattr(epoch, "LEAST_BLOCK", 2)
    want = trained(driver, Group(24), 1, batch_size=2, options=EVERY)
    for t in results(3, lambda ranks: trained(driver, Group(24), 1, ranks, batch_size=2, options=EVERY)):
        assert bits(t) == bits(want) and len(t.resources.slots) < 8


def test_a_step_of_ones_own_takes_part():
    class Own(optim.Adam):
        def step(self, gradients):
            super().step(gradients)

    def run(ranks):
        with Trainer(2, strategy=Group(4), thread_count=1, seed=5, ranks=ranks) as t:
            t.init(data.ArrayDataset(X, Y, 8), model(), losses.SoftmaxCrossEntropy(), Own(0.01))
            t.train()
        return bits(t)
    assert results(2, run) == [run(None)] * 2


class Reads(data.ItemDataset):
    """Notes which samples were read."""

    def __init__(self):
        self.read = []
        super().__init__(8)

    def __len__(self):
        return 100

    def __getitem__(self, i):
        self.read.append(int(i))
        return X[i], Y[i]


@both
def test_a_rank_reads_its_samples_only(strategy):
    def run(ranks):
        reads = Reads()
        with Trainer(1, strategy=strategy, seed=0, ranks=ranks, thread_count=1) as t:
            t.init(reads, model(), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
            reads.read.clear()
            t.train()
        return reads.read
    first, second = results(2, run)
    assert sorted(first + second) == list(range(100)) and len(first) == (48 + 4 if strategy.name == "group" else 4 * 8 + 2 * 8)


@both
def test_of_a_stream_each_rank_reads_all(strategy):
    def train(ranks, n=(100, 100, 100)):
        def samples():
            return zip(X[:n[t.rank]], Y.tolist(), strict=False)
        with Trainer(2, strategy=strategy, seed=0, ranks=ranks, thread_count=1) as t:
            t.init(data.StreamDataset(samples, 8), model(), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
            t.train()
        return bits(t)
    assert results(3, train) == [train(None)] * 3
    for error in on_ranks(3, lambda ranks: train(ranks, (100, 60, 100))):
        assert isinstance(error, RankError) and "rank 1" in str(error), error
        place = "at (epoch, batches before, batches of the round) {}".format
        assert ("is at (epoch, update, batches of it) [2, 2, 4] and rank 0 at" if strategy.name == "group" else
                f"is {place([2, 8, 8])} and rank 0 {place([1, 8, 5])}") in str(error)


def test_shares_that_the_engine_cannot_run():
    with trainer(data.ArrayDataset) as t:
        t.train()
        r = t.resources
        for exchange, shares_ in ((None, [[0, 1]]), (lambda v, w: w, [[0, 3]]), (lambda v, w: w, [[1, 0]]), (lambda v, w: w, [])):
            with pytest.raises(ValueError, match="shares: of each group some batches"):
                engine.NativeRun([r.replicas[0].native], r.slots[:4], r.sources, None, np.array([0, 8, 16]), r.rule(1),
                                 groups=np.array([0, 2]), exchange=exchange, shares=np.array(shares_, np.int64))


# ---------------------------------------------------------------------- failures
@pytest.mark.parametrize("marks", [(9,), (9, 25, 41), (1, 9, 17, 25)])
@pytest.mark.parametrize("strategy", [Group(2), Group(4), Local(2, 2), Local(3, 4), Local(1, 3)], ids=str)
def test_batches_that_fail_on_one_rank_are_left_out_on_all(driver, marks, strategy):
    def make():
        return Model(nn.Sequential(Fails(*[m / 64 for m in marks]), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), seed=0)
    more = {"make": make, "max_failed_fraction": 1.0, "options": EVERY}
    want = trained(driver, strategy, 2, **more)
    for t in results(2, lambda ranks: trained(driver, strategy, 2, ranks, **more)):
        assert bits(t) == bits(want)
        assert [None if f.indices is None else f.indices.tolist() for f in t.history.failures] == [
            None if f.indices is None else f.indices.tolist() for f in want.history.failures]
        assert {f.reason.split(": ", 1)[-1] for f in t.history.failures} <= {f.reason for f in want.history.failures} | {
            f.reason.split(": ", 1)[-1] for f in want.history.failures}


def test_a_round_of_which_nothing_arrives_changes_nothing(driver):
    """Also on two of four ranks, which have no copy to train."""
    def run(ranks):
        with trainer(driver, Local(1, 2), 1, ranks, n=16, make=lambda: with_layer(Fails(*X[:16, 0])), max_failed_fraction=1) as t:
            before = t.model.params.tobytes()
            with pytest.raises(TrainingError, match="none of 2 batches arrived"):
                t.train()
            return t.model.params.tobytes() == before, t.optimizer.t
    assert results(4, run) == [(True, 0)] * 4


@both
def test_a_batch_that_hangs_on_one_rank_is_left_out_on_all(driver, strategy):
    """The rank runs its share again, without it, and the others wait."""
    release = threading.Event()

    class Hangs(Fails):
        def forward(self, x):
            try:
                return super().forward(x)
            except RuntimeError:
                release.wait(20)
                raise

    def make(first):
        return lambda: Model(nn.Sequential(first, nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), seed=0)
    want = trained(driver, strategy, 2, make=make(Fails(9 / 64)), epochs=1)
    for t in results(2, lambda ranks: trained(driver, strategy, 2, ranks, make=make(Hangs(9 / 64)), epochs=1, batch_timeout=0.3)):
        assert bits(t) == bits(want) and "took longer than batch_timeout=0.3 s" in str(t.history.failures[0].exception)
    release.set()


@both
@pytest.mark.parametrize("policy", [{"on_batch_failure": "raise"}, {"max_failed_fraction": 0.1}])
def test_too_many_failures_end_training_on_all_ranks(driver, policy, strategy):
    def make():
        return Model(nn.Sequential(Fails(9 / 64, 60 / 64), nn.Linear(6, 3)), seed=0)

    def run(ranks):
        with trainer(driver, strategy, 1, ranks, make=make, **policy) as t:
            with pytest.raises(Exception, match="parameters are as of the last good update") as e:
                t.train()
            check_books(t)
            return t.model.params.tobytes(), t.optimizer.t, str(e.value).splitlines()[0], len(e.value.failures)
    want = run(None)
    assert results(2, run) == [want] * 2


@both
def test_a_rank_that_raises_ends_training_on_all(driver, strategy):
    class Raises(callbacks.Callback):
        every = 2

        def on_update(self, t, updates):
            if t.rank == 1 and t.epoch == 1:
                raise OSError("no disk")

    def run(ranks):
        with trainer(driver, strategy, 1, ranks, callbacks=[Raises()]) as t:
            with pytest.raises((OSError, RankError)) as e:
                t.train()
            with pytest.raises(RuntimeError, match="this process cannot train with the others any more"):
                t.train()
            return t.optimizer.t, t.history.interrupted, e.type, str(e.value)
    first, second, third = results(3, run)
    assert second == (4 + 2, True, OSError, "no disk")
    for other in (first, third):
        # the sixth update, or the round before, may have been under way
        assert other[0] in ((5, 6) if strategy.name == "group" else (4, 6)) and other[1:3] == (True, RankError)
        assert "rank 1" in other[3] and "OSError: no disk" in other[3]


@both
def test_a_rank_that_does_not_come_is_named(driver, strategy):
    """And of the others each, whichever notices it first, says so."""
    come = threading.Event()

    class Hangs(callbacks.Callback):
        every = 1

        def on_update(self, t, updates):
            if t.rank == 1 and t.optimizer.t == 2:
                assert come.wait(20)

    def run(ranks):
        with trainer(driver, strategy, 1, ranks, callbacks=[Hangs()]) as t:
            try:
                t.train()
            except RankError as e:
                return t.optimizer.t, str(e), e.rank, e.gone, ranks.saves
            finally:
                if t.rank == 0:
                    come.set()
    started = time.monotonic()
    out = on_ranks(3, run, timeout=0.5)
    assert time.monotonic() - started < 10
    assert len({text for _, text, *_ in out}) == 1
    for t, text, rank, gone, _ in out:
        where = "update 3" if strategy.name == "group" else "the average after batch 13"
        assert t == 2 and rank == 1 and gone and "rank 1" in text and f"did not come to {where} within rank_timeout=0.5 s" in text
    assert [saves for *_, saves in out] == [True, False, False]


@both
@pytest.mark.parametrize("error", [OSError("no connection"), KeyboardInterrupt()], ids=type)
@pytest.mark.parametrize("threads", [1, 3])
def test_what_an_exchange_raises_comes_out_and_makes_no_update(driver, threads, error, strategy, monkeypatch):
    ranks, calls = Ranks(communicators(1)[0]), []
    name = "exchange" if strategy.name == "group" else "exchange_round"
    exchange = getattr(ranks, name)

    def fails(vector, *more):
        calls.append(vector)
        if len(calls) == 3:
            vector[...] = np.nan        # half of it has come
            raise error
        return exchange(vector, *more)
    monkeypatch.setattr(ranks, name, fails)
    with trainer(driver, strategy, threads, ranks) as t:
        with pytest.raises(type(error)):
            t.train()
        assert t.optimizer.t == (2 if name == "exchange" else 4) and t.stats().updates == (2 if name == "exchange" else 13)
        assert np.isfinite(t.model.params).all()
        check_books(t)
        monkeypatch.undo()
        if strategy.name == "local":            # and the next `train` goes on from there, where the error was not another rank's
            t.ranks.messages.error = None
            t.max_epochs = 1
            t.train()
            assert bits(t)[:4] == bits(trained(driver, strategy, 2))[:4]


def test_a_rank_whose_message_mpi_cannot_finish_is_gone():
    """As MPICH says of a killed process of the same machine."""
    def run(ranks):
        def fails():
            raise OSError("Other MPI error, error stack:\nprocess_vm_readv failed (errno 3)")
        with pytest.raises(RankError, match=r"rank 0 on .* is gone: MPI could not finish update 2 with it \(process_vm") as e:
            if ranks.rank == 1:
                ranks.messages.wait([(0, Request(fails))], "update 2")
            ranks.swap("somewhere", 1)
        return e.value.rank, e.value.gone, ranks.saves
    assert results(2, run) == [(0, True, False), (0, True, True)]


def test_where_rank_0_is_gone_rank_1_saves():
    first, second = on_ranks(2, lambda ranks: ranks if ranks.rank == 0 else catch(ranks), timeout=0.2)
    assert not first.messages.error and second == (0, True, True)


def catch(ranks):
    with pytest.raises(RankError) as e:
        ranks.swap("somewhere", 1)
    return e.value.rank, e.value.gone, ranks.saves


@both
def test_a_shutdown_ends_the_wait_for_other_ranks(driver, strategy):
    """Rank 1 comes to the first update only when rank 0 has been shut down."""
    comms, go_on, out = communicators(2), threading.Event(), []

    def train(t, late):
        try:
            if late:
                t.callbacks.append(late)
            t.train()
        except Exception as e:
            out.append(e)

    class Waits(callbacks.Callback):
        def on_epoch_start(self, t, epoch):
            assert go_on.wait(20)
    made = [None, None]

    def make(i):
        made[i] = trainer(driver, strategy, 1, Ranks(comms[i], 20))
    together = [threading.Thread(target=make, args=(i,)) for i in range(2)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join(20)
    threads = [threading.Thread(target=train, args=(t, late)) for t, late in zip(made, (None, Waits()), strict=True)]
    for thread in threads:
        thread.start()
    while not comms[0].boxes[0, 1, UPDATE]:      # rank 0 waits in the first update
        time.sleep(0.001)
    assert made[0].shutdown(0.1)
    threads[0].join(20)
    assert not threads[0].is_alive()
    go_on.set()
    threads[1].join(20)
    assert made[1].shutdown(5)
    assert [t.optimizer.t for t in made] == [0, 0]
    assert [type(e) for e in out] == [RankError] and "rank 0" in str(out[0]) and "was shut down" in str(out[0])


# ---------------------------------------------------------------------- stops, checkpoints
@both
def test_a_stop_on_one_rank_ends_training_of_all_after_the_same_update(driver, small, strategy):
    class Stops(callbacks.Callback):
        every = 1

        def on_update(self, t, updates):
            if t.rank == 1 and t.batches_done >= 8 and not t.epoch:
                t.stop()

    def run(ranks):
        with trainer(driver, strategy, 2, ranks, callbacks=[Stops()]) as t:
            t.train()
            first = t.optimizer.t, t.batches_done, t.history.interrupted
            t.callbacks.clear()
            t.train()
            return first, t.optimizer.t, t.model.params.tobytes()
    want = trained(driver, strategy, 2, epochs=2)
    for first, t, params in results(3, run):
        assert first == (2, 8, True) and t == want.optimizer.t and params == want.model.params.tobytes()


@pytest.mark.parametrize("strategy", [Group(4), Local(2, 3)], ids=["group", "local"])
@pytest.mark.parametrize("before, after", [(1, 3), (3, 1), (2, 4)])
def test_another_number_of_ranks_goes_on_from_a_checkpoint(driver, tmp_path, before, after, strategy):
    """In the middle of an epoch, with Dropout and BatchNorm."""
    path = tmp_path / "checkpoint"

    class Stops(callbacks.Callback):
        every = 2

        def on_update(self, t, updates):
            if t.epoch == 1:
                t.save_checkpoint(path)
                t.stop()

    def begin(ranks):
        return trained(driver, strategy, 1, ranks, callbacks=[Stops()])

    def go_on(ranks):
        with trainer(driver, strategy, 2, ranks, seed=77) as t:
            t.load_checkpoint(path)
            t.train()
            return t
    assert {t.batches_done for t in results(before, begin)} == {8 if strategy.name == "group" else 6}
    want = trained(driver, strategy, 1, epochs=3)
    for t in results(after, go_on):
        assert bits(t) == bits(want)


def test_only_rank_0_prints_logs_and_saves(tmp_path, capsys):
    def run(ranks):
        monitor = Monitor(tmp_path / f"log{ranks.rank}")
        t = trained(data.ArrayDataset, Group(4), 1, ranks, monitor=monitor,
                    callbacks=[callbacks.Checkpoint(tmp_path / f"folder{ranks.rank}" / "checkpoint", updates=1)])
        return t.rank, t.n_ranks, len(t.history.records)
    assert results(2, run) == [(0, 2, 2), (1, 2, 2)]
    assert {p.name for p in tmp_path.iterdir()} == {"log0", "folder0"} and len(capsys.readouterr().out.splitlines()) == 2


def test_a_checkpoint_where_training_is_interrupted(driver, tmp_path):
    class Interrupts(callbacks.Callback):
        every = 1

        def on_update(self, t, updates):
            if updates == 3:
                raise KeyboardInterrupt
    path, want = tmp_path / "checkpoint", trained(driver)
    with trainer(driver, callbacks=[Interrupts(), callbacks.Checkpoint(path, interrupted=True)]) as t:
        with pytest.raises(KeyboardInterrupt):
            t.train()
    with trainer(driver) as t:
        t.load_checkpoint(path)
        assert t.optimizer.t == 3
        t.max_epochs = 2
        t.train()
        assert bits(t) == bits(want)


# ---------------------------------------------------------------------- what must be the same
DIFFERENT = {
    "training data": {"n": 99}, "setting": {"strategy": Group(8)}, "set of initial parameters": {"make": lambda: other_seed()},
    "setting ": {"strategy": Local(2, 4)},
    "model": {"make": lambda: model(nn.ReLU())}, "optimizer": {"options": {"clip_norm": 1.0}}, "seed": {"seed": 6},
}


def other_seed():
    return Model(model().layer, seed=1)


@pytest.mark.parametrize("what", DIFFERENT)
def test_ranks_that_differ_all_raise_the_same(driver, what):
    def run(ranks):
        return trainer(driver, ranks=ranks, **(DIFFERENT[what] if ranks.rank == 2 else {}))
    out = on_ranks(3, run)
    assert {type(e) for e in out} == {RanksDifferError} and len({str(e) for e in out}) == 1
    assert "rank 2" in str(out[0]) and f"has another {what.strip()} than rank 0" in str(out[0])


def test_other_rows_are_noticed():
    x = X.copy()
    x[0] += 1

    def run(ranks):
        with Trainer(1, batches_per_update=2, seed=0, ranks=ranks) as t:
            t.init(data.ArrayDataset(x if ranks.rank else X, Y), model(), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    assert all("training data" in str(e) for e in on_ranks(2, run))


def test_parameters_that_part_are_noticed_when_training_begins(driver):
    def run(ranks):
        with trainer(driver, ranks=ranks) as t:
            t.model.params[0] += ranks.rank
            t.train()
    out = on_ranks(2, run)
    assert all(isinstance(e, RanksDifferError) and "set of parameters" in str(e) for e in out)


def test_a_rank_that_cannot_begin_is_heard_of(driver):
    def run(ranks):
        return trainer(driver, ranks=ranks, make=lambda: Model(nn.Linear(7 if ranks.rank else 6, 3), seed=0))
    first, second = on_ranks(2, run)
    assert type(second) is ValueError and isinstance(first, RankError) and str(second) in str(first)


def test_ranks_at_other_places_are_told_so():
    first, second = on_ranks(2, lambda ranks: ranks.swap(f"place {ranks.rank}", None))
    assert type(first) is type(second) is RankError and str(first) == str(second)
    assert "is at 'place 1' and rank 0 at 'place 0'" in str(first)


def test_without_a_seed_all_have_that_of_rank_0(driver):
    a, b = results(2, lambda ranks: trained(driver, ranks=ranks, seed=None))
    assert a.seed == b.seed and bits(a) == bits(b)


@pytest.mark.parametrize("k, size, text", [(6, 2, "2 ranks run 4, 2 batches of each update: batches_per_update=4 or 8"),
                                           (8, 3, "3 ranks run 4, 4, 0 batches of each update: batches_per_update=6 or 12"),
                                           (-3, 2, "2 ranks train 2, 1 copies of the model: n_models=2 or 4")])
def test_shares_that_are_not_even_are_said_by_rank_0(k, size, text, recwarn):
    import warnings
    warnings.simplefilter("always")
    results(size, lambda ranks: trainer(data.ArrayDataset, Group(k) if k > 0 else Local(2, -k), ranks=ranks))
    assert len(recwarn) == 1 and text in str(recwarn[0].message)


def test_door():
    for strategy in ("hogwild", "serial", "auto"):
        with pytest.raises(ValueError, match=r"with strategy .* copies of 'local': .* give batches_per_update=8, say"):
            Trainer(1, ranks="mpi", strategy=strategy)
    for options in ({"strategy": "group"}, {"strategy": "shard"}, {"strategy": "local"}, {"strategy": Local(4)}, {}):
        with pytest.raises(ValueError, match=r"give batches_per_update=8, say, .* strategy=Local\(n_models=8\)"):
            Trainer(1, ranks="mpi", **options)
    with pytest.raises(ValueError, match="ranks='gloo': 'mpi', a communicator of mpi4py, or None"):
        Trainer(1, ranks="gloo", batches_per_update=2)
    with pytest.raises(ValueError, match="rank_timeout=0: seconds"):
        Ranks(communicators(1)[0], 0)


def test_without_mpi4py_the_extra_is_named(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"pip install 'tinydl-parallel\[mpi\]'"):
        join("mpi")

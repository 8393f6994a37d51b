"""Updates made together with other trainers: the mean of all in one fixed tree, once an update, before clipping."""
import threading

import numpy as np
import pytest
from every_strategy import Fails, check_books, marked
from small import mlp

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.parallel import GradientAggregator
from tinydl.parallel.execution import epoch
from tinydl.parallel.strategies import Group, Shard
from tinydl.parallel.transport import Transport

SECONDS = 20


class Meeting:
    """Where the trainers of some threads meet."""

    def __init__(self, n):
        self.n, self.barrier, self.given, self.result = n, threading.Barrier(n), [None] * n, None

    def meet(self, number, given, combine):
        """What `combine` makes of what all have given."""
        self.given[number] = given
        try:
            self.barrier.wait(SECONDS)
            if number == 0:
                self.result = combine(self.given)
            self.barrier.wait(SECONDS)
        except threading.BrokenBarrierError:
            raise TimeoutError("another trainer did not come") from None
        return self.result


class Thread(Transport):
    """The test double: trainer number `number` of those of a meeting, each in a thread of its own."""

    def __init__(self, meeting, number):
        self.meeting, self.number, self.calls = meeting, number, []

    def exchange(self, vector, weight):
        def combine(given):
            mean = GradientAggregator(len(given))
            for i, (v, w) in enumerate(given):
                if w:
                    mean.submit_gradients(v, 1, i, weight=w)
                else:
                    mean.submit_failure(i)
            return mean.mean() or (None, 0.0)
        self.calls.append(weight)
        mean, weight = self.meeting.meet(self.number, (vector.copy(), weight), combine)
        if weight:
            vector[...] = mean
        return weight

    def add(self, numbers):
        numbers[...] = self.meeting.meet(self.number, numbers.copy(), lambda given: np.sum(given, 0))

    def cancel(self):
        self.meeting.barrier.abort()

    def renew(self):
        if self.meeting.barrier.broken:
            self.meeting.barrier.reset()


X, Y = marked(96)
W = np.random.default_rng(1).random(96) + 0.1


def model():
    return Model(nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 3)), seed=0)


def trained(kind, rows, strategy, threads, transport=None, *, make=model, batch_size=8, options=None, epochs=2, weighted=True,
            **more):
    """A trainer that has trained on these rows, in their order."""
    t = Trainer(epochs, enable_parallel=threads > 0, thread_count=threads, strategy=strategy, seed=5, transport=transport, **more)
    with t:
        t.init(kind(X[rows], Y[rows], batch_size, sample_weight=W[rows] if weighted else None), make(),
               losses.SoftmaxCrossEntropy(), optim.Adam(0.01, **({} if options is None else options)))
        t.train(shuffle=False)
    check_books(t)
    return t


def together(calls):
    """What each of these calls returns, in a thread of its own; the first exception."""
    out = [None] * len(calls)

    def run(i):
        try:
            out[i] = calls[i](), None
        except BaseException as e:
            out[i] = None, e
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SECONDS)
    for _, error in out:
        if error is not None:
            raise error
    return [result for result, _ in out]


def shares(size, n=2):
    """The rows of each of n trainers, where of every n * size rows in turn each has `size`."""
    return [np.flatnonzero(np.arange(96) // size % n == i) for i in range(n)]


def bits(t):
    return (t.model.params.tobytes(), t.model.statistics.tobytes(), [v.tobytes() for v in t.optimizer.state.values()],
            t.optimizer.t, t.gradient_norms.tolist(), t.history["updates"], t.history["samples"])


ALL = np.arange(96)
STAGES = {"none": {}, "every": {"clip_norm": 0.05, "clip_value": 0.01, "ema": 0.9}}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("options", STAGES)
@pytest.mark.parametrize("k, n", [(1, 2), (2, 2), (2, 3)])
def test_trainers_together_have_the_bits_of_one(driver, k, n, options, threads):
    """batches_per_update 2, 4 and 6, a half or a third of the batches each."""
    options = STAGES[options]
    want = trained(driver, ALL, Group(n * k), threads, options=options)
    meeting = Meeting(n)
    got = together([lambda i=i, rows=rows: trained(driver, rows, Group(k), threads, Thread(meeting, i), options=options)
                    for i, rows in enumerate(shares(8 * k, n))])
    for t in got:
        assert bits(t) == bits(want) and t.history["loss"] == pytest.approx(want.history["loss"], rel=1e-12)
        assert len(t.transport.calls) == sum(want.history["updates"]) == 2 * 12 // (n * k)
    assert len({tuple(t.history["loss"]) for t in got}) == 1
    assert bits(got[0]) != bits(trained(driver, shares(8 * k, n)[0], Group(k), threads, options=options))


def test_groups_run_in_blocks_are_exchanged_once(driver, monkeypatch):
    monkeypatch.setattr(epoch, "LEAST_BLOCK", 2)
    want = trained(driver, ALL, Group(48), 1, batch_size=2, options=STAGES["every"])
    meeting = Meeting(3)
    for t in together([lambda i=i, rows=rows: trained(driver, rows, Group(16), 1, Thread(meeting, i), batch_size=2,
                                                      options=STAGES["every"]) for i, rows in enumerate(shares(32, 3))]):
        assert bits(t) == bits(want) and len(t.resources.slots) == 2 + 3 and len(t.transport.calls) == 2


@pytest.mark.parametrize("strategy", ["serial", "shard"])
def test_serial_and_shard_have_it_too(driver, strategy):
    size, alone, own = (8, Group(2), "serial") if strategy == "serial" else (8, Shard(4), Shard(2))
    want = trained(driver, ALL, alone, 2, batch_size=8 if strategy == "serial" else 16)
    meeting = Meeting(2)
    for t in together([lambda i=i, rows=rows: trained(driver, rows, own, 0 if strategy == "serial" else 2, Thread(meeting, i))
                       for i, rows in enumerate(shares(size))]):
        assert bits(t) == bits(want)


@pytest.mark.parametrize("marks, updates", [((9,), 6), ((9, 25, 41), 6), ((1, 9), 5), ((1, 9, 17, 25, 33), 4)])
def test_where_nothing_arrives_at_one_the_others_mean_counts(driver, marks, updates):
    """A sample of mark i is in batch i // 8; batches 0 and 1 are one update's."""
    def make():
        return Model(nn.Sequential(Fails(*[m / 64 for m in marks]), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)), seed=0)
    more = {"make": make, "max_failed_fraction": 1.0, "epochs": 1, "options": {"clip_norm": 0.05}}
    want = trained(driver, ALL, Group(2), 2, **more)
    assert want.history["updates"] == [updates]
    meeting = Meeting(2)
    for t in together([lambda i=i, rows=rows: trained(driver, rows, Group(1), 2, Thread(meeting, i), **more)
                       for i, rows in enumerate(shares(8))]):
        assert bits(t) == bits(want) and len(t.transport.calls) == 6
        assert sum(w == 0 for w in t.transport.calls) == len(t.history.failures)


class Counts(Transport):
    """Of a trainer alone; `fails`: what the call of that number raises."""

    def __init__(self, fails=None, error=None, result=None):
        self.fails, self.error, self.result, self.seen, self.threads = fails, error, result, [], set()

    def exchange(self, vector, weight):
        self.seen.append((np.linalg.norm(vector[:-18].astype(np.float64)), weight))
        self.threads.add(threading.get_ident())
        if len(self.seen) == self.fails:
            vector[...] = np.nan            # half of it has come
            raise self.error
        return weight if self.result is None else self.result

    def add(self, numbers):
        pass


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_it_sees_what_is_not_yet_clipped_and_changes_no_bit(driver, threads):
    options, counts = {"clip_norm": 1e-3}, Counts()
    t = trained(driver, ALL, Group(3), threads, counts, options=options)
    assert bits(t) == bits(trained(driver, ALL, Group(3), threads, options=options))
    norms = [norm for norm, _ in counts.seen[len(counts.seen) // 2:]]       # the last epoch's
    np.testing.assert_allclose(norms, t.gradient_norms, rtol=1e-6)
    assert min(norms) > 1e-2
    if threads == 0 or driver is not data.ArrayDataset:
        assert counts.threads == {threading.get_ident()}


@pytest.mark.parametrize("error", [OSError("no connection"), KeyboardInterrupt()], ids=type)
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_it_raises_comes_out_and_makes_no_update(driver, threads, error):
    """Training goes on with the same batches, to the same bits."""
    want = trained(driver, ALL, Group(2), threads)
    counts = Counts(4, error)
    with Trainer(1, enable_parallel=threads > 0, thread_count=threads, strategy=Group(2), seed=5, transport=counts) as t:
        t.init(driver(X, Y, 8, sample_weight=W), model(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        with pytest.raises(type(error)):
            t.train(shuffle=False)
        assert t.optimizer.t == t.stats().updates == 3
        for _ in range(2):
            t.train(shuffle=False)
        check_books(t)
        assert bits(t) == bits(want)


class Hangs(Counts):
    """Its first exchange answers when it is cancelled."""

    def __init__(self):
        super().__init__()
        self.inside, self.cancelled = threading.Event(), threading.Event()

    def exchange(self, vector, weight):
        self.inside.set()
        assert self.cancelled.wait(SECONDS)
        raise ConnectionError("cancelled")

    def cancel(self):
        self.cancelled.set()

    def renew(self):
        self.cancelled.clear()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_shutdown_cancels_an_exchange(driver, threads):
    hangs = Hangs()
    t = Trainer(1, enable_parallel=threads > 0, thread_count=threads, strategy=Group(2), seed=5, transport=hangs)
    t.init(driver(X, Y, 8), model(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
    ended = []

    def train():
        try:
            t.train()
        except ConnectionError as e:
            ended.append(str(e))
    trains = threading.Thread(target=train)
    trains.start()
    assert hangs.inside.wait(SECONDS)
    assert t.shutdown(0.3)
    trains.join(SECONDS)
    assert not trains.is_alive() and t.optimizer.t == 0 and ended in ([], ["cancelled"])


def test_door(driver):
    for strategy in ("local", "hogwild", "auto"):
        with pytest.raises(ValueError, match=f"strategy '{strategy}' makes no updates together with other trainers"):
            Trainer(1, strategy=strategy, transport=Counts())
    for result in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"Counts.exchange returned {result}"):
            trained(driver, ALL, Group(2), 2, Counts(result=result))
    with pytest.raises(TypeError, match="abstract"):
        Transport()
    with pytest.raises(TypeError, match=r"transport must be a Transport, such as .*; got Meeting"):
        Trainer(1, transport=Meeting(2))


def test_a_step_of_ones_own_takes_part():
    class Own(optim.Adam):
        def step(self, gradients):
            super().step(gradients)
    counts = Counts()
    with Trainer(1, strategy=Group(2), thread_count=2, seed=0, transport=counts) as t:
        t.init(data.ArrayDataset(X, Y, 8), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), Own(0.01))
        t.train()
    assert len(counts.seen) == 6

"""A trainer within its limits: too little memory, BLAS in Python layers, workers on CPUs of their own."""
import os
import threading
import warnings

import numpy as np
import pytest
from small import classification, mlp
from threadpoolctl import threadpool_info

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.parallel import ParallelFallbackWarning
from tinydl.parallel.execution.resources import Resources
from tinydl.parallel.host import memory
from tinydl.parallel.strategies import Auto, Group, Local, Shard, local


def trainer(threads=3, k=3, model=None, **options):
    x, y = classification(64)
    t = Trainer(1, strategy="group", batches_per_update=k, thread_count=threads, seed=0, **options)
    t.init(data.ArrayDataset(x, y, 8), model or mlp(6, 16, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
    return t


def whole():
    with trainer() as t:
        t.train()
    return t.model.params.tobytes()


def test_the_report_knows_the_setting():
    with trainer() as t:
        report = t.memory_report()
        assert (report.n_threads, report.n_slots) == (3, 3) and report.fits
        assert report.gradients >= t.model.params.nbytes and "workspace of a thread" in str(report)


def test_less_memory_lowers_the_threads_and_changes_no_bit(monkeypatch):
    expected = whole()
    with trainer() as t:
        report = t.memory_report()
        monkeypatch.setattr(memory, "available_memory", lambda: report.needed - report.workspace)
        with pytest.warns(ParallelFallbackWarning, match="no memory for 3 threads: training goes on with 2"):
            t.train()
        assert t.stats().thread_count == 2 and t.model.params.tobytes() == expected
        t.train()       # and says it once
        monkeypatch.setattr(memory, "available_memory", lambda: 0)
    with trainer() as t, pytest.raises(MemoryError, match="with one thread and 3 gradient slots, and 0 B are available"):
        t.train()


@pytest.mark.parametrize("mode", ["train", "single_thread_train", "simplified_parallel_train"])
def test_training_in_the_calling_thread_asks_for_memory_too(mode, monkeypatch):
    with trainer() as t:
        if mode == "train":
            t.configure_parallel_training(False)
        before = t.model.params.tobytes()
        slots = "3 gradient slots" if mode == "simplified_parallel_train" else "1 gradient slot"
        with monkeypatch.context() as m:
            m.setattr(memory, "available_memory", lambda: 1000)
            with pytest.raises(MemoryError, match=f"with one thread and {slots}, and 1000 B are available"):
                getattr(t, mode)()
        assert t.model.params.tobytes() == before and not t.optimizer.t and not t.history.records
        assert not t.runtime.resources.replicas
        asked = []
        monkeypatch.setattr(memory, "available_memory", lambda: asked.append(1))
        t.max_epochs = 3
        getattr(t, mode)()
        assert t.history["samples"] == [64] * 3 and len(asked) == 1      # once


@pytest.mark.parametrize("strategy", ["group", "shard", "local", "hogwild", "auto"])
def test_threads_that_leave_take_the_slots_with_them_that_the_user_did_not_fix(strategy, monkeypatch):
    x, y = classification(64)

    def make(threads):
        t = Trainer(1, strategy=strategy, thread_count=threads, seed=0)
        t.init(data.ArrayDataset(x, y, 8), mlp(6, 16, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        return t
    with make(2) as two:
        two.train()
    with make(8) as t:
        report = t.memory_report()
        assert (report.n_threads, report.n_slots) == (8, 8)
        monkeypatch.setattr(memory, "available_memory", lambda: report.needed - 6 * report.per_thread)
        with pytest.warns(ParallelFallbackWarning, match="no memory for 8 threads: training goes on with 2"):
            t.train()
        assert (t.memory_report().n_threads, t.memory_report().n_slots) == (2, 2)
        assert max(len(t.runtime.resources.replicas), len(t.runtime.resources.slots),
                   len(t.runtime.resources.model_copies)) <= 2
        if strategy in ("group", "shard", "local"):
            assert t.model.params.tobytes() == two.model.params.tobytes()


def test_the_report_is_made_where_nothing_fits_too(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    with trainer() as t:
        assert not t.memory_report().fits and "it does not fit" in str(t.memory_report())


def test_a_second_init_asks_for_all_threads_again(monkeypatch):
    with trainer() as t:
        report = t.memory_report()
        with monkeypatch.context() as m:
            m.setattr(memory, "available_memory", lambda: report.needed - report.workspace)
            with pytest.warns(ParallelFallbackWarning, match="goes on with 2"):
                t.train()
        t.init(t.data, mlp(6, 3), t.loss, t.optimizer)
        t.train()
        assert t.stats().thread_count == 3


def test_an_allocation_that_fails_in_mid_training_lowers_the_threads(monkeypatch):
    expected = whole()
    make, made = Resources.new_replica, []

    def scarce(self, own_layers=True):
        made.append(1)
        if len(made) == 3:
            raise MemoryError("no more")
        return make(self, own_layers)
    monkeypatch.setattr(Resources, "new_replica", scarce)
    with trainer() as t:
        with pytest.warns(ParallelFallbackWarning, match="no memory for 3 threads: training goes on with 2"):
            t.train()
        assert t.model.params.tobytes() == expected and t.history["samples"] == [64]


class Looks(nn.PythonLayer):
    """Notes the thread, where it may run, and the threads that BLAS has there."""

    def __init__(self):
        self.seen, self.meet = [], threading.Barrier(2, timeout=10)

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        if (x[:, 0] == 7).any():        # once in each worker
            self.meet.wait()
            blas = [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
            where = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
            self.seen.append((threading.current_thread().name, where, blas))
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.mark.parametrize("pinned", [False, True])
def test_workers_have_one_blas_thread_and_a_cpu_if_asked(pinned):
    layer = Looks()
    before = [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    with trainer(2, 2, Model(nn.Sequential(layer, nn.Linear(6, 3)), seed=0), pin_threads=pinned) as t:
        t.data.train.x[:16, 0] = 7
        t.train(shuffle=False)
    assert len({name for name, _, _ in layer.seen}) == 2
    assert all(n == 1 for _, _, blas in layer.seen for n in blas)
    assert [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"] == before
    if len(cpus) >= 2:
        own = [where for _, where, _ in layer.seen]
        assert own == [cpus, cpus] if not pinned else (all(len(c) == 1 for c in own) and own[0] != own[1])
    assert not t.history.failures and np.isfinite(t.model.params).all()


@pytest.mark.parametrize("strategy", [Group(3), Shard(3), Auto(batches_per_update=3), Auto(), Local(2)])
@pytest.mark.usefixtures("eager_auto")
def test_where_no_second_replica_can_be_made_one_thread_goes_on(strategy, monkeypatch):
    make, member = Resources.new_replica, local.ModelCopy

    def scarce(self, own_layers=True):
        if self.replicas:
            raise MemoryError("no more")
        return make(self, own_layers)

    def scarce_members(resources):
        if resources.model_copies:
            raise MemoryError("no more")
        return member(resources)
    monkeypatch.setattr(Resources, "new_replica", scarce)
    monkeypatch.setattr(local, "ModelCopy", scarce_members)
    x, y = classification(64)
    with Trainer(1, strategy=strategy, thread_count=4, seed=0) as t:
        t.init(data.ArrayDataset(x, y, 8), mlp(6, 16, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            t.train()
        assert 1 <= len(said) <= 3 and "training goes on with 1" in str(said[-1].message)
        assert t.history["samples"] == [64] and t.stats().thread_count == 1

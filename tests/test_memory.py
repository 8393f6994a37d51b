"""Memory: what there is, what training takes of it, and that it gives all of it back."""
import ctypes
import dataclasses
import gc
import sys
import threading
import tracemalloc
import warnings
from itertools import pairwise

import numpy as np
import pytest
from small import Batched, classification, mlp, small_set, train_to_digest

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.parallel import Replica
from tinydl.parallel.execution.ledger import Ledger
from tinydl.parallel.host import windows
from tinydl.parallel.host.memory import MemoryReport, available_memory, fitting_threads, memory_report
from tinydl.parallel.strategies import Group, Hogwild, Local, Shard

LINUX = sys.platform == "linux"
NUMPY_DATA = np.lib.tracemalloc_domain


class Halve(nn.PythonLayer):
    def forward(self, x):
        return 0.5 * x, None

    def backward(self, dy, saved):
        return 0.5 * dy


# ------------------------------------------------------------------ memory that is available
def v2(folder, limit, usage, inactive=0):
    at = f"sys/fs/cgroup/{folder}".rstrip("/")
    return {f"{at}/memory.max": f"{limit}\n", f"{at}/memory.current": f"{usage}\n",
            f"{at}/memory.stat": f"anon 5\ninactive_file {inactive}\nactive_file 7\n"}


def v1(folder, limit, usage, inactive=0):
    at = f"sys/fs/cgroup/memory/{folder}".rstrip("/")
    return {f"{at}/memory.limit_in_bytes": f"{limit}\n", f"{at}/memory.usage_in_bytes": f"{usage}\n",
            f"{at}/memory.stat": f"inactive_file 3\ntotal_inactive_file {inactive}\n"}


MEMINFO = {"proc/meminfo": "MemTotal:  99 kB\nMemFree:  1 kB\nMemAvailable:   9 kB\n"}
V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "4:cpu,cpuacct:/x\n3:memory:/x/y\n"}


@pytest.mark.parametrize("files, want", [
    ({}, None),
    (MEMINFO, 9 * 1024),
    ({"proc/meminfo": "MemTotal: 99 kB\n"}, None),
    ({"proc/meminfo": "MemAvailable: lots\n"}, None),
    ({**MEMINFO, **V2}, 9 * 1024),
    ({**V2, **v2("a/b", "max", 100)}, None),
    ({**V2, **v2("a/b", 1000, 100)}, 900),
    ({**V2, **v2("a/b", 1000, 100, 30)}, 930),
    ({**V2, **v2("a/b", 1000, 1200)}, 0),
    ({**V2, **v2("a/b", "max", 100), **v2("a", 700, 300)}, 400),
    ({**V2, **v2("a/b", 1000, 100), **v2("a", 700, 300), **v2("", 650, 350)}, 300),
    ({**MEMINFO, **V2, **v2("a/b", 1000, 100)}, 900),
    ({**MEMINFO, **V2, **v2("a/b", 10**6, 100)}, 9 * 1024),
    ({**V2, "sys/fs/cgroup/a/b/memory.max": "1000"}, None),
    ({**V1, **v1("x/y", 1000, 100, 50)}, 950),
    ({**V1, **v1("x/y", 9223372036854771712, 100)}, None),
    ({**V1, **v1("x/y", 1000, 100), **v1("", 500, 100)}, 400),
    ({"proc/self/cgroup": "3:memory:/host/path\n0::/\n", **v1("", 500, 100)}, 400),
    ({"proc/self/cgroup": "nonsense\n", **MEMINFO}, 9 * 1024),
])
def test_available_memory_of_made_containers(tmp_path, files, want, monkeypatch):
    monkeypatch.setattr(windows, "free_memory", lambda: None)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == want
    assert available_memory(str(tmp_path)) == want


@pytest.mark.skipif(not LINUX, reason="only Linux tells")
def test_available_memory_here():
    here = available_memory()
    assert here is not None and 0 < here < 2**50


# ------------------------------------------------------------------ memory that training takes
def normed(dtype):
    return Model(nn.Sequential(nn.Linear(20, 70), nn.BatchNorm1d(70), nn.ReLU(), Halve(), nn.Linear(70, 3)), dtype=dtype)


def numpy_bytes():
    """Bytes that NumPy arrays hold now."""
    taken = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, NUMPY_DATA)])
    return sum(t.size for t in taken.traces)


@pytest.fixture
def traced():
    mlp(3, 2).predict(np.zeros((1, 3)))     # what NumPy and this module make once
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


def made(model, optimizer, n_threads, n_slots):
    """(plan, replicas, slots) of a model for batches of 33 samples of 20 features."""
    optimizer.bind(model.params, model.statistics, model.momenta)
    loss = losses.SoftmaxCrossEntropy()
    plan = model.plan((20,), 33, loss=loss)
    replicas = [Replica(model, loss, 33, plan=plan) for _ in range(n_threads)]
    return plan, replicas, [replicas[0].gradient_vector() for _ in range(n_slots)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [lambda dtype: mlp(20, 300, 3, dtype=dtype), normed], ids=["plain", "normed"])
@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.SGD(0.1, momentum=0.9), optim.Adam()],
                         ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("n_threads, n_slots", [(1, 1), (2, 2), (3, 7), (4, 1)])
def test_the_report_is_what_allocation_takes(traced, dtype, make, optimizer, n_threads, n_slots):
    before = numpy_bytes()
    model = make(dtype)
    held = made(model, optimizer, n_threads, n_slots)
    taken = numpy_bytes() - before
    report = memory_report(model, held[0], optimizer, n_threads, n_slots)
    # an empty array takes one item: momenta without statistics
    assert 0 <= taken - report.total <= 8
    assert report.fits and report.n_threads == n_threads
    assert report.total - report.n_threads * report.workspace - n_slots * report.gradients == report.shared
    assert report.per_thread == report.gradients + report.workspace


class Rows(data.ItemDataset):
    def __init__(self, x, y, batch_size):
        super().__init__(batch_size)
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


@pytest.mark.parametrize("kind", [data.ArrayDataset, Batched, Rows])
def test_a_batch_size_beyond_the_data_takes_no_memory(traced, kind):
    """A plan of 10^9 rows has some 10^12 bytes of workspace."""
    x, y = classification(128, 20)
    taken, reports, bits = [], [], []
    for size in (128, 10**9):
        with Trainer(2, strategy=Shard(3), thread_count=2, seed=0) as t:
            before = numpy_bytes()
            t.init(kind(x, y, size), mlp(20, 300, 3), losses.SoftmaxCrossEntropy(), optim.Adam())
            t.train()
            taken.append(numpy_bytes() - before)
            reports.append(dataclasses.replace(t.memory_report(), available=None))
            t.profile(1)
        assert t.data.train.batch_size == size and t.history["updates"] == [1, 1]
        bits.append(t.model.params.tobytes())
    assert reports[0] == reports[1] and bits[0] == bits[1] and taken[1] < taken[0] + 10_000


def test_predict_takes_no_memory_for_rows_beyond_its_batch_size():
    m = mlp(20, 3000, 3)
    most = 600 * m.plan((20,), 1).program.work_bytes
    m.predict(np.zeros((550, 20), np.float32), batch_size=600)
    assert sum(r.program.work_bytes for _, idle in m._plans.values() for r in idle) <= most


@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize("kind", [data.ArrayDataset, Batched])
def test_the_report_of_a_local_training_is_what_its_copies_take(traced, kind, optimizer):
    x, y = classification(128, 20)
    with Trainer(1, strategy=Local(2), thread_count=3, seed=0) as t:
        before = numpy_bytes()
        t.init(kind(x, y, 33), normed("float32"), losses.SoftmaxCrossEntropy(), optimizer)
        report = t.memory_report()
        assert (report.n_copies, report.n_slots, report.n_workspaces) == (3, 3, 3)
        assert report.total == report.shared + 3 * report.per_thread and report.copy > report.parameters
        t.train()
        # an epoch's small change: order, results, and what the statistics are counted in
        assert 0 <= numpy_bytes() - before - report.total < min(report.copy, report.gradients) // 4
        again = t.memory_report()
        assert again.total == report.total and again.needed == 0
    text = str(report)
    assert "a copy of the model" in text and "workspace of a copy" in text


def test_the_report_allocates_nothing(traced):
    model, optimizer = mlp(20, 3000, 300), optim.Adam()
    plan = model.plan((20,), 64, loss=losses.SoftmaxCrossEntropy())
    memory_report(model, plan, optimizer, 64, 64)
    before = numpy_bytes()
    tracemalloc.reset_peak()
    now = tracemalloc.get_traced_memory()[0]
    report = memory_report(model, plan, optimizer, 64, 64)
    # lines of a few small files
    assert tracemalloc.get_traced_memory()[1] - now < 200_000
    assert numpy_bytes() == before
    assert report.total > 50_000_000


def test_what_is_held_is_not_needed_again():
    model, optimizer = mlp(20, 300, 3), optim.Adam()
    plan, _, slots = made(model, optimizer, 3, 5)
    new = memory_report(model, plan, optimizer, 3, 5)
    assert new.needed == new.total - new.parameters - new.statistics
    optimizer.step(slots[0])
    again = memory_report(model, plan, optimizer, 3, 5, held_threads=3, held_slots=5)
    assert again.total == new.total and again.needed == 0
    more = memory_report(model, plan, optimizer, 4, 5, held_threads=3, held_slots=5)
    assert more.needed - again.needed == more.workspace


def test_fitting_threads():
    report = MemoryReport(100, 200, 10, gradients=100, workspace=50, n_threads=8, n_slots=4)
    assert report.total == 310 + 400 + 400 and report.fits and fitting_threads(report) == 8
    for held in (0, 110):
        for available in range(report.total + 2):
            r = dataclasses.replace(report, available=available, held=held)
            fit = [n for n in range(1, 9) if dataclasses.replace(r, n_threads=n).fits]
            if fit:
                assert fitting_threads(r) == max(fit)
                assert r.fits == (max(fit) == 8)
            else:
                with pytest.raises(MemoryError):
                    fitting_threads(r)
    # where each thread brings a slot of its own
    own = MemoryReport(100, 200, 0, gradients=100, workspace=50, n_threads=8, n_slots=8)
    for available in range(450, own.total + 2):
        r = dataclasses.replace(own, available=available)
        assert fitting_threads(r, lambda n: (n, 0)) == min(8, (available - 300) // 150)
    copies = MemoryReport(100, 200, 0, gradients=60, workspace=50, n_threads=8, n_slots=8, n_copies=8, copy=40)
    assert fitting_threads(dataclasses.replace(copies, available=700), lambda n: (n, n)) == 2
    with pytest.raises(MemoryError, match=r"one thread and 8 copies of the model.*fewer n_models the copies .8 times 150 B"):
        fitting_threads(dataclasses.replace(copies, available=700))      # n_models fixed: fewer threads save nothing
    with pytest.raises(MemoryError, match="needs 450 B more with one thread and 1 gradient slot, and 449 B"):
        fitting_threads(dataclasses.replace(own, available=449), lambda n: (n, 0))
    with pytest.raises(MemoryError, match=r"needs 760 B more with one thread and 4 gradient slots, and 759 B are available.*"
                                          r"batch_size.*batches_per_update.*SGD.*float32"):
        fitting_threads(dataclasses.replace(report, available=759))


def test_the_table_of_a_report():
    text = str(MemoryReport(1023, 1024, 5 * 2**20, 2**40, 3 * 2**30, n_threads=1024, n_slots=1024, available=2**43, held=12))
    assert max(map(len, text.splitlines())) <= 80
    for part in ("1023 B", "1.0 KiB", "5.0 MiB", "1,024.0 GiB", "3.0 GiB", "1,024", "8,192.0 GiB", "does not fit"):
        assert part in text
    unknown = str(MemoryReport(1, 1, 1, 1, 1, 1, 1))
    assert "unknown" in unknown and "it fits" in unknown


# ------------------------------------------------------------------ memory comes back
class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                                                     "uordblks", "fordblks", "keepcost")]


try:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
except (AttributeError, OSError, TypeError):        # not glibc
    mallinfo2 = None


def c_bytes():
    """Bytes that the C library has given out (and mapped for large pieces); 0 where it does not tell."""
    if mallinfo2 is None:
        return 0
    info = mallinfo2()
    return info.uordblks + info.hblkhd


B, K = 4, 2         # samples of a batch, batches of an update
#: bytes of each batch while an epoch runs. Native: B rows of order and a bound; cut into pieces and groups: sizes, edges
#: and ends, which are full, owners, pieces of each and starts, 1/K groups, and the pieces twice more on their way.
#: Results (loss, status, worker, attempts) come later and are less. Python driver: the dataset's order and bounds, and
#: those from a range.
KNOWN = {data.ArrayDataset: 8 * B + 8 + 3 * 8 + 1 + 3 * 8 + 8 // K + 3 * 8, Batched: 8 * B + 2 * 8}


@pytest.mark.parametrize("kind", KNOWN)
def test_memory_of_an_update_is_its_batches_results(kind, monkeypatch):
    few = 50
    end = [0]
    real = Ledger.count

    def count(self, *args):
        end[0] = c_bytes()              # the last time everything of the epoch is alive
        real(self, *args)

    def cost(updates):
        """Of an epoch: the traced peak over what was before; C bytes at its end, and left after it; the least of three."""
        dataset = kind(*classification(updates * K * B), B)
        with Trainer(1, enable_parallel=True, thread_count=2, batches_per_update=K, seed=0) as t:
            t.init(dataset, mlp(6, 5, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
            t.train()       # replicas, slots and caches are there
            gc.collect()
            peaks = []
            tracemalloc.start()
            for _ in range(3):      # the least: Python's table of interned names may grow once, by megabytes
                tracemalloc.reset_peak()
                now = tracemalloc.get_traced_memory()[0]
                t.train()
                peaks.append(tracemalloc.get_traced_memory()[1] - now)
            tracemalloc.stop()
            gc.collect()
            at_ends, lefts = [], []
            with monkeypatch.context() as patch:
                patch.setattr(Ledger, "count", count)
                for _ in range(3):      # the least: interpreters without a GIL free some things later
                    before = c_bytes()
                    t.train()
                    gc.collect()
                    at_ends.append(end[0] - before)
                    lefts.append(c_bytes() - before)
            assert t.history["updates"][-1] == updates
        return min(peaks), min(at_ends), min(lefts)
    some, many = cost(few), cost(10 * few)
    peak, at_end, left = ((m - s) / (9 * few * K) for s, m in zip(some, many, strict=True))
    # one object more for each batch, of whatever kind, is at least 16 bytes
    assert peak < KNOWN[kind] + 16
    assert at_end < KNOWN[kind] + 16
    assert left < 4


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("strategy", [Group(5), Shard(5), Local(2, n_models=5), Hogwild()], ids=lambda s: s.name)
def test_an_update_allocates_no_vector(kind, strategy):
    """Once the replicas, slots and copies are there: not for the average either."""
    x, y = classification(80, 20)
    with Trainer(1, strategy=strategy, enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(kind(x, y, 8), mlp(20, 5000, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        t.train()
        gc.collect()
        peaks = []
        tracemalloc.start()
        for _ in range(3):      # the least, as above
            tracemalloc.reset_peak()
            now = tracemalloc.get_traced_memory()[0]
            t.train()
            peaks.append(tracemalloc.get_traced_memory()[1] - now)
        tracemalloc.stop()
        assert min(peaks) < t.memory_report().gradients // 3


def blocks():
    """Sizes of all traced pieces, but for Python's table of interned names and what tracemalloc itself keeps."""
    gc.collect()
    if hasattr(sys, "_clear_type_cache"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            sys._clear_type_cache()         # it keeps names that it was asked for
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])
    return [t.size for t in ours.traces if t.domain == NUMPY_DATA or t.size < 2**18]


def test_200_rounds_give_everything_back():
    dataset = small_set()
    for _ in range(3):
        train_to_digest(dataset)
    threads, seen, in_c = threading.active_count(), [], []
    tracemalloc.start()
    try:
        blocks()            # fills the caches of what it calls
        for i in range(1, 201):
            train_to_digest(dataset)
            if i in (50, 125, 200):
                seen.append(blocks())
                in_c.append(c_bytes())
    finally:
        tracemalloc.stop()
    assert threading.active_count() == threads
    # the least of two stretches of 75 rounds: what rounds leave is in both, a table of the process that grew once in one
    # an object left in every second of the rounds; or a word in each, in an object that is there already
    assert min(len(b) - len(a) for a, b in pairwise(seen)) < 75 // 2
    assert min(sum(b) - sum(a) for a, b in pairwise(seen)) < 75 * 8
    # one replica's scratch is a megabyte, so none is left over; the least, as above: the table of names is as large
    assert min(b - a for a, b in pairwise(in_c)) < 2**18

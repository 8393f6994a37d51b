"""How many threads: what says how many CPUs this process may use, and what is recommended of them. And what threads do
that something else keeps from their CPUs."""
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from every_strategy import TABLE, deep, digest, run
from small import classification, spoilt, stall, trainer

from tinydl import Trainer, data, losses, optim, parallel
from tinydl._kernels import engine
from tinydl.parallel import Replica
from tinydl.parallel.execution import native_driver, updates
from tinydl.parallel.host import threads

VARIABLES = ("TINYDL_NUM_THREADS", "OMP_NUM_THREADS", *threads.LAUNCHERS)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A made one, of 8 CPUs; (affinity=, unbound=, count=, **variables) change it."""
    def change(affinity=8, unbound=8, count=None, **variables):
        monkeypatch.setattr(threads, "affinity_cpus", lambda: affinity)
        monkeypatch.setattr(threads, "_unbound_cpus", lambda: unbound)
        monkeypatch.setattr(os, "process_cpu_count", lambda: count or affinity, raising=False)
        for variable in VARIABLES:
            monkeypatch.setenv(variable, variables.get(variable, ""))
        return tmp_path
    monkeypatch.setattr(threads, "_own_quota", lambda: None)
    change()
    return change


def write(root, **files):
    for name, text in files.items():
        file = root / name.replace("__", ".").replace("-", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


# ------------------------------------------------------------------ CPUs
ROWS = {
    "affinity": (dict(affinity=3), (3, "affinity")),
    "-X cpu_count": (dict(count=2), (2, "-X cpu_count or PYTHON_CPU_COUNT")),
    "-X cpu_count of more than there are": (dict(count=64), (8, "affinity")),
    "mpiexec": (dict(MPI_LOCALNRANKS="2"), (4, "MPI_LOCALNRANKS=2")),
    "mpiexec of Open MPI": (dict(OMPI_COMM_WORLD_LOCAL_SIZE="3"), (2, "OMPI_COMM_WORLD_LOCAL_SIZE=3")),
    "srun on several machines": (dict(SLURM_STEP_TASKS_PER_NODE="4(x2),3"), (2, "SLURM_STEP_TASKS_PER_NODE=4")),
    "torchrun": (dict(LOCAL_WORLD_SIZE="4", OMP_NUM_THREADS="3"), (2, "LOCAL_WORLD_SIZE=4")),
    "torchrun, as it does by itself": (dict(LOCAL_WORLD_SIZE="4", OMP_NUM_THREADS="1"), (1, "OMP_NUM_THREADS=1")),
    "torchrun within mpiexec": (dict(LOCAL_WORLD_SIZE="4", MPI_LOCALNRANKS="1"), (2, "LOCAL_WORLD_SIZE=4")),
    "more processes than CPUs": (dict(LOCAL_WORLD_SIZE="9"), (1, "LOCAL_WORLD_SIZE=9")),
    "bound by the launcher": (dict(affinity=4, MPI_LOCALNRANKS="2"), (4, "affinity")),
    "all CPUs of a container": (dict(affinity=4, unbound=4, MPI_LOCALNRANKS="2"), (2, "MPI_LOCALNRANKS=2")),
    "one process": (dict(MPI_LOCALNRANKS="1"), (8, "affinity")),
    "no number": (dict(MPI_LOCALNRANKS="many"), (8, "affinity")),
    "OpenMP": (dict(OMP_NUM_THREADS="5"), (5, "OMP_NUM_THREADS=5")),
    "OpenMP, nested": (dict(OMP_NUM_THREADS=" 4,2"), (4, "OMP_NUM_THREADS=4")),
    "OpenMP, of more than there are": (dict(OMP_NUM_THREADS="64"), (8, "affinity")),
    "OpenMP, wrong": (dict(OMP_NUM_THREADS="auto"), (8, "affinity")),
    "ours": (dict(TINYDL_NUM_THREADS="6", OMP_NUM_THREADS="1"), (6, "TINYDL_NUM_THREADS=6")),
    "ours, and a launcher": (dict(TINYDL_NUM_THREADS="6", MPI_LOCALNRANKS="4"), (2, "MPI_LOCALNRANKS=4")),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_decides(machine, row):
    has, decided = ROWS[row]
    machine(**has)
    assert threads.cpu_limit() == decided and parallel.usable_cpus() == decided[0]


def test_a_quota_is_shared_by_the_launchers_processes(machine):
    root = machine(MPI_LOCALNRANKS="2")
    write(root, **{"proc-self-cgroup": "0::/a\n", "sys-fs-cgroup-a-cpu__max": "500000 100000\n"})
    assert threads.cpu_limit(root) == (2, "MPI_LOCALNRANKS=2")
    machine(affinity=4, MPI_LOCALNRANKS="2")        # also by bound ones
    assert threads.cpu_limit(root) == (2, "MPI_LOCALNRANKS=2")


def test_usable_cpus(machine):
    root = machine()
    assert parallel.usable_cpus(root) == 8
    write(root, **{"proc-self-cgroup": "0::/a/b\n", "sys-fs-cgroup-a-b-cpu__max": "max 100000\n"})
    assert parallel.container_cpu_quota(root) is None
    write(root, **{"sys-fs-cgroup-a-cpu__max": "350000 100000\n"})
    assert parallel.container_cpu_quota(root) == 3.5 and threads.cpu_limit(root) == (3, "container CPU quota")
    machine(TINYDL_NUM_THREADS="2")
    assert parallel.usable_cpus(root) == 2
    machine(TINYDL_NUM_THREADS="many")
    with pytest.raises(ValueError, match="many"):
        parallel.usable_cpus(root)


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("group", ["", "-x", "-x-y", "-x-y-z"])
def test_the_quota_of_every_group_above(machine, mount, group):
    root = machine()
    write(root, **{"proc-self-cgroup": "4:cpu,cpuacct:/x/y/z\n2:memory:/m\n"})
    for at in ("", "-x", "-x-y", "-x-y-z"):
        folder = f"sys-fs-cgroup-{mount}{at}-cpu__cfs_"
        write(root, **{folder + "quota_us": "50000" if at == group else "-1", folder + "period_us": "100000"})
    assert parallel.container_cpu_quota(root) == 0.5 and parallel.usable_cpus(root) == 1


def test_the_quota_of_this_process_is_read_again_when_it_may_have_changed(machine, monkeypatch):
    monkeypatch.undo()
    machine()
    read, now = [], [100.0]
    monkeypatch.setattr(threads, "_quota_read", (-1.0, None))
    monkeypatch.setattr(threads, "container_cpu_quota", lambda: (read.append(now[0]), 3.0 - len(read))[1])
    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert parallel.usable_cpus() == 2
    now[0] += 29
    assert parallel.usable_cpus() == 2 and read == [100.0]
    now[0] += 2
    assert parallel.usable_cpus() == 1 and read == [100.0, 131.0]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="needs -X cpu_count")
def test_python_is_told_a_number_of_cpus():
    code = "from tinydl.parallel.host.threads import cpu_limit; print(cpu_limit().cpus)"
    done = subprocess.run([sys.executable, "-X", "cpu_count=1", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n", done.stderr


# ------------------------------------------------------------------ threads
def test_recommended_thread_count(machine):
    r = parallel.recommended_thread_count
    assert [r(100), r(3), r(0), r(), r(100, 500), r(100, 5000), r(4, 5000), r(1000, 50_000)] == [6, 3, 1, 6, 1, 8, 4, 6]
    for variable in ("TINYDL_NUM_THREADS", "OMP_NUM_THREADS"):      # of what is asked for, nothing is taken off
        machine(**{variable: "2"})
        assert [r(100), r(1), r(), r(100, 500), r(100, 5000)] == [2, 1, 2, 1, 2]
    machine(OMP_NUM_THREADS="7")
    assert [r(100), r(100, 5000)] == [6, 7]


def test_the_environment_is_read_as_training_begins(machine):
    machine(OMP_NUM_THREADS="2")
    with trainer(2_000, epochs=1, enable_parallel=True) as t:
        t.train()
        assert t.stats().thread_count == t.get_parallel_thread_count() == 2
        machine(OMP_NUM_THREADS="1")        # as Ray does between two tasks
        t.train()
        assert t.stats().thread_count == t.get_parallel_thread_count() == 1


def test_a_thread_count_that_is_given_wins(machine, monkeypatch):
    spins, run = [], engine.NativeRun
    monkeypatch.setattr(native_driver.engine, "NativeRun", lambda *args, **kw: (spins.append(kw["spins"]), run(*args, **kw))[1])
    for variables in (dict(OMP_NUM_THREADS="1"), dict(TINYDL_NUM_THREADS="1"), dict(MPI_LOCALNRANKS="8")):
        machine(**variables)
        with trainer(epochs=1, enable_parallel=True, thread_count=2) as t:
            t.train()
            assert t.stats().thread_count == 2
    assert spins == [updates.SPINS, updates.SPINS, 0]       # the last ones have not a CPU each


# ------------------------------------------------------------------ threads that something else keeps from their CPUs
def until_after(*groups):
    """For how many ms one goes on alone, after groups of so many microseconds that all met for."""
    alone = np.zeros(engine.ALONE, np.int64)
    for us in groups:
        engine.look(alone, 0, 1_000 * us)
    return int(alone.max(where=np.arange(engine.ALONE) == engine.ALONE - 1, initial=0)) / 1e6


@pytest.mark.parametrize(("groups", "ms"), [
    ([8] * 100, 0), ([8, 4000], 0), ([8, 8, 4000, 8, 4000], 16), ([8, 4000, 8, 4000, 8, 4000], 32), ([8] + [8, 4000] * 9, 128),
    ([8, 4000] + [8] * 3000 + [4000], 0),               # not within 20 ms
    ([8, 4000, 4000] + [8] * 3000 + [4000, 8, 4000], 16),
    ([8, 250, 8, 250], 0),                              # short enough to be waited for
    ([3000, 9000, 3000, 9000], 0),                      # groups are long: it is no stall beside them
    ([8, 4000] + [4000] * 100, 128)])
def test_after_stalls_one_goes_on_alone(groups, ms):
    assert until_after(*groups) == ms


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("strategy", ["group", "shard", "auto"])
def test_one_alone_gives_the_same_bits(one_alone, monkeypatch, strategy, k):
    who, collect = [], native_driver._outcome
    monkeypatch.setattr(native_driver, "_outcome", lambda epoch, run, t: (
        who.append({*run.native.workers.tolist()}), collect(epoch, run, t))[1])
    x, y = classification(90)
    results = [run(spoilt(data.ArrayDataset, x, y, 8, [33]), deep(), TABLE[strategy][0](), n, max_failed_fraction=1)
               for n in (1, k)]
    assert digest(results[0].model) == digest(results[1].model)
    assert results[0].history["loss"] == results[1].history["loss"]
    assert all(len(workers) == 1 for workers in who)


def test_one_goes_on_alone_for_a_while():
    """And then all meet again."""
    dataset = data.ArrayDataset(*classification(3000), 8)
    want = run(dataset, deep(), TABLE["shard"][0](), 1, epochs=4).model
    with Trainer(1, strategy=TABLE["shard"][0](), enable_parallel=True, thread_count=3, seed=7) as t:
        t.init(dataset, deep(), losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.01))
        for _ in range(4):
            stall(t.runtime.resources.alone, engine.clock() - 15_000_000)      # 1 ms is left
            t.train()
        assert digest(t.model) == digest(want)


def test_one_alone_that_is_abandoned_makes_no_more_updates():
    """Nor does the other one, which comes then."""
    x, y = classification(8)
    model, loss, optimizer, alone = deep(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01), np.zeros(engine.ALONE, np.int64)
    optimizer.bind(model.params, model.statistics, model.momenta)
    replicas = [Replica(model, loss, 4, plan=model.plan(max_rows=4, loss=loss)) for _ in range(2)]
    stall(alone, 2**61)
    run = engine.NativeRun([r.native for r in replicas], [r.gradient_vector() for r in replicas],
                           [engine.Source(x), engine.Source(y)], np.tile(np.arange(8), 100_000),
                           np.arange(200_001) * 4, optimizer.native(), alone=alone)
    first = threading.Thread(target=run.work, args=(0,))
    first.start()
    while run.updates < 3 or not run.abandon():         # it is refused while an update is made
        pass
    made, params = run.updates, model.params.tobytes()
    run.work(1)
    first.join(20)
    assert run.updates == made and model.params.tobytes() == params
    assert set(run.workers.tolist()) <= {0, -1}


def test_a_wrong_note_is_refused():
    with trainer() as t, pytest.raises(ValueError, match="alone: float64"):
        t.runtime.resources.alone = np.zeros(engine.ALONE)
        t.configure_parallel_training(True, 2)
        t.train()

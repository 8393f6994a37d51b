"""How many threads: what this process may use, and what is worth using.

The usable CPUs are the least of these, asked whenever it matters (launchers set variables between import and training):

| source | CPUs | where it counts |
|---|---|---|
| affinity | those that the scheduler may put this process on | always |
| container quota | of its control group and all above: the least, rounded down | where one is set |
| os.process_cpu_count() | as `-X cpu_count` or PYTHON_CPU_COUNT says | CPython 3.13 and later |
| launcher | a share of the quota, and of the affinity of an unbound process | a variable of LAUNCHERS is 2 or more |
| TINYDL_NUM_THREADS | as it says | where it is set |
| OMP_NUM_THREADS | its first number: torchrun, Ray, Dask and joblib set it | where TINYDL_NUM_THREADS is not set |
| process pool | 1: its processes have the CPUs together | multiprocessing or joblib is the parent, neither is set |

The first four say what there is, the others what is asked for. A thread count that the caller gives replaces all of them.
"""
from __future__ import annotations

import os
import sys
import time
from math import floor
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from tinydl.parallel.host import windows
from tinydl.parallel.host.system_files import read

if TYPE_CHECKING:
    from pathlib import Path

#: how many processes a launcher has started on this machine: MPICH and Intel MPI, Open MPI, torchrun, Slurm (of several machines
#: the first one's number)
LAUNCHERS = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_TASKS_PER_NODE")


class Limit(NamedTuple):
    """A limit on the number of CPUs, and where it comes from (for people)."""

    cpus: int
    source: str


def container_cpu_quota(root: str | Path = "/") -> float | None:
    """CPUs that the container's quota allows (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`), or None without one.

    The quotas of all parent groups count too; the result is the least of them.
    """
    from pathlib import Path
    root = Path(root)
    try:
        groups = read(root / "proc/self/cgroup").splitlines()
    except OSError:
        return None
    quotas = []
    for line in groups:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        parts = [p for p in path.split("/") if p and p != ".."]
        for depth in range(len(parts) + 1):
            group = "/".join(parts[:depth])
            if controllers == "":
                quotas.append(_quota_v2(root / "sys/fs/cgroup" / group / "cpu.max"))
            elif "cpu" in controllers.split(","):
                quotas += [_quota_v1(root / "sys/fs/cgroup" / mount / group) for mount in ("cpu", "cpu,cpuacct")]
    known = [q for q in quotas if q is not None]
    return min(known) if known else None


def _quota_v2(file: Path) -> float | None:
    try:
        quota, period = read(file).split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int(read(folder / "cpu.cfs_quota_us"))
        period = int(read(folder / "cpu.cfs_period_us"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def affinity_cpus() -> int:
    """CPUs that the scheduler may put this process on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return windows.affinity_cpus() or os.cpu_count() or 1


def _unbound_cpus() -> int:
    """CPUs that a process may use if nobody has restricted it: those of process 1 of the machine or container."""
    try:
        return len(os.sched_getaffinity(1))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


_quota_read: tuple[float, float | None] = (-1.0, None)      # when the quota was read last, and what it was
#: seconds for which it is not read again: reading a dozen small files takes 0.4 ms, longer than an epoch may take
_QUOTA_HOLDS = 30.0


def _own_quota() -> float | None:
    """The CPU quota of this process, read at most every _QUOTA_HOLDS seconds."""
    global _quota_read
    read_at, quota = _quota_read
    if read_at < 0 or time.monotonic() - read_at > _QUOTA_HOLDS:
        quota = container_cpu_quota()
        _quota_read = time.monotonic(), quota
    return quota


def machine_limits(quota_root: str | Path = "/") -> list[Limit]:
    """All limits that say how many CPUs there are for this process."""
    affinity = affinity_cpus()
    limits = [Limit(affinity, "affinity")]
    quota = _own_quota() if quota_root == "/" else container_cpu_quota(quota_root)
    if quota is not None:
        limits.append(Limit(max(1, floor(quota)), "container CPU quota"))
    count = getattr(os, "process_cpu_count", None)
    if count is not None:
        limits.append(Limit(count() or affinity, "-X cpu_count or PYTHON_CPU_COUNT"))
    for variable in LAUNCHERS:
        local = _number(variable)
        if local > 1:
            shared = [quota] if quota is not None else []       # the processes share the quota of their group
            if affinity >= _unbound_cpus():
                shared.append(affinity)
            if shared:
                limits.append(Limit(max(1, floor(min(shared) / local)), f"{variable}={local}"))
    return limits


def asked_limits() -> list[Limit]:
    """The limit that the environment asks for, in a list; an empty list if there is none."""
    wanted = os.environ.get("TINYDL_NUM_THREADS", "").strip()
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"TINYDL_NUM_THREADS={wanted!r}: must be a whole number, at least 1")
        return [Limit(int(wanted), f"TINYDL_NUM_THREADS={wanted}")]
    if openmp := _number("OMP_NUM_THREADS"):
        return [Limit(openmp, f"OMP_NUM_THREADS={openmp}")]
    return [Limit(1, "process pool")] if in_process_pool() else []


def _number(variable: str) -> int:
    """The first number in a variable like OMP_NUM_THREADS=4,2 or SLURM_STEP_TASKS_PER_NODE=2(x3); 0 if there is none."""
    text = os.environ.get(variable)
    if not text:
        return 0
    first = text.split(",")[0].split("(")[0].strip()
    return int(first) if first.isdecimal() else 0


def cpu_limit(quota_root: str | Path = "/") -> Limit:
    """The least of all limits; of equal ones, the first in the table above."""
    return min([*machine_limits(quota_root), *asked_limits()], key=itemgetter(0))


def usable_cpus(quota_root: str | Path = "/") -> int:
    """CPUs that this process should use: the least of its affinity, the container's quota (rounded down), what `-X cpu_count`
    says, its share where a launcher has started several processes, and TINYDL_NUM_THREADS or else OMP_NUM_THREADS; 1 in a
    process that multiprocessing or joblib started, where neither is set. `tinydl info` says which one decides.

        >>> usable_cpus() >= 1
        True
    """
    return cpu_limit(quota_root).cpus


def machine_cpus() -> int:
    """How many CPUs there are for this process, whatever the environment asks for."""
    return min(limit.cpus for limit in machine_limits())


def in_process_pool() -> bool:
    """Whether multiprocessing (or joblib, or concurrent.futures, by it) started this process."""
    process = sys.modules.get("multiprocessing.process")        # loaded in all that it started
    return process is not None and process.parent_process() is not None


def recommended_thread_count(n_batches: int | None = None, n_samples: int | None = None) -> int:
    """Threads worth using for an epoch of n_batches batches.

    For large sets it is max(1, min(floor(0.75 * usable CPUs), n_batches)): a quarter of the CPUs is left to the rest of the
    program. A number that TINYDL_NUM_THREADS or OMP_NUM_THREADS asks for is not reduced. If n_samples is given: 1 thread
    below 1,000 samples (starting threads takes longer than the epoch), and all usable CPUs up to 10,000.

        >>> recommended_thread_count(n_batches=1)
        1
    """
    counts = [limit.cpus for limit in asked_limits()]
    if n_samples is None or n_samples > 10_000:
        counts.append(floor(0.75 * machine_cpus()))
    else:
        counts.append(machine_cpus() if n_samples >= 1_000 else 1)
    if n_batches is not None:
        counts.append(n_batches)
    return max(1, min(counts))

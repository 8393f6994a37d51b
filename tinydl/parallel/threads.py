"""How many threads: what this process may use, and what is worth using."""
from __future__ import annotations

import os
import sys
import time
from math import floor
from typing import TYPE_CHECKING

from tinydl.parallel.system_files import read

if TYPE_CHECKING:
    from pathlib import Path


def container_cpu_quota(root: str | Path = "/") -> float | None:
    """CPUs that the container's quota allows (cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`), or None without one.

    In version 2 the quota of every group above counts too: the least of them.
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
        if controllers == "":
            base = root / "sys/fs/cgroup"
            parts = [p for p in path.split("/") if p and p != ".."]
            for depth in range(len(parts) + 1):
                quotas.append(_quota_v2(base.joinpath(*parts[:depth]) / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct"):
                base = root / "sys/fs/cgroup" / mount
                for folder in (base / path.strip("/"), base):
                    quotas.append(_quota_v1(folder))
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
        return os.cpu_count() or 1


_quota_read: tuple[float, float | None] = (-1.0, None)      # when, and what it said
#: seconds for which that holds: it is a dozen small files, 0.4 ms, more than many an epoch
_QUOTA_HOLDS = 30.0


def _own_quota() -> float | None:
    """This process's quota."""
    global _quota_read
    read_at, quota = _quota_read
    if read_at < 0 or time.monotonic() - read_at > _QUOTA_HOLDS:
        quota = container_cpu_quota()
        _quota_read = time.monotonic(), quota
    return quota


def usable_cpus(quota_root: str | Path = "/") -> int:
    """The least of affinity, container quota (rounded down) and TINYDL_NUM_THREADS; at least 1."""
    counts = [affinity_cpus()]
    quota = _own_quota() if quota_root == "/" else container_cpu_quota(quota_root)
    if quota is not None:
        counts.append(floor(quota))
    wanted = os.environ.get("TINYDL_NUM_THREADS", "").strip()
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"TINYDL_NUM_THREADS={wanted!r}: must be a whole number, at least 1")
        counts.append(int(wanted))
    return max(1, min(counts))


def in_process_pool() -> bool:
    """Whether multiprocessing (or joblib, or concurrent.futures, by it) started this process."""
    process = sys.modules.get("multiprocessing.process")        # loaded in all that it started
    return process is not None and process.parent_process() is not None


def recommended_thread_count(n_batches: int | None = None, n_samples: int | None = None) -> int:
    """Threads worth using for an epoch of n_batches batches.

    max(1, min(floor(0.75 * usable CPUs), n_batches)) for large sets: a quarter is left to the rest of the
    program. Where n_samples is given: 1 below 1,000 (an epoch is over before threads have met), all usable CPUs
    up to 10,000 (short runs leave nothing else to do). In a process that multiprocessing or joblib started 1, or what
    TINYDL_NUM_THREADS says: it may be one of a pool's, which have the CPUs together.

        >>> recommended_thread_count(n_batches=1)
        1
    """
    cpus = usable_cpus()
    if in_process_pool() and not os.environ.get("TINYDL_NUM_THREADS", "").strip():
        cpus = 1
    elif n_samples is not None and n_samples < 1_000:
        cpus = 1
    elif n_samples is None or n_samples > 10_000:
        cpus = floor(0.75 * cpus)
    return max(1, cpus if n_batches is None else min(cpus, n_batches))

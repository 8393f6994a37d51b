"""What machine figures come from."""
from __future__ import annotations

import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


def describe() -> dict[str, Any]:
    """Processor, CPUs, memory, system, versions; what cannot be found out is left out."""
    from tinydl import __version__, _kernels
    from tinydl.parallel import container_cpu_quota, usable_cpus
    out: dict[str, Any] = {"cpus": os.cpu_count(), "usable_cpus": usable_cpus(), "cpu_quota": container_cpu_quota(),
                           "machine": platform.machine(), "system": f"{platform.system()} {platform.release()}",
                           "python": sys.version.split()[0], "tinydl": __version__, "instruction_set": _kernels.isa}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            info = {key.strip(): value.strip() for key, _, value in (row.partition(":") for row in f)}
        out["processor"] = info.get("model name", "")
        out["processor_family"] = f"family {info.get('cpu family')}, model {info.get('model')}, stepping {info.get('stepping')}"
    except (OSError, ValueError):
        out["processor"] = platform.processor()
    caches = {}
    base = "/sys/devices/system/cpu/cpu0/cache"
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        try:
            kind, level, size = (Path(base, name, part).read_text(encoding="ascii").strip() for part in ("type", "level", "size"))
            if kind != "Instruction":
                caches[f"L{level}"] = size
        except (OSError, ValueError):
            continue
    if caches:
        out["caches"] = caches
    try:
        out["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError, AttributeError):
        pass
    out["libraries"] = {}
    for name in ("numpy", "torch", "jax", "jaxlib", "scikit-learn"):
        try:
            out["libraries"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def line(d: dict[str, Any]) -> str:
    """The description in one line."""
    caches = ", ".join(f"{k} {v}" for k, v in d.get("caches", {}).items())
    return (f"{d.get('processor') or d['machine']} ({caches or 'caches unknown'}), "
            f"{d['usable_cpus']} usable of {d['cpus']} CPUs, "
            f"{d.get('memory_gib', '?')} GiB, {d['system']}, "
            f"Python {d['python']}, tinydl {d['tinydl']} ({d['instruction_set']})")


def busy_seconds() -> float | None:
    """CPU seconds that this machine has spent on anything, or None where it does not tell (not Linux)."""
    try:
        with open("/proc/stat", encoding="ascii") as f:
            fields = [int(v) for v in f.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def cpus_at_once(n: int, seconds: float = 0.03) -> float:
    """How many CPUs' work n threads do at the same time: about n, or less where virtual CPUs share a core just now."""
    if n == 1:
        return 1.0
    alone = _work(seconds)
    cpus = sorted(os.sched_getaffinity(0))[:n] if hasattr(os, "sched_getaffinity") else [None] * n
    with ThreadPoolExecutor(n) as pool:
        return sum(pool.map(_work, [seconds] * n, cpus)) / alone


def _work(seconds: float, cpu: int | None = None) -> float:
    """Matrix products a second in this thread, on that CPU: without the GIL, and within the L2 cache."""
    from tinydl import _kernels
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    a, out = np.ones((192, 192), np.float32), np.empty((192, 192), np.float32)
    n, took, start = 0, 0.0, time.perf_counter()
    while took < seconds:
        _kernels.call("matmul", a=a, b=a, out=out)
        n += 1
        took = time.perf_counter() - start
    return n / took

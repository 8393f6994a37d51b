"""tinydl info: what tinydl found on this machine."""
from __future__ import annotations

import argparse
import os
import platform
import sys

import numpy as np

from tinydl import _kernels, parallel
from tinydl._version import __version__
from tinydl.cli.errors import CommandError
from tinydl.parallel.host.threads import affinity_cpus, cpu_limit


def lines() -> list[tuple[str, str]]:
    """What and its value, in the order to show them."""
    quota = parallel.container_cpu_quota()
    limit = os.environ.get("TINYDL_NUM_THREADS", "").strip()
    try:
        usable, source = cpu_limit()
        recommended, short = parallel.recommended_thread_count(), parallel.recommended_thread_count(n_samples=1_000)
    except ValueError as e:
        raise CommandError(str(e)) from None
    return [
        ("tinydl", __version__),
        ("instruction set", _kernels.isa),
        ("  available here", ", ".join(_kernels.isa_available)),
        ("  built", ", ".join(_kernels.isa_built)),
        ("cores", str(os.cpu_count() or "unknown")),
        ("CPUs of affinity", str(affinity_cpus())),
        ("container CPU quota", "none" if quota is None else f"{quota:g}"),
        ("TINYDL_NUM_THREADS", limit or "not set"),
        ("usable CPUs", f"{usable} (decided by {source})"),
        ("recommended threads", f"{recommended} for large sets, {short} for 1,000 to 10,000 samples, 1 below"),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()}, "
                   f"{'GIL' if getattr(sys, '_is_gil_enabled', lambda: True)() else 'free-threaded, GIL off'})"),
        ("NumPy", np.__version__),
    ]


def run(options: argparse.Namespace) -> int:
    rows = lines()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0

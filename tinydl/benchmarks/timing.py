"""Timing that notices other load: chunks in which other programs used the CPUs do not count, where that can be seen."""
from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any


def busy_seconds() -> float | None:
    """CPU seconds that this machine has spent on anything, or None where it does not tell (not Linux)."""
    try:
        with open("/proc/stat", encoding="ascii") as f:
            fields = [int(v) for v in f.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def measure(work: Callable[[int], Any], samples_per_batch: int, seconds: float, chunk: float = 0.25) -> dict[str, float]:
    """Samples per second of work(n batches): the median of undisturbed chunks of about `chunk` seconds.

    The first call's time is `first_s`; 0.3 s of warm-up follow.
    """
    start = time.perf_counter()
    work(1)
    first = time.perf_counter() - start
    n, per = 0, 1
    start = time.perf_counter()
    while time.perf_counter() - start < 0.3 or n < 2:
        work(per)
        n += per
        per = min(2 * per, 256)
    per = max(1, round(n / (time.perf_counter() - start) * chunk))
    chunks: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < 3 * seconds:
        before, own, start = busy_seconds(), time.process_time(), time.perf_counter()
        work(per)
        took, after = time.perf_counter() - start, busy_seconds()
        foreign = 0.0 if before is None or after is None else (after - before - (time.process_time() - own)) / took
        chunks.append((took, foreign))
        if sum(t for t, f in chunks if f < 0.12) >= seconds:
            break
    quiet = [t for t, f in chunks if f < 0.12]
    times = quiet if len(quiet) >= 3 else [t for t, _ in sorted(chunks, key=lambda c: c[1])[:max(3, len(chunks) // 3)]]
    return {"rate": per * samples_per_batch / statistics.median(times), "best": per * samples_per_batch / min(times),
            "chunks": len(chunks), "quiet_chunks": len(quiet), "first_s": first,
            "foreign_cpus": statistics.mean(f for _, f in chunks)}

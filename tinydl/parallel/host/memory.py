"""How much memory: what this process may still take, and what training takes."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from tinydl._kernels.engine import ALIGNING, scratch_bytes
from tinydl.parallel.host import windows
from tinydl.parallel.host.system_files import read

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.model import Model
    from tinydl.optim import Optimizer
    from tinydl.optim.base import OptimizerState
    from tinydl.plan import Plan

__all__ = ["MemoryReport", "available_memory", "fitting_threads", "memory_report", "starts_of"]

#: from this number on a limit is none: control groups of version 1 say "no limit" by a number near 2 ** 63
NO_LIMIT = 1 << 60


def available_memory(root: str | Path = "/") -> int | None:
    """Bytes that this process may still allocate, or None if the system does not say (neither Linux nor Windows).

    The least of what is free in its control groups (version 2: memory.max - memory.current, version 1:
    memory.limit_in_bytes - memory.usage_in_bytes; those above count too) and MemAvailable of /proc/meminfo. Pages of
    files that nobody used lately (inactive_file) count as free: the kernel drops them first. On Windows, the lesser of the
    free memory and of what may still be committed.
    """
    from pathlib import Path
    root = Path(root)
    free = [_mem_available(root / "proc/meminfo")]
    try:
        groups = read(root / "proc/self/cgroup").splitlines()
    except OSError:
        groups = []
    for line in groups:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        parts = [p for p in path.split("/") if p and p != ".."]
        for depth in range(len(parts) + 1):
            free.append(_free(base.joinpath(*parts[:depth]), *names))
    known = [f for f in free if f is not None]
    return min(known) if known else windows.free_memory()


def _free(folder: Path, limit_name: str, usage_name: str, inactive_name: str) -> int | None:
    """Bytes that the processes of a control group may still allocate; None if it has no limit."""
    try:
        limit = int(read(folder / limit_name))          # "max" is a ValueError: no limit
        usage = int(read(folder / usage_name))
    except (OSError, ValueError):
        return None
    return None if limit >= NO_LIMIT else max(0, limit - usage + _field(folder / "memory.stat", inactive_name, 0))


def _mem_available(meminfo: Path) -> int | None:
    kib = _field(meminfo, "MemAvailable:", -1)
    return None if kib < 0 else kib * 1024


def _field(file: Path, name: str, default: int) -> int:
    """The number behind `name` in a file of lines like "name 12" or "name 12 kB"."""
    try:
        for line in read(file).splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == name:
                return int(words[1])
    except (OSError, ValueError):
        pass
    return default


@dataclass(frozen=True)
class MemoryReport:
    """Bytes that training takes; `print(report)` shows a table.

    Shared by all threads: parameters, optimizer_state, statistics (running ones, and their momenta). gradients: of one slot;
    there is one for every batch or part of an update, or of many for 8 of them (or two a thread) and some more (Setting.n_slots
    in epoch.py). workspace: of one thread. available: what the process may still allocate (None: unknown). held: how much of the
    total is allocated already, so not part of `available`. n_copies: models that are trained beside the shared one (strategy
    local), each with `copy` bytes of parameters, statistics and optimizer state, a slot, and a workspace; the threads have no
    workspace then.

    Not counted: the data and an epoch's order, what Python layers keep, plans of `predict`, stacks of threads.
    """

    parameters: int
    optimizer_state: int
    statistics: int
    gradients: int
    workspace: int
    n_threads: int
    n_slots: int
    available: int | None = None
    held: int = 0
    n_copies: int = 0
    copy: int = 0

    @property
    def shared(self) -> int:
        """Bytes that are needed once, however many threads there are."""
        return self.parameters + self.optimizer_state + self.statistics

    @property
    def per_thread(self) -> int:
        """Bytes that one more thread needs, if it has a slot of its own."""
        return self.copy + self.gradients + self.workspace

    @property
    def n_workspaces(self) -> int:
        return self.n_copies or self.n_threads

    @property
    def total(self) -> int:
        """All bytes, those that are held already included."""
        return (self.shared + self.n_copies * self.copy + self.n_slots * self.gradients + self.n_workspaces * self.workspace)

    @property
    def needed(self) -> int:
        """Bytes that are still to be allocated."""
        return max(0, self.total - self.held)

    @property
    def fits(self) -> bool:
        """Whether `needed` bytes are available; True if that is unknown."""
        return self.available is None or self.needed <= self.available

    def __str__(self) -> str:
        def row(what: str, each: int, times: int) -> tuple[str, str, str, str]:
            return what, _text(each), f"{times:,}", _text(times * each)
        rows = [("memory", "each", "times", "bytes"),
                row("parameters", self.parameters, 1), row("optimizer state", self.optimizer_state, 1),
                row("running statistics", self.statistics, 1),
                *(row("a copy of the model", self.copy, self.n_copies) for _ in range(self.n_copies > 0)),
                row("gradients of a slot", self.gradients, self.n_slots),
                row(f"workspace of a {'copy' if self.n_copies else 'thread'}", self.workspace, self.n_workspaces),
                ("total", "", "", _text(self.total)),
                ("held already", "", "", _text(self.held)),
                ("available", "", "", "unknown" if self.available is None else _text(self.available))]
        widths = [max(len(r[c]) for r in rows) for c in range(4)]
        lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
                 for r in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join([*lines, "it fits" if self.fits else f"it does not fit: {_text(self.needed)} needed"])


def _text(n: int) -> str:
    """A number of bytes as text: 12 B, 3.4 KiB, 5.6 MiB, 7.8 GiB."""
    if n < 1024:
        return f"{n} B"
    unit, size = next(((u, s) for u, s in (("KiB", 2**10), ("MiB", 2**20)) if n < 1024 * s), ("GiB", 2**30))
    return f"{n / size:,.1f} {unit}"


def starts_of(sizes: Iterable[int]) -> list[int]:
    """Offsets of vectors of the given sizes (in items) laid out one after another, each at a cache line; the last number is
    where they end."""
    return list(accumulate((-(-n // 16) * 16 for n in sizes), initial=0))


def memory_report(model: Model, plan: Plan, optimizer: Optimizer, n_threads: int, n_slots: int, n_copies: int = 0, *,
                  state: OptimizerState | None = None, held_threads: int = 0, held_slots: int = 0,
                  held_copies: int = 0) -> MemoryReport:
    """The memory for training `model` by `plan` with n_threads replicas and n_slots gradient vectors, or with n_copies of
    the model, which have a replica and a slot each. Nothing is allocated.

    held_threads, held_slots, held_copies: how many of them exist and have been used. The parameters count as held; the
    optimizer's state (`state`, or the one that it holds) does so after its first update, since the system gives memory only
    when it is first written to.
    """
    program, itemsize = plan.program, model.dtype.itemsize
    trained = model.params.nbytes + ALIGNING
    parameters = trained + sum(values.nbytes + ALIGNING for values in model._frozen_values)
    statistics = model.statistics.nbytes + ALIGNING + model.momenta.nbytes
    n_state = len(optimizer.names())
    optimizer_state = n_state * trained
    copy = starts_of([model.params.size, model.statistics.size, *[model.params.size] * n_state])[-1] * itemsize + ALIGNING
    gradients = program.n_grads * itemsize + ALIGNING
    workspace = program.work_bytes + scratch_bytes(program) + 2 * ALIGNING
    held = parameters + statistics + held_threads * workspace + held_slots * gradients
    held += held_copies * (copy + gradients + workspace)
    t, vectors = (optimizer.t, optimizer.state) if state is None else (state.t, state.vectors)
    if t:
        held += sum(v.nbytes + ALIGNING for v in vectors.values())
    return MemoryReport(parameters, optimizer_state, statistics, gradients, workspace, n_threads, n_slots,
                        available_memory(), held, n_copies, copy if n_copies else 0)


def fitting_threads(report: MemoryReport, counts: Callable[[int], tuple[int, int]] | None = None) -> int:
    """The greatest number of threads, at most the report's, that there is memory for; MemoryError if not even one fits.

    counts: a function from a number of threads to the gradient slots and copies of the model that they need. Without it both
    stay as in the report: that is right where the batches of an update are fixed, and fewer threads give the same bits.

        >>> report = MemoryReport(100, 200, 0, 100, 50, n_threads=8, n_slots=8, available=700)
        >>> fitting_threads(report, lambda n_threads: (n_threads, 0))
        2
    """
    for n in range(report.n_threads, 0, -1):
        n_slots, n_copies = (report.n_slots, report.n_copies) if counts is None else counts(n)
        fewer = replace(report, n_threads=n, n_slots=n_slots, n_copies=n_copies)
        if fewer.fits:
            return n
    slots = (f"{fewer.n_copies} copies of the model" if fewer.n_copies else
             f"{fewer.n_slots} gradient slot{'s' * (fewer.n_slots != 1)}")
    fewer_slots = (f"fewer n_models the copies ({fewer.n_copies} times {_text(fewer.per_thread)})" if fewer.n_copies else
                   f"fewer batches_per_update the gradients ({fewer.n_slots} times {_text(fewer.gradients)})")
    raise MemoryError(f"training needs {_text(fewer.needed)} more with one thread and {slots}, and "
                      f"{_text(fewer.available or 0)} are available: a smaller batch_size shrinks the workspace "
                      f"({_text(fewer.workspace)}), {fewer_slots}, SGD without momentum the optimizer's state "
                      f"({_text(fewer.optimizer_state)}), and float32 halves what is float64\n{fewer}")

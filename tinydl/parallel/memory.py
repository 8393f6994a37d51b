"""How much memory: what this process may still take, and what training takes."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinydl.parallel.system_files import read

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.model import Model
    from tinydl.optim import Optimizer
    from tinydl.plan import Plan

__all__ = ["MemoryReport", "available_memory", "fitting_threads", "memory_report"]

#: values of a replica's scratch: the matrix product's panels (csrc/simd.h), and 32 pieces for folding slots
SCRATCH = 672 * 400 + 400 * 32 + 32 * 1024
#: bytes that engine.aligned takes beyond the vector itself
ALIGNING = 64
#: version 1 has no word for "no limit", only a number near 2 ** 63
NO_LIMIT = 1 << 60


def available_memory(root: str | Path = "/") -> int | None:
    """Bytes that this process may still take, or None where nothing tells (not Linux).

    The least of what is free in its control groups (version 2: memory.max - memory.current, version 1:
    memory.limit_in_bytes - memory.usage_in_bytes; those above count too) and MemAvailable of /proc/meminfo. Pages of
    files that nobody used lately (inactive_file) count as free: the kernel drops them first.
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
    return min(known) if known else None


def _free(folder: Path, limit_name: str, usage_name: str, inactive_name: str) -> int | None:
    """Bytes that a group may still take; None without a limit."""
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

    Shared by all threads: parameters, optimizer_state, statistics (running ones, and their momenta). gradients: of
    each slot, one for every batch of an update. workspace: of each thread. available: what the process may still
    take (None: unknown). held: how much of the total is taken already, so not from `available`.

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

    @property
    def shared(self) -> int:
        """Once, however many threads there are."""
        return self.parameters + self.optimizer_state + self.statistics

    @property
    def per_thread(self) -> int:
        """One thread more, where it brings a slot of its own."""
        return self.gradients + self.workspace

    @property
    def total(self) -> int:
        """All of it, held or not."""
        return self.shared + self.n_slots * self.gradients + self.n_threads * self.workspace

    @property
    def needed(self) -> int:
        """What is still to be taken."""
        return max(0, self.total - self.held)

    @property
    def fits(self) -> bool:
        """Whether `needed` is available; True where that is unknown."""
        return self.available is None or self.needed <= self.available

    def __str__(self) -> str:
        rows = [("memory", "each", "times", "bytes"),
                ("parameters", _text(self.parameters), "1", _text(self.parameters)),
                ("optimizer state", _text(self.optimizer_state), "1", _text(self.optimizer_state)),
                ("running statistics", _text(self.statistics), "1", _text(self.statistics)),
                ("gradients of a slot", _text(self.gradients), f"{self.n_slots:,}", _text(self.n_slots * self.gradients)),
                ("workspace of a thread", _text(self.workspace), f"{self.n_threads:,}", _text(self.n_threads * self.workspace)),
                ("total", "", "", _text(self.total)),
                ("held already", "", "", _text(self.held)),
                ("available", "", "", "unknown" if self.available is None else _text(self.available))]
        widths = [max(len(r[c]) for r in rows) for c in range(4)]
        lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
                 for r in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join([*lines, "it fits" if self.fits else f"it does not fit: {_text(self.needed)} needed"])


def _text(n: int) -> str:
    """12 B, 3.4 KiB, 5.6 MiB, 7.8 GiB."""
    if n < 1024:
        return f"{n} B"
    unit, size = next(((u, s) for u, s in (("KiB", 2**10), ("MiB", 2**20)) if n < 1024 * s), ("GiB", 2**30))
    return f"{n / size:,.1f} {unit}"


def memory_report(model: Model, plan: Plan, optimizer: Optimizer, n_threads: int, n_slots: int, *, held_threads: int = 0,
                  held_slots: int = 0) -> MemoryReport:
    """What training `model` by `plan` takes with n_threads replicas and n_slots gradient vectors; nothing is allocated.

    held_threads, held_slots: replicas and slots that exist and have been used. The parameters count as held, the
    optimizer's state from its first update on (memory that nobody wrote to is not taken yet).
    """
    program, itemsize = plan.program, model.dtype.itemsize
    parameters = model.params.nbytes + ALIGNING
    statistics = model.statistics.nbytes + ALIGNING + model.momenta.nbytes
    optimizer_state = sum(parameters for name in optimizer.names() if name)
    gradients = program.n_grads * itemsize + ALIGNING
    workspace = program.work_bytes + SCRATCH * itemsize + 2 * ALIGNING
    held = parameters + statistics + held_threads * workspace + held_slots * gradients
    if optimizer.t:
        held += sum(v.nbytes for v in optimizer.state.values())
    return MemoryReport(parameters, optimizer_state, statistics, gradients, workspace, n_threads, n_slots,
                        available_memory(), held)


def fitting_threads(report: MemoryReport) -> int:
    """The greatest thread count, at most n_threads, that fits; MemoryError where not even one does.

    The slots stay as many as they are: they belong to the update, so fewer threads give the same bits.

        >>> fitting_threads(MemoryReport(100, 200, 0, 100, 50, n_threads=8, n_slots=4, available=1000))
        6
    """
    if report.fits or report.available is None:
        return report.n_threads
    excess = report.needed - report.available
    n = report.n_threads - -(-excess // report.workspace) if report.workspace else 0
    if n < 1:
        one = report.needed - (report.n_threads - 1) * report.workspace
        raise MemoryError(f"training needs {_text(one)} more with one thread and {report.n_slots} gradient slots, and "
                          f"{_text(report.available)} are available: a smaller batch_size shrinks the workspace "
                          f"({_text(report.workspace)}), fewer batches_per_update the gradients ({report.n_slots} times "
                          f"{_text(report.gradients)}), SGD without momentum the optimizer's state "
                          f"({_text(report.optimizer_state)}), and float32 halves what is float64\n{report}")
    return n

"""tinydl info: what tinydl found on this machine, or what is in the file of a model or a checkpoint."""
from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import textwrap
from contextlib import suppress

import numpy as np

from tinydl import Model, _kernels, parallel
from tinydl._version import __version__
from tinydl.checkpoint import describe
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
    others = f"{short} for 1,000 to 10,000 samples, 1 below"
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
        *([("recommended threads", f"{recommended} for large sets (3/4 of the CPUs, rounded down),"), ("", others)]
          if recommended < usable else [("recommended threads", f"{recommended} for large sets, {others}")]),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()}, "
                   f"{'GIL' if getattr(sys, '_is_gil_enabled', lambda: True)() else 'free-threaded, GIL off'})"),
        ("NumPy", np.__version__),
    ]


#: variables that mpiexec of MPICH (and Intel MPI) and of Open MPI, and Slurm's srun --mpi, give each process
STARTED_BY_MPI = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")


def of_ranks(usable: str) -> tuple[int, list[tuple[str, str]]]:
    """The number of this process among those that mpiexec has started, and what and its value, of all of them."""
    from tinydl.parallel.ranks import join
    try:
        ranks = join("mpi")
        from mpi4py import MPI
    except (ImportError, RuntimeError) as e:
        return 0, [("ranks", f"unknown: {e}")]
    vendor, version = MPI.get_vendor()
    here = ranks.swap("tinydl info", usable)
    return ranks.rank, [("MPI", f"{vendor} {'.'.join(map(str, version))}"), ("ranks", str(ranks.size)),
                        *((f"  rank {rank}", f"{host}, usable CPUs: {cpus}") for rank, (host, cpus) in
                          enumerate(zip(ranks.hosts, here, strict=True)))]


def of_model(path: str) -> str:
    """What the file of a model, or a checkpoint, says, as text."""
    try:
        model = Model.load(path)
    except FileNotFoundError:
        raise CommandError(f"{path}: there is no such file") from None
    except ValueError as e:
        with suppress(ValueError):
            return describe(path)
        raise CommandError(str(e).replace("pass custom_layers=", "only a program can load it, by Model.load with custom_layers=")
                           ) from None
    except OSError:
        raise
    except Exception as e:          # whatever a foreign file may lead to
        raise CommandError(f"{path} is not a model of tinydl, or is truncated ({type(e).__name__})") from None
    if model.input_shape is None:
        found = [f"{model.layer!r}, {model.dtype}", f"{model.num_parameters:,} parameters; the shape of its input is not known "
                 "before it has seen data"]
    else:
        found = [model.summary()]
    about = {"frozen": model.frozen, "columns": model.feature_names}
    width = shutil.get_terminal_size().columns
    found += [textwrap.fill(f"{what}: {', '.join(map(str, names))}", width, subsequent_indent="  ", break_long_words=False)
              for what, names in about.items() if names]
    facts = model.metadata.get("table")
    if isinstance(facts, dict) and {"task", "target", "classes", "features"} <= facts.keys():      # of `tinydl train`
        from tinydl.cli.about_table import about_table
        found += ["", about_table(model.metadata, width)]
    return "\n".join(found)


def run(options: argparse.Namespace) -> int:
    if options.model is not None:
        print(of_model(options.model))
        return 0
    rows, rank = lines(), 0
    if any(os.environ.get(name) for name in STARTED_BY_MPI) or os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        rank, found = of_ranks(dict(rows)["usable CPUs"])
        rows += found
    if rank:
        return 0
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0

"""What several commands do: count threads, train, and see that a file can be written before anything else is done."""
from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import tempfile
from pathlib import Path

from tinydl import Trainer, TrainingError
from tinydl.cli.errors import CommandError
from tinydl.cli.reading import Reading
from tinydl.cli.sources import standard_input
from tinydl.parallel import recommended_thread_count
from tinydl.parallel.host.threads import affinity_cpus

#: ends of names that say what is in a file
FORMATS = {".csv", ".onnx", ".py", ".parquet", ".feather", ".arrow", ".xlsx", ".json", ".jsonl", ".npy", ".npz", ".tinydl",
                 ".safetensors", ".pkl", ".pt", ".gz", ".zip", ".xz", ".bz2"}


def thread_count(asked: int, n_batches: int = 1, n_samples: int = 1) -> int:
    """Threads to train with: those asked for, or (0) the recommended ones; CommandError where that makes no sense."""
    try:
        recommended = recommended_thread_count(n_batches, n_samples)
    except ValueError as e:         # TINYDL_NUM_THREADS
        raise CommandError(str(e)) from None
    cpus = affinity_cpus()
    if asked > 4 * cpus:
        raise CommandError(f"--threads {asked} is too many for {plural(cpus, 'CPU')}: at most {4 * cpus}")
    return asked or recommended


def fit(trainer: Trainer, learning_rate: float) -> None:
    """trainer.train(); what fails in it is said in one line."""
    if os.environ.get("TINYDL_PARALLEL_DEBUG") != "1":
        logging.getLogger("tinydl").addHandler(logging.NullHandler())   # failures are counted in the epochs' lines
    try:
        trainer.train()
    except TrainingError as e:
        cause = f" ({e.failures[0].exception})" if e.failures else ""
        raise CommandError(f"training failed in {str(e).splitlines()[0]}{cause}: try a learning rate below "
                           f"{learning_rate:g}") from None


def plural(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 'es' if thing.endswith('s') else 's'}"


def check_writable(path: Path, what: str) -> None:
    """CommandError where a file at `path` (or where it links to) cannot be made; nothing stays behind. A folder that is missing
    will be made with the file (serialization.write_atomically), so what counts is the first that is there."""
    if path.exists() and not path.is_file():
        raise CommandError(f"{what} {path} is {'a folder' if path.is_dir() else 'not a plain file'}")
    folder = os.path.dirname(os.path.realpath(path))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise CommandError(f"{what} {path} cannot be written: {e.strerror}") from None


def check_picture(path: Path, what: str) -> None:
    """The same for a picture, whose format its name says."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf", ".jpg"):
        raise CommandError(f"{what} {path}: the name must end in .png, .svg, .pdf or .jpg")
    check_writable(path, what)


def check_format(path: Path, what: str, written: str) -> None:
    """CommandError where the name of a file that will be `written` ("CSV", "ONNX") ends as one of another format does."""
    if path.suffix.lower() in FORMATS - {f".{written.lower()}"}:
        raise CommandError(f"{what} {path}: {written} is what is written: name it {path.stem}.{written.lower()}")


def check_replaces_nothing(place: Path, what: str, *others: Path) -> None:
    """CommandError where a file at `place` would replace one of the others, which are read or written too."""
    for other in others:
        if not standard_input(other) and os.path.realpath(place) == os.path.realpath(other):
            raise CommandError(f"{what} {place} would replace {other}")


def check_sheet(given: str | None, *others: Path) -> None:
    """CommandError where `--sheet` names no file that can be written."""
    if given is None or given == "-":
        return
    path = Path(given)
    if path.suffix.lower() not in (".txt", ".html"):
        raise CommandError(f"--sheet {given}: the name must end in .txt or .html (or be -, for text to standard output)")
    if path.suffix.lower() == ".html" and importlib.util.find_spec("matplotlib") is None:
        raise CommandError(f"--sheet {given}: its pictures need matplotlib: pip install 'tinydl-parallel[plot]'; a name that "
                           "ends in .txt needs nothing")
    check_replaces_nothing(path, "--sheet", *others)
    check_writable(path, "--sheet")


def reading(options: argparse.Namespace) -> Reading:
    """How the options say that a table is to be read."""
    if options.separator is not None and options.separator == options.decimal:
        raise CommandError(f"--separator and --decimal are both {options.separator!r}")
    ignore, categorical, keep = (tuple(getattr(options, name, None) or ()) for name in ("ignore", "categorical", "id"))
    return Reading(options.separator, options.decimal, tuple(options.missing or ()), ignore, getattr(options, "index", False),
                   categorical, keep)

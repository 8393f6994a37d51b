"""The command line: `tinydl demo | train | predict | info | bench`.

Bad input ends with one line on stderr and exit code 2; Ctrl-C with 130, SIGTERM with 143 (also where what it saves then
cannot be written: the line says so), a closed pipe quietly with 141, as a shell counts them. Each command is a module
here, imported when it is called.
"""
from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any, NoReturn

from tinydl._version import __version__
from tinydl.cli.errors import CommandError, Terminated

__all__ = ["main"]

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
RIVALS = ("torch", "jax", "sklearn", "numpy")
WORKLOADS = ("W1", "W2", "W3", "W4", "digits", "matmul")
MAX_THREADS, MAX_WIDTH = 256, 65_536


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and whose --help to read."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Nothing is left over for the command before: it would point to its own help."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            close = get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, 1, cutoff=0.7)
            self.error(f"unrecognised arguments: {' '.join(unknown)}" + (f"; did you mean {close[0]}?" if close else ""))
        return options, unknown

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def parser() -> Parser:
    p = Parser(prog="tinydl", description="Train small neural networks on the CPU, serially and in parallel threads.")
    p.add_argument("--version", action="version", version=f"tinydl {__version__}")
    commands = p.add_subparsers(dest="command", metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="train on handwritten digits, serially and in parallel",
                               description="Train a network on 8x8 pictures of handwritten digits, serially and then "
                                           "in parallel from the same initial weights, and compare.")
    demo.set_defaults(run="tinydl.cli.demo:run")
    _training_options(demo, epochs=40, batch_size=32, hidden="512,256")
    demo.add_argument("--plot", metavar="PATH", help="where to draw the loss curves (default: tinydl-demo.png, "
                                                     "where matplotlib is installed)")
    demo.add_argument("--no-plot", action="store_true", help="draw nothing")

    train = commands.add_parser("train", help="train on your own data",
                                description="Train on FILE: a CSV with a header (numbers, text, dates, missing cells; also "
                                            "compressed), Parquet or Feather, or an .npz with x and y. Features are scaled or "
                                            "encoded, a part of the rows is held out for a test, and the model is saved "
                                            "with all that `tinydl predict` needs.")
    train.set_defaults(run="tinydl.cli.train:run_train")
    train.add_argument("file", metavar="FILE", help="CSV (also .gz, .xz, .bz2, .zip), Parquet, Feather, .npz with x and y; - is "
                                                    "standard input")
    train.add_argument("--target", metavar="COLUMN", help="the column to predict; rows without it are left out")
    train.add_argument("--task", choices=("classification", "regression"),
                       help="default: classification, where the target is text or few different whole numbers")
    train.add_argument("--ignore", action="append", metavar="COLUMN", help="leave this column out (may be said more than once)")
    train.add_argument("--index", action="store_true", help="the first column numbers or names the rows: leave it out (one "
                                                            "without a name that does is left out anyway)")
    train.add_argument("--categorical", action="append", metavar="COLUMN",
                       help="take this column's values as categories, also where they are numbers (may be said more than once)")
    _reading_options(train)
    train.add_argument("--test-fraction", type=_fraction, default=0.2, metavar="F",
                       help="share of the rows held out for the test (default: 0.2)")
    _training_options(train, epochs=60, batch_size=32, hidden="64,64")
    train.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="default: adam")
    train.add_argument("--learning-rate", "--lr", type=_positive, metavar="LR",
                       help="default: 0.001; sgd (with momentum 0.9) 0.01")
    train.add_argument("--out", metavar="MODEL", help="where to save the model (default: FILE's name with .tinydl, in "
                                                      "the current folder)")
    train.add_argument("--resume", action="store_true",
                       help="go on from MODEL.checkpoint, which SIGTERM or Ctrl-C leaves, with the same result as without "
                            "them, whatever number of threads is recommended now; all options but --epochs must be the "
                            "same. Removed when training is complete")
    train.add_argument("--quiet", action="store_true", help="print errors only")

    predict = commands.add_parser("predict", help="predict with a trained model",
                                  description="Write the predictions for FILE (its columns found by name; or .npz "
                                              "with x) as CSV: the class and the probability of each, or the value.")
    predict.set_defaults(run="tinydl.cli.train:run_predict")
    predict.add_argument("model", metavar="MODEL", help="a model that `tinydl train` saved")
    predict.add_argument("file", metavar="FILE", help="as of train; the target need not be there; other columns do no harm")
    _reading_options(predict)
    predict.add_argument("--out", metavar="FILE", help="write there instead of to standard output")

    info = commands.add_parser("info", help="what tinydl found on this machine, or what is in a model's file",
                               description="Show version, instruction set, CPUs and recommended threads; with MODEL, its inputs, "
                                           "outputs, layers and parameters instead.")
    info.add_argument("model", metavar="MODEL", nargs="?", help="a file that model.save or `tinydl train` wrote")
    info.set_defaults(run="tinydl.cli.info:run")

    bench = commands.add_parser("bench", help="measure, over thread counts or against other libraries",
                                description="Throughput of training over thread counts; with --against, side by side with "
                                            "other libraries (those that are installed), each in a process of its own.")
    bench.set_defaults(run="tinydl.cli.bench:run")
    bench.add_argument("--against", type=_rivals, metavar="A,B", help=f"of {', '.join(RIVALS)}")
    bench.add_argument("--workloads", type=_workloads, metavar="W,W",
                       help=f"of {', '.join(WORKLOADS)} (default: W2; with --against W1 to W4)")
    bench.add_argument("--threads", type=_counts, metavar="N,N", help="thread counts (default: 1 to the usable CPUs)")
    bench.add_argument("--runs", type=_count, default=20, metavar="N", help="rounds in which all take their turn (default: 20)")
    bench.add_argument("--seconds", type=_positive, default=0.2, metavar="S", help="measured time of a turn (default: 0.2)")
    bench.add_argument("--check", action="store_true", help="compare the losses of the first 20 batches, too")
    bench.add_argument("--out", metavar="FILE", help="write raw figures and the machine's description as JSON")
    bench.add_argument("--plot", metavar="FILE", help="draw a chart (needs matplotlib)")
    return p


def _reading_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--separator", type=_separator, metavar="S",
                   help="between cells: , ; | or comma, semicolon, pipe, tab (default: what cuts the first lines evenly)")
    p.add_argument("--decimal", choices=(".", ","), help="of numbers (default: , where cells show it and are cut by another)")
    p.add_argument("--missing", action="append", metavar="TEXT",
                   help="a cell of this text is missing, as are empty ones, NA, NaN, null, ? and what else pandas takes for it "
                        "(may be said more than once)")


def _training_options(p: argparse.ArgumentParser, *, epochs: int, batch_size: int, hidden: str) -> None:
    p.add_argument("--epochs", type=_count, default=epochs, metavar="N", help=f"default: {epochs}")
    p.add_argument("--batch-size", type=_count, default=batch_size, metavar="N",
                   help=f"samples a thread works on at a time (default: {batch_size})")
    p.add_argument("--hidden", type=_sizes, default=_sizes(hidden), metavar="N,N",
                   help=f"sizes of the hidden layers (default: {hidden})")
    p.add_argument("--threads", type=_threads, default=0, metavar="N",
                   help="0: as many as recommended (default). N batches make one update (strategy group), so the result "
                        "depends on N")
    p.add_argument("--seed", type=_seed, default=0, metavar="N", help="same seed, same result (default: 0)")


# ---------------------------------------------------------------------- types of options
def _whole(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high:,}")
    return value


def _count(text: str) -> int:
    return _whole(text, 1, 10_000_000)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**63 - 1)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_whole(part.strip(), 1, MAX_WIDTH) for part in text.split(","))


def _separator(text: str) -> str:
    names = {"comma": ",", "semicolon": ";", "pipe": "|", "tab": "\t", "\\t": "\t"}
    separator = names.get(text, text)
    if len(separator) != 1 or separator.isalnum() or separator in "\"\r\n.":
        raise argparse.ArgumentTypeError(f"{text!r} is not one of , ; | comma, semicolon, pipe, tab")
    return separator


def _some(text: str, known: tuple[str, ...]) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
    return names


def _rivals(text: str) -> list[str]:
    return _some(text, RIVALS)


def _workloads(text: str) -> list[str]:
    return _some(text, WORKLOADS)


def _counts(text: str) -> list[int]:
    return sorted({_whole(part.strip(), 1, MAX_THREADS) for part in text.split(",")})


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _fraction(text: str) -> float:
    value = _real(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return value


def _positive(text: str) -> float:
    value = _real(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _threads(text: str) -> int:
    return _whole(text, 0, MAX_THREADS)


# ---------------------------------------------------------------------- running
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's) and return its exit code; it never exits by itself."""
    try:
        with _sigterm_raises():
            try:
                return _run(argv)
            except (KeyboardInterrupt, Terminated):
                with suppress(OSError):         # its end has a reason already
                    _flush()
                raise
            finally:
                _flush()
    except CommandError as e:
        return _end(2, str(e))
    except BrokenPipeError:
        return 141
    except OSError as e:
        return _end(2, f"{e.filename}: {e.strerror}" if e.filename else str(e.strerror or e))
    except MemoryError as e:
        return _end(2, f"not enough memory{f': {e}' if str(e) else ''}")
    except KeyboardInterrupt as e:
        return _end(130, str(e) or "interrupted")
    except Terminated as e:
        return _end(143, str(e) or "terminated")


def _run(argv: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(argv)
    except SystemExit as e:         # --help, --version
        return int(e.code or 0)
    module, function = options.run.split(":")
    command: Any = getattr(importlib.import_module(module), function)
    return int(command(options))


def _flush() -> None:
    """Write what is left of the output; where that fails it goes nowhere, or the interpreter would try again at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise


def _end(code: int, message: str) -> int:
    line = " ".join(message.split())
    try:
        print(f"tinydl: {line}", file=sys.stderr, flush=True)
    except OSError:
        pass
    return code


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM raises Terminated, once, so that half-written files are removed and checkpoints saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

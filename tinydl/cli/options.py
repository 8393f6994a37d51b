"""What can be said on the command line: the commands and their options. Nothing heavy is imported for it."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NoReturn

from tinydl._version import __version__
from tinydl.cli.errors import CommandError
from tinydl.tabular import BATCH_SIZES, BATCHES, CLASSES, NUMBERS

#: their default rates for classes and for numbers, as multiples of the recipe's, which is AdamW's. Of concrete (modeldata), whose
#: target is a number, training by sgd fails with 0.1; digits do with 0.5.
OPTIMIZERS = {"adamw": (1.0, 1.0), "adam": (1.0, 1.0), "sgd": (5.0, 1.0), "rmsprop": (0.1, 0.1)}
SCHEDULES = ("cos-log", "constant", "linear", "cosine", "one-cycle")
#: by which that is multiplied where the rate does not change
CONSTANT = 0.25
METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "top_k_accuracy",
           "log_loss", "brier", "calibration_error", "mse", "rmse", "mae", "r2")
RIVALS = ("torch", "jax", "sklearn", "numpy")
WORKLOADS = ("W1", "W2", "W3", "W4", "digits", "matmul")
MAX_THREADS, MAX_WIDTH, MAX_MEMBERS = 256, 65_536, 256
#: options that other programs have
OTHER_NAMES = {"-o": "--out", "--output": "--out", "--model": "--out", "-t": "--target", "--label": "--target", "--y": "--target",
               "--max-epochs": "--epochs", "--n-epochs": "--epochs", "--max-time": "--time", "--timeout": "--time",
               "--random-state": "--seed", "--layers": "--hidden", "-j": "--threads", "--jobs": "--threads",
               "--sep": "--separator", "--delimiter": "--separator", "--drop": "--ignore", "--exclude": "--ignore",
               "--ensemble": "--members", "-q": "--quiet", "--report": "--sheet"}
#: rows of a table of which a part is set aside unless an option says so: of fewer it would be less than eight
FEWEST = 50


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and whose --help to read."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Nothing is left over for the command before: it would point to its own help."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognised arguments: {' '.join(unknown)}{self._meant(unknown[0].partition('=')[0])}")
        return options, unknown

    def _meant(self, asked: str) -> str:
        """What else to say of an argument that is none of this command's."""
        known = self._option_string_actions
        if not asked.startswith("-"):
            twice = [name for name in ("--ignore", "--id", "--categorical") if name in known]
            return f"; of several columns each has an option of its own, as {twice[0]} a {twice[0]} b" if twice else ""
        longer = [name for name in known if asked.startswith(f"{name}-")]
        close = get_close_matches(asked, known, 1, cutoff=0.7)
        meant = OTHER_NAMES.get(asked) or next(iter(longer or close), None)
        return f"; did you mean {meant}?" if meant in known else ""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def parser() -> Parser:
    p = Parser(prog="tinydl", description="Train small neural networks on the CPU, serially and in parallel threads.")
    p.add_argument("--version", action="version", version=f"tinydl {__version__}")
    commands = p.add_subparsers(dest="command", metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="train on handwritten digits, serially and in parallel",
                               description="Train a network on 8x8 pictures of handwritten digits, serially and then "
                                           "in parallel from the same initial weights, and compare.",
                               epilog="With --images and --sequences threads take parts of a batch: the result is the same for "
                                      "any number up to 4.")
    demo.set_defaults(run="tinydl.cli.demo:run")
    other = demo.add_mutually_exclusive_group()
    other.add_argument("--images", dest="run", action="store_const", const="tinydl.cli.demo_images:run",
                       help="instead, a convolutional network beside one of dense layers, on the same digits")
    other.add_argument("--sequences", dest="run", action="store_const", const="tinydl.cli.demo_sequences:run",
                       help="instead, the sea's temperature off Peru forecast by an LSTM, beside naive forecasts")
    _training_options(demo, {"epochs": "40; with --images 8, with --sequences 20", "batch_size": "32",
                             "hidden": "512,256; with --sequences 32, units of an LSTM"})
    demo.add_argument("--plot", metavar="PATH", help="where to draw the loss curves (default: tinydl-demo.png, "
                                                     "where matplotlib is installed)")
    demo.add_argument("--no-plot", action="store_true", help="draw nothing")

    train = commands.add_parser("train", help="train on your own data",
                                description="Train on FILE: a CSV with a header (numbers, text, dates, missing cells; also "
                                            "compressed), Parquet or Feather, or an .npz with x and y. Features are scaled or "
                                            "encoded, a part of the rows is held out for a test, and another to find the best "
                                            "epoch and to calibrate probabilities. A few networks are trained side by side, "
                                            "by the recipe of TabularClassifier and TabularRegressor; the model that is "
                                            "saved gives the mean of them, and has all that `tinydl predict` needs.")
    train.set_defaults(run="tinydl.cli.train:run")
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
    _training_options(train, {})
    _recipe_options(train.add_argument_group("recipe"))
    train.add_argument("--no-clip", action="store_true",
                       help="let predicted numbers leave the range that the target has in the rows that are not of the test")
    train.add_argument("--out", metavar="MODEL", help="where to save the model (default: FILE's name with .tinydl, in "
                                                      "the current folder)")
    train.add_argument("--resume", action="store_true",
                       help="go on from MODEL.checkpoint, which SIGTERM or Ctrl-C leaves, with the same result as without "
                            "them, whatever number of threads is recommended now; all options that matter to it must be the "
                            "same, but with --schedule constant there may be more --epochs. Removed when training is complete")
    _sheet_option(train, "a report on the test rows, beside a linear model and the commonest class or the mean")
    train.add_argument("--ranks", choices=["mpi"],
                       help="train over all processes that mpiexec has started, each with --threads threads, which share the "
                            "batches of an update: mpiexec -n 4 tinydl train FILE --threads 1 --ranks mpi has the result of "
                            "--threads 4 (needs the extra mpi)")
    train.add_argument("--quiet", action="store_true", help="print errors only")

    evaluate = commands.add_parser("evaluate", help="how good a trained model is on a table with the target",
                                   description="Print the figures of MODEL on FILE, which has its columns and its target: "
                                               "accuracy, log-loss, AUC and the like, of each class and each confusion; or the "
                                               "errors of numbers. Beside them those of naming the commonest class, or the "
                                               "mean, and those of the training's test rows. Rows without a target are left "
                                               "out.")
    evaluate.set_defaults(run="tinydl.cli.evaluate:run")
    evaluate.add_argument("model", metavar="MODEL", help="a model that `tinydl train` saved")
    evaluate.add_argument("file", metavar="FILE", help="as of train, with the target; other columns do no harm")
    _reading_options(evaluate)
    _sheet_option(evaluate, "the same, as a report")

    predict = commands.add_parser("predict", help="predict with a trained model",
                                  description="Write the predictions for FILE (its columns found by name; or .npz with x) as "
                                              "CSV. Of classes there is a column `prediction`, the most likely class, and a "
                                              "column `probability_CLASS` for each; of numbers a column `prediction`.")
    predict.set_defaults(run="tinydl.cli.predict:run")
    predict.add_argument("model", metavar="MODEL", help="a model that `tinydl train` saved")
    predict.add_argument("file", metavar="FILE", help="as of train; the target need not be there; other columns do no harm")
    predict.add_argument("--proba", action="store_true", help="write the probabilities alone, without the column `prediction`")
    predict.add_argument("--id", action="append", default=[], metavar="COLUMN",
                         help="repeat this column of FILE in front (may be said more than once)")
    _reading_options(predict)
    predict.add_argument("--out", metavar="FILE", help="write there instead of to standard output")

    export = commands.add_parser("export", help="write a trained model as an ONNX file",
                                 description="Write MODEL as an ONNX file, for onnxruntime and others, that takes a table's "
                                             "columns as they are: an input (rows, 1) for each, by its name. Numbers are "
                                             "float64, NaN where one is missing, dates seconds since 1970 in UTC; text is "
                                             "strings without spaces around them, the empty one where it is missing. Outputs: "
                                             "`label` and `probabilities`, or `value`. It needs the package onnx.")
    export.set_defaults(run="tinydl.cli.export:run")
    export.add_argument("model", metavar="MODEL", help="a model that `tinydl train` saved")
    export.add_argument("out", metavar="OUT", help="the file to write")
    export.add_argument("--quiet", action="store_true", help="print errors only")

    info = commands.add_parser("info", help="what tinydl found on this machine, or what is in a model's or a checkpoint's file",
                               description="Show version, instruction set, CPUs and recommended threads; with MODEL, its inputs, "
                                           "outputs, layers and parameters instead; of a table's model also the target, how "
                                           "each column is encoded, and the figures of its test rows.")
    info.add_argument("model", metavar="MODEL", nargs="?",
                      help="a file that model.save, trainer.save_checkpoint or `tinydl train` wrote")
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


def _sheet_option(p: argparse.ArgumentParser, what: str) -> None:
    p.add_argument("--sheet", metavar="PATH", help=f"write {what}: .html is one page with pictures (needs matplotlib), .txt is "
                                                   "text, - is text on standard output")


def default_rate(of_numbers: bool, optimizer: str, schedule: str) -> float:
    """Where none is said."""
    rate = (NUMBERS if of_numbers else CLASSES).learning_rate
    return rate * OPTIMIZERS[optimizer][of_numbers] * (CONSTANT if schedule == "constant" else 1)


def _default(field: str, form: Callable[[Any], str] = str) -> str:
    """What the recipe has there, for the help."""
    return _both(*(form(getattr(recipe, field)) for recipe in (CLASSES, NUMBERS)))


def _both(classes: str, numbers: str) -> str:
    return classes if classes == numbers else f"{classes} for classes, {numbers} for numbers"


def _recipe_options(p: argparse._ArgumentGroup) -> None:
    rates = "; ".join(f"{name} {_both(*(f'{default_rate(of, name, SCHEDULES[0]):g}' for of in (False, True)))}"
                      for name in OPTIMIZERS)
    p.add_argument("--members", type=_members, metavar="N",
                   help=f"networks that are trained side by side, and whose predictions are averaged (default: "
                        f"{_default('n_members')})")
    p.add_argument("--optimizer", choices=OPTIMIZERS, help="default: adamw; sgd has momentum 0.9")
    p.add_argument("--learning-rate", "--lr", type=_positive, metavar="LR",
                   help=f"default: {rates}; with --schedule constant {CONSTANT:g} times that")
    p.add_argument("--schedule", choices=SCHEDULES,
                   help="how the rate runs over all updates, from LR or up to LR (default: cos-log, which has four waves; linear "
                        "and cosine fall to 0, one-cycle rises and falls)")
    p.add_argument("--warm-up", type=_fraction, default=0.0, metavar="F",
                   help="share of the updates before that, in which the rate rises to LR (default: 0)")
    p.add_argument("--weight-decay", type=_from_zero, metavar="W",
                   help=f"default: adamw {_default('weight_decay', '{:g}'.format)}; others 0")
    p.add_argument("--clip-norm", type=_positive, metavar="N", help="gradients of a greater norm are scaled down to it")
    p.add_argument("--dropout", type=_fraction, metavar="P",
                   help=f"share of each hidden layer that is left out at random (default: {_default('dropout', '{:g}'.format)})")
    p.add_argument("--class-weight", choices=("balanced", "none"), default="none",
                   help="balanced: each class counts as much as any other, whatever its number of rows (default: none)")
    p.add_argument("--validation", type=_fraction, metavar="F",
                   help="share of the training rows that is set aside to find the best epoch, whose weights are saved, and to "
                        "calibrate probabilities; with 0 all epochs are trained (default: "
                        f"{_default('validation_fraction')}; of fewer than {FEWEST} rows 0)")
    p.add_argument("--metric", type=_metric, metavar="NAME",
                   help="what makes an epoch the best on those rows, a figure of tinydl.metrics: accuracy, balanced_accuracy, "
                        "f1, roc_auc, log_loss, ..., or rmse, mae, r2 (default: log_loss, or rmse)")
    p.add_argument("--patience", type=_count, metavar="N",
                   help=f"end training after N epochs without a better one (default: {_default('patience')})")
    p.add_argument("--time", type=_positive, metavar="SECONDS",
                   help="end training after so many seconds, with the best epoch so far; reading the table and what follows is "
                        "not counted")


def _training_options(p: argparse.ArgumentParser, defaults: dict[str, str]) -> None:
    """defaults: of --epochs, --batch-size and --hidden, as the help says them; {}: the recipe's."""
    own = defaults or {"epochs": _default("max_epochs"), "hidden": _default("hidden_sizes", _text), "batch_size": (
        f"for an update {_default('batch_size', _batch)}; over the number of threads")}
    p.add_argument("--epochs", type=_count, metavar="N", help=f"at most (default: {own['epochs']})")
    p.add_argument("--batch-size", type=_count, metavar="N", help="rows that a thread works on at a time (default: "
                                                                  f"{own['batch_size']})")
    p.add_argument("--hidden", type=_sizes, metavar="N,N",
                   help=f"sizes of the hidden layers (default: {own['hidden']})")
    p.add_argument("--threads", type=_threads, default=0, metavar="N",
                   help="0: as many as recommended (default). N batches make one update (strategy group), so the result "
                        "depends on N")
    p.add_argument("--seed", type=_seed, default=0, metavar="N", help="same seed, same result (default: 0)")


def _batch(size: int | None) -> str:
    return str(size or f"a power of 2 near a {BATCHES}th of the rows, from {BATCH_SIZES[0]} to {BATCH_SIZES[1]},")


def _text(sizes: tuple[int, ...]) -> str:
    return ",".join(map(str, sizes))


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


def _members(text: str) -> int:
    return _whole(text, 1, MAX_MEMBERS)


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


def _from_zero(text: str) -> float:
    value = _real(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def _metric(text: str) -> str:
    name = text.replace("-", "_")
    if name not in METRICS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(METRICS)}")
    return name


def _threads(text: str) -> int:
    return _whole(text, 0, MAX_THREADS)

"""tinydl train and tinydl predict: a person's own table.

The model's file carries in its metadata, under "table", all that predict needs besides the weights: the task, the
columns, how to standardise or encode them, and the names of the classes or the target's own mean and scale.
"""
from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinydl import AccuracyEvaluator, Model, RegressionEvaluator, Trainer, TrainingError, losses, optim
from tinydl.checkpoint import load_checkpoint, read_settings, save_checkpoint
from tinydl.cli.errors import CommandError, Terminated
from tinydl.cli.features import (
    check_standardisation,
    described,
    encode,
    fits,
    kinds,
    learn,
    network,
    standardisation,
    standardise,
)
from tinydl.cli.progress import Progress, try_print
from tinydl.cli.sources import name_of, standard_input
from tinydl.cli.tables import Array, Reading, Table, read_table
from tinydl.cli.targets import class_labels, regression_target, task_of
from tinydl.data import ArrayDataset
from tinydl.parallel import recommended_thread_count
from tinydl.parallel.host.threads import affinity_cpus
from tinydl.serialization import write_atomically

SGD_MOMENTUM = 0.9
OPTIMIZERS: dict[str, tuple[Any, float]] = {    # and their default learning rates
    "adam": (optim.Adam, 1e-3), "adamw": (optim.AdamW, 1e-3), "rmsprop": (optim.RMSprop, 1e-3),
    "sgd": (lambda lr: optim.SGD(lr, momentum=SGD_MOMENTUM), 1e-2),
}


# ---------------------------------------------------------------------- shared with demo
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
    """CommandError where a file at `path` (or where it links to) cannot be made; nothing stays behind."""
    if path.exists() and not path.is_file():
        raise CommandError(f"{what} {path} is {'a folder' if path.is_dir() else 'not a plain file'}")
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))):
            pass
    except OSError as e:
        raise CommandError(f"{what} {path} cannot be written: {e.strerror}") from None


def check_picture(path: Path, what: str) -> None:
    """The same for a picture, whose format its name says."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf", ".jpg"):
        raise CommandError(f"{what} {path}: the name must end in .png, .svg, .pdf or .jpg")
    check_writable(path, what)


# ---------------------------------------------------------------------- tinydl train
def run_train(options: argparse.Namespace) -> int:
    """`tinydl train`; its exit code."""
    path = Path(options.file)
    out = Path(options.out) if options.out else Path(_stem(path) + ".tinydl")
    thread_count(options.threads)
    if options.target is not None and path.suffix.lower() == ".npz":
        raise CommandError("--target is for CSV files; an .npz has its target in y")
    checkpoint = Path(f"{out}.checkpoint")
    for place in (out, checkpoint):
        if place.exists() and not standard_input(path) and path.exists() and place.samefile(path):
            raise CommandError(f"--out {place} is the data itself")
        check_writable(place, "--out")
    if options.resume and not checkpoint.exists():
        raise CommandError(f"--resume: there is no {checkpoint}")
    if not options.resume and checkpoint.exists():      # it would be lost when this training is stopped, or outlive its model
        raise CommandError(f"{checkpoint} is of a training that was stopped: --resume goes on from it; to begin anew, remove it "
                           "or say another --out")
    say = (lambda *_: None) if options.quiet else try_print
    target = options.target or "y"

    table = read_table(path, options.target, reading=_reading(options))
    for note in table.notes:
        say(f"note: {note}")
    task = task_of(table, options.task)
    names, y = (None, regression_target(table, target)) if task == "regression" else class_labels(
        table, target, asked=options.task is not None)
    say(f"{name_of(path)}: {plural(table.n, 'row')}, {plural(len(table.names), 'feature')}{described(table)}, "
        + (f"{plural(len(names), 'class')} of {target!r}" if names else f"target {target!r}"))
    if names is None and options.task is None:
        say(f"{target!r} holds numbers with decimals, or many: its value is predicted\n(--task classification takes classes)")

    train, test = _held_out(table.n, y, options.test_fraction, options.seed)
    learned, notes = learn(table, train)
    for note in notes:
        say(f"note: {note}")
    facts: dict[str, Any] = {"task": task, "target": target, "classes": names, **learned}
    scale = 1.0
    if names is None:
        y_mean, y_factor = standardisation(y[train])
        check_standardisation(y_mean, y_factor, [target])
        if not y_factor[0]:
            raise CommandError(f"column {target!r} holds the same value in all rows: there is nothing to learn")
        scale = float(1 / y_factor[0])
        facts.update(target_mean=float(y_mean[0]), target_scale=scale)
        y = standardise(y, y_mean, y_factor)
    x = encode(facts, table)
    everything = ArrayDataset(x, y, options.batch_size)
    data = everything.subset(train)

    model = network(facts, x, train, options.hidden, len(names) if names else 1, options.seed)
    model.metadata = {"table": facts}
    make, rate = OPTIMIZERS[options.optimizer]
    rate = options.learning_rate or rate
    threads = thread_count(options.threads, data.n_batches, data.n_samples)
    settings = {f"--{name.replace('_', '-')}": getattr(options, name) for name in (
        "target", "task", "test_fraction", "batch_size", "seed", "optimizer")}
    settings |= {"--hidden": ",".join(map(str, options.hidden)), "--learning-rate": rate, "--threads": threads,
                 "data": _digest(facts, *(x.values() if isinstance(x, dict) else [x]), y)}
    batches = None          # of an update: as many as threads, unless a checkpoint says how many
    if options.resume:
        saved = _saved_settings(checkpoint, settings, keep=() if options.threads else ("--threads",))
        batches = saved.get("batches_per_update", saved["--threads"])
        settings["--threads"], threads = saved["--threads"], min(threads, batches)
    say(f"{len(train):,} rows to train on, {len(test):,} to test; {model.name}, "
        f"{plural(model.num_parameters, 'parameter')};\n"
        f"{options.optimizer} with learning rate {rate:g}, {plural(threads, 'thread')}"
        + (f", {batches} batches an update" if batches not in (None, threads) else ""))
    optimizer, evaluator = make(rate), AccuracyEvaluator() if names else RegressionEvaluator()
    loss = losses.SoftmaxCrossEntropy() if names else losses.MeanSquaredError()
    try:
        with Trainer(options.epochs, Progress("train", quiet=options.quiet), evaluator, (batches or threads) > 1, threads,
                     seed=options.seed, batches_per_update=batches) as trainer:
            trainer.init(data, model, loss, optimizer)
            if options.resume:
                _resume(trainer, checkpoint)
            fit(trainer, rate)
        if len(test):
            figures = trainer.evaluate(everything.subset(test))
            guessed = float(np.mean(y[test] == np.bincount(y[train]).argmax())) if names else 0.0
            say("test: " + _figures(figures, len(test), guessed, scale))
        model.save(out)
        if options.resume:
            checkpoint.unlink(missing_ok=True)
    except (Terminated, KeyboardInterrupt) as e:
        how = "terminated" if isinstance(e, Terminated) else "interrupted"
        if not optimizer.t:
            raise type(e)(f"{how} before the first update; no model was saved") from None
        settings["batches_per_update"] = batches or trainer.stats().batches_per_update     # fewer than threads without memory
        unsaved = _unsaved(checkpoint, lambda: save_checkpoint(trainer, checkpoint, settings))
        raise type(e)(f"{how} after {plural(optimizer.t, 'update')}; "
                      + (unsaved or f"the same command with --resume goes on from {checkpoint}")
                      + f"; {out} was not {'changed' if out.exists() else 'written'}") from None
    say(f"model: {out}")
    return 0


def _stem(path: Path) -> str:
    """The name of a model of that data: without .csv.gz and the like."""
    if standard_input(path):
        return "stdin"
    inner = Path(path.stem)
    return inner.stem if path.suffix.lower() in (".gz", ".xz", ".bz2", ".zip") and inner.suffix else path.stem


def _reading(options: argparse.Namespace) -> Reading:
    if options.separator is not None and options.separator == options.decimal:
        raise CommandError(f"--separator and --decimal are both {options.separator!r}")
    ignore, categorical = (tuple(getattr(options, name, None) or ()) for name in ("ignore", "categorical"))
    return Reading(options.separator, options.decimal, tuple(options.missing or ()), ignore, getattr(options, "index", False),
                   categorical)


def _unsaved(path: Path, save: Callable[[], None]) -> str:
    """save(), and why `path` could not be saved, or "": this is no time to raise."""
    try:
        save()
    except (OSError, MemoryError) as e:
        return f"{path} could not be saved: {getattr(e, 'strerror', None) or str(e) or 'not enough memory'}"
    return ""


def _digest(facts: dict[str, Any], *arrays: Array) -> str:
    """What data are known by."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _saved_settings(checkpoint: Path, settings: dict[str, Any], keep: Collection[str]) -> dict[str, Any]:
    """The settings of `checkpoint`; CommandError where one of `settings` differs that is not to be kept as it was saved."""
    try:
        saved = read_settings(checkpoint)
    except ValueError as e:
        raise CommandError(f"--resume: {e}") from None
    if not saved:
        raise CommandError(f"--resume: `tinydl train` did not save {checkpoint}")
    for name, value in settings.items():
        was = saved.get(name)
        if was != value and name not in keep:
            remedy = ("resuming needs the same data" if name == "data" else
                      f"leave {name} out" if was is None or name == "--threads" else f"say {name} {was}")
            raise CommandError(f"--resume: {checkpoint} was saved with {name} {was}; here it is {value}: {remedy}")
    return saved


def _resume(trainer: Trainer, checkpoint: Path) -> None:
    """Be where `checkpoint` was saved, with the epochs that are left; CommandError where it is of another training."""
    try:
        load_checkpoint(trainer, checkpoint)
    except ValueError as e:
        raise CommandError(f"--resume: {e}") from None
    asked, begun = trainer.max_epochs, trainer.epoch + (trainer.progress.under_way is not None)
    if asked < begun:
        raise CommandError(f"--resume: {checkpoint} is in epoch {begun}; --epochs is {asked}")
    trainer.max_epochs -= trainer.epoch


def _held_out(n: int, y: Array, fraction: float, seed: int) -> tuple[Array, Array]:
    """The rows to train on and those held out, classes in the same shares where there are classes."""
    if not fraction:
        return np.arange(n), np.arange(0)
    try:
        parts = ArrayDataset(np.zeros((n, 1)), y, n).split(1 - fraction, 0.0, fraction, seed=seed)
    except ValueError:
        raise CommandError(f"{plural(n, 'row')} are too few for --test-fraction {fraction:g}") from None
    assert parts.test is not None and parts.train.rows is not None and parts.test.rows is not None
    return parts.train.rows, parts.test.rows


def _figures(figures: dict[str, float], n: int, guessed: float, scale: float) -> str:
    """`guessed`: the accuracy of naming the commonest class whatever the features are."""
    if "accuracy" in figures:
        right = round(figures["accuracy"] * n)
        return (f"loss {figures['loss']:.4f}, accuracy {100 * figures['accuracy']:.1f} % ({right:,} of {n:,}; "
                f"commonest class: {100 * guessed:.1f} %)")
    return (f"r2 {figures['r2']:.4f}, rmse {figures['rmse'] * scale:.6g}, "
            f"mean absolute error {figures['mae'] * scale:.6g}")


# ---------------------------------------------------------------------- tinydl predict
def run_predict(options: argparse.Namespace) -> int:
    """`tinydl predict`; its exit code."""
    path, out = Path(options.file), Path(options.out) if options.out else None
    model = load(Path(options.model))
    if out is not None:
        for other in (path, Path(options.model)):
            if out.exists() and not standard_input(other) and other.exists() and out.samefile(other):
                raise CommandError(f"--out {out} would replace {other}")
        check_writable(out, "--out")
    elif sys.stdout is None:
        raise CommandError("standard output is closed; say --out FILE")
    facts = model.metadata["table"]
    options.missing = [*(options.missing or ()), *facts.get("missing", ())]
    header, rows = predictions(model, read_table(path, features=kinds(facts), reading=_reading(options)))
    if out is None:
        _write_csv(sys.stdout, header, rows)
    else:
        text = io.StringIO()
        _write_csv(text, header, rows)
        write_atomically(out, lambda f: f.write(text.getvalue().encode()))
    return 0


def predictions(model: Model, table: Table) -> tuple[list[str], Iterator[list[str]]]:
    """The header and a row a prediction: the class and the probabilities of all, or the value."""
    facts = model.metadata["table"]
    y = model.predict(encode(facts, table)).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(y).all(1))
    if len(bad):
        raise CommandError(f"{table.where(int(bad[0]))}: the features are too far from those of the training")
    if facts["task"] == "regression":
        return ["prediction"], ([repr(v * facts["target_scale"] + facts["target_mean"])] for v in y[:, 0].tolist())
    names = facts["classes"]
    p = np.exp(y - y.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return (["prediction", *(f"probability_{name}" for name in names)],
            ([names[best], *(f"{v:.6g}" for v in row)] for best, row in zip(y.argmax(1).tolist(), p, strict=True)))


def load(path: Path) -> Model:
    """The model that `tinydl train` saved there."""
    try:
        model = Model.load(path)
        facts = model.metadata["table"]
        ok = fits(model, facts, len(facts["classes"] or "1")) and facts["task"] in ("classification", "regression")
    except FileNotFoundError:
        raise CommandError(f"{path}: there is no such file") from None
    except OSError:
        raise
    except KeyError:
        raise CommandError(f"{path} is a model, but `tinydl train` did not write it: it does not say what its columns "
                           "are") from None
    except Exception as e:          # whatever a foreign file may lead to
        raise CommandError(f"{path} is not a model of tinydl, or is truncated ({type(e).__name__})") from None
    if not ok:
        raise CommandError(f"{path} is damaged: its columns do not fit its layers")
    return model


def _write_csv(f: Any, header: list[str], rows: Iterator[list[str]]) -> None:
    writer = csv.writer(f, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)

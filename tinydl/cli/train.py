"""tinydl train: from a person's own table to a model's file.

What is read of the table is prepare.py's, how it is trained recipe.py's, which networks members.py's, and what --resume needs
resume.py's.
"""
from __future__ import annotations

import argparse
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinydl import Model, Trainer
from tinydl.checkpoint import save_checkpoint
from tinydl.cli.common import check_replaces_nothing, check_sheet, check_writable, fit, plural, thread_count
from tinydl.cli.errors import CommandError, Terminated
from tinydl.cli.members import Members
from tinydl.cli.prepare import Prepared, Say, labelled, prepare
from tinydl.cli.progress import Progress, try_print
from tinydl.cli.recipe import FEWEST_OF_BATCH, Recipe
from tinydl.cli.result import Result, unit_of
from tinydl.cli.resume import digest, resume, saved_settings, unsaved
from tinydl.cli.sheet import WIDTH
from tinydl.cli.sources import standard_input
from tinydl.data import ArrayDataset, Split
from tinydl.metrics import evaluate
from tinydl.parallel import RankError
from tinydl.tabular import batch_size

if TYPE_CHECKING:
    from tinydl.parallel.ranks import Ranks


def run(options: argparse.Namespace) -> int:
    """`tinydl train`; its exit code."""
    ranks = _ranks(options)
    out, checkpoint = _places(options)
    say: Say = (lambda text: None) if options.quiet or (ranks is not None and ranks.rank) else _say
    data = labelled(options, say)
    recipe = Recipe(options, len(data.classes or ()), data.table.n)
    ready = prepare(data, options.test_fraction, recipe.validation, options.seed, say)
    if options.sheet and not len(ready.test):
        raise CommandError("--sheet is of the test rows, and --test-fraction 0 leaves none")
    n, n_train = len(ready.train) + len(ready.validation), len(ready.train)
    of_update = recipe.own.batch_size or batch_size(n)       # unless --batch-size says what a thread's batch is
    shared_by = 1 if ranks is None else ranks.size
    threads = thread_count(options.threads, -(-n_train // options.batch_size) if options.batch_size else
                           max(1, min(n_train, of_update) // FEWEST_OF_BATCH // shared_by), n_train)
    batches = threads * shared_by if ranks is None else ranks.swap("--threads", threads)[0] * shared_by     # of an update
    settings = {f"--{name.replace('_', '-')}": getattr(options, name) for name in ("target", "task", "test_fraction", "seed")}
    settings |= {**recipe.settings(), "--threads": batches,
                 "data": digest(ready.facts, *(ready.x.values() if isinstance(ready.x, dict) else [ready.x]), ready.y)}
    saved: dict[str, Any] = {}
    if options.resume:
        saved = saved_settings(checkpoint, settings, keep=() if options.threads else ("--threads",))
        batches = settings["--threads"] = saved["--threads"]
        threads = min(threads, batches)
    members = Members(ready.facts, ready.x, ready.train, recipe.n_classes, recipe.own)
    everything = ArrayDataset(ready.x, members.targets(ready.y), options.batch_size or max(1, of_update // batches))
    parts = Split(everything.subset(ready.train), everything.subset(ready.validation) if recipe.validation else None, None)
    trained = members.apart(options.seed)
    _say_what_is_trained(ready, recipe, trained, threads, batches, say)

    epochs = recipe.own.max_epochs
    optimizer = recipe.optimizer(epochs * math.ceil(parts.train.n_batches / batches))
    progress = Progress("train", quiet=options.quiet, figure=recipe.metric if recipe.validation else None,
                        scale=unit_of(recipe.metric, ready.facts))
    try:
        with Trainer(epochs, progress, recipe.evaluator(), batches > 1, threads, seed=options.seed,
                     batches_per_update=batches, callbacks=recipe.callbacks(), ranks=ranks) as trainer:
            trainer.init(parts, trained, recipe.loss(ready.y[ready.train]), optimizer)
            _check_metric(trainer, recipe)
            if options.resume:
                resume(trainer, checkpoint)
            if not saved.get("ended"):
                fit(trainer, recipe.rate)
        if trainer.rank:
            return 0
        if data.classes is None and not options.no_clip:
            known = data.y[[*ready.train, *ready.validation]]
            ready.facts["target_range"] = [float(known.min()), float(known.max())]
        result = Result(trainer, members, data, ready, recipe)
        result.note(say)
        result.model.save(out)
        if options.resume:
            checkpoint.unlink(missing_ok=True)
    except (Terminated, KeyboardInterrupt, RankError) as e:
        how = "terminated" if isinstance(e, Terminated) else "interrupted" if isinstance(e, KeyboardInterrupt) else f"{e}: ended"
        if ranks is not None and not ranks.saves:
            raise
        if not optimizer.t:
            raise _said(e, f"{how} before the first update; no model was saved") from None
        # by --patience or --time: a resume trains no further
        settings["ended"] = not trainer.history.interrupted and trainer.epoch < epochs
        why = unsaved(checkpoint, lambda: save_checkpoint(trainer, checkpoint, settings))
        raise _said(e, f"{how} after {plural(optimizer.t, 'update')}; "
                    + (why or f"the same command with --resume goes on from {checkpoint}")
                    + f"; {out} was not {'changed' if out.exists() else 'written'}") from None
    say(f"model: {out}")
    if options.sheet:
        _write_sheet(result, out, options.sheet, say)
    return 0


def _said(e: BaseException, text: str) -> BaseException:
    return RankError(text, e.rank, e.gone) if isinstance(e, RankError) else type(e)(text)


def _ranks(options: argparse.Namespace) -> Ranks | None:
    """The processes that train together; CommandError where there are none."""
    if options.ranks is None:
        return None
    if standard_input(Path(options.file)):
        raise CommandError("--ranks: every rank reads the table, and mpiexec gives standard input to one of them: use a file")
    from tinydl.parallel.ranks import join
    try:
        return join(options.ranks)
    except ImportError as e:
        raise CommandError(str(e)) from None


def _write_sheet(result: Result, out: Path, given: str, say: Say) -> None:
    """The model is saved before, and once more with the figures of the linear model beside its own."""
    try:
        sheet = result.sheet(out)
        result.model.save(out)
        if given == "-":
            say("")         # between what was said and the report
        sheet.write(given)
        if given != "-":
            say(f"sheet: {given}")
    except (Terminated, KeyboardInterrupt) as e:
        how = "terminated" if isinstance(e, Terminated) else "interrupted"
        raise type(e)(f"{how} before {given} was written; {out} is complete") from None


def _places(options: argparse.Namespace) -> tuple[Path, Path]:
    """The model and its checkpoint; CommandError where one would replace another, or cannot be written."""
    path = Path(options.file)
    out = Path(options.out) if options.out else Path(_stem(path) + ".tinydl")
    thread_count(options.threads)
    if options.target is not None and path.suffix.lower() == ".npz":
        raise CommandError("--target is for CSV files; an .npz has its target in y")
    checkpoint = Path(f"{out}.checkpoint")
    for place in (out, checkpoint):
        check_replaces_nothing(place, "--out", path)
        check_writable(place, "--out")
    check_sheet(options.sheet, path, out, checkpoint)
    if options.resume and not checkpoint.exists():
        raise CommandError(f"--resume: there is no {checkpoint}")
    if not options.resume and checkpoint.exists():      # it would be lost when this training is stopped, or outlive its model
        raise CommandError(f"{checkpoint} is of a training that was stopped: --resume goes on from it; to begin anew, remove it "
                           "or say another --out")
    return out, checkpoint


def _stem(path: Path) -> str:
    """The name of a model of that data: without .csv.gz and the like."""
    if standard_input(path):
        return "stdin"
    inner = Path(path.stem)
    return inner.stem if path.suffix.lower() in (".gz", ".xz", ".bz2", ".zip") and inner.suffix else path.stem


def _say(text: str) -> None:
    """In lines of WIDTH columns, as far as anybody can read them."""
    try_print("\n".join(textwrap.fill(line, WIDTH, break_on_hyphens=False, break_long_words=False) for line in text.split("\n")))


def _say_what_is_trained(ready: Prepared, recipe: Recipe, model: Model, threads: int, batches: int, say: Say) -> None:
    validation = f"{len(ready.validation):,} to validate, " * bool(recipe.validation)
    say(f"{len(ready.train):,} rows to train on, {validation}{len(ready.test):,} to test; {model.name}, "
        f"{plural(model.num_parameters, 'parameter')};")
    say(f"{recipe.optimizer_name} with learning rate {recipe.rate:g}, {plural(threads, 'thread')}"
        + (f", {batches} batches an update" if batches != threads else ""))
    say(", ".join(recipe.words()))


def _check_metric(trainer: Trainer, recipe: Recipe) -> None:
    """CommandError where the metric has no value on the validation rows, whatever is predicted."""
    rows = trainer.data.validation
    if rows is not None and math.isnan(evaluate(trainer.model, rows, evaluator=trainer.evaluator)[recipe.metric]):
        raise CommandError(f"--metric {recipe.metric} has no value on the {plural(rows.n_samples or 0, 'row')} that are set "
                           "aside, which are too alike: a larger --validation, or another --metric")

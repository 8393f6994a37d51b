"""The recipe of `tinydl train`: what is set aside, what picks the best epoch, schedules, class weights, time, and resumes."""
from __future__ import annotations

import io
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from tinydl import Model, nn, optim
from tinydl.cli import main, options, time_limit
from tinydl.cli.options import parser
from tinydl.cli.progress import Progress
from tinydl.cli.recipe import CLASSES_OF_OPTIMIZERS, LOW, SCHEDULES, Recipe
from tinydl.cli.result import Result
from tinydl.cli.time_limit import TimeLimit
from tinydl.metrics.named import OF_CLASSES, OF_NUMBERS, OF_PROBABILITIES, OF_SCORES

SMALL = ["--hidden", "8", "--members", "1", "--batch-size", "32", "--threads", "1", "--out", "m"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With t.csv: a and b tell the label, roughly, which has three values of different frequency; and price."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 300))
    z = a + b / 2 + rng.standard_normal(300)
    pd.DataFrame({"a": a, "b": b, "town": rng.integers(9, size=300).astype(str), "label": np.array(["x", "y", "z"])[
        (z > 0).astype(int) + (z > 1.5)], "price": 100 + 20 * z}).to_csv("t.csv", index=False)
    return tmp_path


def arguments(target: str, *more: object) -> list[str]:
    other = "price" if target == "label" else "label"
    return ["train", "t.csv", "--target", target, "--ignore", other, "--categorical", "town", *SMALL, *map(str, more)]


def recipe(*more: str, n_classes: int = 3, n_rows: int = 300) -> Recipe:
    return Recipe(parser().parse_args(["train", "t.csv", "--target", "label", *more]), n_classes, n_rows)


@pytest.fixture
def records(monkeypatch):
    """Of all epochs that are trained."""
    found = []
    end = Progress.end_epoch

    def end_epoch(self, record):
        found.append(record)
        end(self, record)
    monkeypatch.setattr(Progress, "end_epoch", end_epoch)
    return found


# ---------------------------------------------------------------------- the best epoch
@pytest.mark.parametrize(("target", "metric"), [("label", None), ("label", "accuracy"), ("label", "roc-auc"), ("price", None),
                                                ("price", "r2")])
def test_the_best_epochs_weights_are_saved(folder, capsys, records, target, metric):
    more = ["--validation", "0.3", "--lr", "0.02", *(["--metric", metric] if metric else [])]
    assert main(arguments(target, "--epochs", 12, *more)) == 0
    out = capsys.readouterr().out
    name = (metric or {"label": "log_loss", "price": "rmse"}[target]).replace("-", "_")
    values = [r.figures[name] for r in records]
    best = 1 + int(np.argmin(values) if name in LOW else np.argmax(values))
    assert f"best epoch: {best} of 12, {name} " in out and "168 rows to train on, 72 to validate, 60 to test" in out
    model, training = Model.load("m"), Model.load("m").metadata["training"]
    unit = Model.load("m").metadata["table"].get("target_scale", 1.0) if name == "rmse" else 1.0
    assert training["best"] == {"epoch": best, "metric": name, "value": values[best - 1] * unit}
    assert training["rows"] == {"train": 168, "validation": 72, "test": 60}
    assert main(arguments(target, "--epochs", best, *more)) == 0        # whose last epoch is the best
    assert Model.load("m").params.tobytes() == model.params.tobytes()


def test_patience_ends_training(folder, capsys, records):
    assert main(arguments("label", "--epochs", 500, "--patience", 4, "--lr", "0.05")) == 0
    best = 1 + int(np.argmin([r.figures["log_loss"] for r in records]))
    assert len(records) == best + 4 < 500
    assert f"best epoch: {best} of {best + 4}, log_loss " in capsys.readouterr().out


def test_each_metric_has_a_side(folder):
    """Those that are not better where they are low are better where they are high."""
    assert set(LOW) == {*OF_PROBABILITIES, *OF_NUMBERS} - {"r2"} and not set(LOW) & {*OF_CLASSES, *OF_SCORES}
    for name in {*OF_CLASSES, *OF_SCORES, *OF_PROBABILITIES}:
        assert recipe("--metric", name).callbacks()[0].highest == (name not in LOW)


def test_what_is_measured_is_written_in_the_targets_unit(folder, capsys, records):
    assert main(arguments("price", "--epochs", 3, "--metric", "mae")) == 0
    scale = Model.load("m").metadata["table"]["target_scale"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train  epoch")]
    assert [f"  mae {r.figures['mae'] * scale:.5g}  " in line for r, line in zip(records, lines, strict=True)] == [True] * 3


# ---------------------------------------------------------------------- the recipe
def test_the_parser_knows_what_the_recipe_has():
    assert tuple(options.OPTIMIZERS) == tuple(CLASSES_OF_OPTIMIZERS) and options.SCHEDULES == tuple(SCHEDULES)
    assert options.METRICS == (*OF_CLASSES, *OF_SCORES, *OF_PROBABILITIES, *OF_NUMBERS)


@pytest.mark.parametrize(("more", "schedule"), [
    ([], None), (["--schedule", "linear"], lambda n: optim.schedules.Linear(1e-3, n)),
    (["--schedule", "cosine"], lambda n: optim.schedules.Cosine(1e-3, n)),
    (["--schedule", "one-cycle"], lambda n: optim.schedules.OneCycle(1e-3, n)),
    (["--schedule", "cos-log"], lambda n: optim.schedules.CosLog(1e-3, n)),
    (["--warm-up", "0.25"], lambda n: optim.schedules.Warmup(n // 4, optim.schedules.Constant(1e-3))),
    (["--warm-up", "0.25", "--schedule", "cosine", "--threads", "3"],
     lambda n: optim.schedules.Warmup(n // 4, optim.schedules.Cosine(1e-3, n - n // 4)))])
def test_schedules_run_over_all_updates(folder, records, more, schedule):
    assert main(arguments("label", "--epochs", 8, "--quiet", *more)) == 0
    n = sum(r.updates for r in records)
    rates = [1e-3] * 8 if schedule is None else [schedule(n)(n // 8 * (epoch + 1) - 1) for epoch in range(8)]
    assert [r.learning_rate for r in records] == rates and n == 8 * (8 if "--threads" not in more else 3)


def test_what_the_optimizer_and_the_network_are_given(folder):
    own = recipe("--optimizer", "sgd", "--weight-decay", "0.5", "--clip-norm", "2", "--dropout", "0.25", "--lr", "3")
    config = own.optimizer(100).config()
    assert (config["lr"], config["momentum"], config["weight_decay"], config["clip_norm"]) == (3.0, 0.9, 0.5, 2.0)
    assert recipe("--optimizer", "adamw").optimizer(100).config()["weight_decay"] == 0.01
    layers = own.network({}, np.zeros((4, 2), np.float32), np.arange(4)).layer
    assert [layer.p for _, layer in layers.walk() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert main(arguments("label", "--epochs", 1, "--quiet", "--dropout", "0.25")) == 0
    assert [layer.p for _, layer in Model.load("m").layer.walk() if isinstance(layer, nn.Dropout)] == [0.25]


def test_balanced_class_weights_are_scikit_learns(folder, capsys):
    y = np.repeat([0, 1, 2], [50, 30, 5])
    balanced = recipe("--class-weight", "balanced")
    np.testing.assert_allclose(balanced.loss(y).weight, compute_class_weight("balanced", classes=np.arange(3), y=y), rtol=1e-6)
    assert recipe().loss(y).weight is None
    np.testing.assert_allclose(balanced.loss(np.repeat([0, 2], [30, 10])).weight, [2 / 3, 0, 2], rtol=1e-6)
    recalls = []
    for choice in ("none", "balanced"):
        assert main(arguments("label", "--epochs", 20, "--quiet", "--class-weight", choice)) == 0
        capsys.readouterr()
        assert main(["evaluate", "m", "t.csv"]) == 0
        recalls.append(float(capsys.readouterr().out.split("balanced accuracy")[1].split()[0]))
    assert recalls[1] > recalls[0]


BAD = {
    "metric": (["--metric", "auc"], "'auc' is not one of accuracy"),
    "metric of numbers": (["--metric", "rmse"], "--metric rmse does not measure classes: take one of accuracy, "),
    "metric of three classes": (["--task", "classification", "--metric", "top_k_accuracy", "--target", "two"],
                                "--metric top_k_accuracy asks whether a class is among the first two, and there are but two"),
    "metric of classes": (["--target", "price", "--metric", "f1"], "--metric f1 does not measure numbers: take one of mse, rmse"),
    "no validation": (["--patience", "3", "--validation", "0"], "--patience looks at rows that are set aside: let --validation"),
    "no validation for metric": (["--metric", "f1", "--validation", "0"], "--metric looks at rows that are set aside"),
    "all to validate": (["--validation", "0.999"], "240 rows are too few for --validation 0.999"),
    "weights of numbers": (["--target", "price", "--class-weight", "balanced"], "--class-weight balanced is for classes"),
    "two risings": (["--schedule", "one-cycle", "--warm-up", "0.1"], "--schedule one-cycle begins with a rate that rises"),
    "a cycle of no length": (["--schedule", "one-cycle", "--epochs", "1", "--batch-size", "999"], "needs more than 1 updates"),
    "dropout": (["--dropout", "1"], "--dropout: '1' is not a number from 0 to below 1"),
    "weight decay": (["--weight-decay", "-1"], "--weight-decay: '-1' is not a number of at least 0"),
    "clip": (["--clip-norm", "0"], "--clip-norm: '0' is not a number above 0"),
    "time": (["--time", "0"], "--time: '0' is not a number above 0"),
    "schedule": (["--schedule", "steps"], "invalid choice: 'steps'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(folder, capsys, case):
    t = pd.read_csv("t.csv")
    t.assign(two=(t["a"] > 0)).to_csv("t.csv", index=False)
    more, message = BAD[case]
    assert main(["train", "t.csv", "--target", "label", *SMALL, *more]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not Path("m").exists()


def test_a_metric_without_a_value(folder, capsys):
    """Rows of one class alone have no AUC, whatever is predicted."""
    t = pd.read_csv("t.csv").assign(label=["x"] * 290 + ["y"] * 10)
    t.to_csv("t.csv", index=False)
    assert main(arguments("label", "--metric", "roc_auc", "--validation", "0.02")) == 2
    assert "--metric roc_auc has no value on the 5 rows that are set aside" in capsys.readouterr().err


# ---------------------------------------------------------------------- time
def test_time_ends_training_with_the_best_epoch(folder, capsys, records, monkeypatch):
    """The time is over when epoch 25 ends."""
    class Timer:
        def __init__(self, seconds, end):
            assert seconds == 60
            self.end = end

        def start(self):
            end = Progress.end_epoch
            monkeypatch.setattr(Progress, "end_epoch", lambda progress, record: (
                end(progress, record), self.end() if record.epoch == 25 else None))

        def cancel(self):
            self.end = None
    monkeypatch.setattr(time_limit.threading, "Timer", Timer)
    assert main(arguments("label", "--epochs", 1000, "--time", "60", "--lr", "0.05")) == 0
    best = 1 + int(np.argmin([r.figures["log_loss"] for r in records]))
    assert f"best epoch: {best} of 25, log_loss " in capsys.readouterr().out and best < 25
    ended = Model.load("m").params.tobytes()
    assert main(arguments("label", "--epochs", best, "--validation", "0.1", "--lr", "0.05")) == 0
    assert Model.load("m").params.tobytes() == ended


def test_time_in_the_middle_of_the_first_epoch(folder, capsys):
    rng = np.random.default_rng(0)
    np.savez("d.npz", x=rng.standard_normal((20_000, 20)), y=rng.integers(2, size=20_000))
    assert main(["train", "d.npz", "--time", "1e-9", "--hidden", "1024,1024", "--validation", "0", "--out", "m"]) == 0
    out = capsys.readouterr().out       # sixty epochs would take minutes
    assert int(out.split("--time: training ended in epoch ")[1].split()[0]) < 60 and Path("m").exists()


def test_time_before_a_checkpoint_counts(monkeypatch):
    class Stopped:
        def __init__(self):
            self.finished = []

        def stop(self, *, finished):
            self.finished.append(finished)
    now = [100.0]
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: now[0])
    first, trainer = TimeLimit(1e6), Stopped()
    first.on_train_start(trainer)
    now[0] += 30
    assert first.state_dict() == {"spent": 30.0}
    first.on_train_end(trainer)
    assert first.state_dict() == {"spent": 30.0} and not trainer.finished
    second = TimeLimit(20)
    second.load_state_dict(first.state_dict())
    second.on_train_start(trainer)
    assert trainer.finished == [True]
    second.on_init(trainer)
    assert second.state_dict()["spent"] == 0.0


# ---------------------------------------------------------------------- resumes
ALL = ["--epochs", "9", "--schedule", "cosine", "--warm-up", "0.2", "--dropout", "0.1", "--weight-decay", "0.01",
       "--clip-norm", "1", "--class-weight", "balanced", "--metric", "f1", "--validation", "0.2", "--time", "1000", "--quiet"]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_resume_gives_the_bits_of_a_training_without_a_stop(folder, monkeypatch, threads):
    whole = [*arguments("label", *ALL, "--patience", 4, "--lr", "0.02"), "--threads", threads]
    assert main([*whole, "--out", "whole"]) == 0
    for stop_at in (2, 5):

        def end_epoch(self, record, at=stop_at):
            if record.epoch == at:
                signal.raise_signal(signal.SIGTERM)
        with monkeypatch.context() as m:
            m.setattr(Progress, "end_epoch", end_epoch)
            assert main([*whole, *(["--resume"] if stop_at == 5 else [])]) == 143
    assert main([*whole, "--resume"]) == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()


def test_a_resume_of_a_training_that_had_ended_by_itself(folder, monkeypatch):
    """What is left is to save the model: no epoch is trained that the patience, or the time, would not have had."""
    whole = arguments("label", "--epochs", 300, "--patience", 3, "--lr", "0.05", "--quiet")
    assert main([*whole, "--out", "whole"]) == 0
    note = Result.note

    def stopped(self, say):
        note(self, say)
        signal.raise_signal(signal.SIGTERM)
    with monkeypatch.context() as m:
        m.setattr(Result, "note", stopped)
        assert main(whole) == 143
    assert not Path("m").exists() and main([*whole, "--resume"]) == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()


@pytest.mark.parametrize(("option", "value", "saved"), [
    ("--schedule", "linear", "cosine"), ("--warm-up", "0.1", "0.2"), ("--dropout", "0.2", "0.1"), ("--weight-decay", "0", "0.01"),
    ("--clip-norm", "2", "1.0"), ("--class-weight", "none", "balanced"), ("--metric", "accuracy", "f1"),
    ("--validation", "0.3", "0.2"), ("--patience", "5", "None"), ("--epochs", "10", "9")])
def test_a_resume_with_another_recipe_changes_nothing(stopped, capsys, option, value, saved):
    before = Path("m.checkpoint").read_bytes()
    assert main([*arguments("label", *ALL), "--resume", option, value]) == 2
    err = capsys.readouterr().err
    assert f"--resume: m.checkpoint was saved with {option} {saved}; here it is " in err and err.count("\n") == 1
    assert Path("m.checkpoint").read_bytes() == before


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """What a training with ALL leaves when it is stopped in its first epochs, beside its table."""
    return tmp_path_factory.mktemp("stopped") / "m.checkpoint"


@pytest.fixture
def stopped(folder, monkeypatch, checkpoint):
    if not checkpoint.exists():
        with monkeypatch.context() as m:
            m.setattr(Progress, "end_epoch", lambda self, record: signal.raise_signal(signal.SIGTERM))
            assert main(arguments("label", *ALL)) == 143
        Path("m.checkpoint").rename(checkpoint)
    Path("m.checkpoint").write_bytes(checkpoint.read_bytes())


def test_a_signal_before_the_report_is_written(folder, capsys, monkeypatch):
    monkeypatch.setattr(Result, "sheet", lambda self, out: signal.raise_signal(signal.SIGTERM))
    assert main(arguments("label", "--epochs", 1, "--sheet", "r.txt", "--quiet")) == 143
    assert capsys.readouterr().err == "tinydl: terminated before r.txt was written; m is complete\n"
    assert Model.load("m").metadata["training"]["epochs"] == 1 and not Path("m.checkpoint").exists()


# ---------------------------------------------------------------------- where words go
def test_progress_goes_to_stderr_where_that_is_a_terminal(folder, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("tinydl.cli.progress.DELAY", 0.0)
    assert main(arguments("label", "--epochs", 2)) == 0
    assert "100%" in err.getvalue() and "epoch" not in out.getvalue() and "\nmodel: m\n" in out.getvalue()

"""The recipe of `tinydl train`: what is set aside, what picks the best epoch, schedules, class weights, time, and resumes."""
from __future__ import annotations

import io
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from tinydl import Model, Trainer, nn, optim
from tinydl.callbacks import EarlyStopping
from tinydl.cli import main, options, prepare, time_limit, train
from tinydl.cli.members import MeanEvaluator, Members
from tinydl.cli.options import parser
from tinydl.cli.prepare import held_out
from tinydl.cli.progress import Progress
from tinydl.cli.recipe import CLASSES_OF_OPTIMIZERS, LOW, SCHEDULES, Recipe
from tinydl.cli.result import Result
from tinydl.cli.time_limit import TimeLimit
from tinydl.data import ArrayDataset
from tinydl.metrics import MetricsEvaluator
from tinydl.metrics.named import OF_CLASSES, OF_NUMBERS, OF_PROBABILITIES, OF_SCORES
from tinydl.tables import TableEncoder
from tinydl.tabular import ACTIVATIONS, BETAS, CLASSES, NUMBERS, batch_size

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
@pytest.mark.parametrize(("target", "metric", "members"), [("label", None, 3), ("label", "accuracy", 1), ("label", "roc-auc", 2),
                                                           ("price", None, 1), ("price", "r2", 2)])
def test_the_best_epochs_weights_are_saved(folder, capsys, records, target, metric, members):
    more = ["--validation", "0.3", "--lr", "0.02", "--schedule", "constant", "--members", members,
            *(["--metric", metric] if metric else [])]
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
    (["--schedule", "constant"], None), (["--schedule", "linear"], lambda n: optim.schedules.Linear(1e-3, n)),
    (["--schedule", "cosine"], lambda n: optim.schedules.Cosine(1e-3, n)),
    (["--schedule", "one-cycle"], lambda n: optim.schedules.OneCycle(1e-3, n)),
    ([], lambda n: optim.schedules.CosLog(1e-3, n)),
    (["--warm-up", "0.25", "--schedule", "constant"], lambda n: optim.schedules.Warmup(n // 4, optim.schedules.Constant(1e-3))),
    (["--warm-up", "0.25", "--schedule", "cosine", "--threads", "3"],
     lambda n: optim.schedules.Warmup(n // 4, optim.schedules.Cosine(1e-3, n - n // 4)))])
def test_schedules_run_over_all_updates(folder, records, more, schedule):
    assert main(arguments("label", "--epochs", 8, "--validation", 0, "--lr", "0.001", "--quiet", *more)) == 0
    n = sum(r.updates for r in records)
    rates = [1e-3] * 8 if schedule is None else [schedule(n)(n // 8 * (epoch + 1) - 1) for epoch in range(8)]
    assert [r.learning_rate for r in records] == rates and n == 8 * (8 if "--threads" not in more else 3)


def test_what_the_optimizer_and_the_network_are_given(folder):
    own = recipe("--optimizer", "sgd", "--weight-decay", "0.5", "--clip-norm", "2", "--lr", "3", "--schedule", "constant",
                 "--members", "1")
    config = own.optimizer(100).config()
    assert (config["lr"], config["momentum"], config["weight_decay"], config["clip_norm"]) == (3.0, 0.9, 0.5, 2.0)
    assert main(arguments("label", "--epochs", 1, "--quiet", "--dropout", "0.25", "--hidden", "8,8", "--members", 2)) == 0
    assert [layer.p for _, layer in Model.load("m").layer.walk() if isinstance(layer, nn.Dropout)] == [0.25] * 4


def test_default_rates_are_those_that_the_help_says(capsys):
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    rates = re.split("--learning-rate(?: LR)?, --lr LR default: ", text)[1].split("; with --schedule constant 0.25 times that")[0]
    assert [part.split()[0] for part in rates.split("; ")] == list(options.OPTIMIZERS)
    for part in rates.split("; "):
        name, *values = [word.rstrip(",") for word in part.split() if word not in ("for", "classes,", "numbers")]
        for n_classes, value in ((3, values[0]), (0, values[-1])):
            assert f"{recipe('--optimizer', name, n_classes=n_classes).rate:g}" == value
            assert recipe("--optimizer", name, "--schedule", "constant", n_classes=n_classes).rate == float(value) / 4


@pytest.mark.parametrize(("target", "wanted"), [("label", CLASSES), ("price", NUMBERS)])
def test_the_default_is_the_recipe_of_tables(folder, target, wanted):
    """Of optimizer, schedule, network, loss, batches, epochs, and rows set aside."""
    seen = {}
    init = Trainer.init

    def spied(self, data, model, loss, optimizer):
        seen.update(data=data, model=model, loss=loss, optimizer=optimizer, trainer=self, epochs=self.max_epochs)
        init(self, data, model, loss, optimizer)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(Trainer, "init", spied)
        m.setattr(train, "fit", lambda trainer, rate: None)
        assert main(["train", "t.csv", "--target", target, "--threads", "1", "--quiet"]) == 0
    data, model, layers = seen["data"], seen["model"], [layer for _, layer in seen["model"].layer.walk()]
    assert (data.train.n_samples, data.validation.n_samples) == (192, 48)
    assert data.train.batch_size == (wanted.batch_size or batch_size(240))
    assert model.output_shape(model.input_shape) == (wanted.n_members, 3 if target == "label" else 1)
    widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == [*wanted.hidden_sizes, 3 if target == "label" else 1] * wanted.n_members
    embedding = {"periodic": nn.PeriodicEmbedding, "piecewise": nn.PiecewiseLinearEmbedding}[str(wanted.embedding)]
    for kind in (ACTIVATIONS[wanted.activation], embedding):
        assert sum(isinstance(layer, kind) for layer in layers) in (wanted.n_members, wanted.n_members * len(wanted.hidden_sizes))
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout)} == ({wanted.dropout} if wanted.dropout else set())
    updates = wanted.max_epochs * data.train.n_batches
    assert seen["epochs"] == wanted.max_epochs and type(seen["optimizer"]) is optim.AdamW
    config = seen["optimizer"].config()
    assert config["lr"] == optim.schedules.CosLog(wanted.learning_rate, updates)
    assert (config["betas"], config["weight_decay"], config.get("clip_norm")) == (BETAS, wanted.weight_decay, None)
    assert getattr(seen["loss"], "label_smoothing", 0.0) == wanted.label_smoothing
    stop = next(c for c in seen["trainer"].callbacks if isinstance(c, EarlyStopping))
    assert (stop.patience, stop.figure) == (wanted.patience, "log_loss" if target == "label" else "rmse")


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


# ---------------------------------------------------------------------- members
@pytest.mark.parametrize("target", ["label", "price"])
def test_members_are_trained_each_for_itself(folder, target):
    """Their gradients are those that each alone has, divided by their number."""
    rng = np.random.default_rng(0)
    x = {"numbers": rng.standard_normal((20, 3)).astype(np.float32)}
    y = rng.integers(3, size=20) if target == "label" else rng.standard_normal((20, 1)).astype(np.float32)
    facts = {"encoder": TableEncoder().fit(x["numbers"]).to_dict()}
    own = recipe("--members", "3", "--hidden", "8", "--dropout", "0", n_classes=3 if target == "label" else 0)
    members, one = (Members(facts, x["numbers"], np.arange(20), own.n_classes, replace(own.own, n_members=n)) for n in (3, 1))
    model = members.apart(seed=0)
    parts = np.split(model.params, 3)
    found = gradients(model, x["numbers"], members.targets(y), own.loss(y))
    for i, params in enumerate(parts):
        alone = one.apart(seed=0)
        alone.params[...] = params
        np.testing.assert_allclose(3 * np.split(found, 3)[i], gradients(alone, x["numbers"], y, own.loss(y)), atol=1e-6)
        assert i == 0 or not np.array_equal(params, parts[0])
    mean = members.mean(model).predict(x["numbers"])
    np.testing.assert_allclose(mean, model.predict(x["numbers"]).mean(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("names", [("accuracy", "log_loss"), ("rmse", "r2")])
def test_what_is_validated_is_the_mean_of_members(names):
    rng = np.random.default_rng(0)
    outputs = rng.standard_normal((30, 4, 3 if "accuracy" in names else 1)).astype(np.float32)
    y = rng.integers(3, size=30) if "accuracy" in names else rng.standard_normal((30, 1))
    found, wanted = MeanEvaluator(*names), MetricsEvaluator(*names)
    found.check_targets(np.repeat(y[:, None], 4, 1), outputs.shape[1:])
    found.update(outputs, np.repeat(y[:, None], 4, 1))
    wanted.update(outputs.mean(1), y)
    assert found.result() == wanted.result() and found.figure_names == names


def gradients(model, x, y, loss):
    """By one update of SGD with a rate of 1."""
    before = model.params.copy()
    with Trainer(1, seed=0) as trainer:
        trainer.init(ArrayDataset(x, y, len(x)), model, loss, optim.SGD(1.0))
        trainer.train()
    after = model.params.copy()
    model.params[...] = before
    return before - after


@pytest.mark.parametrize(("optimizer", "more"), [
    ("adamw", []), ("adam", ["--weight-decay", "0.1"]), ("rmsprop", ["--weight-decay", "0.1"]),
    ("sgd", ["--weight-decay", "0.1", "--clip-norm", "0.5", "--learning-rate", "0.1"])])
def test_optimizers_take_members_as_they_take_one(optimizer, more):
    """Three equal members move as one does alone, though each has a third of its gradient: in 20 updates, to rounding."""
    rng = np.random.default_rng(0)
    g, p = rng.standard_normal((20, 50)).astype(np.float32), rng.standard_normal(50).astype(np.float32)
    moved = []
    for n in (1, 3):
        rule = recipe("--optimizer", optimizer, "--members", str(n), *more).optimizer(20)
        params = np.tile(p, n)
        rule.bind(params)
        for each in g:
            rule.step(np.tile(each, n) / np.float32(n))
        moved.append(params[-50:] - p)
    np.testing.assert_allclose(moved[1], moved[0], atol=1e-4 * np.abs(moved[0]).max())
    assert np.abs(moved[0]).min() > 0


@pytest.mark.parametrize("members", [1, 3])
def test_probabilities_are_calibrated_on_the_rows_set_aside(folder, capsys, monkeypatch, members):
    """The saved model's scores are those of the training divided by the temperature that is said and noted."""
    wanted, x = {}, []

    def encode(facts, table):
        x.append(encoded(facts, table))
        return x[0]

    def mean(self, trained, temperature=1.0):
        model = whole(self, trained, temperature)
        wanted[temperature] = model.predict(x[0])
        return model
    encoded = prepare.encode
    monkeypatch.setattr(prepare, "encode", encode)
    whole = Members.mean
    monkeypatch.setattr(Members, "mean", mean)
    assert main(arguments("label", "--epochs", 6, "--members", members)) == 0
    t = Model.load("m").metadata["training"]["temperature"]
    assert set(wanted) == {1.0, t} and t != 1 and f"scores divided by {t:.3g}, so" in capsys.readouterr().out
    np.testing.assert_allclose(wanted[t] * t, wanted[1.0], rtol=1e-5, atol=1e-6)
    labels = pd.read_csv("t.csv")["label"].map({"x": 0, "y": 1, "z": 2}).to_numpy()
    rest, _ = held_out(300, labels, 0.2, 0, "")
    rows = rest[held_out(240, labels[rest], 0.2, 0, "")[1]]

    def figure(temperature):        # with one row more, of all classes alike
        z = wanted[1.0][rows].astype(float) / temperature
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        e = 1 / (len(rows) + 1)
        return -((1 - e) * log_p[np.arange(len(rows)), labels[rows]] + e * log_p.mean(1)).mean()
    assert figure(t) <= min(figure(t * 1.001), figure(t / 1.001))


def test_without_rows_set_aside_scores_are_as_they_are(folder, capsys):
    assert main(arguments("label", "--epochs", 2, "--validation", 0)) == 0
    assert "divided" not in capsys.readouterr().out and "temperature" not in Model.load("m").metadata["training"]


def test_small_tables_set_no_rows_aside_unless_asked():
    assert (recipe(n_rows=49).validation, recipe(n_rows=50).validation) == (0, CLASSES.validation_fraction)
    for more in (["--patience", "3"], ["--metric", "f1"], ["--time", "9"]):
        assert recipe(*more, n_rows=20).validation == CLASSES.validation_fraction


def test_an_update_is_of_as_many_rows_whatever_the_number_of_threads(folder, capsys, records):
    for threads in (1, 2, 3):
        assert main(["train", "t.csv", "--target", "label", "--epochs", "1", "--hidden", "8", "--threads", str(threads),
                     "--out", "m", "--quiet"]) == 0
    assert [r.updates for r in records] == [6, 6, 7]        # of 192 rows, by 32, 2 x 16 and 3 x 10
    assert Model.load("m").metadata["training"]["recipe"]["--batch-size"] == 10


# ---------------------------------------------------------------------- the range of numbers
def test_numbers_stay_in_the_range_of_the_target(folder, capsys):
    a = np.random.default_rng(0).uniform(-1, 1, 200)
    pd.DataFrame({"a": a, "price": a}).to_csv("u.csv", index=False)
    known = a[held_out(200, a[:, None], 0.2, 0, "")[0]]
    pd.DataFrame({"a": np.append(a, [-1e9, 1e9])}).to_csv("v.csv", index=False)
    found = []
    for more in ([], ["--no-clip"]):
        assert main(["train", "u.csv", "--target", "price", *SMALL, "--quiet", *more]) == 0
        assert main(["predict", "m", "v.csv"]) == 0
        found.append(np.array(capsys.readouterr().out.split()[1:], float))
        assert ("target_range" in Model.load("m").metadata["table"]) == (not more)
    assert found[1].min() < known.min() - 0.1 and found[1].max() > known.max() + 0.1
    np.testing.assert_array_equal(found[0], np.clip(found[1], known.min(), known.max()))


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
    more = ["--lr", "0.05", "--schedule", "constant", "--patience", 100]
    assert main(arguments("label", "--epochs", 1000, "--time", "60", *more)) == 0
    best = 1 + int(np.argmin([r.figures["log_loss"] for r in records]))
    out = capsys.readouterr().out
    assert f"best epoch: {best} of 25, log_loss " in out and best < 25 and "little was learnt" not in out
    ended = Model.load("m").params.tobytes()
    assert main(arguments("label", "--epochs", best, *more)) == 0
    assert Model.load("m").params.tobytes() == ended


def test_time_in_the_middle_of_the_first_epoch(folder, capsys):
    rng = np.random.default_rng(0)
    np.savez("d.npz", x=rng.standard_normal((20_000, 20)), y=rng.integers(2, size=20_000))
    assert main(["train", "d.npz", "--time", "1e-9", "--hidden", "1024,1024", "--members", "1", "--validation", "0", "--out",
                 "m"]) == 0
    out = capsys.readouterr().out       # all epochs would take minutes
    assert int(out.split("--time: training ended in epoch ")[1].split()[0]) < 24 and Path("m").exists()


def test_time_before_the_rate_has_risen_is_said(folder, capsys):
    for schedule in ("cos-log", "one-cycle", "cosine"):         # patience: else a fast machine ends before the time does
        more = ["--patience", 1_000_000, "--time", "0.2", "--schedule", schedule]
        assert main(arguments("label", "--epochs", 1_000_000, *more)) == 0
        out = " ".join(capsys.readouterr().out.split())
        said = "so little was learnt: say --epochs that the time allows, or --schedule constant" in out
        assert said == (schedule != "cosine"), out


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
ALL = ["--epochs", "9", "--members", "2", "--schedule", "cosine", "--warm-up", "0.2", "--dropout", "0.1", "--weight-decay",
       "0.01", "--clip-norm", "1", "--class-weight", "balanced", "--metric", "f1", "--validation", "0.2", "--time", "1000",
       "--quiet"]


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
    ("--validation", "0.3", "0.2"), ("--patience", "5", "16"), ("--members", "3", "2"),
    ("--epochs", "10", "9")])
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
    assert "100%" in err.getvalue() and "train  epoch" not in out.getvalue() and "\nmodel: m\n" in out.getvalue()

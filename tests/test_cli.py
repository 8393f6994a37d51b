"""The command line: what it prints, writes and returns. Bad input is a table with a row for each kind."""
from __future__ import annotations

import csv
import errno
import gzip
import io
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from small import trainer

import tinydl
from tinydl import Model, nn
from tinydl.callbacks import Callback
from tinydl.cli import common, main, progress
from tinydl.cli.demo_images import shifted
from tinydl.cli.prepare import held_out
from tinydl.cli.progress import Progress
from tinydl.cli.tables import read_table
from tinydl.parallel import runtime
from tinydl.parallel.execution import native_driver
from tinydl.parallel.host import threads
from tinydl.serialization import read_arrays
from tinydl.tables import TableEncoder

#: a small network, where any will do
TINY = ["--hidden", "8", "--members", "1"]
SMALL = ["--epochs", "3", *TINY, "--quiet"]
#: for processes: the tinydl that is tested here, wherever they start
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(tinydl.__file__).parents[1]), "COLUMNS": "80", "TERM": "xterm",
               "PYTHONUNBUFFERED": ""}


def write(path: Path, rows: list[list[object]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(rows)
    return path


def sklearn_csv(name: str) -> Path:
    from sklearn import datasets
    data = getattr(datasets, f"load_{name}")()
    labels = data.target if name == "diabetes" else data.target_names[data.target]
    return write(Path(f"{name}.csv"), [[*data.feature_names, "target"],
                                       *([*x, y] for x, y in zip(data.data.tolist(), labels.tolist(), strict=True))])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def two(folder):
    """A table of 40 rows: a, b and a label that a's sign gives."""
    rng = np.random.default_rng(0)
    rows = [[f"{a:.3f}", f"{b:.3f}", "yes" if a > 0 else "no"] for a, b in rng.normal(size=(40, 2))]
    return write(folder / "two.csv", [["a", "b", "label"], *rows])


def command(*arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "tinydl", *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options)


def said(capsys) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


# ---------------------------------------------------------------------- demo
def test_demo(folder, capsys):
    assert main(["demo", "--epochs", "12", "--hidden", "64", "--threads", "2", "--no-plot"]) == 0
    out, err = said(capsys)
    assert err == "" and list(folder.iterdir()) == []
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("serial    epoch") for line in lines) == 10
    head, _, serial, parallel = lines[(at := next(i for i, s in enumerate(lines) if s.startswith("mode"))):at + 4]
    assert head.split()[:4] == ["mode", "threads", "updates", "seconds"]
    assert serial.split()[:3] == ["serial", "1", "540"] and parallel.split()[:3] == ["parallel", "2", "276"]
    assert float(serial.split()[-2]) > 90 and float(parallel.split()[-2]) > 90
    assert len({len(line) for line in (head, serial, parallel)}) == 1


def test_demo_reaches_97_percent_in_both_modes(folder, capsys):
    assert main(["demo", "--no-plot"]) == 0
    table = said(capsys)[0].split("\nmode ")[1].splitlines()[2:4]
    assert all(float(line.split()[-2]) >= 97 for line in table)


def test_demo_draws_where_it_can(folder, capsys):
    assert main(["demo", "--epochs", "2", "--hidden", "8"]) == 0
    assert said(capsys)[0].splitlines()[-1] == "Loss curves: tinydl-demo.png"
    assert (folder / "tinydl-demo.png").read_bytes()[:4] == b"\x89PNG"
    (folder / "tinydl-demo.png").unlink()
    (folder / "tinydl-demo.png").mkdir()
    assert main(["demo", "--epochs", "2", "--hidden", "8"]) == 0
    assert said(capsys)[0].splitlines()[-1].startswith("No loss curves: ")


def test_demo_of_images_reaches_98_8_percent(folder, capsys):
    assert main(["demo", "--images", "--hidden", "8", "--threads", "1", "--no-plot"]) == 0
    out, err = said(capsys)
    assert err == "" and max(map(len, out.splitlines())) <= 80 and list(folder.iterdir()) == []
    head, _, dense, convolutional = out.rstrip().splitlines()[-4:]
    assert head.split()[0] == "network" and dense.startswith("dense ") and "7,190; 359 others to test" in out
    assert float(convolutional.split()[4]) >= 98.8 and convolutional.split()[:2] == ["convolutional", "30,634"]
    assert round(100 * (1 - int(convolutional.split()[-1]) / 359), 1) == float(convolutional.split()[4])


def test_demo_shifts_images_by_a_pixel():
    x = np.arange(1.0, 10).reshape(1, 3, 3)
    same, down, up, right, left = shifted(x)
    np.testing.assert_array_equal(same, x[0])
    np.testing.assert_array_equal(down, [[0, 0, 0], [1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(up, [[4, 5, 6], [7, 8, 9], [0, 0, 0]])
    np.testing.assert_array_equal(right, [[0, 1, 2], [0, 4, 5], [0, 7, 8]])
    np.testing.assert_array_equal(left, [[2, 3, 0], [5, 6, 0], [8, 9, 0]])


def test_demo_of_sequences_forecasts_better_than_naively(folder, capsys):
    assert main(["demo", "--sequences", "--plot", "curve.png"]) == 0
    out, err = said(capsys)
    assert err == "" and max(map(len, out.splitlines())) <= 80
    assert out.endswith("Loss curves: curve.png\n") and (folder / "curve.png").is_file()
    rows = {line.rsplit(maxsplit=4)[0]: float(line.split()[-1]) for line in out.split("\nforecast ")[1].splitlines()[2:7]}
    assert list(rows) == ["the last month again", "a year before", "mean of that month", "linear regression", "LSTM"]
    assert rows["LSTM"] < min(error for name, error in rows.items() if name != "LSTM")
    assert rows["the last month again"] == 2.23         # as NumPy alone finds: np.sqrt(np.mean(errors ** 2))


@pytest.mark.parametrize("arguments", [["--images"], ["--sequences"], []])
def test_demos_take_every_option(folder, capsys, arguments):
    assert main(["demo", *arguments, "--epochs", "1", "--hidden", "4,3", "--batch-size", "100", "--threads", "2", "--seed", "3",
                 "--no-plot"]) == 0
    out = said(capsys)[0]
    assert "1 epoch of " in out and " of 100" in out and ("4-3" in out or arguments == ["--images"])


def test_threads_change_nothing_in_the_demo_of_sequences(folder, capsys):
    tables = []
    for n in ("1", "3"):
        assert main(["demo", "--sequences", "--epochs", "2", "--threads", n, "--no-plot"]) == 0
        out = said(capsys)[0]
        assert f"Adam; {n} thread" in out
        tables.append(out.split("\nforecast ")[1].split("\nRoot")[0])
    assert tables[0] == tables[1]


# ---------------------------------------------------------------------- train and predict
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_classification(folder, capsys, name):
    path = sklearn_csv(name)
    assert main(["train", str(path), "--target", "target"]) == 0
    out, err = said(capsys)
    assert err == "" and max(map(len, out.splitlines())) <= 80
    assert "3 classes of 'target'" in out and out.endswith(f"model: {name}.tinydl\n")
    assert float(out.split("accuracy ")[1].split()[0]) > 90
    guessed = {"iris": 10 / 30, "wine": 14 / 36}[name]         # of the test part, which has a fifth of each class
    assert f"; commonest class: {100 * guessed:.1f} %)\n" in out
    assert main(["predict", f"{name}.tinydl", str(path)]) == 0
    rows = list(csv.reader(io.StringIO(said(capsys)[0])))
    with open(path, newline="") as f:
        data = list(csv.reader(f))[1:]
    labels = [row[-1] for row in data]
    assert rows[0] == ["prediction", *(f"probability_{c}" for c in sorted(set(labels)))]
    assert np.mean([row[0] == label for row, label in zip(rows[1:], labels, strict=True)]) > 0.95

    model = Model.load(f"{name}.tinydl")
    facts = model.metadata["table"]
    x = np.array([row[:-1] for row in data], float)
    encoder = TableEncoder.from_dict(facts["encoder"])
    scores = model.predict(encoder.transform(dict(zip(facts["features"], x.T, strict=True))).numbers)
    assert [row[0] for row in rows[1:]] == [facts["classes"][i] for i in scores.argmax(1)]
    p = np.exp(scores.astype(float)) / np.exp(scores.astype(float)).sum(1, keepdims=True)
    np.testing.assert_allclose(np.array([row[1:] for row in rows[1:]], float), p, rtol=1e-5)


def test_regression(folder, capsys):
    path = sklearn_csv("diabetes")
    assert main(["train", str(path), "--target", "target", "--task", "regression", "--out", "m"]) == 0
    out = said(capsys)[0]
    assert float(out.split("test: r2 ")[1].split(",")[0]) > 0.3 and float(out.split("rmse ")[-1].split(",")[0]) > 10
    assert main(["predict", "m", str(path), "--out", "p.csv"]) == 0
    assert said(capsys) == ("", "")
    data = np.genfromtxt(path, delimiter=",", skip_header=1)
    predicted = np.genfromtxt("p.csv", delimiter=",", skip_header=1)
    assert np.corrcoef(predicted, data[:, -1])[0, 1] > 0.7 and 100 < predicted.mean() < 200
    assert sorted(p.name for p in folder.iterdir()) == ["diabetes.csv", "m", "p.csv"]


def test_npz(folder, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype(np.float32)
    np.savez("d.npz", x=x, y=np.where(x[:, 0] > 0, 7, 3))
    assert main(["train", "d.npz", *SMALL]) == 0
    assert main(["predict", "d.tinydl", "d.npz"]) == 0
    from_npz = said(capsys)[0]
    assert from_npz.startswith("prediction,probability_3,probability_7\n") and len(from_npz.splitlines()) == 61
    # the same features by name, in another order, with a column that the model does not know
    write(folder / "d.csv", [["x4", "other", "x3", "x2", "x1", "x0"],
                             *([r[4], "?", *r[3::-1]] for r in x.astype(float).tolist())])
    assert main(["predict", "d.tinydl", "d.csv"]) == 0
    assert said(capsys)[0] == from_npz


def test_npz_with_columns_that_say_nothing(folder, capsys):
    """They are left out, but an .npz has them to predict, where columns go by their places."""
    x = np.random.default_rng(0).normal(size=(60, 4))
    x[:, [0, 2]] = 1.5
    np.savez("d.npz", x=x, y=np.where(x[:, 1] > 0, 7, 3))
    assert main(["train", "d.npz", *SMALL[:-1]]) == 0
    assert "note: columns 'x0', 'x2': all values are equal: left out\n" in said(capsys)[0]
    model = Model.load("d.tinydl")
    assert model.input_shape == (2,) and model.metadata["table"]["features"] == ["x0", "x1", "x2", "x3"]
    assert main(["predict", "d.tinydl", "d.npz"]) == 0
    lines = said(capsys)[0]
    np.savez("d.npz", x=x + np.array([7, 0, 8, 0]))
    assert main(["predict", "d.tinydl", "d.npz"]) == 0 and said(capsys)[0] == lines
    np.savez("d.npz", x=x[:, 1:3])
    fails_in_one_line(folder, capsys, ["predict", "d.tinydl", "d.npz"], "x has 2 features; the model needs 4")


@pytest.mark.parametrize(("y", "classes"), [
    ([True, False], ["0", "1"]), ([10, 9], ["9", "10"]), ([1.0, -2.0], ["-2", "1"]), (["b", "a"], ["a", "b"]),
    ([b"b", b"a"], ["a", "b"])])
def test_classes_of_npz(folder, y, classes):
    np.savez("d.npz", x=np.arange(20.)[:, None], y=np.array(y * 10))
    assert main(["train", "d.npz", *SMALL]) == 0
    assert Model.load("d.tinydl").metadata["table"]["classes"] == classes


def test_same_seed_same_bits(two, folder, capsys):
    for out in ("one", "two"):
        assert main(["train", "two.csv", "--target", "label", "--out", out, "--threads", "2", *SMALL]) == 0
    assert main(["train", "two.csv", "--target", "label", "--out", "other", "--seed", "1", *SMALL]) == 0
    assert Path("one").read_bytes() == Path("two").read_bytes() != Path("other").read_bytes()
    assert said(capsys) == ("", "")


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_optimizers(two, capsys, optimizer):
    assert main(["train", "two.csv", "--target", "label", "--optimizer", optimizer, "--learning-rate", "0.01",
                 "--schedule", "constant", "--epochs", "60", "--hidden", "64,64", "--members", "1"]) == 0
    assert float(said(capsys)[0].split("accuracy ")[1].split()[0]) > 80


def test_columns_of_true_and_false(folder):
    """As pandas and R write them."""
    rows = [["a", "b", "c", "y"], [0.5, "True", "FALSE", "p"], [1, "False", " true ", "q"]]
    assert read_table(write(folder / "t.csv", rows), "y").x.tolist() == [[0.5, 1, 0], [1, 0, 1]]


def test_constant_column_test_fraction_zero_and_bom(folder, capsys):
    text = "﻿a,k,y\r\n" + "".join(f"{i},0.1,{'ab'[i > 4]}\r\n\r\n" for i in range(10))
    Path("c.csv").write_text(text, encoding="utf-8", newline="")
    assert main(["train", "c.csv", "--target", "y", "--test-fraction", "0", "--epochs", "2", *TINY]) == 0
    out = said(capsys)[0]
    assert "10 rows, 2 features" in out and "0 to test" in out and "\ntest:" not in out
    assert "note: column 'k': all values are equal: left out\n" in out
    assert Model.load("c.tinydl").metadata["table"]["features"] == ["a"]


def test_batch_larger_than_the_table(two, capsys):
    assert main(["train", "two.csv", "--target", "label", "--batch-size", "10000000", *SMALL]) == 0
    assert said(capsys) == ("", "")


def test_scales_by_the_training_part_alone(two):
    assert main(["train", "two.csv", "--target", "label", *SMALL]) == 0
    columns = Model.load("two.tinydl").metadata["table"]["encoder"]["columns"]
    x, label = np.genfromtxt("two.csv", delimiter=",", skip_header=1)[:, :2], np.genfromtxt("two.csv", str, delimiter=",")[1:, 2]
    train, _ = held_out(40, (label == "yes").astype(int), 0.2, 0, "--test-fraction")
    assert [c["median"] for c in columns] == np.median(x[train], 0).tolist() != np.median(x, 0).tolist()


# ---------------------------------------------------------------------- info and the rest
def test_info(capsys):
    assert main(["info"]) == 0
    out = said(capsys)[0]
    assert max(map(len, out.splitlines())) <= 80
    for what in (f"tinydl               {tinydl.__version__}", "instruction set", "affinity", "container CPU quota",
                 "recommended threads", "NumPy", "GIL"):
        assert what in out


@pytest.mark.parametrize("usable, large, says", [
    (2, 1, "1 for large sets (3/4 of the CPUs, rounded down),\n                     2 for 1,000 to 10,000 samples, 1 below\n"),
    (3, 3, "3 for large sets, 3 for 1,000 to 10,000 samples, 1 below\n")])
def test_info_says_why_large_sets_get_fewer_threads(usable, large, says, capsys, monkeypatch):
    monkeypatch.setattr("tinydl.cli.info.cpu_limit", lambda: (usable, "a test"))
    monkeypatch.setattr("tinydl.parallel.recommended_thread_count", lambda n_samples=None: usable if n_samples else large)
    assert main(["info"]) == 0
    assert f"recommended threads  {says}" in said(capsys)[0]


def test_info_of_a_model(capsys, tmp_path):
    numbers, store = nn.Input((4,), name="numbers"), nn.Input((), "int64", name="store")
    hidden = nn.Concat()([nn.Sequential(nn.Linear(4, 8), nn.ReLU())(numbers), nn.Embedding(7, 3)(store)])
    model = Model(inputs=[numbers, store], outputs={"price": nn.Linear(11, 1)(hidden), "kind": nn.Linear(11, 5)(hidden)})
    model.freeze("1.*")
    model.save(tmp_path / "m")
    assert main(["info", str(tmp_path / "m")]) == 0
    out = said(capsys)[0]
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"numbers +Input +\(4,\)\nstore +Input int64 +\(\)\n0.0 +Linear +numbers +\(8,\) +40 ", out)
    assert re.search(r"2 +Concat +0, 1 .*\n3 +Linear +2 .*\n4 +Linear +2 .*\nprice +Output +3 +\(1,\)\nkind +Output +4 ", out)
    assert "112 parameters" in out and "21 frozen" in out and "frozen: 1.weight" in out
    Model(nn.ReLU()).save(tmp_path / "m")
    assert main(["info", str(tmp_path / "m")]) == 0 and "its input is not known" in said(capsys)[0]


class Own(nn.PythonLayer):
    pass


@pytest.mark.parametrize("content, message", [
    (None, "there is no such file"), (b"x", "m is not a model file of tinydl: it is a text file"),
    (Own, "only a program can load")])
def test_info_of_what_is_no_model(capsys, tmp_path, content, message):
    if content is Own:
        Model(Own()).save(tmp_path / "m")
    elif content is not None:
        (tmp_path / "m").write_bytes(content)
    assert main(["info", str(tmp_path / "m")]) == 2 and message in said(capsys)[1]


@pytest.mark.parametrize("path", ["new", Path(__file__).parent / "data" / "checkpoint_of_zip_format"])
def test_info_of_a_checkpoint(capsys, folder, path):
    with trainer(epochs=1, callbacks=[Callback()]) as t:
        t.train()
        t.save_checkpoint("new")
    assert main(["info", str(path)]) == 0
    out = said(capsys)[0]
    if path == "new":
        assert out.startswith("checkpoint after 1 epochs: Adam, 8 updates, loss ") and "64 samples in batches of 8; seed 0" in out
        assert "callbacks: Callback" in out and "float32, 93 values in 4 arrays" in out and "  0.weight (6, 9)" in out
    else:
        assert out.startswith("checkpoint after 2 epochs: Adam, 12 updates, loss ") and "callbacks: EarlyStopping" in out


@pytest.mark.parametrize("name", ["zip", "safetensors"])
def test_info_of_a_model_of_either_format(capsys, folder, name):
    path = Path(__file__).parent / "data" / "model_of_zip_format.tinydl"
    if name == "safetensors":
        Model.load(path).save("m")
        path = "m"
    assert main(["info", str(path)]) == 0
    assert "28 parameters (224 bytes), 20 frozen" in said(capsys)[0]


def test_info_says_what_decides(capsys, monkeypatch):
    monkeypatch.setenv("TINYDL_NUM_THREADS", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    main(["info"])
    by = "affinity" if threads.affinity_cpus() == 1 else "OMP_NUM_THREADS=1"
    assert f"usable CPUs          1 (decided by {by})\n" in said(capsys)[0]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["train", "--help"], ["demo", "--help"]])
def test_help(capsys, arguments):
    assert main(arguments) == 0
    assert "tinydl" in said(capsys)[0]


BAD = {
    "nothing": ([], "COMMAND"),
    "unknown command": (["fly"], "fly"),
    "unknown option": (["info", "--x"], "unrecognised arguments: --x (see tinydl info --help)"),
    "option misspelt": (["train", "two.csv", "--batch_size=8"], "; did you mean --batch-size? (see tinydl train --help)"),
    "argument too many": (["train", "two.csv", "label"], "unrecognised arguments: label; of several columns each has an option "
                          "of its own, as --ignore a --ignore b (see tinydl train --help)"),
    "two columns for one option": (["predict", "m", "two.csv", "--id", "a", "b"], "as --id a --id b (see tinydl predict --help)"),
    "longer name": (["train", "two.csv", "--target", "y", "--time-limit", "5"], "--time-limit 5; did you mean --time? (see"),
    "name of others": (["train", "two.csv", "-t", "y"], "unrecognised arguments: -t y; did you mean --target? (see"),
    "name that is not there": (["info", "--output"], "unrecognised arguments: --output (see tinydl info --help)"),
    "missing file": (["train", "no.csv", "--target", "label"], "no.csv: there is no such file"),
    "missing npz": (["train", "no.npz"], "no.npz: there is no such file"),
    "folder": (["train", ".", "--target", "label"], "is a folder"),
    "no target": (["train", "two.csv"], "--target COLUMN is needed; two.csv has 'a', 'b', 'label'"),
    "missing column": (["train", "two.csv", "--target", "c"], "no column 'c'; it has 'a', 'b', 'label'"),
    "target of npz": (["train", "d.npz", "--target", "c"], "--target is for CSV"),
    "task": (["train", "two.csv", "--target", "label", "--task", "guess"], "guess"),
    "text target": (["train", "two.csv", "--target", "label", "--task", "regression"], "line 2, column 'label': '"),
    "threads": (["train", "two.csv", "--target", "label", "--threads", "250"], "threads"),
    "threads of demo": (["demo", "--threads", "100000"], "--threads"),
    "negative threads": (["demo", "--threads", "-1"], "--threads"),
    "hidden": (["train", "two.csv", "--target", "label", "--hidden", "8,0"], "'0'"),
    "hidden text": (["train", "two.csv", "--target", "label", "--hidden", "8,x"], "'x'"),
    "epochs": (["train", "two.csv", "--target", "label", "--epochs", "-1"], "--epochs"),
    "batch size": (["demo", "--batch-size", "0"], "--batch-size"),
    "learning rate": (["train", "two.csv", "--target", "label", "--learning-rate", "nan"], "--learning-rate"),
    "diverging": (["train", "two.csv", "--target", "label", "--lr", "1e30"], "learning rate"),
    "test fraction": (["train", "two.csv", "--target", "label", "--test-fraction", "1"], "--test-fraction"),
    "all to test": (["train", "two.csv", "--target", "label", "--test-fraction", "0.999"], "too few"),
    "seed": (["demo", "--seed", "-1"], "--seed"),
    "out in a file": (["train", "two.csv", "--target", "label", "--out", "two.csv/m"], "two.csv/m cannot be written: Not a"),
    "out is a folder": (["train", "two.csv", "--target", "label", "--out", "."], "is a folder"),
    "out is a device": (["train", "two.csv", "--target", "label", "--out", "/dev/null"], "not a plain file"),
    "out is the data": (["train", "two.csv", "--target", "label", "--out", "two.csv"], "--out two.csv would replace two.csv"),
    "plot": (["demo", "--plot", "two.csv/x.png"], "two.csv/x.png cannot be written"),
    "two demos": (["demo", "--images", "--sequences"], "not allowed with"),
    "no model": (["predict", "no.tinydl", "two.csv"], "no.tinydl: there is no such file"),
    "model is a folder": (["predict", ".", "two.csv"], "."),
    "foreign model": (["predict", "two.csv", "two.csv"], "two.csv is not a model"),
    "truncated model": (["predict", "cut.tinydl", "two.csv"], "cut.tinydl is not a model"),
    "model of no table": (["predict", "bare.tinydl", "two.csv"], "`tinydl train` did not write it"),
    "missing feature": (["predict", "two.tinydl", "one.csv"], "one.csv: the model needs column 'b', which is missing"),
    "missing features": (["predict", "two.tinydl", "other.csv"], "the model needs columns 'a', 'b', which are missing"),
    "predict a folder": (["predict", "two.tinydl", "."], "is a folder"),
    "predict over data": (["predict", "two.tinydl", "two.csv", "--out", "two.csv"], "would replace two.csv"),
    "predict over model": (["predict", "two.tinydl", "two.csv", "--out", "two.tinydl"], "would replace two.tinydl"),
    "predict into a file": (["predict", "two.tinydl", "two.csv", "--out", "two.csv/no/p"], "cannot be written: Not a"),
    "predict other npz": (["predict", "two.tinydl", "wide.npz"], "x has 3 features; the model needs 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(two, folder, capsys, case):
    assert main(["train", "two.csv", "--target", "label", *SMALL]) == 0
    Path("cut.tinydl").write_bytes(Path("two.tinydl").read_bytes()[:500])
    Model(tinydl.nn.Linear(2, 2), seed=0).save("bare.tinydl")
    write(folder / "one.csv", [["a"], [1]])
    write(folder / "other.csv", [["c"], [1]])
    np.savez("wide.npz", x=np.zeros((4, 3)))
    fails_in_one_line(folder, capsys, *BAD[case])


TABLES = {
    "empty": ("", "bad.csv is empty"),
    "blank": ("\n\n", "bad.csv is empty"),
    "header only": ("a,y\n", "no rows"),
    "text among numbers": ("a,b,y\n" + "".join(f"1,{i if i != 1 else 'x'},p\n" for i in range(40)),
                           "bad.csv, line 3, column 'b': 'x' is not a number, as most cells of the column are: correct it, "
                           "or say --missing 'x', or --categorical 'b'"),
    "text far behind numbers": ("b,y\n" + "".join(f"{i},p\n" for i in range(5000)) + "x,q\n",
                                "bad.csv, line 5002, column 'b': 'x' is not a number"),
    "commas between thousands": ("b;y\n" + "".join(f'"{i},{i:03}.5";p\n' for i in range(1, 40)),
                                 "bad.csv, line 2, column 'b': '1,001.5' has commas between its thousands, as it seems: write it "
                                 "without them, or say --categorical 'b'"),
    "numbers written otherwise": ("b,y\n" + "".join(f"$ {i},p\n" for i in range(40)),
                                  "bad.csv, line 2, column 'b': '$ 0' looks like a number"),
    "inf": ("a,y\n1,p\n-inf,q\n", "bad.csv, line 3, column 'a': -inf is not a finite number"),
    "no label": ("a,y\n1,\n2,nan\n", "column 'y' of bad.csv is missing in all 2 rows"),
    "ragged": ("a,y\n1,p\n2,q,r\n", "bad.csv, line 3: 3 cells; the header has 2"),
    "duplicate columns": ("a,a,y\n1,1,p\n", "column 'a' comes more than once"),
    "nameless column": (",a,y\n1,1,p\n1,2,q\n", "column 1 has no name; name it in the header, or leave it out by --index"),
    "nameless column within": ("a,,y\n1,1,p\n", "column 2 has no name; name it in the header, or leave it out"),
    "nothing but an index": (",y\n1,p\n2,q\n", "no column but the target 'y'; column 1 has no name and numbers or names the "
                             "rows: left out: a name in the header keeps it"),
    "nothing to learn from": ("a,b,y\n" + "".join(f"n{i},1,{'pq'[i % 2]}\n" for i in range(20)),
                              "nothing to learn from: column 'a': no two values of it are in 2 rows or more: left out; column"),
    "target only": ("y\n1\n2\n", "no column but the target"),
    "one class": ("a,y\n1,p\n2,p\n", "one class only, 'p'"),
    "unknown separator": ("a;y\n1;p;q\n2;q\n", "it has 'a;y'; say what separates its cells, by --separator"),
    "too few rows": ("a,y\n1,p\n2,q\n", "2 rows are too few"),
    "many names": ("a,y\n" + "".join(f"{i},n{i}\n" for i in range(40)), "is it the right --target?"),
    "huge": ("a,y\n" + "".join(f"{i},{i / 2}e307\n" for i in range(30)), "column 'y' holds numbers too large"),
    "not UTF-16": (b"\xff\xfea\0,\0y\0\n\0\x00\xd8\x01\x01", "bad.csv is not text in UTF-16"),
    "binary": (bytes(range(256)), "bad.csv is not a CSV: it has bytes that are 0"),
    "damaged gzip": (gzip.compress(b"a,y\n1,p\n2,q\n" * 100)[:40], "bad.csv is compressed, and damaged or truncated"),
    "empty gzip": (gzip.compress(b""), "bad.csv is empty"),
    "damaged Parquet": (b"PAR1 and no more", "bad.csv is damaged or truncated"),
    "long cell": ("a,y\n" + "1" * 200_000 + ",p\n", "is not a CSV: field larger"),
}


@pytest.mark.parametrize("case", TABLES)
def test_bad_csv(folder, capsys, case):
    if "Parquet" in case:
        pytest.importorskip("pyarrow")
    content, message = TABLES[case]
    Path("bad.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    fails_in_one_line(folder, capsys, ["train", "bad.csv", "--target", "y", "--out", "m"], message)


ARRAYS = {
    "no y": ({"x": np.zeros((4, 2))}, "no array 'y'; it has 'x'"),
    "no arrays": ({}, "no array 'x', 'y'; it has none"),
    "pickled": ({"x": np.array([[1, "a"]], object), "y": np.zeros(1)}, "x holds Python objects (pickled)"),
    "pickled x": ({"x": np.array([[1, True]], object), "y": np.zeros(1)}, "np.savez(path, x=np.asarray(x, 'float64'), ...)"),
    "pickled y": ({"x": np.zeros((1, 2)), "y": np.array(["a"], object)}, "y=np.asarray(y, 'int64'), or 'float64' or str, ...)"),
    "flat": ({"x": np.zeros(4), "y": np.zeros(4)}, "shape (rows, features)"),
    "text": ({"x": np.array([["a"]]), "y": np.zeros(1)}, "x must be numbers"),
    "lengths": ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, "one value for each of the 4 rows"),
    "empty": ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "x is empty"),
    "nan": ({"x": np.array([[0, 0], [0, np.nan]]), "y": np.zeros(2)}, "x holds nan in row 1, column 1"),
    "nan y": ({"x": np.zeros((2, 2)), "y": np.array([0, np.nan])}, "y holds nan in row 1"),
    "one class": ({"x": np.zeros((9, 2)), "y": np.zeros(9)}, "one class only"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_bad_npz(folder, capsys, case):
    arrays, message = ARRAYS[case]
    np.savez("bad.npz", **arrays)
    fails_in_one_line(folder, capsys, ["train", "bad.npz", "--out", "m"], message)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and no more"])
def test_no_npz(folder, capsys, content):
    Path("bad.npz").write_bytes(content)
    fails_in_one_line(folder, capsys, ["train", "bad.npz", "--out", "m"], "bad.npz is not an .npz file")


def test_bad_environment(two, folder, capsys, monkeypatch):
    monkeypatch.setenv("TINYDL_NUM_THREADS", "many")
    for arguments in (["info"], ["demo"], ["train", "two.csv", "--target", "label"]):
        fails_in_one_line(folder, capsys, arguments, "TINYDL_NUM_THREADS='many'")


def fails_in_one_line(folder: Path, capsys, arguments: list[str], message: str) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert main(arguments) == 2
    _, err = said(capsys)
    assert err.startswith("tinydl: ") and err.count("\n") == 1 and err.endswith("\n")
    assert message in err and "Traceback" not in err
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


# ---------------------------------------------------------------------- as a process
def test_exit_codes(two):
    with command("train", "no.csv", "--target", "x") as p:
        assert p.communicate() == ("", "tinydl: no.csv: there is no such file\n") and p.returncode == 2
    with command("--version") as p:
        assert p.communicate() == (f"tinydl {tinydl.__version__}\n", "") and p.returncode == 0


SIGNALS = [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]


def started(two: Path, *more: str) -> subprocess.Popen:
    p = command("train", two, "--target", "label", "--epochs", "10000", *TINY, "--out", "m", *more, bufsize=1)
    for line in p.stdout:
        if line.startswith("train  epoch"):         # the first of ten: it trains
            return p
    raise AssertionError(p.stderr.read())


@pytest.mark.parametrize("before", [b"a finished model", None])
@pytest.mark.parametrize(("number", "code", "how"), SIGNALS)
def test_a_signal_saves_a_checkpoint_and_leaves_the_model(two, folder, before, number, code, how):
    if before:
        Path("m").write_bytes(before)
    with started(two, "--threads", "2") as p:
        p.send_signal(number)
        _, err = p.communicate(timeout=60)
    assert p.returncode == code and err.count("\n") == 1 and err.startswith(f"tinydl: {how} after ")
    assert err.endswith("; the same command with --resume goes on from m.checkpoint; "
                        f"m was not {'changed' if before else 'written'}\n")
    assert sorted(f.name for f in folder.iterdir()) == [*(["m"] if before else []), "m.checkpoint", "two.csv"]
    assert not before or Path("m").read_bytes() == before


@pytest.mark.parametrize(("number", "code", "how"), SIGNALS)
def test_a_signal_ends_it_as_ever_where_it_cannot_save(two, folder, number, code, how):
    with started(two, "--threads", "1") as p:
        (folder / "m.checkpoint").mkdir()
        p.send_signal(number)
        _, err = p.communicate(timeout=60)
    assert p.returncode == code and err.startswith(f"tinydl: {how} after ") and err.count("\n") == 1
    assert err.endswith(" updates; m.checkpoint could not be saved: Is a directory; m was not written\n")
    assert sorted(f.name for f in folder.iterdir()) == ["m.checkpoint", "two.csv"]


@pytest.mark.parametrize(("raised", "code", "how"), [
    ("Terminated", 143, "terminated"), ("KeyboardInterrupt", 130, "interrupted")])
def test_a_signal_ends_it_as_ever_where_its_output_cannot_be_written(raised, code, how):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    program = f"""
import sys
from tinydl import cli
from tinydl.cli.errors import Terminated
def run(argv):
    print("not yet written")
    raise {raised}
cli._run = run
sys.exit(cli.main())
"""
    with open("/dev/full", "w") as full:
        p = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert (p.returncode, p.stderr) == (code, f"tinydl: {how}\n")


STOPPED = ["train", "d.npz", "--epochs", "3", "--hidden", "64", "--members", "1", "--batch-size", "2", "--validation", "0",
           "--quiet", "--schedule", "constant", "--learning-rate", "0.001", "--threads"]


@pytest.fixture
def stop(folder, monkeypatch):
    """A function: train as STOPPED says, with so many threads, until a signal in the middle of the second epoch, after 500 of its
    updates; with more options (of a resume) in the middle of the third. Of several workers the last one is late: it begins with
    what is left of the epoch when that is being ended. So no epoch is over before the signal, however busy the CPUs are."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10_000, 5))
    np.savez("d.npz", x=x, y=np.where(x[:, 0] > 0, 7, 3))
    train, work, cancel = native_driver.train, native_driver._work, native_driver._Work.cancel

    def call(threads, number=signal.SIGTERM, code=143, more=()):
        def train_in_two_runs(resources, epoch, *arguments):
            *arguments, most = arguments
            if epoch.number == 2 + len(more):
                train(resources, epoch, *arguments, 500)
                half.append(epoch.batches_done)
            train(resources, epoch, *arguments, most)

        def come_late(run, worker, thread, **options):
            if half and worker == run.n_workers - 1 and not ending.wait(60):
                raise AssertionError("nothing has ended this run")
            work(run, worker, thread, **options)

        def progress(self, epoch, samples, loss):
            if half and not sent:
                sent.append(samples)
                signal.raise_signal(number)

        def cancel_and_go_on(self):
            cancel(self)
            ending.set()
        half, sent, ending = [], [], threading.Event()
        with monkeypatch.context() as m:
            m.setattr(native_driver, "train", train_in_two_runs)
            m.setattr(native_driver, "_work", come_late)
            m.setattr(native_driver._Work, "cancel", cancel_and_go_on)
            m.setattr(native_driver, "TICK", 1e-4)      # one thread looks for signals so often
            m.setattr(Progress, "progress", progress)
            assert main([*STOPPED, threads, "--out", "m", *more]) == code
        assert half[0] >= 500 and len(sent) == 1
    return call


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_resume_gives_the_bits_of_a_training_without_a_stop(stop, folder, threads, number, code):
    assert main([*STOPPED, threads, "--out", "whole"]) == 0
    stop(threads, number, code)
    assert read_arrays("m.checkpoint", "checkpoint")[0]["job"]["batches_done"] > 0
    assert not Path("m").exists()
    assert main([*STOPPED, threads, "--out", "m", "--resume"]) == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()
    assert sorted(f.name for f in folder.iterdir()) == ["d.npz", "m", "whole"]


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1), (3, 1), (3, 2), (2, 4)])
def test_resume_gives_the_same_bits_whatever_number_of_threads_is_recommended_now(stop, capsys, monkeypatch, before, now):
    """An update is of as many batches as before."""
    monkeypatch.setattr(common, "recommended_thread_count", lambda *sizes: before)
    assert main([*STOPPED, "0", "--out", "whole"]) == 0
    stop("0")
    said(capsys)
    monkeypatch.setattr(common, "recommended_thread_count", lambda *sizes: now)
    assert main([*(o for o in STOPPED if o != "--quiet"), "0", "--out", "m", "--resume"]) == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()
    used, how = min(before, now), f", {before} batches an update" if now < before else ""
    assert f"0.001, {used} thread{'s' * (used > 1)}{how}\n" in said(capsys)[0]


def test_resume_where_there_was_no_memory_for_all_threads(stop, monkeypatch):
    """The updates of the checkpoint were of fewer batches than the threads asked for; those after it are too."""
    with monkeypatch.context() as m, pytest.warns(tinydl.parallel.ParallelFallbackWarning, match="goes on with 2"):
        m.setattr(runtime, "fitting_threads", lambda report, counts=None: 2)
        assert main([*STOPPED, "3", "--out", "whole"]) == 0
        stop("3")
    assert main([*STOPPED, "3", "--out", "m", "--resume"]) == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()


def test_resume_after_a_resume(stop, monkeypatch):
    assert main([*STOPPED, "3", "--out", "whole"]) == 0
    stop("3")
    monkeypatch.setattr(common, "recommended_thread_count", lambda *sizes: 2)
    stop("0", more=["--resume"])
    monkeypatch.setattr(common, "recommended_thread_count", lambda *sizes: 1)
    assert main([*STOPPED, "0", "--out", "m", "--resume"]) == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()


def test_resume_of_another_training_changes_nothing(stop, folder, capsys):
    stop("1")
    said(capsys)
    again = [*STOPPED, "1", "--out", "m", "--resume"]
    for option, value, saved, remedy in [
            ("--seed", "1", "0", "say --seed 0"), ("--hidden", "9", "64", "say --hidden 64"),
            ("--threads", "2", "1", "leave --threads out"), ("--batch-size", "4", "2", "say --batch-size 2"),
            ("--optimizer", "sgd", "adamw", "say --optimizer adamw"),
            ("--learning-rate", "0.5", "0.001", "say --learning-rate 0.001"),
            ("--test-fraction", "0.1", "0.2", "say --test-fraction 0.2"),
            ("--task", "classification", "None", "leave --task out")]:
        fails_in_one_line(folder, capsys, [*again, option, value],
                          f"--resume: m.checkpoint was saved with {option} {saved}; here it is {value}: {remedy}\n")
    fails_in_one_line(folder, capsys, [*again, "--epochs", "1"], "--resume: m.checkpoint is in epoch 2; --epochs is 1")
    fails_in_one_line(folder, capsys, [*again, "--out", "other"], "--resume: there is no other.checkpoint")
    with np.load("d.npz") as d:
        np.savez("d.npz", x=d["x"] + 1, y=d["y"])
    fails_in_one_line(folder, capsys, again, "--resume: m.checkpoint was saved with data ")
    with tinydl.Trainer(1, seed=0) as t:
        t.init(tinydl.data.ArrayDataset(np.zeros((4, 2)), np.zeros(4, int), 2), Model(tinydl.nn.Linear(2, 2), seed=0),
               tinydl.losses.SoftmaxCrossEntropy(), tinydl.optim.Adam())
        t.save_checkpoint("m.checkpoint")
    fails_in_one_line(folder, capsys, again, "--resume: `tinydl train` did not save m.checkpoint")
    Path("m.checkpoint").write_bytes(b"PK")
    fails_in_one_line(folder, capsys, again, "--resume: m.checkpoint is not a checkpoint")


def test_more_epochs_after_a_resume(stop, capsys):
    stop("1")
    more = [*STOPPED, "1", "--epochs", "4"]
    assert main([*more, "--out", "m", "--resume"]) == 0 and main([*more, "--out", "whole"]) == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()


def test_a_new_training_does_not_replace_the_checkpoint_of_another(stop, folder, capsys):
    """Nor does it leave one that is older than its model, for --resume to replace that."""
    stop("1")
    said(capsys)
    fails_in_one_line(folder, capsys, [*STOPPED, "1", "--out", "m", "--seed", "1"],
                      "m.checkpoint is of a training that was stopped: --resume goes on from it; to begin anew, remove it")
    assert main([*STOPPED, "1", "--out", "m", "--resume"]) == 0 and not Path("m.checkpoint").exists()
    finished = Path("m").read_bytes()
    stop("1")
    assert Path("m").read_bytes() == finished
    assert main([*STOPPED, "1", "--out", "m", "--resume"]) == 0 and Path("m").read_bytes() == finished


def test_the_model_is_saved_where_out_links_to(two, folder, capsys):
    (folder / "runs").mkdir()
    (folder / "m").symlink_to("runs/1")
    assert main(["train", "two.csv", "--target", "label", "--out", "m", *SMALL]) == 0
    assert Path("m").is_symlink() and Model.load("runs/1").num_parameters
    (folder / "dangling").symlink_to("no/1")
    assert main(["train", "two.csv", "--target", "label", "--out", "dangling", *SMALL]) == 0
    assert Path("dangling").is_symlink() and Model.load("no/1").num_parameters


def test_missing_folders_are_made_with_the_files(two, folder):
    train = ["train", "two.csv", "--target", "label", *SMALL]
    assert main([*train, "--out", "models/of/m.tinydl", "--sheet", "reports/r.txt"]) == 0
    assert main(["predict", "models/of/m.tinydl", "two.csv", "--out", "answers/p.csv"]) == 0
    assert main(["demo", "--epochs", "1", "--plot", "curves/c.png", "--threads", "1"]) == 0
    assert all(Path(name).is_file() for name in ("models/of/m.tinydl", "reports/r.txt", "answers/p.csv", "curves/c.png"))
    assert main(["train", "nothing.csv", "--target", "label", "--out", "other/m"]) == 2 and not Path("other").exists()


def test_the_data_are_not_overwritten_by_their_own_checkpoint(folder, capsys):
    write(folder / "m.checkpoint", [["a", "y"], *([i, "pq"[i % 2]] for i in range(20))])
    fails_in_one_line(folder, capsys, ["train", "m.checkpoint", "--target", "y", "--out", "m"],
                      "--out m.checkpoint would replace m.checkpoint")


def test_closed_pipe(folder):
    np.savez("d.npz", x=np.arange(20_000.)[:, None], y=np.arange(20_000) % 2)
    assert main(["train", "d.npz", *SMALL, "--epochs", "1"]) == 0
    with command("predict", "d.tinydl", "d.npz") as p:
        assert p.stdout.readline().startswith("prediction,")
        p.stdout.close()
        assert p.stderr.read() == "" and p.wait() == 141


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_disk(two, capsys, unbuffered):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    assert main(["train", "two.csv", "--target", "label", *SMALL]) == 0
    with open("/dev/full", "w") as full:
        p = subprocess.run([sys.executable, "-m", "tinydl", "predict", "two.tinydl", "two.csv"], stdout=full,
                           stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered})
    assert p.returncode == 2 and p.stderr == "tinydl: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_training_whose_output_nobody_reads_saves_its_model(folder, unbuffered):
    np.savez("d.npz", x=np.arange(200.)[:, None], y=np.arange(200) % 2)
    with subprocess.Popen([sys.executable, "-m", "tinydl", "train", "d.npz", "--epochs", "30", *TINY], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered}) as p:
        p.stdout.close()        # before it has said a word
        said = p.stderr.read()
        assert p.wait() == (0 if unbuffered else 141)       # unwritten output is left, or not
    assert said == "tinydl: no lines of progress (BrokenPipeError: [Errno 32] Broken pipe); training goes on\n"
    assert Model.load("d.tinydl").num_parameters and not list(folder.glob("*.checkpoint"))


@pytest.fixture
def fresh_tqdm():
    """tqdm reads variables when it is imported."""
    def forget():
        found = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "tqdm"}
        for name in found:
            del sys.modules[name]
        return found
    before = forget()
    yield
    forget()
    sys.modules.update(before)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("variable, works", [
    ("ASCII=1", False), ("MININTERVAL=x", False), ("NCOLS=x", False), ("LOCK_ARGS=xyz", False),
    ("POSITION=x", False), ("WRITE_BYTES=1", False), ("POSTFIX=x", True), ("TOTAL=3", True), ("FILE=x", True)])
def test_no_variable_of_tqdm_ends_a_training(variable, works, monkeypatch, fresh_tqdm):
    """Some make its import fail, some the bar's first appearance."""
    out, err = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TQDM_" + variable.split("=")[0], variable.split("=")[1])
    monkeypatch.setattr(progress, "DELAY", 0.0)     # so that there is a bar in a training of no time
    with trainer(monitor=Progress("train")) as t:
        assert t.train()["epoch"] == [1, 2]
    assert ("100%" in err.getvalue()) == works
    assert out.getvalue().count("train  epoch") == (0 if works else 2)
    assert err.getvalue().count("tinydl: no progress bar") == (0 if works else 1)


@pytest.mark.parametrize("broken", ["stdout", "stderr", "both", "closed"])
def test_no_terminal_that_is_gone_ends_a_training(broken, monkeypatch, fresh_tqdm):
    class Gone(Terminal):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")
    gone, fine = Gone(), Terminal()
    if broken == "closed":
        gone.close()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr("sys.stdout", fine if broken == "stderr" else gone)
    monkeypatch.setattr("sys.stderr", fine if broken == "stdout" else gone)
    with trainer(monitor=Progress("train")) as t:
        assert t.train()["epoch"] == [1, 2]
    assert fine.closed or ("100%" in fine.getvalue()) == (broken == "stdout")


def test_bar_on_a_terminal(two):
    master, slave = pytest.importorskip("pty").openpty()
    with subprocess.Popen([sys.executable, "-m", "tinydl", "train", two.name, "--target", "label", "--epochs", "2500",
                           "--hidden", "64", "--members", "1"], stdout=slave, stderr=slave, env=ENVIRONMENT):
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 65536):
                shown += piece
        except OSError:         # Linux says so at the end
            pass
    os.close(master)
    frames = shown.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    bars = [f for f in frames if f.startswith("train")]
    assert len(bars) > 1 and "100%" in bars[-1] and "nan" not in bars[-1]
    assert all("samples/s" in f and "left" in f for f in bars) and max(map(len, frames)) <= 80

"""`tinydl evaluate`, the report of --sheet, what `info` says of a table's model, and predict --proba and --id."""
from __future__ import annotations

import base64
import csv
import io
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from tinydl import Model, losses
from tinydl.cli import baselines, main
from tinydl.cli.figures import Outcome
from tinydl.cli.prepare import held_out
from tinydl.cli.sheet import Section, Sheet, confusion, sections
from tinydl.tables import TableEncoder

SMALL = ["--epochs", "5", "--hidden", "8", "--members", "1", "--quiet", "--threads", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frame(n: int = 240, seed: int = 0) -> pd.DataFrame:
    """A kind of three that the numbers and the town tell, mostly; and a price."""
    rng = np.random.default_rng(seed)
    town, a, b = rng.integers(12, size=n), rng.standard_normal(n), rng.standard_normal(n)
    kind = np.where(a + rng.standard_normal(n) / 2 > 0.7, 2, (b + town / 6 > 1).astype(int))
    return pd.DataFrame({"id": [f"{i:04d}" for i in range(n)], "town": [f"t{t}" for t in town], "a": a.round(4), "b": b.round(4),
                         "kind": np.array(["red", "green", "<b>$_^$"])[kind], "two": np.where(kind == 2, "yes", "no"),
                         "price": (50 + 10 * a - 3 * town + rng.standard_normal(n)).round(2)})


def trained(target: str, *more: str) -> pd.DataFrame:
    """Train on t.csv, with m as the model; other targets and the identifier are left out."""
    t = frame()
    t.to_csv("t.csv", index=False)
    left = [x for name in ("id", "kind", "two", "price") if name != target for x in ("--ignore", name)]
    assert main(["train", "t.csv", "--target", target, *left, "--out", "m", *SMALL, *more]) == 0
    return t


def ran(capsys, *arguments: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert bool(err) == bool(code)
    return err if code else out


def table(text: str, title: str) -> dict[str, list[str]]:
    """The rows of the table below a title, without its header: the first cell, and the others."""
    lines = text.split(f"{title}\n")[1].split("\n\n")[0].splitlines()
    assert set(lines[1]) == {"-", " "}
    rows = [re.split(r" {2,}", line) for line in lines[2:]]
    return {row[0]: row[1:] for row in rows if len(row) == len(lines[1].split())}       # sentences stand below


def predictions(capsys, path: str = "t.csv") -> pd.DataFrame:
    return pd.read_csv(io.StringIO(ran(capsys, "predict", "m", path)), dtype={"prediction": str})


# ---------------------------------------------------------------------- figures
@pytest.mark.parametrize("target", ["kind", "two"])
def test_figures_of_classes_are_scikit_learns(folder, capsys, target):
    trained(target)
    t = frame(150, seed=1)
    t.to_csv("u.csv", index=False)
    text = ran(capsys, "evaluate", "m", "u.csv")
    said = predictions(capsys, "u.csv")
    labels = sorted(t[target].unique())
    p = said[[f"probability_{name}" for name in labels]].to_numpy()
    p /= p.sum(1, keepdims=True)
    y, named = t[target].to_numpy(), said["prediction"].to_numpy()
    scores = p[:, 1] if len(labels) == 2 else p
    true, wanted = np.eye(len(labels))[np.searchsorted(labels, y)], {
        "accuracy": sk.accuracy_score(y, named), "balanced accuracy": sk.balanced_accuracy_score(y, named),
        "F1, mean of classes": sk.f1_score(y, named, average="macro"), "log-loss": sk.log_loss(y, p, labels=labels),
        "AUC": sk.roc_auc_score(y, scores, multi_class="ovr", labels=labels)}
    wanted["Brier score"] = ((p - true) ** 2).sum(1).mean() / (2 if len(labels) == 2 else 1)
    figures = table(text, "FIGURES")
    for name, value in wanted.items():
        assert float(figures[name][0]) == pytest.approx(value, abs=5e-5 + 1e-5), name       # four digits, of six
    each = table(text, "CLASSES")
    for k, (name, *values) in enumerate(zip(labels, *sk.precision_recall_fscore_support(y, named, labels=labels), strict=True)):
        assert [float(v) for v in each[name]] == pytest.approx(values, abs=5e-4), k
    counts = table(text, "CONFUSION")
    assert [[int(c) for c in counts[name]] for name in labels] == sk.confusion_matrix(y, named, labels=labels).tolist()
    assert f"rows    150\ntarget  '{target}', {len(labels)} classes\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_figures_of_numbers_are_scikit_learns(folder, capsys):
    trained("price")
    t = frame(90, seed=1)
    t.to_csv("u.csv", index=False)
    text = ran(capsys, "evaluate", "m", "u.csv")
    y, said = t["price"].to_numpy(), predictions(capsys, "u.csv")["prediction"].astype(float).to_numpy()
    figures = table(text, "FIGURES")
    assert float(figures["mean absolute error"][0]) == pytest.approx(sk.mean_absolute_error(y, said), rel=1e-5)
    assert float(figures["RMSE"][0]) == pytest.approx(sk.root_mean_squared_error(y, said), rel=1e-5)
    assert float(figures["R2"][0]) == pytest.approx(sk.r2_score(y, said), abs=6e-5)
    errors = table(text, "ERRORS")
    for name, q in (("least", 0), ("5 %", 0.05), ("50 %", 0.5), ("greatest", 1)):
        assert [float(v) for v in errors[name]] == pytest.approx(
            [np.quantile(said - y, q), np.quantile(abs(said - y), q)], rel=1e-5), name
    assert max(map(len, text.splitlines())) <= 80


def test_a_target_that_is_no_number(folder, capsys):
    t = trained("price").astype({"price": object})
    t.loc[7, "price"] = "dear"
    t.to_csv("u.csv", index=False)
    assert ran(capsys, "evaluate", "m", "u.csv", code=2) == (
        "tinydl: u.csv, line 9, column 'price': 'dear' is not a number, as the model predicts: correct it, or leave the row out "
        "by --missing\n")
    assert "1 row without a target: left out" in ran(capsys, "evaluate", "m", "u.csv", "--missing", "dear")


def test_the_simplest_prediction_is_scikit_learns_dummy(folder, capsys):
    """Of the training rows, which are those that predict's figures are not of."""
    for target, dummy in (("kind", DummyClassifier(strategy="prior")), ("price", DummyRegressor())):
        t = trained(target, "--test-fraction", "0", "--validation", "0")
        dummy.fit(t[["a"]], t[target])
        t[:100].to_csv("u.csv", index=False)
        figures = table(ran(capsys, "evaluate", "m", "u.csv"), "FIGURES")
        if target == "price":
            assert float(figures["RMSE"][1]) == pytest.approx(
                sk.root_mean_squared_error(t[target][:100], dummy.predict(t[["a"]][:100])), rel=1e-5)
        else:
            p = dummy.predict_proba(t[["a"]][:100])
            assert float(figures["log-loss"][1]) == pytest.approx(sk.log_loss(t[target][:100], p), abs=6e-5)
            assert float(figures["accuracy"][1]) == pytest.approx(
                sk.accuracy_score(t[target][:100], dummy.predict(t[["a"]][:100])), abs=6e-5)


@pytest.mark.parametrize("classes", [2, 3, 0])
@pytest.mark.parametrize("codes", [False, True])
def test_the_linear_model_is_scikit_learns(classes, codes):
    rng = np.random.default_rng(0)
    x, town = rng.standard_normal((300, 4)).astype(np.float32), rng.integers(5, size=(300, 1))
    z = x[:, 0] - x[:, 1] + rng.logistic(size=300) + codes * (town[:, 0] == 3)
    y = z[:, None].astype(np.float32) if not classes else np.searchsorted([-0.5, 0.5][:classes - 1], z)
    rows = np.arange(250)
    given = {"numbers": x, "categories": town.astype(np.int64)} if codes else x
    model = baselines.linear(given, y, rows, losses.SoftmaxCrossEntropy() if classes else losses.MeanSquaredError(), classes or 1)
    out = model.predict(given).astype(float)
    wide = np.hstack([x, np.eye(5)[town[:, 0]]]) if codes else x
    if classes:
        p = np.exp(out) / np.exp(out).sum(1, keepdims=True)
        wanted = LogisticRegression(tol=1e-8, max_iter=1000).fit(wide[rows], y[rows]).predict_proba(wide)
        np.testing.assert_allclose(p, wanted, atol=2e-3)
    else:
        np.testing.assert_allclose(out[:, 0], Ridge().fit(wide[rows], y[rows, 0]).predict(wide), atol=2e-3)


def test_a_part_that_lacks_classes(folder, capsys):
    trained("kind")
    t = frame()
    t[t["kind"] == "red"].to_csv("u.csv", index=False)
    text = ran(capsys, "evaluate", "m", "u.csv")
    figures = table(text, "FIGURES")
    assert figures["AUC"] == ["-", "-"] and table(text, "CLASSES")["green"][1:] == ["0.000", "0.000", "0"]


def test_rows_without_a_target_are_left_out_and_counted(folder, capsys):
    t = trained("kind", "--missing", "none")
    t.loc[:19, "kind"], t.loc[20:29, "kind"] = None, "none"
    t.to_csv("u.csv", index=False, sep=";")
    text = ran(capsys, "evaluate", "m", "u.csv", "--missing", "none")
    assert "rows    210\nnote    30 rows without a target: left out\n" in text
    t.drop(columns="kind").to_csv("v.csv", index=False)
    assert ran(capsys, "evaluate", "m", "v.csv", code=2).startswith(
        "tinydl: v.csv has no column 'kind', which the model predicts: ")


def test_classes_by_their_number_and_classes_that_are_not_there(folder, capsys):
    t = frame().assign(kind=lambda t: (t["a"] > 0).astype(float))
    t[["a", "b", "kind"]].to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "kind", "--out", "m", *SMALL]) == 0
    assert Model.load("m").metadata["table"]["classes"] == ["0.0", "1.0"]
    first = ran(capsys, "evaluate", "m", "t.csv")
    t.assign(kind=t["kind"].astype(int)).to_csv("u.csv", index=False)
    assert ran(capsys, "evaluate", "m", "u.csv").split("\n", 1)[1] == first.split("\n", 1)[1]
    t.assign(kind=t["kind"] * 2).to_csv("v.csv", index=False)
    row = int((t["kind"] == 1).argmax())
    assert ran(capsys, "evaluate", "m", "v.csv", code=2) == (
        f"tinydl: v.csv, line {row + 2}, column 'kind': '2.0' is no class that the model knows ('0.0', '1.0'): correct it, or "
        "say --missing '2.0' to leave such rows out\n")


def test_evaluate_parquet(folder, capsys):
    """Where numbers, and true and false, are no text."""
    pytest.importorskip("pyarrow")
    trained("two")
    first = ran(capsys, "evaluate", "m", "t.csv")
    frame().to_parquet("u.parquet")
    assert ran(capsys, "evaluate", "m", "u.parquet").split("\n", 1)[1] == first.split("\n", 1)[1]
    t = frame().assign(two=lambda t: t["two"] == "yes")
    t[["a", "b", "two"]].to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "two", "--out", "m", *SMALL]) == 0
    first = ran(capsys, "evaluate", "m", "t.csv")
    t.to_parquet("u.parquet")
    assert ran(capsys, "evaluate", "m", "u.parquet").split("\n", 1)[1] == first.split("\n", 1)[1]


def test_evaluate_npz(folder, capsys):
    x = np.random.default_rng(0).standard_normal((60, 3))
    np.savez("d.npz", x=x, y=x[:, 0])
    assert main(["train", "d.npz", *SMALL]) == 0
    assert "rows    60\n" in ran(capsys, "evaluate", "d.tinydl", "d.npz")
    np.savez("e.npz", x=x)
    assert "no array 'y'" in ran(capsys, "evaluate", "d.tinydl", "e.npz", code=2)


# ---------------------------------------------------------------------- the report
class Page(HTMLParser):
    """Tags that are open, addresses, and the text of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] in (["td"], ["th"]):
            self.cells[-1] += data


@pytest.mark.parametrize("target", ["kind", "price"])
def test_a_page_has_everything_in_it(folder, capsys, target):
    trained(target, "--validation", "0.1", "--sheet", "r.html")
    page = Page(Path("r.html").read_text())
    assert not page.open and len(page.sources) == 3
    for source in page.sources:
        svg = base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")).decode()
        assert ET.fromstring(svg).tag.endswith("svg") and "href=\"http" not in svg
    assert ("<b>$_^$" in page.cells) == (target == "kind")
    again = Path("r.html").read_bytes()
    trained(target, "--validation", "0.1", "--sheet", "r.html")
    assert Path("r.html").read_bytes() == again


def test_a_report_as_text_is_in_the_file_and_the_model(folder, capsys):
    trained("kind", "--sheet", "r.txt")
    text = Path("r.txt").read_text()
    assert text.startswith("m: 48 test rows\ndata      t.csv: 154 rows to train on, 38 to validate, 48 to test\n")
    assert max(map(len, text.splitlines())) <= 80
    figures, kept = table(text, "FIGURES"), Model.load("m").metadata["training"]["figures"]
    for name, key in (("accuracy", "accuracy"), ("log-loss", "log_loss"), ("AUC", "roc_auc")):
        wanted = [kept[column][key] for column in ("model", "linear", "simplest")]
        assert [float(v) for v in figures[name]] == pytest.approx(wanted, abs=6e-5)
    at_training = table(ran(capsys, "evaluate", "m", "t.csv"), "AT TRAINING, 48 TEST ROWS")
    assert at_training == figures
    trained("kind", "--sheet", "-")
    assert capsys.readouterr().out == text
    capsys.readouterr()
    assert ran(capsys, "evaluate", "m", "t.csv", "--sheet", "e.txt") == Path("e.txt").read_text()


def test_a_report_is_of_the_test_rows_alone(folder, capsys):
    """Its model's figures are evaluate's on these rows, and its linear model's those of scikit-learn's, fitted on the others."""
    t = trained("kind", "--ignore", "town", "--validation", "0", "--sheet", "r.txt")
    labels, y = np.unique(t["kind"], return_inverse=True)
    train, test = held_out(len(t), y, 0.2, 0, "--test-fraction")
    t.iloc[test].to_csv("u.csv", index=False)
    figures = table(Path("r.txt").read_text(), "FIGURES")
    evaluated = table(ran(capsys, "evaluate", "m", "u.csv"), "FIGURES")
    assert {name: row[0] for name, row in figures.items()} == {name: row[0] for name, row in evaluated.items()}
    x = TableEncoder().fit(t[["a", "b"]].iloc[train]).transform(t[["a", "b"]]).numbers
    p = LogisticRegression(tol=1e-8).fit(x[train], y[train]).predict_proba(x[test])
    assert float(figures["log-loss"][1]) == pytest.approx(sk.log_loss(y[test], p, labels=range(len(labels))), abs=1e-3)


def test_a_model_without_notes_of_its_training(folder, capsys):
    """As others, or earlier versions, wrote."""
    trained("kind")
    model = Model.load("m")
    del model.metadata["training"]
    model.save("m")
    text = ran(capsys, "evaluate", "m", "t.csv")
    assert "AT TRAINING" not in text and len(table(text, "FIGURES")["accuracy"]) == 1
    assert "trained on" not in ran(capsys, "info", "m")


def test_many_classes(folder, capsys):
    names = [f"a class with the number {i}" for i in range(60)]
    y = np.repeat(np.arange(60), 5)
    said = np.where(np.arange(300) % 5 == 0, (y + 1) % 60, y)
    shown = sections(Outcome("y", names, y, 5 * np.eye(60)[said]))
    assert [len(s.rows) for s in shown[:2]] == [41, 41] and "40 of 60 classes" in shown[0].note
    rows, how = confusion(np.diag(np.full(60, 5)) + np.eye(60, k=1, dtype=int), names)
    assert rows[1] == [names[0], names[1], "1"] and "most frequent" in how and max(len(s.rows[0]) for s in shown) == 5


BAD = {
    "suffix": (["--sheet", "r.pdf"], "--sheet r.pdf: the name must end in .txt or .html"),
    "folder": (["--sheet", "t.txt/r.txt"], "--sheet t.txt/r.txt cannot be written"),
    "data": (["--sheet", "t.txt"], "--sheet t.txt would replace t.txt"),
    "model": (["--out", "r.txt", "--sheet", "r.txt"], "--sheet r.txt would replace r.txt"),
    "no test rows": (["--sheet", "r.txt", "--test-fraction", "0"], "--sheet is of the test rows, and --test-fraction 0 leaves"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_report_that_cannot_be(folder, capsys, case):
    frame().to_csv("t.txt", index=False)
    options, message = BAD[case]
    assert message in ran(capsys, "train", "t.txt", "--target", "kind", *SMALL, *options, code=2)
    assert [p.name for p in folder.iterdir()] == ["t.txt"]


def test_a_page_without_matplotlib(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    frame().to_csv("t.csv", index=False)
    message = ran(capsys, "train", "t.csv", "--target", "kind", *SMALL, "--sheet", "r.html", code=2)
    assert "pip install 'tinydl-parallel[plot]'" in message and [p.name for p in folder.iterdir()] == ["t.csv"]
    trained("kind", "--sheet", "r.txt")


# ---------------------------------------------------------------------- info
def test_info_of_a_table(folder, capsys):
    t = frame().assign(day=pd.date_range("2024-01-01", periods=240, freq="37h").strftime("%Y-%m-%d"), constant=1)
    t.loc[::9, "a"] = None
    t.to_csv("t.csv", index=False)
    options = ["--validation", "0.25", "--patience", "3", "--sheet", "r.txt"]
    assert main(["train", "t.csv", "--target", "two", "--ignore", "id", "--ignore", "price", "--out", "m", *SMALL, *options]) == 0
    out = ran(capsys, "info", "m")
    assert "\ntarget: 'two', 2 classes: 'no', 'yes'\n" in out and max(map(len, out.splitlines())) <= 80
    for pattern in (r"town +12 categories, an embedding of each",
                    r"a +number: \(x [+-] [\d.]+\) / [\d.]+, clipped at 3; gaps marked",
                    r"kind +3 categories, a column of 0 and 1 of each", r"day +date: year, month, day of year, weekday",
                    r"trained on 144 rows for 5 epochs; epoch \d was the best on 48 rows set aside, with log_loss \d\.\d{4} ",
                    r"--patience 3"):
        assert re.search(pattern, " ".join(out.split())), pattern
    assert table(out, "figures of 48 test rows") == table(Path("r.txt").read_text(), "FIGURES")
    trained("price", "--ignore", "town")
    out = ran(capsys, "info", "m")
    known = t["price"].iloc[held_out(len(t), t[["price"]].to_numpy(), 0.2, 0, "--test-fraction")[0]]
    assert re.search(r"target: 'price', a number; mean \d+\.\d+, standard deviation \d+\.\d+, "
                     f"predicted from {known.min():.6g} to {known.max():.6g} ", " ".join(out.split()))
    assert re.search(r"a +number: \(x [+-] [\d.]+\) / [\d.]+, clipped at 3\n", out) and "figures of 48 test rows" in out


# ---------------------------------------------------------------------- predict
def test_probabilities_alone(folder, capsys):
    trained("kind")
    whole, alone = (list(csv.reader(io.StringIO(ran(capsys, "predict", "m", "t.csv", *more)))) for more in ([], ["--proba"]))
    assert whole[0] == ["prediction", "probability_<b>$_^$", "probability_green", "probability_red"]
    assert [row[1:] for row in whole] == alone
    trained("price")
    assert "--proba is for classes; m predicts a number, 'price'" in ran(capsys, "predict", "m", "t.csv", "--proba", code=2)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_identifiers_are_repeated_as_they_stand(folder, capsys, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    t = trained("kind")
    t.loc[3, "id"] = None
    getattr(t, f"to_{suffix}")(f"u.{suffix}", index=False)
    rows = list(csv.reader(io.StringIO(ran(capsys, "predict", "m", f"u.{suffix}", "--id", "id", "--id", "town"))))
    assert rows[0][:3] == ["id", "town", "prediction"] and len(rows) == len(t) + 1
    assert [row[0] for row in rows[1:]] == ["0000", "0001", "0002", "", *t["id"][4:]]
    assert [row[1] for row in rows[1:]] == t["town"].tolist()
    assert [row[2:] for row in rows] == list(csv.reader(io.StringIO(ran(capsys, "predict", "m", f"u.{suffix}"))))


def test_identifiers_that_cannot_be(folder, capsys):
    t = trained("kind")
    assert "--id: t.csv has no column 'z'; it has 'id', 'town'" in ran(capsys, "predict", "m", "t.csv", "--id", "z", code=2)
    assert "--id town: there would be two columns" in ran(capsys, "predict", "m", "t.csv", "--id", "town", "--id", "town", code=2)
    t.rename(columns={"id": "prediction"}).to_csv("u.csv", index=False)
    assert "--id prediction: there would be two columns" in ran(capsys, "predict", "m", "u.csv", "--id", "prediction", code=2)
    Path("v.csv").write_text("n,n,town,a,b\n1,2,t1,0,0\n")
    assert "--id: column 'n' comes more than once in v.csv" in ran(capsys, "predict", "m", "v.csv", "--id", "n", code=2)
    np.savez("d.npz", x=np.zeros((3, 2)))
    assert "--id is of columns, and d.npz has none" in ran(capsys, "predict", "m", "d.npz", "--id", "n", code=2)


def test_what_is_said_of_a_picture_stands_beside_it():
    made = Sheet("t", [], [Section("Training", [["epoch"], ["1"]], "The best.", caption="In the picture it is dotted.")])
    assert "picture" not in made.text() and "The best. In the picture it is dotted." in made.html()

"""`tinydl train` and `predict` on tables as people have them: text, gaps, indices, and the ways that files are written."""
from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import lzma
import os
import re
import signal
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tinydl import Model, nn
from tinydl.cli import main
from tinydl.cli.features import encode, learn
from tinydl.cli.progress import Progress
from tinydl.cli.sources import Source, separator_of
from tinydl.cli.tables import Reading, read_table

#: a small network, where any will do
TINY = ["--hidden", "8", "--members", "1"]
SMALL = ["--epochs", "2", *TINY, "--quiet"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frame(n: int = 200) -> pd.DataFrame:
    """The label says whether the town's price and the number are more than 0 together; both have gaps."""
    rng = np.random.default_rng(0)
    town, number = rng.integers(12, size=n), rng.standard_normal(n)
    names = np.array([f"Städt{i}" for i in range(12)], object)
    t = pd.DataFrame({"town": names[town], "number": number.round(4), "flag": number > 1, "kind": np.array(["a", "b"])[town % 2],
                      "label": np.where(number + town / 6 - 1 > 0, "yes", "no")})
    t.loc[::17, "town"] = None
    t.loc[5::19, "number"] = np.nan
    return t


def predicted(capsys, *arguments: object) -> list[list[str]]:
    capsys.readouterr()
    assert main(["predict", *map(str, arguments)]) == 0, capsys.readouterr().err
    return list(csv.reader(io.StringIO(capsys.readouterr().out)))


def read(text: str | bytes, target: str = "y", **reading):
    Path("t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(Path("t.csv"), target, reading=Reading(**reading))


def column(table, name: str) -> list[object]:
    """Gaps as None."""
    return [None if v is None or v != v else v for v in table.columns[name].tolist()]


# ---------------------------------------------------------------------- train and predict
def test_text_and_gaps(folder, capsys):
    t = frame(600)
    t.to_csv("t.csv")       # with pandas' index
    assert main(["train", "t.csv", "--target", "label", "--epochs", "40", "--members", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "note: column 1 has no name and numbers or names the rows: left out\n" in out
    assert "t.csv: 600 rows, 4 features (2 of numbers, 2 of categories), 2 classes of\n'label'\n" in out       # 80 columns
    assert float(out.split("accuracy ")[1].split()[0]) > 85
    model = Model.load("t.tinydl")
    assert model.input_names == ["numbers", "categories"]
    facts = model.metadata["table"]
    assert facts["features"] == ["town", "number", "flag", "kind"] and "mean" not in facts
    rows = predicted(capsys, "t.tinydl", "t.csv")
    assert np.mean([row[0] == label for row, label in zip(rows[1:], t["label"], strict=True)]) > 0.85
    # other columns, another order, no target: the same predictions
    t.assign(more="x").drop(columns="label")[["kind", "more", "flag", "number", "town"]].to_csv("u.csv", index=False, sep=";")
    assert predicted(capsys, "t.tinydl", "u.csv") == rows
    # what it has not seen, and what is missing
    pd.DataFrame({"town": ["Rom", None], "number": [None, 1e300], "flag": [None, True], "kind": ["z", None]}).to_csv("v.csv")
    assert len(predicted(capsys, "t.tinydl", "v.csv")) == 3


def test_categories_alone_and_numbers_alone(folder, capsys):
    t = frame()
    for columns, inputs in ((["town"], ["categories"]), (["kind", "flag"], ["numbers"]), (["number"], ["numbers"])):
        t[[*columns, "label"]].to_csv("t.csv", index=False)
        assert main(["train", "t.csv", "--target", "label", *SMALL]) == 0
        assert Model.load("t.tinydl").input_names == inputs
        assert len(predicted(capsys, "t.tinydl", "t.csv")) == len(t) + 1


def test_same_seed_same_bits(folder):
    frame().to_csv("t.csv", index=False)
    for out, seed in (("one", 0), ("two", 0), ("other", 1)):
        assert main(["train", "t.csv", "--target", "label", "--threads", "2", "--seed", str(seed), "--out", out, *SMALL]) == 0
    assert Path("one").read_bytes() == Path("two").read_bytes() != Path("other").read_bytes()


def test_a_resume_gives_the_bits_of_a_training_without_a_stop(folder, monkeypatch):
    """Of a table with categories, too; and of other rows of it there is no resume."""
    t = frame(3000)
    t.to_csv("t.csv", index=False)
    arguments = ["train", "t.csv", "--target", "label", "--epochs", "3", "--hidden", "32", "--members", "1", "--threads", "2",
                 "--quiet"]
    assert main([*arguments, "--out", "whole"]) == 0

    def end_epoch(self, record):
        if record.epoch == 2:
            signal.raise_signal(signal.SIGTERM)
    with monkeypatch.context() as m:
        m.setattr(Progress, "end_epoch", end_epoch)
        assert main([*arguments, "--out", "m"]) == 143
    t[:-100].to_csv("t.csv", index=False)
    assert main([*arguments, "--out", "m", "--resume"]) == 2
    t.to_csv("t.csv", index=False)
    assert main([*arguments, "--out", "m", "--resume"]) == 0
    assert Path("m").read_bytes() == Path("whole").read_bytes()


def test_a_gap_in_predict_where_there_was_none_in_train(folder, capsys):
    """It is the median, as in a column that had gaps."""
    t = frame()[["number", "label"]].dropna()
    t.to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "label", *SMALL]) == 0
    median = Model.load("t.tinydl").metadata["table"]["encoder"]["columns"][0]["median"]
    Path("u.csv").write_text(f"number\n{median!r}\nNA\n")
    rows = predicted(capsys, "t.tinydl", "u.csv")
    assert len(rows) == 3 and rows[1] == rows[2]


@pytest.fixture
def earlier(folder):
    """t.csv and its labels; m and n are models of two columns of numbers as earlier versions wrote them, of classes and numbers;
    and the scores of m, and the values of n, of t.csv."""
    x = np.random.default_rng(0).normal(3, 2, (50, 2)).round(3)
    z = (x - [3.0, 2.5]) * [0.5, 0.25]
    found = []
    for name, outputs, facts in (("m", 2, {"task": "classification", "classes": ["no", "yes"]}),
                                 ("n", 1, {"task": "regression", "classes": None, "target_mean": 10.0, "target_scale": 4.0})):
        model = Model(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, outputs)), seed=0, name=f"MLP 2-8-{outputs}")
        found.append(model.predict(z.astype(np.float32)).astype(np.float64))
        model.metadata = {"table": {**facts, "target": "label", "features": ["a", "b"], "mean": [3.0, 2.5],
                                    "factor": [0.5, 0.25]}}
        model.save(name)
    label = np.where(found[0][:, 1] > found[0][:, 0], "yes", "no")
    label[:10] = "no"
    pd.DataFrame({"b": x[:, 1], "a": x[:, 0], "label": label}).to_csv("t.csv", index=False)
    return label, found[0], found[1][:, 0] * 4 + 10


def test_models_of_earlier_versions(earlier, capsys):
    label, scores, values = earlier
    rows = predicted(capsys, "m", "t.csv")
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(np.array([row[1:] for row in rows[1:]], float), p, rtol=1e-5)
    np.testing.assert_allclose([float(row[0]) for row in predicted(capsys, "n", "t.csv")[1:]], values, rtol=1e-6)
    assert main(["evaluate", "m", "t.csv"]) == 0
    assert f"accuracy             {np.mean(np.array(['no', 'yes'])[scores.argmax(1)] == label):.4f}\n" in capsys.readouterr().out
    assert main(["info", "m"]) == 0
    assert "a       number: (x - 3) / 2\nb       number: (x - 2.5) / 4\n" in capsys.readouterr().out


@pytest.mark.parametrize(("cells", "message"), [
    ("1,\n", "u.csv, line 3, column 'b': the cell is empty, and the model was trained on a table without missing values"),
    ("1e300,-1e300\n", "u.csv, line 3: the features are too far from those of the training")])
def test_what_models_of_earlier_versions_do_not_take(earlier, capsys, cells, message):
    Path("u.csv").write_text(f"a,b\n1,1\n{cells}")
    assert main(["predict", "m", "u.csv"]) == 2
    assert capsys.readouterr().err == f"tinydl: {message}\n"


def test_text_in_predict_where_there_were_numbers(folder, capsys):
    frame().to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "label", *SMALL]) == 0
    frame().assign(number=["x"] + [1] * 199).to_csv("u.csv", index=False)
    assert main(["predict", "t.tinydl", "u.csv"]) == 2
    assert capsys.readouterr().err == "tinydl: u.csv, line 2, column 'number': 'x' is not a number\n"


def test_codes_without_a_row_begin_at_zero(folder):
    """An embedding that is never trained is not one of chance."""
    t = frame()
    t["town"] = t["town"].fillna("none")
    t.to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "label", *SMALL]) == 0
    model = Model.load("t.tinydl")
    table = next(v for v in model.state_dict().values() if v.shape[1:] == (8,) and len(v) == 2 + 13)
    assert not table[:2].any() and table[2:].any(1).all()


def test_each_column_has_embeddings_of_its_own(folder):
    t = frame()
    t["other"] = t["town"]
    t.to_csv("t.csv", index=False)
    table = read_table(Path("t.csv"), "label")
    facts, _ = learn(table, np.arange(200))
    codes = encode(facts, table)["categories"]
    np.testing.assert_array_equal(codes[:, 1], codes[:, 0] + 2 + 12)
    assert codes.min() == 0 and codes.max() < 2 * (2 + 12)


def test_dates_and_identifiers(folder, capsys):
    t = frame().assign(day=pd.date_range("2024-01-01", periods=200, freq="37h").strftime("%Y-%m-%d %H:%M"),
                       name=[f"n{i}" for i in range(200)])
    t.loc[3, "day"] = None
    t.to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "label", "--epochs", "1", *TINY]) == 0
    out = capsys.readouterr().out
    assert "2 of numbers, 3 of categories, 1 of dates" in out
    assert "note: column 'name': no two values of it are in 2 rows or more: left out\n" in out
    columns = Model.load("t.tinydl").metadata["table"]["encoder"]["columns"]
    assert list(next(c for c in columns if c["label"] == "day")["parts"]) == [
        "month", "day of year sin", "day of year cos", "weekday", "hour"]
    t.assign(day="yesterday").to_csv("u.csv", index=False)
    assert main(["predict", "t.tinydl", "u.csv"]) == 2
    assert "u.csv, line 2, column 'day': 'yesterday' is not a date such as 2026-01-31" in capsys.readouterr().err


# ---------------------------------------------------------------------- targets
def test_rows_without_a_target_are_left_out_and_counted(folder, capsys):
    t = frame()
    t.loc[:29, "label"] = None
    t.to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "label", "--epochs", "1", *TINY]) == 0
    out = capsys.readouterr().out
    assert "note: 30 rows without a target: left out\n" in out and "t.csv: 170 rows" in out
    table = read("a,y\n1,p\n2,NA\n3,q\n")
    assert table.where(1) == "t.csv, line 4" and table.y.tolist() == ["p", "q"] and column(table, "a") == [1, 3]


@pytest.mark.parametrize(("values", "options", "classes"), [
    ([0.5, 1, 2] * 20, [], None), (list(range(60)), [], None), ([1, 2, 3] * 20, [], ["1", "2", "3"]),
    ([1.0, 2.0] * 30, [], ["1.0", "2.0"]), ([True, False] * 30, [], ["False", "True"]),
    ([0.5, 1, 2] * 20, ["--task", "classification"], ["0.5", "1.0", "2.0"]), ([1, 2, 3] * 20, ["--task", "regression"], None),
    (list(range(150)) * 5, [], None), (["a", 1, "b"] * 20, [], ["1", "a", "b"]),
    ([60, 52, 20, 47, 33, 22, 6, 44, 22, 26, 34, 12, 12], [], None), ([1, 2, 1, 2, 3, 3, 3, 1, 2, 3], [], ["1", "2", "3"])])
def test_what_is_predicted(folder, capsys, values, options, classes):
    """Values of numbers with decimals, or of many, or of few that hardly come twice; classes of few whole ones, and of text."""
    y = pd.Series(values, dtype=object if len(set(map(type, values))) > 1 and values[0] != 0.5 else None)
    pd.DataFrame({"a": np.random.default_rng(0).random(len(values)), "y": y}).to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "y", *SMALL[:-1], *options]) == 0
    facts = Model.load("t.tinydl").metadata["table"]
    assert (facts["task"], facts["classes"]) == ("regression" if classes is None else "classification", classes)
    assert ("its value is predicted" in capsys.readouterr().out) == (classes is None and not options)


def test_classes_that_no_row_to_train_on_has_are_named(folder, capsys):
    pd.DataFrame({"a": range(8), "y": list("pqrstuvw")}).to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "y", "--test-fraction", "0.25", "--epochs", "1", *TINY]) == 0
    out, err = capsys.readouterr()
    assert re.search("^note: no row to train on is of class '[p-w]', '[p-w]'$", out, re.M) and not err


def test_a_file_that_becomes_shorter_while_it_is_read(folder, capsys, monkeypatch):
    """It is read twice: for what its columns are, and for what they hold."""
    frame().to_csv("t.csv", index=False)
    from tinydl.cli import text as reader
    decimal_of = reader.decimal_of

    def emptied(*arguments):
        Path("t.csv").write_bytes(b"")
        return decimal_of(*arguments)
    monkeypatch.setattr(reader, "decimal_of", emptied)
    assert main(["train", "t.csv", "--target", "label", *SMALL]) == 2
    assert capsys.readouterr().err == "tinydl: t.csv changed while it was read\n"


# ---------------------------------------------------------------------- columns
def test_what_stands_for_a_missing_value(folder):
    gaps = ["", "NA", "NaN", "nan", "null", "NULL", "?", "N/A", "n/a", "None", "<NA>", "#N/A", " NA ", "NaT"]
    table = read("a,b,y\n" + "".join(f"{gap},{gap},{'pq'[i % 2]}\n" for i, gap in enumerate(gaps)) + "1.5,x,p\n")
    assert column(table, "a") == [None] * len(gaps) + [1.5] and column(table, "b") == [None] * len(gaps) + ["x"]
    table = read("a,b,y\n-9,-,p\n1,x,-\n2,-9,q\n", missing=("-9", "-"))
    assert column(table, "a") == [None, 2] and column(table, "b") == [None, None] and table.y.tolist() == ["p", "q"]


def test_missing_text_of_train_holds_in_predict(folder, capsys):
    t = frame().fillna({"number": -99, "town": "unknown"})
    t.to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "label", "--missing", "-99", "--missing", "unknown", *SMALL]) == 0
    rows = predicted(capsys, "t.tinydl", "t.csv")
    frame().to_csv("u.csv", index=False)
    assert predicted(capsys, "t.tinydl", "u.csv") == rows


def test_numbers_and_text(folder):
    """A column with text is of categories, also where the text comes after thousands of numbers."""
    table = read("a,b,c,y\n1,1,1,p\n2,x,TRUE,q\n 3 ,3.0,false,p\n")
    assert column(table, "a") == [1, 2, 3] and column(table, "b") == ["1", "x", "3"] and column(table, "c") == [1, 1, 0]
    n = 10_000
    table = read("a,y\n" + "".join(f"{i % 7},p\n" for i in range(n)) + "late,q\n")
    assert column(table, "a") == [str(i % 7) for i in range(n)] + ["late"]
    table = read("a,y\n" + "".join(f"{i},p\n" for i in range(n)) + "late,q\n", categorical=("a",))
    assert column(table, "a")[-2:] == ["9999", "late"]
    table = read("a,y\n" + "".join(f"{i},p\n" for i in range(n)) + "late,q\n", missing=("late",))
    assert column(table, "a")[-2:] == [9999, None]


@pytest.mark.parametrize(("header", "first", "options", "left"), [
    ("", "{}", {}, True), ("", "r{}", {}, True), ("Unnamed: 0", "{}", {}, True), ("index", "{}", {}, True),
    ("a", "{}", {}, False), ("a", "{}", {"index": True}, True), ("a", "{}", {"ignore": ("a",)}, True),
    ("", "1", {"index": True}, True), ("index", "1", {}, False)])
def test_indices(folder, header, first, options, left):
    table = read(f"{header},b,y\n" + "".join(f"{first.format(i)},{i},p\n" for i in range(5)), **options)
    assert table.names == ["b"] if left else [header, "b"]
    assert len(table.notes) == (left and not options)


def test_empty_columns_without_a_name(folder):
    table = read(",a,,y,\n,1,,p,\n,2,,q,\n")
    assert table.names == ["a"] and table.notes == [f"column {i} has no name and is empty: left out" for i in (1, 3, 5)]


def test_names_of_rows_as_R_writes_them(folder):
    """One name less in the header than cells in the rows."""
    table = read('"a" "y"\n'.replace(" ", "\t") + "".join(f'"{i}"\t{i * 2}\t"p"\n' for i in range(1, 5)))
    assert table.names == ["a"] and column(table, "a") == [2, 4, 6, 8]


BAD = {
    "ignored": (["--ignore", "z"], "--ignore: t.csv has no column 'z'; it has 'town', 'number'"),
    "categorical": (["--categorical", "z"], "--categorical: t.csv has no column 'z'"),
    "target ignored": (["--ignore", "label"], "t.csv has no column 'label' that is not left out"),
    "separator": (["--separator", "ab"], "'ab' is not one of , ; |"),
    "separator and decimal": (["--separator", ",", "--decimal", ","], "--separator and --decimal are both ','"),
    "decimal": (["--decimal", "x"], "--decimal"),
    "other separator": (["--separator", "tab"], "no column 'label'; it has 'town,number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options(folder, capsys, case):
    frame().to_csv("t.csv", index=False)
    options, message = BAD[case]
    assert main(["train", "t.csv", "--target", "label", *options, *SMALL]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not Path("t.tinydl").exists()


# ---------------------------------------------------------------------- how files are written
@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), *((s, d) for s in ";\t|" for d in ".,")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_separators_decimals_and_encodings(folder, separator, decimal, encoding):
    t = frame()
    text = t.to_csv(index=False, sep=separator, decimal=decimal)
    content = ("\ufeff" * (encoding == "utf-16-le") + text).encode(encoding)
    got = read(content, "label")
    assert column(got, "number") == [None if np.isnan(v) else v for v in t["number"]]
    assert column(got, "town") == [v if isinstance(v, str) else None for v in t["town"]]
    assert [note[:18] for note in got.notes] == (
        ["t.csv is not UTF-8"] * (encoding == "latin-1") + ["decimals stand beh"] * (decimal == ","))
    same = read(content, "label", separator=separator, decimal=decimal)
    assert all(column(same, name) == column(got, name) for name in got.names)


def test_numbers_in_groups_and_whole_numbers_with_a_comma(folder):
    table = read("a;b;y\n1.234.567,5;1;p\n-2,25;1.000;q\n;3;p\n")
    assert column(table, "a") == [1234567.5, -2.25, None] and column(table, "b") == [1, 1000, 3]
    assert column(read("a;y\n1,5;p\n0.123;q\n"), "a") == ["1,5", "0.123"]
    assert column(read("a;y\n1,5;p\n2.5;q\n"), "a") == ["1,5", "2.5"]         # neither decimal: text
    assert column(read('a,y\n"1,5",p\n"2,5",q\n', decimal=","), "a") == [1.5, 2.5]


def test_a_separator_that_text_holds(folder):
    """A sentence has commas, and not as many in each line."""
    for text, separator in (("a;y\nx, y, z;p\nx;q\n", ";"), ('a,y\n"x;y",p\n"x;y;z",q\n', ","), ("a\ty\n1,2\tp\n1\tq\n", "\t"),
                            ("a\n1\n2\n", ","), ("a;b,c;y\n1;2;p\n", ";")):
        Path("t.csv").write_text(text)
        assert separator_of(Source(Path("t.csv")), "utf-8") == separator


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.xz", "t.csv.bz2", "t.csv.zip", "any name"])
def test_compressed(folder, capsys, name):
    content = frame().to_csv(index=False).encode()
    if name.endswith("zip"):
        with zipfile.ZipFile(name, "w") as z:
            z.writestr("folder/", "")
            z.writestr("folder/t.csv", content)
            z.writestr("__MACOSX/._t.csv", b"?")
    else:
        compress = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}.get(name.split(".")[-1], gzip.compress)
        Path(name).write_bytes(compress(content))
    assert main(["train", name, "--target", "label", *SMALL]) == 0
    model = "any name.tinydl" if name == "any name" else "t.tinydl"
    assert len(predicted(capsys, model, name)) == 201


def test_a_zip_of_several_files(folder, capsys):
    with zipfile.ZipFile("t.zip", "w") as z:
        z.writestr("a.csv", "a,y\n")
        z.writestr("b.csv", "a,y\n")
    assert main(["train", "t.zip", "--target", "y"]) == 2
    assert capsys.readouterr().err == "tinydl: t.zip is a zip of 2 files ('a.csv', 'b.csv'); it must have one: unpack it\n"


def test_an_npz_by_another_name_is_said_to_be_one(folder, capsys, monkeypatch):
    np.savez("d.npz", X=np.ones((3, 2)), y=np.arange(3))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path("d.npz").read_bytes())))
    Path("d.npz").rename("d.bin")
    for name in ("d.bin", "-"):
        assert main(["train", name, "--target", "y"]) == 2
        assert "is an .npz, which is read from a file whose name ends in .npz alone" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "content", "what"), [
    ("t.json", b'{"a":{"0":1}}', "JSON"), ("t.jsonl", b'{"a": 1, "y": 2}\n', "JSON"), ("t.json", b'[\n {"a": 1}]', "JSON"),
    ("t.csv", b"\n<!DOCTYPE html>\n<html>", "a web page or XML"),
    ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "an Excel workbook"),
    ("t.sav", b"$FL2@(#) SPSS DATA FILE" + bytes(100), "an SPSS file"), ("t.zsav", b"$FL3@(#) SPSS", "an SPSS file"),
    ("t.sas7bdat", bytes(12) + b"\xc2\xea\x81\x60" + bytes(100), "a SAS file"),
    ("t.xpt", b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!", "a SAS file"),
    ("t.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    ("t.db", b"SQLite format 3\0" + bytes(100), "an SQLite database")])
def test_files_that_are_other_tables(folder, capsys, name, content, what):
    Path(name).write_bytes(content)
    assert main(["train", name, "--target", "y"]) == 2
    assert capsys.readouterr().err.startswith(f"tinydl: {name} is {what}, and a CSV, .npz, Parquet or Feather file is needed: ")


@pytest.mark.parametrize("version", [114, 117, 118])
def test_files_of_stata_are_named(folder, capsys, version):
    pytest.importorskip("pandas").DataFrame({"a": [1, 2], "y": [1.5, 2]}).to_stata("t.dta", version=version)
    assert main(["train", "t.dta", "--target", "y"]) == 2
    assert "t.dta is a Stata file, and a CSV, .npz, Parquet or Feather file is needed: where pandas.read_stata" in (
        capsys.readouterr().err)


def test_a_workbook_is_no_zip_to_unpack(folder, capsys):
    with zipfile.ZipFile("t.xlsx", "w") as z:
        for name in "[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml":
            z.writestr(name, "<x/>")
    assert main(["train", "t.xlsx", "--target", "y"]) == 2
    assert "t.xlsx is an Excel workbook, and a CSV, .npz, Parquet or Feather file is needed: " in capsys.readouterr().err


def test_cells_with_spaces_between(folder, capsys):
    Path("t.txt").write_text("a b y\n1 2 p\n3 4 q\n")
    assert main(["train", "t.txt", "--target", "y"]) == 2
    assert capsys.readouterr().err.endswith("it has 'a b y'; say what separates its cells, by --separator\n")
    Path("braces.csv").write_text("[a],{b},y\n" + "1,2,p\n2,1,q\n" * 20)       # names as some programs write them
    assert main(["train", "braces.csv", "--target", "y", "--epochs", "1", "--out", "m", *TINY]) == 0


def test_standard_input(folder, capsys, monkeypatch):
    def given(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    content = frame().to_csv(index=False).encode()
    given(gzip.compress(content))
    assert main(["train", "-", "--target", "label", "--epochs", "1", *TINY]) == 0
    out = capsys.readouterr().out
    assert out.startswith("standard input: 200 rows") and out.endswith("model: stdin.tinydl\n")
    given(content)
    rows = predicted(capsys, "stdin.tinydl", "-")
    Path("t.csv").write_bytes(content)
    assert predicted(capsys, "stdin.tinydl", "t.csv") == rows
    given(b"a,label\ninf,p\n")
    assert main(["train", "-", "--target", "label"]) == 2
    assert capsys.readouterr().err == ("tinydl: standard input, line 2, column 'a': inf is not a finite number: correct it, "
                                       "or say --missing=inf\n")
    given(b"a,label\ninf,p\n")
    assert main(["train", "-", "--target", "label", "--missing=inf"]) == 2
    assert "nothing to learn" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_parquet_and_feather(folder, capsys, suffix):
    pytest.importorskip("pyarrow")
    t = frame().assign(day=pd.date_range("2024-01-01", periods=200, freq="37h"))
    t["kind"] = t["kind"].astype("category")
    t.to_parquet("t.parquet") if suffix == "parquet" else t.to_feather("t.feather")
    t.to_csv("t.csv", index=False)
    bits = []
    for name in (f"t.{suffix}", "t.csv"):
        assert main(["train", name, "--target", "label", "--out", "m", *SMALL]) == 0
        bits.append({n: v.tobytes() for n, v in Model.load("m").state_dict().items()})
    assert bits[0] == bits[1]
    assert predicted(capsys, "m", f"t.{suffix}") == predicted(capsys, "m", "t.csv")
    t.assign(number=t["town"]).to_parquet("u.parquet")
    assert main(["predict", "m", "u.parquet"]) == 2
    assert capsys.readouterr().err == "tinydl: u.parquet: column 'number' holds categories; the model was trained on numbers\n"


def test_a_column_that_comes_twice_in_parquet_is_named(folder, capsys):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table([[1.0, 2.0], [3.0, 4.0], ["p", "q"]], names=["a", "a", "y"]), "t.parquet")
    assert main(["train", "t.parquet", "--target", "y", *SMALL]) == 2
    assert capsys.readouterr().err == "tinydl: t.parquet: column 'a' comes more than once\n"


@pytest.mark.parametrize("name", ["t.parquet", "t.feather"])
def test_categories_as_polars_writes_them(folder, capsys, name):
    pl = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    t = pl.DataFrame({"town": ["Bonn", "Ulm", None, "Ulm"] * 30, "rank": ["low", "high", "low", None] * 30, "y": ["p", "q"] * 60})
    t = t.with_columns(pl.col("town").cast(pl.Categorical), pl.col("rank").cast(pl.Enum(["low", "high"])))
    t.write_ipc(name) if name.endswith("feather") else t.write_parquet(name)
    t.write_csv("t.csv")
    assert main(["train", name, "--target", "y", *SMALL]) == 0
    assert predicted(capsys, "t.tinydl", name) == predicted(capsys, "t.tinydl", "t.csv")


@pytest.mark.parametrize(("cell", "what"), [([1, 2], "a list"), (["a"], "a list"), ({"a": 1}, "values by name")])
def test_cells_of_several_values_in_parquet_are_refused(folder, capsys, cell, what):
    pytest.importorskip("pyarrow")
    frame().assign(many=[None] + [cell] * 199).to_parquet("t.parquet")
    for target in "label", "many":
        assert main(["train", "t.parquet", "--target", target, *SMALL]) == 2
        assert capsys.readouterr().err == (f"tinydl: t.parquet, row 1, column 'many': the cell holds {what}, and one value is "
                                           "needed: make columns of it, or say --ignore 'many'\n")
    assert main(["train", "t.parquet", "--target", "label", "--ignore", "many", *SMALL]) == 0


@pytest.mark.parametrize("target", ["label", "number", "flag"])
def test_gaps_in_the_target_of_parquet(folder, capsys, target):
    pytest.importorskip("pyarrow")
    t = frame().assign(flag=pd.array([i % 3 == 0 for i in range(200)], "boolean")).convert_dtypes()
    for some in 1, 3:
        t.loc[:some - 1, target] = pd.NA
        gaps = int(t[target].isna().sum())
        t.to_parquet("t.parquet")
        assert main(["train", "t.parquet", "--target", target, "--out", "m", "--epochs", "1", *TINY]) == 0
        out = capsys.readouterr().out
        assert f"note: {gaps} row{'s' * (gaps > 1)} without a target: left out\n" in out
        assert f"t.parquet: {200 - gaps} rows" in out


def test_a_name_that_says_another_format_is_refused(folder, capsys):
    frame().to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "label", "--epochs", "1", *TINY]) == 0
    capsys.readouterr()
    assert main(["predict", "t.tinydl", "t.csv", "--out", "p.parquet"]) == 2
    assert capsys.readouterr().err == "tinydl: --out p.parquet: CSV is what is written: name it p.csv\n"
    assert main(["export", "t.tinydl", "t.py"]) == 2
    assert capsys.readouterr().err == "tinydl: OUT t.py: ONNX is what is written: name it t.onnx\n"
    assert not Path("p.parquet").exists() and not Path("t.py").exists()
    assert main(["predict", "t.tinydl", "t.csv", "--out", "p"]) == main(["predict", "t.tinydl", "t.csv", "--out", "p.CSV"]) == 0


def test_a_pipe_is_read_once(folder):
    os.mkfifo("t.csv")
    writer = threading.Thread(target=lambda: Path("t.csv").write_bytes(frame().to_csv(index=False).encode()))
    writer.start()
    assert read_table(Path("t.csv"), "label").n == 200
    writer.join()


def test_parquet_without_pyarrow(folder, capsys, monkeypatch):
    Path("t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["train", "t.parquet", "--target", "y"]) == 2
    assert "needs pyarrow (pip install pyarrow)" in capsys.readouterr().err


def test_npz_with_a_capital_x(folder):
    np.savez("d.npz", X=np.arange(20.)[:, None], y=np.arange(20) % 2)
    assert main(["train", "d.npz", *SMALL]) == 0


@pytest.mark.parametrize("written", ["%Y-%m-%dT%H:%M:%SZ", "%Y/%m/%d %H:%M", "%Y-%m-%d %H:%M:%S.250000+00:00"])
def test_dates_with_a_zone_or_strokes(folder, capsys, written):
    day = pd.date_range("2024-01-01", periods=200, freq="37h")
    frame().assign(day=day.strftime(written)).to_csv("t.csv", index=False)
    table = read_table(Path("t.csv"), "label", reading=Reading())
    seconds = (table.columns["day"].astype("datetime64[s]") - day.to_numpy().astype("datetime64[s]")).astype(int)
    assert table.columns["day"].dtype.kind == "M" and not seconds.any()


def test_a_zones_dates_are_those_of_utc(folder):
    frame().assign(day="2024-01-01T01:30:00+02:00").to_csv("t.csv", index=False)
    assert set(read_table(Path("t.csv"), "label", reading=Reading()).columns["day"].tolist()) == {
        datetime.datetime(2023, 12, 31, 23, 30)}


@pytest.mark.parametrize(("written", "separator"), [("%d.%m.%Y", ";"), ("%d.%m.%Y %H:%M", ","), ("%d.%m.%Y %H:%M:%S", ",")])
def test_dates_with_points(folder, capsys, written, separator):
    day = pd.date_range("2024-01-01", periods=200, freq="37h").floor("min" if "H" in written else "D")
    texts = [d.lstrip("0").replace(".0", ".") if i % 2 else d for i, d in enumerate(day.strftime(written))]      # 3.1.2024, too
    frame().assign(day=[None, *texts[1:]]).to_csv("t.csv", index=False, sep=separator, decimal=",." [separator == ","])
    table = read_table(Path("t.csv"), "label", reading=Reading())
    found = table.columns["day"].astype("datetime64[s]")
    assert np.isnat(found[0]) and (found[1:] == day.to_numpy().astype("datetime64[s]")[1:]).all()
    assert not [note for note in table.notes if "day" in note]
    assert main(["train", "t.csv", "--target", "label", *SMALL]) == 0
    again = frame().assign(day=day.strftime("%Y-%m-%d %H:%M"))
    again.to_csv("iso.csv", index=False)
    assert len(predicted(capsys, "t.tinydl", "iso.csv")) == 201


@pytest.mark.parametrize("wrong", ["2024-02-30", "0000-00-00", "31.4.2024", "unknown"])
def test_a_cell_that_is_no_date_among_dates_is_named(folder, capsys, wrong):
    day = pd.date_range("2024-01-01", periods=200, freq="37h").strftime("%Y-%m-%d").tolist()
    frame().assign(day=day).to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", "label", *SMALL]) == 0
    day[7] = wrong
    frame().assign(day=day).to_csv("u.csv", index=False)
    capsys.readouterr()
    assert main(["predict", "t.tinydl", "u.csv"]) == 2
    assert capsys.readouterr().err == f"tinydl: u.csv, line 9, column 'day': {wrong!r} is not a date such as 2026-01-31\n"
    assert main(["train", "u.csv", "--target", "label", *SMALL]) == 2
    assert capsys.readouterr().err == (
        f"tinydl: u.csv, line 9, column 'day': {wrong!r} is not a date, as most cells of the column are: correct it, or say "
        f"--missing {wrong!r}, or --categorical 'day' to take its values as categories\n")
    for more in (["--missing", wrong], ["--categorical", "day"]):
        assert main(["train", "u.csv", "--target", "label", *SMALL, *more]) == 0


@pytest.mark.parametrize("written", ["%d/%m/%Y", "%m/%d/%y", "%d %b %Y", "%d-%m-%Y %H:%M", "%d.%m.%y"])
def test_dates_that_cannot_be_read_are_said(folder, written):
    day = pd.date_range("2024-01-01", periods=200, freq="37h").strftime(written)
    frame().assign(day=day).to_csv("t.csv", index=False)
    notes = read_table(Path("t.csv"), "label", reading=Reading()).notes
    assert notes == [f"column 'day' looks like dates, as {day[0]!r}, and is taken for categories: dates are written as "
                     "2026-01-31"]
    assert not read_table(Path("t.csv"), "label", reading=Reading(categorical=("day",))).notes

"""ONNX files that predict from a table's columns as they are: ONNX Runtime gives what predict and predict_proba do."""
import numpy as np
import pandas as pd
import pytest

from tinydl import Model, nn
from tinydl.cli import main
from tinydl.tables import TableEncoder
from tinydl.tables.dates import parts

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from test_onnx import session  # noqa: E402 - behind the lines that skip

from tinydl.onnx.columns import column_inputs  # noqa: E402
from tinydl.sklearn import TabularClassifier, TabularRegressor  # noqa: E402

SMALL = {"n_members": 2, "max_epochs": 2, "hidden_layer_sizes": (8,), "random_state": 0}


def frame(n=80, seed=0):
    """A column of each kind, with gaps in most."""
    rng = np.random.default_rng(seed)

    def gaps(values, share=0.1):
        return [None if rng.random() < share else v for v in values]
    return pd.DataFrame({
        "age": gaps(rng.normal(40, 10, n)), "income": np.exp(rng.normal(9, 3, n)), "count": rng.integers(0, 50, n),
        "town": gaps(rng.choice(["Bonn", "Ulm", "Köln"], n)), "street": gaps([f"s{i}" for i in rng.integers(0, 20, n)]),
        "firm": [f"f{i}" for i in rng.integers(0, 12, n)], "sex": rng.choice(["f", "m"], n),
        "flag": gaps(rng.random(n) < 0.5), "plain": rng.random(n) < 0.3,
        "plan": pd.Categorical(rng.choice([10, 20, 30], n)),
        "since": pd.to_datetime(gaps(rng.integers(-10 ** 9, 2 * 10 ** 9, n)), unit="s").as_unit("s"), "same": 1.0})


def strange(n=40):
    """What fit has not seen, and what is missing."""
    t = frame(n, seed=1)
    t.loc[0, ["town", "street", "sex"]] = ["Rom", "elsewhere", "x"]
    t.loc[1, ["age", "income"]] = [1e300, -1e-300]
    t.loc[2, ["town", "street", "sex", "age", "since"]] = None
    t["plan"] = pd.Categorical([99, *t["plan"].astype(int)[1:]])
    return t


def given(path, table):
    """The columns that a file asks for, as its inputs say."""
    kinds, found = {i.name: i.type for i in session(path).get_inputs()}, {}
    for name, kind in kinds.items():
        column = table[name]
        if kind == "tensor(string)":
            found[name] = column.astype(object).where(column.notna(), "").to_numpy(object)[:, None]
        elif column.dtype.kind == "M":
            seconds = column.to_numpy("datetime64[s]").astype(np.int64).astype(np.float64)
            found[name] = np.where(column.isna(), np.nan, seconds)[:, None]
        else:
            found[name] = column.astype(object).where(column.notna(), np.nan).to_numpy(np.float64)[:, None]
    return found


def run(path, table):
    outputs = session(path).run(None, given(path, table))
    return dict(zip([o.name for o in session(path).get_outputs()], outputs, strict=True))


@pytest.mark.parametrize("classes", [["no", "yes"], ["a", "b", "c"], [3, 7], [False, True], [0.0, 1.0, 2.0]])
def test_classes(classes, tmp_path):
    t, rng = frame(), np.random.default_rng(2)
    clf = TabularClassifier(dates=True, **SMALL).fit(t, np.array(classes)[rng.integers(0, len(classes), len(t))])
    clf.to_onnx(tmp_path / "a.onnx")
    assert onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True) is None
    for table in (t, strange()):
        got = run(tmp_path / "a.onnx", table)
        wanted = clf.predict_proba(table)
        assert got["probabilities"].dtype == np.float32 and np.abs(got["probabilities"] - wanted).max() <= 2e-6
        assert got["label"].shape == (len(table),)
        np.testing.assert_array_equal(got["label"], clf.predict(table))
    assert "same" not in given(tmp_path / "a.onnx", t)


def test_several_labels(tmp_path):
    t = frame().drop(columns="since")
    clf = TabularClassifier(**SMALL).fit(t, np.random.default_rng(0).integers(0, 2, (len(t), 3)))
    clf.to_onnx(tmp_path / "a.onnx")
    got = run(tmp_path / "a.onnx", t)
    assert np.abs(got["probabilities"] - clf.predict_proba(t)).max() <= 2e-6
    np.testing.assert_array_equal(got["labels"], clf.predict(t))


@pytest.mark.parametrize("options, targets", [({}, 1), ({"clip": False}, 1), ({}, 2), ({"quantiles": [0.9, 0.1, 0.5]}, 1),
                                              ({"embedding": "periodic", "activation": "gelu"}, 1)])
def test_numbers(options, targets, tmp_path):
    t = frame()
    y = 1e6 + 50 * np.random.default_rng(0).normal(size=(len(t), targets))
    model = TabularRegressor(dates=True, **SMALL, **options).fit(t, y if targets > 1 else y.ravel())
    if model.clip:      # the little that it learnt stays within the limits that it has
        model._lowest, model._highest = np.quantile(model.predict(t).reshape(len(t), -1), (0.2, 0.8), 0)[:, :targets]
    model.to_onnx(tmp_path / "a.onnx", opset=20)
    for table in (t, strange()):
        wanted, got = model.predict(table), run(tmp_path / "a.onnx", table)["value"]
        assert got.dtype == np.float64 and got.shape == wanted.shape and np.abs(got - wanted).max() <= 5e-6 * 50


def test_arrays_and_names_that_are_taken(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 3))
    x[::7, 1] = np.nan
    clf = TabularClassifier(**SMALL).fit(x, x[:, 0] > 0)
    clf.to_onnx(tmp_path / "a.onnx")
    got = session(tmp_path / "a.onnx").run(["probabilities"], {str(i): x[:, i:i + 1] for i in range(3)})[0]
    assert np.abs(got - clf.predict_proba(x)).max() <= 2e-6
    t = pd.DataFrame(x, columns=["label", "probabilities", "1.weight"])
    clf.fit(t, x[:, 0] > 0).to_onnx(tmp_path / "a.onnx")
    got = run(tmp_path / "a.onnx", t)
    assert list(got) == ["predicted label", "predicted probabilities"]
    assert np.abs(got["predicted probabilities"] - clf.predict_proba(t)).max() <= 2e-6


def test_dates_by_the_calendar(tmp_path):
    """From the year 1 to 9999, each kind of year and its ends."""
    rng = np.random.default_rng(0)
    years = [f"{y:04d}-{day}" for y in (1, 4, 100, 400, 1600, 1899, 1900, 1969, 1970, 1972, 2000, 2024, 2100, 9999)
             for day in ("01-01", "02-28", "03-01", "12-31")]
    dates = np.concatenate([np.array([*years, "2024-02-29", "2000-02-29T23:59:59"], "datetime64[s]"),
                            rng.integers(-62 * 10 ** 9, 250 * 10 ** 9, 1000).astype("datetime64[s]")])
    encoder = TableEncoder(dates=True, scale=False).fit({"d": dates})
    model = Model(nn.Identity())
    model.to_onnx(tmp_path / "a.onnx", preprocess=encoder)
    got = session(tmp_path / "a.onnx").run(None, {"d": dates.astype(np.int64).astype(np.float64)[:, None]})[0]
    wanted = np.column_stack(list(parts(dates).values()))
    np.testing.assert_allclose(got, wanted.astype(np.float32), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got, encoder.transform({"d": dates}).numbers, rtol=1e-6, atol=1e-6)


def test_a_model_of_ones_own(tmp_path):
    t = frame()[["age", "town", "street", "plan"]]
    encoder = TableEncoder(one_hot_up_to=3).fit(t)
    numbers, codes = nn.Input(len(encoder.number_names), name="n"), nn.Input(1, "int64", name="c")
    y = nn.Concat()([numbers, nn.Flatten()(nn.Embedding(encoder.cardinalities[0], 3)(codes))])
    model = Model(inputs=[codes, numbers], outputs=nn.Linear(y.shape[0], 2)(y), seed=0)
    model.to_onnx(tmp_path / "a.onnx", preprocess=encoder)
    encoded = encoder.transform(strange()[list(t)])
    got = run(tmp_path / "a.onnx", strange())["y"]
    assert np.abs(got - model.predict((encoded.categories, encoded.numbers))).max() <= 2e-6
    with pytest.raises(ValueError, match=r"the encoder makes \d+ numbers and 1 codes; the model's inputs are x \(3,\)"):
        Model(nn.Linear(3, 2)).to_onnx(tmp_path / "b.onnx", preprocess=encoder)
    with pytest.raises(ValueError, match="leave it out"):
        model.to_onnx(tmp_path / "b.onnx", preprocess=encoder, input_shape=(3,))
    assert not (tmp_path / "b.onnx").exists()


def test_a_column_of_text_and_numbers_is_refused(tmp_path):
    encoder = TableEncoder().fit({"x": np.array(["a", 1, "b", 2], object)})
    with pytest.raises(ValueError, match="column 'x' has categories of text and of numbers"):
        column_inputs(encoder)


def test_an_empty_text_may_be_a_category(tmp_path):
    encoder = TableEncoder(one_hot_up_to=None).fit({"x": np.array(["a", "", "b", None], object)})
    Model(nn.Identity()).to_onnx(tmp_path / "a.onnx", preprocess=encoder)
    got = session(tmp_path / "a.onnx").run(None, {"x": np.array([["a"], [""], ["c"]], object)})[0]
    np.testing.assert_array_equal(got, encoder.transform({"x": np.array(["a", "", "c"], object)}).numbers)


@pytest.mark.parametrize("target", ["kind", "price"])
def test_the_command(target, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    t = frame(120).assign(kind=rng.choice(["x", "y", "z"], 120), price=rng.normal(1000, 50, 120))
    t = t.drop(columns=["plan", "kind" if target == "price" else "price"])
    t.to_csv("t.csv", index=False)
    assert main(["train", "t.csv", "--target", target, "--epochs", "2", "--members", "2", "--hidden", "8", "--quiet"]) == 0
    assert main(["predict", "t.tinydl", "t.csv", "--out", "p.csv"]) == 0
    capsys.readouterr()
    assert main(["export", "t.tinydl", "t.onnx"]) == 0
    assert "t.onnx: inputs age (numbers), income (numbers)" in capsys.readouterr().out
    predicted = pd.read_csv("p.csv")
    t["since"] = pd.to_datetime(t["since"])
    got = run(tmp_path / "t.onnx", t)
    if target == "kind":
        np.testing.assert_array_equal(got["label"], predicted["prediction"])
        assert np.abs(got["probabilities"] - predicted.iloc[:, 1:].to_numpy()).max() <= 3e-6     # of six digits
    else:
        assert np.abs(got["value"] - predicted["prediction"]).max() <= 5e-6 * 50


def test_the_command_refuses(tmp_path, capsys):
    Model(nn.Linear(2, 1)).save(tmp_path / "m.tinydl")
    assert main(["export", str(tmp_path / "m.tinydl"), str(tmp_path / "m.onnx")]) == 2
    assert "`tinydl train` did not write it" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none.tinydl"), str(tmp_path / "m.onnx")]) == 2
    assert not (tmp_path / "m.onnx").exists()

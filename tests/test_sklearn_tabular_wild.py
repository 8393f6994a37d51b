"""Values that must be mistakes, in a target and in a column: they are named, and do no harm."""
import warnings

import numpy as np
import pytest

from tinydl.tables.outliers import wild

rng = np.random.default_rng(0)
TAILS = {"log-normal, sigma 3": lambda n: rng.lognormal(0, 3, n), "Pareto of exponent 1": lambda n: rng.pareto(1, n),
         "Cauchy": rng.standard_cauchy, "Student, 2 degrees": lambda n: rng.standard_t(2, n),
         "zeros and incomes": lambda n: np.where(rng.random(n) < 0.8, 0, rng.lognormal(10, 1.5, n)),
         "counts": lambda n: rng.zipf(2, n).astype(float), "one of a kind": lambda n: np.eye(1, n)[0], "equal": np.ones,
         "far from 0": lambda n: 1.6e9 + rng.normal(size=n)}


@pytest.mark.parametrize("kind", TAILS)
def test_no_heavy_tail_is_wild(kind):
    assert not any(wild(TAILS[kind](n)).any() for n in (2, 20, 100, 1000) for _ in range(50))


@pytest.mark.parametrize("values", [[1e30], [-1e12], [1e30, -1e12], [1e308, -1.7e308], [1e30] * 10], ids=str)
@pytest.mark.parametrize("others", [rng.normal(size=60), np.ones(60), rng.lognormal(8, 1, 60)], ids=["normal", "ones", "prices"])
def test_what_stands_beyond_a_gap_is_wild(values, others):
    y = np.r_[others[:30], values, others[30:]]
    assert np.flatnonzero(wild(y)).tolist() == list(range(30, 30 + len(values)))


# ---------------------------------------------------------------------- the estimators
SMALL = {"n_members": 2, "hidden_layer_sizes": (32,), "max_epochs": 16, "random_state": 0}


def regressor(**more):
    pytest.importorskip("sklearn", "1.6")
    from tinydl.sklearn import TabularRegressor
    return TabularRegressor(**SMALL, **more)


def rows(n=300, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, 3))
    return X, 2 * X[:, 0] + X[:, 1]


def test_a_wild_target_is_named_and_training_does_not_fall_apart():
    X, y = rows()
    plain = regressor().fit(X, y).predict(X)
    bad = y.copy()
    bad[[7, 40]] = 1e30, -1e20
    with pytest.warns(UserWarning, match=r"y is 1e\+30 in row 7, and 1 more like it, where others are from -\d.* to \d"):
        model = regressor().fit(X, bad)
    good = np.delete(np.arange(300), [7, 40])
    found = model.predict(X)
    error, least = (np.sqrt(np.mean((p - y)[good] ** 2)) for p in (found, plain))
    assert error < 1.5 * least + 0.05 * y.std()
    assert y[good].min() <= found.min() and found.max() <= y[good].max()


def test_the_target_of_several_is_named_and_rows_of_weight_zero_are_not_looked_at():
    X, y = rows()
    both = np.stack([y, y], 1)
    both[5, 1] = 1e15
    with pytest.warns(UserWarning, match=r"y is 1e\+15 in row 5, column 1, where"):
        regressor().fit(X, both)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = np.where(np.arange(300) == 5, 0.0, 1.0)
        model = regressor().fit(X, both[:, 1], weights)
        left_out = regressor().fit(X[weights > 0], both[weights > 0, 1], weights[weights > 0])
    assert np.array_equal(model.predict(X), left_out.predict(X))


def test_a_wild_target_of_a_later_part_is_named_and_held_back():
    X, y = rows()
    model = regressor(clip=False).partial_fit(X, y)
    before = model.predict(X)
    with pytest.warns(UserWarning, match=r"1e\+30 in row 0"):
        model.partial_fit(X[:1], [1e30])
    assert np.abs(model.predict(X) - before).max() < 10 * y.std() and model._highest == y.max()


@pytest.mark.parametrize("value, message", [(np.nan, "y has no value in row 3"), (np.inf, "y is inf in row 3; targets must be"),
                                            (-np.inf, "y is -inf in row 3")])
def test_a_target_that_is_no_number_is_an_error_that_names_its_row(value, message):
    X, y = rows(20)
    y[3] = value
    with pytest.raises(ValueError, match=message):
        regressor().fit(X, y)
    with pytest.raises(ValueError, match="row 3, column 1"):
        regressor().fit(X, np.stack([X[:, 0], y], 1))


def test_targets_too_large_to_be_squared_are_said():
    X, y = rows(20)
    with pytest.raises(ValueError, match=r"values as large as \d\.\d*e\+200, whose squares"):
        regressor().fit(X, y * 1e200)


@pytest.mark.parametrize("embedding", ["periodic", "piecewise", None])
def test_a_wild_value_in_a_column_does_no_harm(embedding):
    X, y = rows()
    bad = X.copy()
    bad[7, 0], bad[40, 1], bad[41, 2] = 1e30, -1e300, 1e12
    errors = []
    for table in (X, bad):
        model = regressor(embedding=embedding).fit(table, y)
        good = np.delete(np.arange(300), [7, 40, 41])
        errors.append(np.sqrt(np.mean((model.predict(X) - y)[good] ** 2)))
    assert errors[1] < 1.5 * errors[0] + 0.05 * y.std()


# ---------------------------------------------------------------------- tinydl train
def table(path, row, value):
    X, y = rows(200)
    lines = [f"{a:.5f},{b:.5f},{c:.6f}" for (a, b, _), c in zip(X, y, strict=True)]
    lines[row] = f"{X[row, 0]:.5f},{X[row, 1]:.5f},{value}"
    path.write_text("\n".join(["a,b,price", *lines, ""]))
    return str(path)


def train(path, *more):
    from tinydl.cli import main
    return main(["train", path, "--out", f"{path}.tinydl", "--target", "price", "--hidden", "32", "--members", "2",
                 "--epochs", "16", *more])


def test_train_names_the_line_of_a_wild_target(tmp_path, capsys):
    assert train(table(tmp_path / "t.csv", 7, "1e30")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "line 9, column 'price': 1e+30, where others are from -" in said
    r2 = float(said.split("test: r2 ")[1].split(",")[0])
    assert r2 > 0.7


@pytest.mark.parametrize("text", ["inf", "-Infinity", "1e400"])
def test_train_names_the_line_of_an_infinite_target(tmp_path, capsys, text):
    path = table(tmp_path / "t.csv", 7, text)
    assert train(path) == 2
    assert f"line 9, column 'price': '{text}' is not finite" in " ".join(capsys.readouterr().err.split())
    assert train(path, f"--missing={text}") == 0

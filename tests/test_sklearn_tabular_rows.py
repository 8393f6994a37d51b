"""TabularClassifier and TabularRegressor: neither the order of a table's rows matters, nor whether a row has weight 2 or is there
twice; and rows are named by where they are in the user's table."""
import warnings

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", "1.6")

from test_sklearn_tabular import SMALL, people

from tinydl import tabular
from tinydl.sklearn import TabularClassifier, TabularRegressor
from tinydl.tabular.rows import ROWS, TIMES, by_content, counted, dealt


def dated(n=120):
    """People and a column of dates, with gaps; numbers of both signs of 0."""
    X, y = people(n)
    rng = np.random.default_rng(3)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D")
    return X.assign(since=pd.Series(days).where(rng.random(n) < 0.9), balance=rng.choice([0.0, -0.0, 1.5, -2.0], n)), y


def numbers(X):
    return np.log(X["income"].to_numpy()) + np.random.default_rng(4).normal(size=len(X))


def both(X, y):
    return np.stack([y == "yes", X["member"]], 1).astype(int)


#: what is fitted: the estimator, and its targets of a table and answers
FITS = {
    "classes": (TabularClassifier(**SMALL, dates=True), lambda X, y: y),
    "labels": (TabularClassifier(**SMALL, dates=True), both),
    "class weights": (TabularClassifier(**SMALL, dates=True, class_weight={"yes": 2, "no": 0.7}), lambda X, y: y),
    "balanced": (TabularClassifier(**SMALL, dates=True, class_weight="balanced"), lambda X, y: y),
    "by a scorer": (TabularClassifier(**SMALL, dates=True, scoring="roc_auc"), lambda X, y: y),
    "two threads": (TabularClassifier(**SMALL, dates=True, n_threads=2), lambda X, y: y),
    "numbers": (TabularRegressor(**SMALL, dates=True), lambda X, y: numbers(X)),
    "numbers, periodic": (TabularRegressor(**SMALL, dates=True, embedding="periodic", dropout=0.2), lambda X, y: numbers(X)),
    "numbers by a scorer": (TabularRegressor(**SMALL, dates=True, scoring="r2"), lambda X, y: numbers(X)),
    "two targets": (TabularRegressor(**SMALL, dates=True), lambda X, y: np.stack([numbers(X), X["code"].astype(float)], 1)),
    "quantiles": (TabularRegressor(**SMALL, dates=True, quantiles=[0.1, 0.5]), lambda X, y: numbers(X)),
}


def predicted(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def fitted(model, X, y, weights=None):
    return type(model)(**model.get_params()).fit(X, y, weights)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_order_of_the_rows_does_not_matter(name, weighted):
    model, targets = FITS[name]
    X, y = dated()
    y, order = targets(X, y), np.random.default_rng(0).permutation(120)
    weights = np.random.default_rng(1).uniform(0.5, 2, 120) if weighted else None
    one = fitted(model, X, y, weights)
    other = fitted(model, X.iloc[order], y[order], None if weights is None else weights[order])
    assert np.array_equal(predicted(one, X), predicted(other, X))
    assert one.members_ == other.members_


@pytest.mark.parametrize("name", FITS)
def test_weights_of_whole_numbers_are_equal_rows(name):
    model, targets = FITS[name]
    X, y = dated()
    y, weights = targets(X, y), np.random.default_rng(2).integers(0, 5, 120)
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(120), weights))
    one, other = fitted(model, X, y, weights), fitted(model, X.iloc[rows], y[rows])
    assert np.array_equal(predicted(one, X), predicted(other, X))
    assert one.members_ == other.members_


@pytest.mark.parametrize("name", FITS)
def test_rows_of_weight_zero_are_as_if_they_were_not_there(name):
    model, targets = FITS[name]
    X, y = dated()
    y = targets(X, y)
    for weights in (np.random.default_rng(1).uniform(0.5, 2, 120), np.full(120, 3), np.full(120, 1.0)):
        weights[:40] = 0
        one, other = fitted(model, X, y, weights), fitted(model, X[40:], y[40:], weights[40:])
        assert np.array_equal(predicted(one, X), predicted(other, X))


@pytest.mark.parametrize("kind", ["polars", "pyarrow", "objects"])
def test_rows_of_other_tables_are_taken_alike(kind):
    X, y = dated()
    if kind == "objects":
        X = X.drop(columns=["since", "colour"])
        convert, dates = (lambda table: table.to_numpy(object)), False
    else:
        library, dates = pytest.importorskip(kind), True
        convert = library.from_pandas if kind == "polars" else (
            lambda table: library.Table.from_pandas(table, preserve_index=False))
    weights, order = np.random.default_rng(2).integers(0, 5, 120), np.random.default_rng(0).permutation(120)
    model = TabularClassifier(**SMALL, dates=dates)
    one = fitted(model, convert(X), y, weights)
    for other in (fitted(model, convert(X.iloc[order]), y[order], weights[order]),
                  fitted(model, convert(X.loc[X.index.repeat(weights)]), np.repeat(y, weights))):
        assert np.array_equal(predicted(one, convert(X)), predicted(other, convert(X)))


def test_networks_that_there_are_go_on_alike():
    X, y = dated()
    weights, order = np.random.default_rng(2).integers(0, 5, 120), np.random.default_rng(0).permutation(120)
    rows = np.repeat(order, weights[order])
    for targets, kind in ((y, TabularClassifier), (numbers(X), TabularRegressor)):
        found = []
        for now, own in ((np.arange(120), weights), (rows, None)):
            model = kind(**SMALL, dates=True, warm_start=True).fit(X, targets)
            found.append(predicted(model.fit(X.iloc[now], targets[now], own), X))
            more = {"classes": ["no", "yes"]} if kind is TabularClassifier else {}
            model = kind(**SMALL, dates=True)
            for _ in range(2):
                model.partial_fit(X.iloc[now], targets[now], own, **more)
            found.append(predicted(model, X))
        assert np.array_equal(found[0], found[2]) and np.array_equal(found[1], found[3])


def test_weights_of_classes_that_are_whole_numbers_are_equal_rows():
    X, y = dated()
    rows = np.repeat(np.arange(120), np.where(y == "yes", 3, 1))
    found = fitted(TabularClassifier(**SMALL, dates=True, class_weight={"yes": 3, "no": 1}), X, y)
    there = fitted(TabularClassifier(**SMALL, dates=True), X.iloc[rows], y[rows])
    assert np.array_equal(predicted(found, X), predicted(there, X))


def test_a_table_of_counts_is_as_good_as_its_rows():
    people_of_kinds = pd.DataFrame({"sex": list("mf") * 4, "class": list("1122") * 2, "lived": list("nnnnyyyy")})
    counts = np.array([120, 10, 300, 90, 60, 140, 20, 80])
    assert counts.sum() > TIMES * len(counts)
    X, y = people_of_kinds[["sex", "class"]], people_of_kinds["lived"].to_numpy()
    clf = TabularClassifier(**{**SMALL, "max_epochs": 20, "n_members": 4}).fit(X, y, counts)
    shares = counts[4:] / (counts[:4] + counts[4:])
    # 60 of 180 and 20 of 320 have deviations of 0.035 and 0.014 where a fifth is set aside
    assert np.abs(clf.predict_proba(X[:4])[:, 1] - shares).max() < 0.08


# ---------------------------------------------------------------------- the rows' numbers in what is said
def test_a_wild_target_is_named_by_its_row_in_the_table_that_was_given():
    X = np.random.default_rng(0).normal(size=(100, 3))
    y = X[:, 0].copy()
    y[[3, 30, 41]] = 1e30
    weights = np.r_[np.zeros(20), np.full(80, 2)]
    with pytest.warns(UserWarning, match=r"y is 1e\+30 in row 30, and 1 more like it, where"):
        TabularRegressor(**SMALL).fit(X, y, weights)
    model = TabularRegressor(**SMALL).partial_fit(X[50:], y[50:])
    with pytest.warns(UserWarning, match=r"y is 1e\+30 in row 30, and 1 more like it, where"):
        model.partial_fit(X, y, weights)


@pytest.mark.parametrize("cell, message", [
    ({"age": np.inf}, "column 'age' is inf in row 31; numbers must be finite"),
    ({"town": [1]}, "column 'town' holds list in row 31: turn it"),
    ({"town": 1j}, r"column 'town' holds 1j \(complex\) in row 31: turn it"),
])
@pytest.mark.parametrize("weights", [None, np.r_[np.zeros(20), np.full(100, 3)], np.r_[np.zeros(20), np.full(100, 0.3)]])
def test_a_cell_that_makes_no_sense_is_named_by_its_row_in_the_table_that_was_given(cell, message, weights):
    X, y = people()
    for name, value in cell.items():
        column = X[name].astype(object)
        column.iat[31] = value
        X[name] = column.astype(float) if name == "age" else column
    with pytest.raises(ValueError, match=message):
        TabularClassifier(**SMALL).fit(X, y, weights)


@pytest.mark.parametrize("column, values, message", [
    ("age", "Bonn", "column 'age' was of numbers when the encoder was fitted; .* in row 20: give it"),
    ("code", 7.5, "column 'code' was of text and is of numbers, as 7.5 in row 20: give it")])
def test_a_column_of_another_kind_is_named_by_its_row_in_the_table_that_was_given(column, values, message):
    X, y = people()
    model = TabularClassifier(**SMALL, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=message):
        model.fit(X.assign(**{column: values}), y, np.r_[np.zeros(20), np.full(100, 3)])


def test_rows_that_count_are_enough_or_their_number_is_said():
    X, y = people()
    with pytest.raises(ValueError, match="n_samples=4: it needs at least 5 rows"):
        TabularClassifier(**SMALL).fit(X, y, np.r_[np.zeros(116), 0.5, 1.5, 0.5, 2.5])
    with pytest.raises(ValueError, match="at least one non-zero"):
        TabularClassifier(**SMALL, class_weight={"no": 0, "yes": 0}).fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        TabularRegressor(**SMALL).fit(X, np.arange(119.0), np.ones(120))


# ---------------------------------------------------------------------- what is counted, ordered, dealt
def test_rows_are_counted_by_their_weights():
    rows, weights = counted(np.array([0.0, 2.0, 1.0, 0.0]))
    assert rows.tolist() == [1, 1, 2] and weights is None
    rows, weights = counted(np.array([0.0, 2.0, 1.5, 0.0]))
    assert rows.tolist() == [1, 2] and weights.tolist() == [2.0, 1.5]
    most = np.full(ROWS, TIMES)
    assert len(counted(most)[0]) == TIMES * ROWS
    most[0] += 1
    rows, weights = counted(np.r_[most, 0])
    assert np.array_equal(rows, np.arange(ROWS)) and np.array_equal(weights, most)
    assert len(counted(np.array([ROWS - 1.0, 1.0]))[0]) == ROWS and counted(np.array([float(ROWS), 1.0]))[1] is not None


def test_the_order_goes_by_all_that_is_in_a_row():
    grid = np.indices((2,) * 12).reshape(12, -1).T
    x = [(grid[:, :7] * 1.0).astype(np.float32), grid[:, 7:]]
    order, copies = by_content(x, np.zeros(4096), None)
    assert np.array_equal(np.sort(order), np.arange(4096)) and copies.tolist() == list(range(4096))
    assert not np.array_equal(order, np.arange(4096))
    for rows in (np.random.default_rng(0).permutation(4096), np.arange(4096)[::-1]):
        assert np.array_equal(rows[by_content([t[rows] for t in x], np.zeros(4096), None)[0]], order)
    same = [np.zeros((3, 1), np.float32)]
    for y, weights in ((np.array([5, 3, 4]), None), (np.zeros(3), np.array([5.0, 3.0, 4.0]))):
        rows = np.array([2, 0, 1])
        order = by_content(same, y, weights)[0]
        assert np.array_equal(rows[by_content(same, y[rows], None if weights is None else weights[rows])[0]], order)


def test_copies_are_equal_rows_of_columns_that_have_one_target():
    x = np.array([[0.0, 1], [2, 3], [-0.0, 1], [2, 3], [4, 5], [0, 1]], np.float32)
    y = np.array([1.0, 2, 1, 3, 0, 1], np.float32)
    order, copies = by_content([x], y, None)
    of_row = np.empty(6, int)
    of_row[order] = copies
    assert of_row[0] == of_row[2] == of_row[5] and len(set(of_row.tolist())) == 4     # rows 1 and 3 have two targets


def test_copies_lie_in_one_part():
    rng = np.random.default_rng(0)
    strata = np.sort(rng.choice(3, 60, p=[0.6, 0.3, 0.1])).repeat(4)
    copies = np.arange(60).repeat(4)
    found = dealt(strata, copies, 5, seed=1)
    assert np.ptp(np.bincount(found)) <= 1
    for stratum in range(3):
        own = found[strata == stratum].reshape(-1, 4)
        assert np.ptp(np.bincount(own.ravel(), minlength=5)) <= 1
        assert (np.ptp(own, 1) > 0).sum() <= 4          # no more than there are borders of parts


def test_no_row_that_is_trained_on_is_a_copy_of_one_set_aside():
    X, y = people()
    seen = []

    def scorer(model, held_out, known):
        seen.append(held_out["income"].value_counts())
        return 0.0
    TabularClassifier(**{**SMALL, "max_epochs": 1}, scoring=scorer).fit(X, y, np.full(120, 4))
    assert len(seen) == 2
    for counts in seen:
        assert counts.sum() == 96 and (counts < 4).sum() <= 4       # at two borders of a part in each of two classes


def test_a_model_of_the_library_does_not_depend_on_the_order_either():
    X, y = people()
    x = {"numbers": X[["income", "member"]].to_numpy(np.float32) / 1e5}
    targets, order = (y == "yes").astype(np.int64), np.random.default_rng(0).permutation(120)
    recipe = tabular.Recipe(hidden_sizes=(8,), max_epochs=2, n_members=2)
    one, other = (tabular.fit({"numbers": x["numbers"][rows]}, targets[rows], tabular.Classes(2), recipe)
                  for rows in (np.arange(120), order))
    assert np.array_equal(one.model.predict(x["numbers"]), other.model.predict(x["numbers"]))


def test_a_warning_is_of_the_table_without_weights_too():
    X = np.random.default_rng(0).normal(size=(100, 3))
    y = X[:, 0].copy()
    y[77] = 1e30
    with pytest.warns(UserWarning, match=r"in row 77, where"):
        TabularRegressor(**SMALL).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TabularRegressor(**SMALL).fit(X, y, np.arange(100) != 77)

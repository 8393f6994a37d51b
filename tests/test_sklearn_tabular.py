"""TabularClassifier and TabularRegressor: tables as people have them, members, calibration, what is promised of predictions."""
import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", "1.6")

from joblib import parallel_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss, mean_pinball_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.utils.class_weight import compute_sample_weight

from tinydl import tabular
from tinydl.sklearn import TabularClassifier, TabularRegressor
from tinydl.tables import TableEncoder
from tinydl.tabular import training
from tinydl.tabular.rows import dealt

SMALL = {"n_members": 2, "hidden_layer_sizes": (16,), "max_epochs": 6, "random_state": 0}


def people(n=120, seed=0):
    """A table of all kinds of columns, with gaps, and a target that depends on two of them."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Bonn", "Ulm", "Kiel", None], n)
    age = np.where(rng.random(n) < 0.1, np.nan, rng.integers(18, 90, n))
    table = pd.DataFrame({
        "town": town, "age": age, "member": rng.random(n) < 0.5, "colour": pd.Categorical(rng.choice(list("rgb"), n)),
        "income": rng.lognormal(10, 1, n), "code": rng.integers(0, 12, n).astype(str), "constant": 1.0})
    return table, answers(table)


def answers(table):
    yes = (table["town"] == "Ulm") | (table["age"].fillna(50) > 70)
    return np.where(yes, "yes", "no")


def test_a_table_of_all_kinds_of_columns():
    X, y = people(400)
    clf = TabularClassifier(random_state=0, max_epochs=24, n_members=2, hidden_layer_sizes=(64, 64)).fit(X[:300], y[:300])
    assert clf.classes_.tolist() == ["no", "yes"]
    assert list(clf.feature_names_in_) == list(X.columns)
    assert clf.score(X[300:], y[300:]) > 0.85
    p = clf.predict_proba(X[300:])
    assert p.dtype == np.float32 and np.allclose(p.sum(1), 1, atol=4 * np.finfo(np.float32).eps)
    unseen = X[300:].assign(town="Rome", code=None, age=np.nan)
    assert np.isfinite(clf.predict_log_proba(unseen)).all()


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_tables_of_other_libraries(kind):
    library = pytest.importorskip(kind)
    X, y = people()
    convert = library.from_pandas if kind == "polars" else library.Table.from_pandas
    clf = TabularClassifier(**SMALL).fit(convert(X), y)
    assert np.array_equal(clf.predict_proba(convert(X)), TabularClassifier(**SMALL).fit(X, y).predict_proba(X))
    weights = np.where(np.arange(len(y)) < 60, 0.0, 1.0)
    weighted = TabularClassifier(**SMALL).fit(convert(X), y, sample_weight=weights)
    there = TabularClassifier(**SMALL).fit(X[60:], y[60:], weights[60:])
    assert np.array_equal(weighted.predict_proba(X), there.predict_proba(X))


def test_tables_of_narwhals_go_by_name():
    nw = pytest.importorskip("narwhals")
    X, y = people()
    clf = TabularClassifier(**SMALL).fit(nw.from_native(X), nw.from_native(pd.Series(y), series_only=True))
    assert clf.feature_names_in_.tolist() == list(X.columns)
    assert np.array_equal(clf.predict_proba(nw.from_native(X)), TabularClassifier(**SMALL).fit(X, y).predict_proba(X))
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        clf.predict(nw.from_native(X[X.columns[::-1]]))


def test_a_table_that_is_not_computed_yet_is_refused_by_what_to_do():
    polars = pytest.importorskip("polars")
    X, y = people()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"X is a LazyFrame, which is no table: give X\.collect\(\)"):
            TabularClassifier(**SMALL).fit(polars.from_pandas(X).lazy(), y)


@pytest.mark.parametrize("attributes, method", [
    (("columns", "fetchnumpy", "df", "to_arrow_table", "to_df"), "to_arrow_table"),         # a relation of DuckDB
    (("columns", "collect", "toPandas"), "toPandas"),                                       # a DataFrame of Spark
    (("columns", "to_pandas", "__array__"), "to_pandas"),                                   # a Table of Ibis
    (("schema", "read_all"), "read_all"),                                                   # pyarrow's RecordBatchReader
    (("to_dataframe", "__array__"), "to_dataframe")])                                       # a Dataset of xarray
def test_what_is_no_table_yet_says_how_it_becomes_one(attributes, method):
    thing = type("Thing", (), dict.fromkeys(attributes, lambda *a: None))()
    for use in (lambda: TabularClassifier(**SMALL).fit(thing, [0, 1] * 5), lambda: TableEncoder().fit(thing)):
        with pytest.raises(ValueError, match=rf"is a Thing, which is no table: give [xX]\.{method}\(\)"):
            use()


def test_a_dict_of_columns_is_no_table_of_scikit_learn():
    with pytest.raises(ValueError, match=r"X is a dict: give a table of it, as pandas\.DataFrame\(X\)"):
        TabularClassifier(**SMALL).fit({"a": [1.0, 2, 3] * 4, "b": list("xyz") * 4}, [0, 1] * 6)


def test_an_array_with_text_and_gaps():
    X = np.array([["Bonn", 1.0], ["Ulm", None], [None, 3.0], ["Bonn", 2.0]] * 10, dtype=object)
    clf = TabularClassifier(**SMALL).fit(X, [0, 1, 1, 0] * 10)
    assert clf.predict_proba(X).shape == (40, 2)
    with pytest.raises(ValueError, match="infinity"):
        TabularClassifier(**SMALL).fit(np.array([[1.0], [np.inf]] * 10), [0, 1] * 10)


def test_categorical_features_by_name_place_and_mask():
    X, y = people()
    numbers = X[["age", "income"]].assign(kind=np.arange(len(X)) % 3)
    found = [TabularClassifier(**SMALL, categorical_features=c).fit(numbers, y).predict_proba(numbers)
             for c in (["kind"], [2], [False, False, True])]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], TabularClassifier(**SMALL).fit(numbers, y).predict_proba(numbers))
    with pytest.raises(ValueError, match="knd"):
        TabularClassifier(**SMALL, categorical_features=["knd"]).fit(numbers, y)
    with pytest.raises(ValueError, match="mask of 2 columns"):
        TabularClassifier(**SMALL, categorical_features=[True, False]).fit(numbers, y)
    with pytest.raises(ValueError, match=r"categorical_features=0: a list of columns, a mask of them, or None"):
        TabularClassifier(**SMALL, categorical_features=0).fit(numbers, y)
    with pytest.raises(ValueError, match=r"categorical_features='kind': a list of columns, as \['kind'\]"):
        TabularClassifier(**SMALL, categorical_features="kind").fit(numbers, y)
    with pytest.raises(ValueError, match="'from_dtype': None; columns of text and of categories are known by their dtype"):
        TabularClassifier(**SMALL, categorical_features="from_dtype").fit(numbers, y)


@pytest.mark.parametrize("dtype, values", [
    ("Int64", [1, 2]), ("boolean", [False, True]), ("string", ["a", "b"]), ("category", ["a", "b"]), (object, ["a", "b"])])
def test_labels_stay_what_they_are(dtype, values):
    X, _ = people(60)
    y = pd.Series(values * 30, dtype=dtype)
    clf = TabularClassifier(**SMALL).fit(X, y)
    assert clf.classes_.tolist() == values and type(clf.classes_.tolist()[0]) is type(values[0])
    y[3] = None
    with pytest.raises(ValueError, match=r"y has no value in row 3|y contains NaN"):
        TabularClassifier(**SMALL).fit(X, y)


def test_dates_on_demand():
    X = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=60), "x": np.arange(60.0)})
    with pytest.raises(ValueError, match="dates=True"):
        TabularRegressor(**SMALL).fit(X, np.arange(60.0))
    assert TabularRegressor(**SMALL, dates=True).fit(X, np.arange(60.0)).predict(X).shape == (60,)


def test_a_rows_prediction_does_not_depend_on_the_rows_beside_it():
    X, y = people()
    clf = TabularClassifier(**SMALL).fit(X, y)
    every = clf.predict_proba(X)
    assert np.array_equal(np.concatenate([clf.predict_proba(X[i:i + 1]) for i in range(0, 120, 7)]), every[::7])
    assert np.array_equal(clf.predict_proba(X[::-1])[::-1], every)


@pytest.mark.parametrize("estimator", [TabularClassifier(**SMALL), TabularRegressor(**SMALL)], ids=["classifier", "regressor"])
def test_the_same_seed_gives_the_same_bits_with_any_number_of_threads(estimator):
    X, y = people()
    y = y if isinstance(estimator, TabularClassifier) else X["income"]
    found = [clone(estimator).set_params(n_threads=n).fit(X, y).model_.params for n in (1, 2, 3)]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    other = clone(estimator).set_params(random_state=1).fit(X, y).model_.params
    assert not np.array_equal(found[0], other)


def test_pickles_and_copies_predict_the_same():
    X, y = people()
    clf = TabularClassifier(**SMALL).fit(X, y)
    for other in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        assert np.array_equal(other.predict_proba(X), clf.predict_proba(X))
    state = clf.__getstate__()
    assert isinstance(state["model_"], bytes) and isinstance(state["encoder_"], dict)
    with pytest.raises(NotFittedError):
        clone(clf).predict(X)


def test_rows_of_weight_zero_are_as_if_they_were_not_there():
    X, y = people()
    weights = np.random.default_rng(1).uniform(0.5, 2, 120)
    weights[:40] = 0
    all_rows = TabularClassifier(**SMALL).fit(X, y, sample_weight=weights)
    there = TabularClassifier(**SMALL).fit(X[40:], y[40:], weights[40:])
    assert np.array_equal(all_rows.predict_proba(X), there.predict_proba(X))
    with pytest.raises(ValueError, match="at least one non-zero"):
        TabularClassifier(**SMALL).fit(X, y, sample_weight=np.zeros(120))


def test_rows_count_by_their_weights():
    X = np.random.default_rng(0).normal(size=(400, 1))
    y, weights = np.arange(400) % 2, np.where(np.arange(400) % 2, 9.0, 1.0)        # of nothing in X
    clf = TabularClassifier(**{**SMALL, "max_epochs": 20}, calibrate=False, label_smoothing=0.0)
    p = clf.fit(X, y, weights).predict_proba(X)[:, 1]
    assert abs(p.mean() - 0.9) < 0.06               # four deviations of a share of 360 / 9 + 40 rows' weights
    z = TabularRegressor(**{**SMALL, "max_epochs": 20}).fit(X, y, weights).predict(X)
    assert abs(z.mean() - 0.9) < 0.1


def test_members_begin_with_values_and_orders_of_their_own(monkeypatch):
    seeds, made = [], []
    network, trainer = training.network, training.Trainer
    monkeypatch.setattr(training, "network", lambda *a, seed=None, **k: seeds.append(seed) or network(*a, seed=seed, **k))
    monkeypatch.setattr(training, "Trainer", lambda *a, seed, **k: made.append(seed) or trainer(*a, seed=seed, **k))
    X, y = people()
    TabularClassifier(**{**SMALL, "n_members": 3}).fit(X, y)
    assert len({*seeds[:3], *made}) == 6 and seeds[3:] == [None]


def test_class_weights_are_sample_weights():
    X, y = people()
    weights = np.where(y == "yes", 3.0, 1.0)
    found = TabularClassifier(**SMALL, class_weight={"yes": 3.0, "no": 1.0}).fit(X, y)
    assert np.array_equal(found.predict_proba(X), TabularClassifier(**SMALL).fit(X, y, weights).predict_proba(X))
    own = np.random.default_rng(0).uniform(1, 2, 120)
    both = TabularClassifier(**SMALL, class_weight={"yes": 3.0, "no": 1.0}).fit(X, y, own)
    assert np.array_equal(both.predict_proba(X), TabularClassifier(**SMALL).fit(X, y, weights * own).predict_proba(X))
    rare = TabularClassifier(**SMALL, class_weight="balanced").fit(X[:100], np.r_[np.zeros(90), np.ones(10)])
    plain = TabularClassifier(**SMALL).fit(X[:100], np.r_[np.zeros(90), np.ones(10)])
    assert rare.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean()


@pytest.mark.parametrize("labels", [1, 2])
def test_balanced_classes_have_the_same_sum_of_sample_weights(labels):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200) if labels == 1 else rng.integers(0, 2, (200, 2))
    weights = rng.integers(0, 4, 200) * np.where(y.reshape(200, -1)[:, 0] == 1, 9.0, 1.0)
    found = TabularClassifier(class_weight="balanced")._weights(y, weights)
    rows = np.repeat(np.arange(200), weights.astype(int))
    repeated = compute_sample_weight("balanced", y[rows])
    np.testing.assert_allclose(np.bincount(rows, repeated, 200), found, rtol=1e-12)


def test_rows_of_weight_zero_are_no_rows_of_a_class():
    X, y = people()
    weights = np.r_[np.ones(100), np.zeros(20)]
    y[100:] = "no"
    found, fewer = (TabularClassifier(**SMALL, class_weight="balanced").fit(X[:n], y[:n], weights[:n]) for n in (120, 100))
    assert np.array_equal(found.predict_proba(X), fewer.predict_proba(X))


def test_the_epoch_kept_is_the_best_by_the_scorer_asked_for():
    X, y = people()
    by_loss = TabularClassifier(**SMALL).fit(X, y)
    by_auc = TabularClassifier(**SMALL, scoring="roc_auc").fit(X, y)
    for clf in (by_loss, by_auc):
        for member in clf.members_:
            assert member["best_epoch"] == int(np.argmin(member["validation"])) + 1
            assert len(member["loss"]) == len(member["validation"])
    assert all(-1 <= value <= 0 for member in by_auc.members_ for value in member["validation"])

    seen = []

    def own(estimator, X, y):
        assert np.array_equal(y, answers(X))
        seen.append((len(X), roc_auc_score(y, estimator.predict_proba(X)[:, 1]), set(y)))
        return seen[-1][1]
    again = TabularClassifier(**SMALL, scoring=own).fit(X, y)
    assert [-v for m in again.members_ for v in m["validation"]] == [value for _, value, _ in seen]
    assert np.array_equal(again.predict_proba(X), by_auc.predict_proba(X))
    assert {n for n, _, _ in seen} == {24} and seen[0][2] == {"yes", "no"}


def test_training_ends_after_epochs_without_improvement():
    X, y = people()
    clf = TabularClassifier(**{**SMALL, "max_epochs": 200, "learning_rate": 0.05}, n_iter_no_change=3).fit(X, y)
    for member in clf.members_:
        assert len(member["validation"]) == member["best_epoch"] + 3 < 200


def test_a_time_limit_is_shared_by_the_members(monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr(training, "perf_counter", lambda: float(next(now)))      # each look at the clock is a second later
    X, y = people()
    clf = TabularClassifier(**{**SMALL, "max_epochs": 200}, n_iter_no_change=1000, time_limit=40.0).fit(X, y)
    assert next(now) <= 41
    assert min(len(member["loss"]) for member in clf.members_) > 5


def test_a_time_limit_ends_a_first_epoch_that_takes_longer(monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr(training, "perf_counter", lambda: float(next(now)))
    made, told = [], training.BestEpoch.on_update

    def counted(self, trainer, updates):
        told(self, trainer, updates)
        made.append(updates)
    monkeypatch.setattr(training.BestEpoch, "on_update", counted)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 3))
    clf = TabularClassifier(**{**SMALL, "n_members": 2}, batch_size=1, time_limit=20.0).fit(X, X[:, 0] > 0)
    assert next(now) <= 22 and max(made) < 300              # of 500 updates or more
    assert [len(member["validation"]) for member in clf.members_] == [1, 1] and clf.n_iter_ == 1
    assert clf.score(X, X[:, 0] > 0) > 0.9


def test_a_time_limit_before_the_rate_has_risen_is_warned_of(monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr(training, "perf_counter", lambda: float(next(now)))
    X, y = people()
    with pytest.warns(UserWarning, match=r"ended after \d+ of max_epochs=100000, .* little was learnt"):
        TabularClassifier(**{**SMALL, "max_epochs": 100_000}, time_limit=40.0).fit(X, y)


def test_calibration_finds_the_temperature_of_the_lowest_log_loss():
    rng = np.random.default_rng(0)
    right = rng.integers(0, 3, 500)
    z = 5.0 * (np.eye(3)[right] + rng.normal(size=(500, 3)))

    def loss(t):
        scaled = z / t
        scaled -= scaled.max(1, keepdims=True)
        p = np.exp(scaled)
        return log_loss(right, p / p.sum(1, keepdims=True))
    t = tabular.temperature(z, right)
    assert loss(t) < min(loss(0.99 * t), loss(1.01 * t)) and t > 1.5
    weights = rng.integers(1, 4, 500)
    repeated = tabular.temperature(z.repeat(weights, 0), right.repeat(weights))
    assert tabular.temperature(z, right, weights) == pytest.approx(repeated)
    sure = np.eye(3)[right]         # all right: the lowest log-loss is that of any number, however large
    assert tabular.temperature(sure, right) == pytest.approx(1 / 8, rel=1e-5)
    assert 0.13 < tabular.temperature(sure, right, None, 1 / 501) < 1


def test_the_models_outputs_are_the_mean_of_the_members_calibrated_probabilities():
    X, y = people()
    raw, calibrated = (TabularClassifier(**SMALL, calibrate=c).fit(X, y) for c in (False, True))
    assert raw.temperature_ == 1 and calibrated.temperature_ != 1
    x = tabular.inputs(raw.encoder_, raw.encoder_.transform(X))
    recipe, half = tabular.Recipe(hidden_sizes=(16,)), raw.model_.params.size // 2
    wanted = []
    for part in (raw.model_.params[:half], raw.model_.params[half:]):
        member = tabular.network(x, sum(raw.encoder_.cardinalities), tabular.Classes(2), recipe, members=0)
        member.params[...] = part
        z = member.predict(x).astype(np.float64) / calibrated.temperature_
        wanted.append(np.exp(z) / np.exp(z).sum(1, keepdims=True))
    assert np.allclose(calibrated.predict_proba(X), np.mean(wanted, 0), rtol=0, atol=32 * np.finfo(np.float32).eps)


def test_parts_are_of_equal_size_and_have_equal_shares_of_each_class():
    strata = np.random.default_rng(0).choice(4, 103, p=[0.6, 0.3, 0.08, 0.02])
    found = dealt(strata, np.arange(103), 5, seed=1)
    assert np.ptp(np.bincount(found)) <= 1
    for stratum in range(4):
        assert np.ptp(np.bincount(found[strata == stratum], minlength=5)) <= 1
    assert not np.array_equal(found, dealt(strata, np.arange(103), 5, seed=2))


def test_predictions_stay_in_the_range_of_y():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y = 100 * X[:, 0]
    for clip in (True, False):
        model = TabularRegressor(**{**SMALL, "max_epochs": 30}, clip=clip).fit(X[:, :1], y)
        far = model.predict(np.array([[1e6], [-1e6]]))
        assert (far.max() <= y.max() and far.min() >= y.min()) == clip


def test_large_targets_keep_their_digits():
    X = np.linspace(-1, 1, 80).reshape(-1, 1)
    y = 1.6e9 + X[:, 0]
    model = TabularRegressor(**{**SMALL, "max_epochs": 30, "learning_rate": 0.03}).fit(X, y)
    assert model.score(X, y) > 0.5


@pytest.mark.parametrize("more", [{}, {"clip": False}, {"quantiles": [0.1, 0.9]}])
def test_numbers_are_predicted_as_float32_where_y_was(more):
    X, _ = people()
    y = np.log(X["income"].to_numpy())
    model, single = TabularRegressor(**SMALL, **more).fit(X, y), TabularRegressor(**SMALL, **more).fit(X, y.astype(np.float32))
    assert model.predict(X).dtype == np.float64 and single.predict(X).dtype == np.float32
    assert np.allclose(model.predict(X), single.predict(X), rtol=1e-5)
    assert single.partial_fit(X, y).predict(X).dtype == np.float32      # as it began
    assert single.fit(X, pd.Series(y)).predict(X).dtype == np.float64
    assert single.fit(X, pd.Series(y, dtype="float32")).predict(X[:1]).dtype == np.float32


def test_quantiles():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(600, 1))
    y = rng.exponential(size=600)
    model = TabularRegressor(**{**SMALL, "max_epochs": 20}, quantiles=[0.9, 0.1, 0.5]).fit(X, y)
    found = model.predict(X)
    assert found.shape == (600, 3) and (np.diff(found[:, [1, 2, 0]]) >= 0).all()
    # shares of 600 rows: four deviations, and as much again for what the members have not seen
    assert np.allclose((y[:, None] <= found).mean(0), model.quantiles, atol=0.12)
    ascending = TabularRegressor(**{**SMALL, "max_epochs": 20}, quantiles=[0.1, 0.5, 0.9]).fit(X, y)
    assert (ascending.predict(X)[:, [2, 0, 1]] == found).all() and ascending.score(X, y) == pytest.approx(model.score(X, y))
    assert abs(model.score(X, y)) < 0.1           # nothing is to be known from X
    untrained = TabularRegressor(**{**SMALL, "learning_rate": 1e-12}, quantiles=[0.1, 0.5, 0.9], clip=False).fit(X, y)
    assert (np.diff(untrained.predict(X)) >= 0).all()
    with pytest.raises(ValueError, match="quantiles are of one target; y has 2"):
        TabularRegressor(**SMALL, quantiles=[0.5]).fit(X, np.stack([y, y], 1))


def test_rows_as_lists_with_text_beside_numbers():
    rows = [[float(i % 7), "Ulm" if i % 3 else "Bonn", None if i % 5 else i] for i in range(60)]
    y = [i % 7 + 3 * (i % 3 > 0) for i in range(60)]
    by_lists = TabularRegressor(**SMALL).fit(rows, y)
    table = np.array(rows, object)
    assert (by_lists.predict(rows) == TabularRegressor(**SMALL).fit(table, y).predict(table)).all()
    assert by_lists.encoder_.cardinalities == [] and by_lists.encoder_.number_names[:2] == ["0", "1=Ulm"]


def test_quantiles_are_scored_by_weight():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2))
    y = np.exp(X[:, 0]) + 0.1 * rng.normal(size=80)
    model = TabularRegressor(**SMALL, quantiles=[0.1, 0.5, 0.9]).fit(X, y)
    weights = rng.integers(0, 4, 80)
    often = np.repeat(np.arange(80), weights)
    assert np.isclose(model.score(X, y, weights), model.score(X[often], y[often]), rtol=1e-12)
    high = np.where(y > np.median(y), 5.0, 0.1)     # no number has a lower loss than y's own quantile by these weights
    shares = []
    for level, p in zip(model.quantiles, model.predict(X).T, strict=True):
        least = min(mean_pinball_loss(y, np.full(80, v), alpha=level, sample_weight=high) for v in y)
        shares.append(1 - mean_pinball_loss(y, p, alpha=level, sample_weight=high) / least)
    assert np.isclose(model.score(X, y, high), np.mean(shares), rtol=1e-12)
    assert model.score(X, np.full(80, 0.1)) == 0


def test_several_targets_and_several_labels():
    X, _ = people()
    y = np.stack([X["income"], np.nan_to_num(X["age"])], 1)
    assert TabularRegressor(**SMALL).fit(X, y).predict(X).shape == (120, 2)
    labels = np.stack([X["town"] == "Ulm", X["member"]], 1).astype(int)
    clf = TabularClassifier(**{**SMALL, "max_epochs": 40, "learning_rate": 0.02}).fit(X, labels)
    assert clf.predict_proba(X).shape == (120, 2) and clf.score(X, labels) > 0.9


def test_importances_name_the_columns_that_matter():
    X, y = people(300)
    clf = TabularClassifier(**{**SMALL, "max_epochs": 30, "learning_rate": 0.02}).fit(X, y)
    found = clf.feature_importances(X, y, n_repeats=2, random_state=0)
    assert set(list(found)[:2]) == {"town", "age"} and found["constant"] == 0


def test_the_history_as_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    X, y = people()
    assert TabularClassifier(**SMALL).fit(X, y).plot_history(tmp_path / "h.png").stat().st_size > 10_000


def test_verbose_counts_epochs_on_stderr(capsys):
    X, y = people()
    TabularClassifier(**SMALL, verbose=True).fit(X, y)
    out, err = capsys.readouterr()
    assert out == "" and "12 of at most 12 epochs" in err


def test_it_goes_into_searches_by_processes_and_threads():
    X, y = people()
    found = {}
    for n_jobs, backend in ((1, "loky"), (2, "threading")):
        with parallel_config(backend):
            search = GridSearchCV(TabularClassifier(**SMALL), {"dropout": [0.0, 0.3]}, cv=2, n_jobs=n_jobs).fit(X, y)
        found[backend] = search.cv_results_["mean_test_score"].tolist()
    assert found["loky"] == found["threading"]
    assert cross_val_predict(TabularClassifier(**SMALL), X, y, cv=3, method="predict_proba").shape == (120, 2)


@pytest.mark.parametrize("settings, message", [
    ({"n_members": 0}, "n_members=0"), ({"activation": "swish"}, "activation='swish'"), ({"dropout": 1.0}, "dropout=1.0"),
    ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes=\\(0,\\)"), ({"validation_fraction": 0.9}, "validation_fraction=0.9"),
    ({"time_limit": 0}, "time_limit=0"), ({"scoring": 3}, "scoring=3"), ({"label_smoothing": 1.5}, "label_smoothing=1.5")])
def test_settings_out_of_range_are_named(settings, message):
    X, y = people(20)
    with pytest.raises(ValueError, match=message):
        TabularClassifier(**settings).fit(X, y)


def test_what_cannot_be_trained_on_is_said():
    X, y = people()
    with pytest.raises(ValueError, match="n_samples=4"):
        TabularClassifier(**SMALL).fit(X[:4], y[:4])
    with pytest.raises(ValueError, match="no column to learn from"):
        TabularClassifier(**SMALL).fit(X[["constant"]], y)
    with pytest.raises(ValueError, match="requires y to be passed"):
        TabularRegressor(**SMALL).fit(X, None)
    clf = TabularClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(X.drop(columns="age"))


def test_importances_of_columns_whose_names_are_no_text():
    """As groupby().agg() makes them."""
    values, names = np.random.default_rng(0).normal(size=(60, 3)), [("age", "mean"), ("age", "std"), ("age", "n")]
    x, y = pd.DataFrame(values, columns=pd.MultiIndex.from_tuples(names)), values[:, 1] > 0
    clf = TabularClassifier(n_members=1, max_epochs=5, random_state=0).fit(x, y)
    found = clf.feature_importances(x, y)
    assert set(found) == {"('age', 'mean')", "('age', 'std')", "('age', 'n')"} and next(iter(found)) == "('age', 'std')"
    assert set(clf.fit(values, y).feature_importances(values, y)) == {"0", "1", "2"}


@pytest.mark.parametrize(("y", "message"), [
    (pd.Series(pd.date_range("2020-01-01", periods=20)), r"y holds dates, as 2020-01-01.*\(y - y.min\(\)\).dt.total_seconds\(\)"),
    (pd.Series(pd.date_range("2020-01-01", periods=20, tz="Asia/Tokyo")), "y holds dates, as 2020-01-01"),
    (pd.Series(pd.to_timedelta(range(3, 23), unit="D")), r"y holds durations, as .*: give seconds or days, as y.dt.total"),
    (pd.Series(pd.to_timedelta(range(3, 23), unit="D")).astype(object), "y holds durations, as 3 days")])
def test_times_are_no_numbers_to_predict(y, message):
    """Durations as numbers would be of a unit that nobody said."""
    with pytest.raises(ValueError, match=message):
        TabularRegressor(n_members=1, max_epochs=1).fit(pd.DataFrame({"a": np.arange(20.0)}), y)

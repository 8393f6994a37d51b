"""tinydl.sklearn: at home in scikit-learn. Pipelines, searches, pickles, metadata, tables; threads; networks of one's own."""
import copy
import hashlib
import inspect
import os
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

import sklearn
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tinydl import Model, _hints, losses, nn, optim
from tinydl.sklearn import (
    MLPClassifier,
    MLPRegressor,
    NeuralClassifier,
    NeuralRegressor,
    TabularClassifier,
    TabularRegressor,
    base,
    epochs,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 4))
Z = X @ rng.normal(size=(4, 3))
LABELS, NUMBERS = np.array(["a", "b", "c"])[Z.argmax(1)], Z[:, 0]
EACH = [MLPClassifier(max_iter=4, random_state=0), MLPRegressor(max_iter=4, random_state=0),
        NeuralClassifier(max_epochs=4, random_state=0), NeuralRegressor(max_epochs=4, random_state=0)]
each = pytest.mark.parametrize("estimator", EACH, ids=lambda e: type(e).__name__)
regressors = (MLPRegressor, NeuralRegressor)


def targets(estimator):
    return NUMBERS if isinstance(estimator, regressors) else LABELS


def answers(estimator, x=X):
    return estimator.predict(x) if isinstance(estimator, regressors) else estimator.predict_proba(x)


def digest(estimator):
    return hashlib.sha256(estimator.model_.params.tobytes()).hexdigest()


class Twice(nn.PythonLayer):
    """A layer that tinydl does not know."""

    def forward(self, x):
        return 2 * x, None

    def backward(self, dy, saved):
        return 2 * dy


def net_of_ones_own(n_features, n_outputs):
    return nn.Sequential(nn.Linear(n_features, 8), Twice(), nn.Tanh(), nn.Linear(8, n_outputs))


# ---------------------------------------------------------------------- the package
def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_tinydl_does_not_import_scikit_learn():
    assert run("import sys, tinydl; assert 'sklearn' not in sys.modules").returncode == 0


@pytest.mark.parametrize("instead, says", [
    ("None", "pip install 'tinydl-parallel[sklearn]'"),
    ("types.SimpleNamespace(__version__='1.5.2')", "1.5.2 is installed")], ids=["none", "too old"])
def test_without_scikit_learn(instead, says):
    done = run(f"import sys, types; sys.modules['sklearn'] = {instead}; import tinydl.sklearn")
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1]


# ---------------------------------------------------------------------- copies and files
@each
def test_pickle(estimator):
    """It holds the model as the bytes of a model's file, goes on training where it was, and predicts the same bits."""
    fitted = clone(estimator).fit(X, targets(estimator))
    state = fitted.__getstate__()
    assert state["model_"][8:9] == b"{"
    assert not any(isinstance(v, (Model, optim.Optimizer)) for v in state.values())
    others = [pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)]
    for other in others:
        np.testing.assert_array_equal(answers(other), answers(fitted))
    before = digest(fitted)
    assert {digest(e.partial_fit(X, targets(estimator))) for e in others} == {digest(fitted.partial_fit(X, targets(estimator)))}
    assert digest(fitted) != before
    pickle.loads(pickle.dumps(clone(estimator)))


def test_pickle_with_other_parameters():
    """What was set after fit may ask for another optimizer: then that begins anew."""
    fitted = clone(EACH[0]).fit(X, LABELS).set_params(solver="sgd")
    other = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(answers(other), answers(fitted))
    assert np.isfinite(answers(other.partial_fit(X, LABELS))).all()
    broken = clone(EACH[2]).fit(X, LABELS).set_params(optimizer="none such")
    np.testing.assert_array_equal(answers(pickle.loads(pickle.dumps(broken))), answers(broken))


@each
def test_going_on_by_another_figure(estimator):
    """A warm start with early_stopping after one without, and the other way round."""
    own = clone(estimator).set_params(warm_start=True).fit(X, targets(estimator))
    for early_stopping in (True, False):
        own.set_params(early_stopping=early_stopping).fit(X, targets(estimator))
        assert (own.validation_scores_ is not None) == (own.best_loss_ is None) == early_stopping


def test_a_pickle_is_a_models_file(tmp_path):
    fitted = clone(EACH[0]).fit(X, LABELS)
    path = tmp_path / "model.tinydl"
    path.write_bytes(fitted.__getstate__()["model_"])
    np.testing.assert_array_equal(Model.load(path).predict(X), fitted.model_.predict(X))


def test_pickle_of_ones_own_layers():
    fitted = NeuralClassifier(net_of_ones_own, max_epochs=2, random_state=0).fit(X, LABELS)
    np.testing.assert_array_equal(answers(pickle.loads(pickle.dumps(fitted))), answers(fitted))


# ---------------------------------------------------------------------- searches and pipelines
def search(estimator):
    name = type(estimator).__name__.lower()
    rates = {f"{name}__{'learning_rate_init' if 'mlp' in name else 'learning_rate'}": [1e-3, 1e-2]}
    return GridSearchCV(make_pipeline(StandardScaler(), clone(estimator)), rates, cv=2)


def test_search_by_processes():
    """The bits of one process, while each process has one thread, also where the recommended number is asked for."""
    estimator = NeuralClassifier(net_of_ones_own, max_epochs=2, random_state=0, n_threads=-1, n_shards=2)
    found = cross_validate(estimator, X, LABELS, cv=2, n_jobs=2, return_estimator=True, scoring=lambda e, x, y: e._shards()[0])
    alone = cross_validate(estimator, X, LABELS, cv=2, return_estimator=True)
    assert found["test_score"].tolist() == [1, 1]
    assert list(map(digest, found["estimator"])) == list(map(digest, alone["estimator"]))
    get_reusable_executor().shutdown(wait=True)


@each
def test_search_by_threads(estimator):
    with parallel_config("threading", n_jobs=2):
        found = search(estimator).fit(X, targets(estimator))
    alone = search(estimator).fit(X, targets(estimator))
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_training_holds_no_gil():
    """While it trains, another thread goes on: it counts at least once in a batch."""
    big = rng.normal(size=(4000, 64)).astype(np.float32)
    counted, stop = [], threading.Event()

    def count():
        while not stop.is_set():
            counted.append(time.perf_counter())
            time.sleep(0.0005)      # a wait for a lock would, without a GIL, first yield to whoever is busy, 40 times
    thread = threading.Thread(target=count)
    thread.start()
    before = time.perf_counter()
    NeuralRegressor(lambda i, o: nn.Sequential(nn.Linear(i, 512), nn.ReLU(), nn.Linear(512, o)), batch_size=4000,
                    max_epochs=3, random_state=0).fit(big, big[:, 0])
    after = time.perf_counter()
    stop.set()
    thread.join()
    assert sum(before < t < after for t in counted) >= 3


@each
def test_metadata(estimator):
    """Weights reach fit and score through a search, and through a pipeline, where they are asked for."""
    weights = rng.uniform(size=len(X))
    seen = []

    class Watched(type(estimator)):
        def fit(self, X, y, sample_weight=None):
            seen.append(("fit", sample_weight is not None))
            return super().fit(X, y, sample_weight)

        def score(self, X, y, sample_weight=None):
            seen.append(("score", sample_weight is not None))
            return super().score(X, y, sample_weight)
    with sklearn.config_context(enable_metadata_routing=True):
        asked = Watched(**estimator.get_params()).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        GridSearchCV(asked, {"tol": [1e-3]}, cv=2).fit(X, targets(estimator), sample_weight=weights)
        assert set(seen) == {("fit", True), ("score", True)}
        seen.clear()
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asked)
        pipeline.fit(X, targets(estimator), sample_weight=weights).score(X, targets(estimator), sample_weight=weights)
        assert seen == [("fit", True), ("score", True)]


def test_tables():
    """Columns by name: another order is refused, as by scikit-learn's estimators; set_output reaches those before it."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("pqrs"))
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), clone(EACH[0])).fit(table, pandas.Series(LABELS))
    assert pipeline[-1].feature_names_in_.tolist() == list("pqrs")
    fitted = clone(EACH[1]).fit(table, pandas.Series(NUMBERS))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(table[list("qprs")])
    np.testing.assert_array_equal(fitted.model_.predict(table[list("qprs")])[:, 0], fitted.predict(table))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(fitted.predict(X), fitted.predict(table))


# ---------------------------------------------------------------------- bits
@each
def test_rows_do_not_depend_on_each_other(estimator):
    for dtype in (np.float32, np.float64):
        x = rng.normal(size=(70, 4)).astype(dtype)
        fitted = clone(estimator).fit(X.astype(dtype), targets(estimator))
        together = answers(fitted, x)
        assert together.dtype == dtype
        for rows in (slice(0, 1), slice(3, 10), slice(69, 70), [5, 68, 2]):
            np.testing.assert_array_equal(answers(fitted, x[rows]), together[rows])
    if isinstance(estimator, MLPRegressor):
        counts = clone(estimator).set_params(loss="poisson").fit(X, abs(Z))
        np.testing.assert_array_equal(counts.predict(x)[3:10], counts.predict(x[3:10]))
    if not isinstance(estimator, regressors):
        several = clone(estimator).fit(X, Z > 0)
        logs = several.predict_log_proba(X)
        np.testing.assert_allclose(np.exp(logs), several.predict_proba(X), rtol=1e-12)
        np.testing.assert_array_equal(several.predict_log_proba(X[7:9]), logs[7:9])


@each
def test_threads_to_one_hash(estimator):
    """With n_shards fixed, as many threads as one likes; otherwise to rounding."""
    fits = [clone(estimator).set_params(n_threads=n, n_shards=3).fit(X, targets(estimator)) for n in (1, 2, 3)]
    assert len({digest(fit) for fit in fits}) == 1
    assert len({fit.loss_ for fit in fits}) == 1
    serial = clone(estimator).fit(X, targets(estimator))
    np.testing.assert_allclose(answers(fits[0]), answers(serial), atol=1e-9)
    two = clone(estimator).set_params(n_threads=2).fit(X, targets(estimator))
    assert digest(two) == digest(clone(estimator).set_params(n_shards=2).fit(X, targets(estimator)))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_epochs_at_one_go(monkeypatch, n_threads):
    """They are the epochs that come one by one: same bits, same losses but for the penalty's interpolation, same end."""
    estimator = MLPClassifier((6,), random_state=0, tol=0.01, n_iter_no_change=4, batch_size=40, max_iter=300,
                              n_threads=n_threads)
    fast = clone(estimator).fit(X, LABELS)
    monkeypatch.setattr(epochs, "MOST_ROWS", 1)
    slow = clone(estimator).fit(X, LABELS)
    assert 5 < fast.n_iter_ == slow.n_iter_ < 300
    assert digest(fast) == digest(slow)
    np.testing.assert_allclose(fast.loss_curve_, slow.loss_curve_, rtol=0, atol=1e-6)


# ---------------------------------------------------------------------- labels
@pytest.mark.parametrize("labels", [
    np.array([3, -1, 7]), np.array([True, False]), np.array([0.0, 2.0, 4.0]), np.array(["x", "yy"]),
    np.array(["x", "yy", "z"], object), np.array([5, 6], np.uint8)], ids=lambda a: f"{a.dtype}{len(a)}")
@pytest.mark.parametrize("estimator", [EACH[0], EACH[2]], ids=lambda e: type(e).__name__)
def test_labels(labels, estimator):
    y = labels[np.arange(len(X)) % len(labels)]
    fitted = clone(estimator).fit(X, y)
    np.testing.assert_array_equal(fitted.classes_, np.unique(labels))
    assert fitted.predict(X).dtype == labels.dtype
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[fitted.predict_proba(X).argmax(1)])
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), fitted.predict_proba(X))
    one = clone(estimator).fit(X, np.repeat(labels[:1], len(X)))
    assert one.predict_proba(X).shape == (len(X), 1)
    assert (one.predict(X) == labels[0]).all()


def test_probabilities_too_small_for_a_number():
    fitted = clone(EACH[0]).fit(X, LABELS)
    fitted.intercepts_[-1][0] = -2000
    assert (fitted.predict_proba(X)[:, 0] == 0).all()
    assert np.isfinite(fitted.predict_log_proba(X)).all()


# ---------------------------------------------------------------------- networks of one's own
def test_modules():
    """A Layer with fresh values each time, a Model from those that it has, a function; the parameter stays as it is."""
    layer = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    a, b = (NeuralClassifier(layer, max_epochs=1, random_state=s).fit(X, LABELS) for s in (0, 1))
    assert digest(a) != digest(b)
    model = Model(copy.deepcopy(layer), seed=3)
    values = model.params.copy()
    c = NeuralClassifier(model, max_epochs=1, learning_rate=1e-9, random_state=0).fit(X, LABELS)
    np.testing.assert_array_equal(model.params, values)
    np.testing.assert_allclose(c.model_.params, values, atol=1e-7)
    d = NeuralRegressor(lambda i, o: nn.Linear(i, o), max_epochs=2, random_state=0).fit(X, Z)
    assert d.predict(X).shape == Z.shape
    images = load_digits().images[:50, None]

    def convolve(shape, n_outputs):
        assert shape == (1, 8, 8)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, n_outputs))
    e = NeuralClassifier(convolve, max_epochs=2, random_state=0).fit(images, np.arange(50) % 4)
    assert e.predict_proba(images).shape == (50, 4)
    with pytest.raises(ValueError, match=r"the module turns rows of shape \(4,\) into \(2,\); \(3,\) is needed here"):
        NeuralClassifier(nn.Linear(4, 2)).fit(X, LABELS)


def test_optimizers_and_losses():
    for optimizer in (None, "sgd", "adamw", optim.SGD(optim.schedules.Cosine(0.1, 20), momentum=0.9)):
        own = NeuralClassifier(optimizer=optimizer, max_epochs=2, random_state=0)
        first, again = (clone(own).fit(X, LABELS) for _ in range(2))
        assert digest(first) == digest(again)
        assert digest(own.fit(X, LABELS)) == digest(own.fit(X, LABELS)), "the optimizer that was given has kept something"
        assert digest(pickle.loads(pickle.dumps(own)).partial_fit(X, LABELS)) == digest(own.partial_fit(X, LABELS))
    used = optim.Adam(0.01)
    used.bind(np.zeros(first.model_.num_parameters))
    used.step(np.ones(first.model_.num_parameters))
    own = NeuralClassifier(optimizer=used, max_epochs=2, random_state=0).fit(X, LABELS)
    assert own.optimizer.t == used.t == 1, "it belongs to whoever gave it"
    assert digest(own) == digest(own.set_params(optimizer=optim.Adam(0.01)).fit(X, LABELS))
    two = NUMBERS > 0
    one, each = nn.Linear(4, 1), nn.Linear(4, 2)
    for net, loss in ((one, None), (one, losses.SigmoidCrossEntropy(pos_weight=2.0)), (each, losses.MeanSquaredError()),
                      (each, losses.SoftmaxCrossEntropy(label_smoothing=0.1))):
        for early_stopping in (False, True):
            fitted = NeuralClassifier(net, loss=loss, learning_rate=0.03, early_stopping=early_stopping, random_state=0)
            assert fitted.fit(X, two).score(X, two) > 0.8
    assert NeuralRegressor(loss=losses.Huber(), random_state=0).fit(X, NUMBERS).score(X, NUMBERS) > 0.9


def test_batch_norm_and_dropout():
    """A last batch of one row is left out; threads do not cut batches."""
    def net(i, o):
        return nn.Sequential(nn.Linear(i, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, o))
    fits = [NeuralClassifier(net, max_epochs=3, batch_size=30, random_state=0, n_threads=n).fit(X[:61], LABELS[:61])
            for n in (1, 2)]
    assert digest(fits[0]) == digest(fits[1])
    assert fits[0].n_iter_ == 3


def test_time_limit(monkeypatch):
    """An epoch that would end behind it is not begun; one always is."""
    clock = iter(range(1000))
    monkeypatch.setattr(epochs, "perf_counter", lambda: float(next(clock)))
    assert NeuralClassifier(time_limit=5.0, random_state=0, tol=0.0, early_stopping=True).fit(X, LABELS).n_iter_ == 5
    assert NeuralClassifier(time_limit=1e-9, random_state=0, early_stopping=True).fit(X, LABELS).n_iter_ == 1


def test_early_stopping_puts_the_best_back():
    fitted = NeuralRegressor(early_stopping=True, n_iter_no_change=2, learning_rate=0.05, random_state=0).fit(X, NUMBERS)
    assert fitted.n_iter_ < 100
    assert len(fitted.validation_scores_) == fitted.n_iter_
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    train, held_out = base.Part(X, NUMBERS.reshape(-1, 1)).halves(0.1, _after_the_start(), None)
    assert len(train.x) == 81
    assert fitted._score_of(fitted.model_, held_out) == fitted.best_validation_score_


def _after_the_start():
    random = np.random.RandomState(0)
    random.randint(2**31 - 1)
    return random


# ---------------------------------------------------------------------- the door
@pytest.mark.parametrize("estimator, says", [
    (MLPClassifier(solver="lbfgs"), "use 'adam'"),
    (MLPClassifier(solver="newton"), r"MLPClassifier\(solver='newton'\): 'adam', 'sgd' or 'lbfgs'"),
    (MLPClassifier((5, 0)), r"hidden_layer_sizes must be > 0, and whole numbers; got \(5, 0\)"),
    (MLPClassifier(max_iter=0), r"max_iter=0\): a whole number, at least 1"),
    (MLPClassifier(validation_fraction=1.0), "a number from 0 and below 1"),
    (MLPClassifier(alpha=-1.0), "a number from 0"),
    (MLPClassifier(shuffle=1), "True or False"),
    (MLPClassifier(dtype="float16"), "None, 'float32' or 'float64'"),
    (MLPClassifier(n_threads=0), "a whole number, at least 1, or -1"),
    (MLPRegressor((5,)), r"the first argument is loss.*hidden_layer_sizes=\(5,\)"),
    (MLPRegressor(learning_rate_init=1e30, solver="sgd"), "non-finite parameter weights"),
    (MLPClassifier(random_state=-1), r"MLPClassifier\(random_state=-1\): a whole number from 0 to 4294967295, a numpy"),
    (NeuralRegressor(random_state="a"), r"NeuralRegressor\(random_state='a'\): a whole number from 0 to 4294967295"),
    (NeuralClassifier(3), "a function from the numbers of features and outputs to a Layer"),
    (NeuralClassifier(optimizer="adan"), "'adam'"),
    (NeuralRegressor(loss="mse"), "a Loss"),
    (MLPClassifier(early_stopping=True, validation_fraction=0.01), "validation set is too small")], ids=repr)
def test_parameters_that_do_not_fit(estimator, says):
    with pytest.raises(ValueError, match=says):
        estimator.fit(X, targets(estimator))


@each
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_sparse_rows_are_as_dense_ones(estimator, kind, monkeypatch):
    y, few = targets(estimator), np.where(np.abs(X) > 1, X, 0)
    dense = clone(estimator).fit(few, y)
    monkeypatch.setattr("tinydl.sklearn.base.AT_ONCE", 3 * X.shape[1])          # predicts three rows at a time
    fitted = clone(estimator).fit(kind(few), y)
    assert digest(fitted) == digest(dense) and np.array_equal(answers(fitted, kind(few)), answers(dense, few))
    gap = kind(few)
    gap.data[3] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        clone(estimator).fit(gap, y)


@each
def test_data_that_do_not_fit(estimator):
    y = targets(estimator)
    with pytest.raises(NotFittedError):
        clone(estimator).predict(X)
    gap = X.copy()
    gap[3, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        clone(estimator).fit(gap, y)
    fitted = clone(estimator).fit(X, y)
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.predict(gap)
    with pytest.raises(ValueError, match="expecting 4 features"):
        fitted.predict(X[:, :3])
    with pytest.raises(ValueError, match="at least one non-zero"):
        fitted.fit(X, y, sample_weight=np.zeros(len(X)))


def test_classes_that_do_not_fit():
    for estimator in (EACH[0], EACH[2]):
        with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
            clone(estimator).partial_fit(X, LABELS)
        begun = clone(estimator).partial_fit(X[:9], LABELS[:9], classes=["a", "b", "c", "d"])
        assert begun.predict_proba(X).shape == (len(X), 4)
        with pytest.raises(ValueError, match="is not the same as on last call"):
            begun.partial_fit(X, LABELS, classes=["a", "b"])
        with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
            begun.partial_fit(X, np.full(len(X), "e"))
        with pytest.raises(ValueError, match="same classes as in the previous call"):
            clone(estimator).set_params(warm_start=True).fit(X, LABELS).fit(X[:20], np.resize(["a", "b"], 20))
        with pytest.raises(ValueError, match="a column of 0 and 1 for each label"):
            clone(estimator).fit(X, Z.round().astype(int) * 3)
    with pytest.raises(ValueError, match=r"has \[8\]: set warm_start=False"):
        MLPClassifier(8, max_iter=2, warm_start=True).fit(X, LABELS).set_params(hidden_layer_sizes=(9,)).fit(X, LABELS)


def test_interrupted(monkeypatch):
    """Ctrl-C leaves what was trained so far, with a warning, as in scikit-learn."""
    def interrupt(self, trainer, epoch, begin=epochs.Epochs.on_epoch_start):
        if epoch == 3:
            raise KeyboardInterrupt
        begin(self, trainer, epoch)
    monkeypatch.setattr(epochs.Epochs, "on_epoch_start", interrupt)
    with pytest.warns(UserWarning, match="interrupted by user"):
        fitted = NeuralClassifier(early_stopping=True, random_state=0).fit(X, LABELS)
    assert fitted.n_iter_ == 2
    assert fitted.predict(X).shape == LABELS.shape


@pytest.mark.parametrize("make", [
    lambda: MLPClassifier(max_iter=5, random_state=0), lambda: NeuralRegressor(max_epochs=5, random_state=0),
    lambda: TabularClassifier(max_epochs=5, n_members=2, hidden_layer_sizes=(4,), random_state=0)],
    ids=["MLPClassifier", "NeuralRegressor", "TabularClassifier"])
def test_scikit_learns_callbacks_see_each_epoch(make):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")
    estimator, plain = make(), make()
    y = targets(estimator) if not isinstance(estimator, TabularClassifier) else LABELS
    scores = callback.ScoringMonitor(scoring="r2" if isinstance(estimator, regressors) else "accuracy")
    estimator.set_callbacks(scores).fit(X, y)
    assert digest(estimator) == digest(plain.fit(X, y))         # nobody is changed by being looked at
    log = scores.get_logs().data
    epochs = [row for row in log if row["task_name"] == "epoch"]
    assert len(epochs) == (0 if isinstance(estimator, TabularClassifier) else 5)        # its members predict together only
    last = next(row for row in log if row["task_name"] == "fit")
    name = next(key for key in last if key in ("r2", "accuracy", "score"))
    assert last[name] == pytest.approx(estimator.score(X, y))
    assert len({row[name] for row in epochs}) > 1 or not epochs


def test_an_estimators_arguments_by_other_names():
    kinds = (MLPClassifier, MLPRegressor, NeuralClassifier, NeuralRegressor, TabularClassifier, TabularRegressor)
    names = {kind: set(inspect.signature(kind).parameters) for kind in kinds}
    for name, meant in _hints.ESTIMATORS.items():
        assert any(there in known for known in names.values() for there in meant), name
        for kind, known in names.items():
            if name not in known and (here := [there for there in meant if there in known]):
                with pytest.raises(TypeError, match=rf"{kind.__name__} has no argument '{name}': it is called {here[0]}$"):
                    kind(**{name: 1})
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        TabularClassifier(colour="red")


# ---------------------------------------------------------------------- warnings, and arrays of other libraries
def test_warnings_show_the_line_that_calls_the_estimator():
    X = np.random.default_rng(0).normal(size=(60, 3))
    wild = np.where(np.arange(60) == 3, 1e30, X[:, 0])
    calls = {"maximum iterations": lambda: MLPRegressor(max_iter=1).fit(X, X[:, 0]),
             "`batch_size` less": lambda: MLPRegressor(max_iter=1, batch_size=100).partial_fit(X, X[:, 0]),
             "y is 1e\\+30": lambda: TabularRegressor(n_members=1, max_epochs=1).fit(X, wild),
             "column-vector": lambda: make_pipeline(
                 StandardScaler(), TabularRegressor(n_members=1, max_epochs=1)).fit(X, X[:, :1])}
    for message, call in calls.items():
        with pytest.warns(UserWarning, match=f"(?i){message}") as shown:
            call()
        assert {w.filename for w in shown} == {__file__}, message


TENSORS = """
import numpy, sklearn, torch
from tinydl.sklearn import *
small = {"random_state": 0, "max_epochs": 2}
x = torch.randn(60, 3)
c, y = (x[:, 0] > 0).long(), x[:, 0]
for estimator, y in ((TabularClassifier(n_members=1, **small), c), (TabularRegressor(n_members=1, **small), y),
                     (NeuralClassifier(**small), c), (NeuralRegressor(**small), y)):
    known = estimator.fit(x.numpy(), y.numpy()).predict(x.numpy())
    with sklearn.config_context(array_api_dispatch=True):
        found = estimator.fit(x, y).predict(x)
        assert isinstance(found, numpy.ndarray) and found.dtype == known.dtype and numpy.array_equal(found, known), estimator
        estimator.score(x, y)
"""


def test_tensors_are_taken_where_scikit_learn_leaves_them_as_they_are():
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", TENSORS], env={**os.environ, "SCIPY_ARRAY_API": "1"}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr

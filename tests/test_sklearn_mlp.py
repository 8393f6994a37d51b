"""tinydl.sklearn.MLPClassifier and MLPRegressor: the numbers of scikit-learn's own, which are the oracle."""
import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

import sklearn
from sklearn import neural_network as oracle
from sklearn.exceptions import ConvergenceWarning

from tinydl import sklearn as ours

NEW = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 7)       # sample_weight, and loss="poisson"
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(130, 5))
Z = X @ rng.normal(size=(5, 3)) + 0.3 * rng.normal(size=(130, 3))
WEIGHTS = rng.uniform(0.2, 3.0, size=130)
TARGETS = {"three classes": Z.argmax(1), "two classes": np.where(Z[:, 0] > 0, 7, 3), "labels": (Z > 0).astype(int),
           "number": Z[:, 0], "numbers": Z, "counts": rng.poisson(np.exp(0.3 * Z))}


def pair(target, **parameters):
    """scikit-learn's and ours with the same parameters, of a kind that fits the target."""
    kind = "MLPClassifier" if target in ("three classes", "two classes", "labels") else "MLPRegressor"
    given = {"hidden_layer_sizes": (8, 6), "max_iter": 20, "random_state": 3, "batch_size": 40, **parameters}
    return getattr(oracle, kind)(**given), getattr(ours, kind)(**given)


def arrays(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def assert_same(theirs, own, places=1e-10, curve=1e-10):
    """places: between parameters, where 1e-15 is seen: some 80 updates multiply the rounding of a sum, 1e-16. curve: between
    losses."""
    assert own.n_iter_ == theirs.n_iter_
    assert own.t_ == theirs.t_
    for a, b in zip(arrays(theirs), arrays(own), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b, a, rtol=0, atol=places)
    np.testing.assert_allclose(own.loss_curve_, theirs.loss_curve_, rtol=0, atol=curve)
    assert own.loss_ == own.loss_curve_[-1]
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(own, name) == getattr(theirs, name), name
    for name in ("best_loss_", "best_validation_score_"):
        a, b = getattr(theirs, name), getattr(own, name)
        assert b is None if a is None else abs(b - a) <= curve, name
    assert (own.validation_scores_ is None) == (theirs.validation_scores_ is None)
    if own.validation_scores_ is not None:
        np.testing.assert_allclose(own.validation_scores_, theirs.validation_scores_, atol=1e-9)
    answer = own.predict(X)
    assert answer.dtype == theirs.predict(X).dtype
    if answer.dtype.kind == "f":
        np.testing.assert_allclose(answer, theirs.predict(X), atol=1e-9)
    else:
        np.testing.assert_array_equal(answer, theirs.predict(X))
        np.testing.assert_array_equal(own.classes_, theirs.classes_)
        np.testing.assert_allclose(own.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
        np.testing.assert_allclose(own.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-6, atol=1e-9)


CASES = {
    "whole set at once": {"batch_size": 500},
    "adam": {},
    "adam's numbers": {"learning_rate_init": 0.01, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
    "no penalty": {"alpha": 0.0},
    "strong penalty": {"alpha": 0.05, "batch_size": 50},
    "strong penalty of the whole set": {"alpha": 1.0, "batch_size": 130},
    "rows in order": {"shuffle": False},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 3, "learning_rate_init": 0.02},
    "stops by the loss": {"tol": 0.01, "n_iter_no_change": 2, "max_iter": 200},
    "identity": {"activation": "identity"},
    "logistic": {"activation": "logistic"},
    "tanh": {"activation": "tanh"},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "sgd, plain momentum": {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.5, "alpha": 0.01},
    "sgd without momentum": {"solver": "sgd", "momentum": 0.0},
    "falling rate": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.2},
    "adaptive rate": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "tol": 0.01, "n_iter_no_change": 2,
                      "max_iter": 60},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "one hidden layer": {"hidden_layer_sizes": 7},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("target", ["three classes", "numbers"])
def test_parameters(case, target):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got `batch_size`")
        for estimator in (both := pair(target, **CASES[case])):
            estimator.fit(X, TARGETS[target])
    assert_same(*both)


@pytest.mark.parametrize("weighted", [False, *[True] * NEW])
def test_a_strong_penalty_ends_training_where_it_ends_there(weighted):
    """An error of tol in a loss is another number of epochs, and so other parameters."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(120, 5))
    y = (x[:, 0] + rng.normal(size=120) > 0).astype(int)
    given = {"sample_weight": rng.uniform(0.2, 3.0, 120)} if weighted else {}
    options = {"alpha": 0.5, "batch_size": 20, "max_iter": 300, "tol": 1e-3, "n_iter_no_change": 5, "learning_rate_init": 0.01,
               "random_state": 5}
    theirs, own = (kind((8,), **options).fit(x, y, **given) for kind in (oracle.MLPClassifier, ours.MLPClassifier))
    assert own.n_iter_ == theirs.n_iter_ < 300
    np.testing.assert_allclose(own.loss_curve_, theirs.loss_curve_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(own.predict_proba(x), theirs.predict_proba(x), rtol=0, atol=1e-9)


def test_a_batch_that_weighs_nothing_has_no_penalty():
    options = {"alpha": 0.5, "batch_size": 10, "max_iter": 5, "shuffle": False, "random_state": 0}
    whole, rest = (ours.MLPRegressor(hidden_layer_sizes=(4,), **options).fit(X[first:100], Z[first:100, 0], sample_weight=weights)
                   for first, weights in ((0, np.arange(100) >= 20), (20, None)))
    np.testing.assert_array_equal(whole.coefs_[0], rest.coefs_[0])
    np.testing.assert_allclose(np.array(whole.loss_curve_) * 100, np.array(rest.loss_curve_) * 80, rtol=1e-12)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("target", ["two classes", "labels", "number"])
def test_targets(target, early_stopping):
    for estimator in (both := pair(target, early_stopping=early_stopping, solver="sgd", alpha=1e-3)):
        estimator.fit(X, TARGETS[target])
    assert_same(*both, curve=1e-4)


@pytest.mark.skipif(not NEW, reason="scikit-learn 1.7 has them")
@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "sgd"}], ids=str)
@pytest.mark.parametrize("target", ["three classes", "two classes", "numbers"])
def test_sample_weights(target, parameters):
    for estimator in (both := pair(target, **parameters)):
        estimator.fit(X, TARGETS[target], sample_weight=WEIGHTS)
    assert_same(*both)


@pytest.mark.skipif(not NEW, reason="scikit-learn 1.7 has it")
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
def test_poisson(weights):
    for estimator in (both := pair("counts", loss="poisson")):
        estimator.fit(X, TARGETS["counts"], sample_weight=weights)
    assert_same(*both)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_going_on(solver):
    """partial_fit after fit and after partial_fit goes on with the optimizer, warm_start with a new one."""
    for target, more in (("three classes", {"classes": [0, 1, 2]}), ("numbers", {})):
        theirs, own = pair(target, solver=solver, max_iter=3, learning_rate="adaptive")
        for estimator in (theirs, own):
            estimator.partial_fit(X[:70], TARGETS[target][:70], **more)
            estimator.partial_fit(X[70:], TARGETS[target][70:])
            estimator.set_params(warm_start=True).fit(X, TARGETS[target])
            estimator.partial_fit(X, TARGETS[target])
        assert_same(theirs, own)
        assert len(own.loss_curve_) == 6


def test_float32():
    """Trained in float32, with what that rounds."""
    theirs, own = pair("three classes")
    narrow = X.astype(np.float32)
    theirs.fit(narrow, TARGETS["three classes"])
    own.fit(narrow, TARGETS["three classes"])
    assert own.predict_proba(narrow).dtype == own.coefs_[0].dtype == np.float32
    np.testing.assert_allclose(own.predict_proba(narrow), theirs.predict_proba(narrow), atol=1e-4)
    asked = pair("three classes", max_iter=20)[1].set_params(dtype="float32").fit(X, TARGETS["three classes"])
    np.testing.assert_array_equal(asked.predict_proba(X), own.predict_proba(narrow))


@pytest.mark.skipif(not NEW, reason="its signature is older")
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_signature(name):
    """All of scikit-learn's parameters in its order with its defaults, then ours, by keyword."""
    for method in ("__init__", "fit", "partial_fit", "predict"):
        theirs = list(inspect.signature(getattr(getattr(oracle, name), method)).parameters.values())
        own = list(inspect.signature(getattr(getattr(ours, name), method)).parameters.values())
        assert [(p.name, p.default, p.kind) for p in own[:len(theirs)]] == [(p.name, p.default, p.kind) for p in theirs], method
        assert [p.name for p in own[len(theirs):]] == (["n_threads", "n_shards", "dtype"] if method == "__init__" else [])


def test_random_states():
    """An int, a RandomState, and the global one, with the draws of scikit-learn."""
    for make in (lambda: 5, lambda: np.random.RandomState(5), lambda: None):
        answers = []
        for estimator in pair("number", early_stopping=True):
            np.random.seed(7)
            answers.append(estimator.set_params(random_state=make()).fit(X, TARGETS["number"]).predict(X))
        np.testing.assert_allclose(*answers, atol=1e-9)


def test_convergence_warning():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\)"):
        pair("number", max_iter=2)[1].fit(X, TARGETS["number"])


def test_what_is_printed(capsys):
    """The lines of verbose=True."""
    lines = []
    for estimator in pair("three classes", verbose=True, tol=0.05, n_iter_no_change=1, max_iter=50, alpha=0.0):
        estimator.fit(X, TARGETS["three classes"])
        lines.append(capsys.readouterr().out.splitlines())
    assert lines[0] == lines[1]
    assert len(lines[0]) > 3


def test_coefs_may_be_set():
    """Written into, or given anew: they are the model's own."""
    theirs, own = pair("number")
    for estimator in (theirs, own):
        estimator.fit(X, TARGETS["number"])
        estimator.coefs_[0][...] *= 2
        estimator.intercepts_ = [b + 0.1 for b in estimator.intercepts_]
    np.testing.assert_allclose(own.predict(X), theirs.predict(X), atol=1e-9)


def test_another_alpha_between_two_calls_of_partial_fit_counts():
    both = [kind(hidden_layer_sizes=(4,), alpha=0.5, batch_size=20, random_state=0)
            for kind in (oracle.MLPRegressor, ours.MLPRegressor)]
    for estimator in both:
        estimator.partial_fit(X, Z[:, 0]).set_params(alpha=2.0).partial_fit(X, Z[:, 0])
    assert_same(*both)


def test_the_penalty_counts_once_however_many_parts_a_batch_has():
    options = {"hidden_layer_sizes": (4,), "alpha": 0.5, "batch_size": 30, "max_iter": 5, "random_state": 0}
    one, three = (ours.MLPRegressor(**options, n_shards=n).fit(X[:90], Z[:90, 0]) for n in (1, 3))
    np.testing.assert_allclose(three.loss_curve_, one.loss_curve_, rtol=1e-10)

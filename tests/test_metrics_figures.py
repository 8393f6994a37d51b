"""Functions of tinydl.metrics against scikit-learn's, on random and on edge cases, and MetricsEvaluator against the functions."""
import time
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from tinydl import Model, Trainer, callbacks, data, losses, metrics, nn, optim

CLOSE = {"rel": 1e-12, "abs": 1e-14, "nan_ok": True}     # some thousands of roundings of float64


def sklearns(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # it warns of what is undefined
        return function(*arguments, **options)


def cases():
    """Name -> y_true, scores (n, K), weights."""
    rng = np.random.default_rng(0)
    out = {}
    for name, n, K in (("two", 60, 2), ("three", 90, 3), ("seven", 200, 7), ("few", 5, 2)):
        y = rng.integers(K, size=n)
        y[:K] = np.arange(K)
        p = rng.dirichlet(np.ones(K), n)
        out[name] = y, p, None
        out[f"{name}, weights"] = y, p, rng.random(n) * 3
        out[f"{name}, zero weights"] = y, p, (np.arange(n) % 3 < 2) * rng.random(n)
        tied = np.round(p * 4) + 0.25
        out[f"{name}, ties"] = y, tied / tied.sum(1, keepdims=True), None
        out[f"{name}, all equal"] = y, np.full((n, K), 1 / K), None
        out[f"{name}, perfect"] = y, np.eye(K)[y], None
        out[f"{name}, all wrong"] = y, np.eye(K)[(y + 1) % K], None
    return out


CASES = cases()
FIGURES = {"accuracy": sk.accuracy_score, "balanced_accuracy": sk.balanced_accuracy_score, "precision": sk.precision_score,
           "recall": sk.recall_score, "f1": sk.f1_score}


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_classes(case, text):
    y, scores, w = CASES[case]
    p = scores.argmax(1)
    if text:
        y, p = (np.array(list("dabcefg"))[a] for a in (y, p))
    for name in ("accuracy", "balanced_accuracy"):
        assert getattr(metrics, name)(y, p, sample_weight=w) == pytest.approx(
            sklearns(FIGURES[name], y, p, sample_weight=w), **CLOSE), name
    for name in ("precision", "recall", "f1"):
        for average in ("macro", "micro", "weighted", None):
            for labels in (None, np.unique(y)[::-1][:2]):
                np.testing.assert_allclose(
                    getattr(metrics, name)(y, p, average=average, labels=labels, sample_weight=w),
                    sklearns(FIGURES[name], y, p, average=average, labels=labels, sample_weight=w, zero_division=0), rtol=1e-12)
        if len(np.unique(y)) == 2 and not text:
            assert getattr(metrics, name)(y, p, average="binary", sample_weight=w) == pytest.approx(
                sklearns(FIGURES[name], y, p, sample_weight=w, zero_division=0), **CLOSE)
    for normalize in (None, "true", "pred", "all"):
        for labels in (None, np.unique(y)[::-1], np.unique(y)[:1]):
            np.testing.assert_allclose(metrics.confusion_matrix(y, p, labels=labels, sample_weight=w, normalize=normalize),
                                       sklearns(sk.confusion_matrix, y, p, labels=labels, sample_weight=w, normalize=normalize),
                                       rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_scores_and_probabilities(case):
    y, p, w = CASES[case]
    K = p.shape[1]
    if K == 2:
        one = p[:, 1]
        for given in (one, one[:, None], p):
            assert metrics.roc_auc(y, given, sample_weight=w) == pytest.approx(
                sklearns(sk.roc_auc_score, y, one, sample_weight=w), **CLOSE)
            assert metrics.average_precision(y, given, sample_weight=w) == pytest.approx(
                sklearns(sk.average_precision_score, y, one, sample_weight=w), **CLOSE)
            assert metrics.log_loss(y, given, sample_weight=w) == pytest.approx(
                sklearns(sk.log_loss, y, one, sample_weight=w), **CLOSE)
            assert metrics.brier(y, given, sample_weight=w) == pytest.approx(
                sklearns(sk.brier_score_loss, y, one, sample_weight=w), **CLOSE)
        for labels in (y == 1, np.where(y == 1, 1, -1), np.where(y == 1, "yes", "no")):
            assert metrics.roc_auc(labels, one, sample_weight=w) == metrics.roc_auc(y, one, sample_weight=w)
        assert metrics.top_k_accuracy(y, one, k=1, sample_weight=w) == pytest.approx(
            sklearns(sk.top_k_accuracy_score, y, one, k=1, sample_weight=w), **CLOSE)
        return
    for average in ("macro", "weighted", None):
        np.testing.assert_allclose(
            metrics.roc_auc(y, p, average=average, sample_weight=w),
            sklearns(sk.roc_auc_score, y, p, multi_class="ovr", average=average, sample_weight=w), rtol=1e-12)
        np.testing.assert_allclose(metrics.average_precision(y, p, average=average, sample_weight=w),
                                   sklearns(sk.average_precision_score, y, p, average=average, sample_weight=w), rtol=1e-12)
        if average and w is None:
            assert metrics.roc_auc(y, p, multi_class="ovo", average=average) == pytest.approx(
                sklearns(sk.roc_auc_score, y, p, multi_class="ovo", average=average), **CLOSE)
    assert metrics.log_loss(y, p, sample_weight=w) == pytest.approx(sklearns(sk.log_loss, y, p, sample_weight=w), **CLOSE)
    for k in (1, 2, K):
        assert metrics.top_k_accuracy(y, p, k=k, sample_weight=w) == pytest.approx(
            sklearns(sk.top_k_accuracy_score, y, p, k=k, sample_weight=w), **CLOSE)
    squares = ((p - np.eye(K)[y]) ** 2).sum(1)
    assert metrics.brier(y, p, sample_weight=w) == pytest.approx(np.average(squares, weights=w), **CLOSE)


def test_ovo_with_weights_is_that_of_repeated_samples():
    y, p, _ = CASES["three"]
    w = np.random.default_rng(3).integers(0, 4, len(y))
    for average in ("macro", "weighted"):
        assert metrics.roc_auc(y, p, multi_class="ovo", average=average, sample_weight=w) == pytest.approx(
            metrics.roc_auc(y.repeat(w), p.repeat(w, axis=0), multi_class="ovo", average=average), **CLOSE)


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_calibration_error(bins):
    """By scikit-learn's calibration curve, whose bins have no sizes; and by a loop over bins."""
    y, p, _ = CASES["seven"]
    p, right = p.max(1), p.argmax(1) == y
    edges = np.linspace(0, 1, bins + 1)
    own = np.maximum(np.ceil(p * bins) - 1, 0)
    loop = sum(np.mean(own == b) * abs(right[own == b].mean() - p[own == b].mean()) for b in set(own))
    assert metrics.calibration_error(y, CASES["seven"][1], bins=bins) == pytest.approx(loop, **CLOSE)
    true, predicted = calibration_curve(right, p, n_bins=bins)
    sizes = np.histogram(p, edges)[0]
    assert metrics.calibration_error(right, p, bins=bins) == pytest.approx(
        np.sum(sizes[sizes > 0] / len(p) * np.abs(true - predicted)), **CLOSE)
    w = np.arange(len(p)) % 3
    assert metrics.calibration_error(right, p, bins=bins, sample_weight=w) == pytest.approx(
        metrics.calibration_error(right.repeat(w), p.repeat(w), bins=bins), **CLOSE)
    for got, wanted in zip(metrics.calibration_curve(right, p, bins=bins), (true, predicted, sizes[sizes > 0]), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    for got, wanted in zip(metrics.calibration_curve(right, p, bins=bins, sample_weight=w),
                           metrics.calibration_curve(right.repeat(w), p.repeat(w), bins=bins), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert metrics.calibration_error([0, 1], [0.0, 1.0], bins=bins) == (0.0)
    assert metrics.calibration_error([1, 0], [0.0, 1.0], bins=bins) == (1.0 if bins > 1 else 0.0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_numbers(outputs, weighted):
    rng = np.random.default_rng(1)
    y = rng.standard_normal((40, outputs)) * 3 + 10
    p, w = y + rng.standard_normal(y.shape), rng.random(40) if weighted else None
    for name, function in (("mse", sk.mean_squared_error), ("rmse", sk.root_mean_squared_error),
                           ("mae", sk.mean_absolute_error), ("r2", sk.r2_score)):
        assert getattr(metrics, name)(y, p, sample_weight=w) == pytest.approx(function(y, p, sample_weight=w), rel=1e-11), name
        if outputs == 1:
            assert getattr(metrics, name)(y[:, 0], p, sample_weight=w) == getattr(metrics, name)(y, p, sample_weight=w)
    for n in range(2, 40):      # of some of which the mean is not 0.1
        constant = np.full(n, 0.1)
        assert metrics.r2(constant, constant) == 1 and metrics.r2(constant, constant + 1e-9) == 0
    assert np.isnan(metrics.r2([1.0], [1.0]))


def test_one_class_alone():
    """There is no area then, and no precision; a probability has its loss all the same."""
    for y in ([1, 1, 1], [0, 0, 0]):
        p = np.array([0.1, 0.5, 0.5])
        assert np.isnan(metrics.roc_auc(y, p)) and np.isnan(sklearns(sk.roc_auc_score, y, p))
        assert metrics.average_precision(y, p) == sklearns(sk.average_precision_score, y, p)
        assert metrics.log_loss(y, p) == pytest.approx(sk.log_loss(y, p, labels=[0, 1]), **CLOSE)
        assert metrics.brier(y, p) == pytest.approx(np.mean((np.array(y) - p) ** 2), **CLOSE)
        assert metrics.f1(y, y, average="binary") == (y[0] == 1)
    assert np.isnan(metrics.roc_auc([1, 1], [[1, 2, 3], [1, 2, 3]]))
    assert np.isnan(metrics.roc_auc([1, 1], [[1, 2, 3], [1, 2, 3]], multi_class="ovo"))
    assert metrics.roc_auc(["b", "b"], [0.5, 0.5], labels=["a", "b"]) != metrics.roc_auc([0, 1], [0.5, 0.6])


def test_a_class_that_is_only_predicted():
    y, p = [0, 0, 1, 1], [0, 2, 1, 1]
    assert metrics.balanced_accuracy(y, p) == sklearns(sk.balanced_accuracy_score, y, p) == 0.75
    assert metrics.recall(y, p) == 0.5 and metrics.precision(y, p) == pytest.approx(2 / 3)


def test_a_class_without_samples_does_not_count_in_the_mean():
    y, p, _ = CASES["three"]
    kept = y != 1
    a = [metrics.roc_auc(y[kept] == k, p[kept, k]) for k in (0, 2)]
    assert metrics.roc_auc(y[kept], p[kept]) == pytest.approx(np.mean(a), **CLOSE)
    assert np.isnan(metrics.roc_auc(y[kept], p[kept], average=None)[1])


def test_log_loss_clips_as_scikit_learn():
    for dtype in (np.float32, np.float64):
        p = np.array([[1, 0], [0.25, 0.75]], dtype)
        assert metrics.log_loss([1, 1], p) == pytest.approx(sk.log_loss([1, 1], p, labels=[0, 1]), rel=1e-6)


BAD = {
    "lengths": (lambda: metrics.accuracy([0, 1], [0]), "y_true has 2 samples and y_pred 1"),
    "empty": (lambda: metrics.accuracy([], []), "y_true is empty"),
    "scores for labels": (lambda: metrics.accuracy([0, 1], [[0.1, 0.9], [1, 0]]), r"argmax\(1\) turns scores into labels"),
    "text and numbers": (lambda: metrics.accuracy(["0", "1"], [0, 1]), "numbers or text, not both"),
    "mixed objects": (lambda: metrics.f1(np.array([0, "a"], object), np.array([0, "a"], object)), "cannot be sorted"),
    "NaN label": (lambda: metrics.f1([0, np.nan], [0, 1]), r"y_true\[1\] is NaN"),
    "average": (lambda: metrics.f1([0, 1], [0, 1], average="mean"), "average='mean'"),
    "binary of three": (lambda: metrics.f1([0, 1, 2], [0, 1, 2], average="binary"), "two classes; here 3 occur: 0, 1, 2"),
    "normalize": (lambda: metrics.confusion_matrix([0], [0], normalize=True), "normalize=True"),
    "labels": (lambda: metrics.confusion_matrix([0], [0], labels=[5]), "none of the labels occurs"),
    "label twice": (lambda: metrics.confusion_matrix([0], [0], labels=[0, 0]), "class twice"),
    "rows": (lambda: metrics.roc_auc([0, 1, 1], [0.5, 1]), r"must have shape \(3,\) or \(3, classes\)"),
    "NaN score": (lambda: metrics.roc_auc([0, 1], [0.5, np.nan]), r"y_score\[1\] is nan"),
    "text score": (lambda: metrics.roc_auc([0, 1], ["a", "b"]), "y_score must be numbers"),
    "columns": (lambda: metrics.roc_auc(["a", "b"], np.zeros((2, 3))), "scores for 3 classes, and y_true has 2: 'a', 'b'"),
    "more labels": (lambda: metrics.roc_auc([0, 5, 7], [1, 2, 3]), "scores for 2 classes, and y_true has 3"),
    "label not among": (lambda: metrics.roc_auc(["a", "z"], [1, 2], labels=["a", "b"]), r"y_true\[1\] is .*'z'.* 'a', 'b'"),
    "labels of columns": (lambda: metrics.roc_auc([0, 1], [1, 2], labels=[0, 1, 2]), "2 columns of scores and 3 different"),
    "one text class": (lambda: metrics.log_loss(["a"], [0.5]), r"labels=\[...\]"),
    "weights": (lambda: metrics.roc_auc([0, 1], [1, 2], sample_weight=[1, -1]), r"sample_weight\[1\] is -1"),
    "weights of rows": (lambda: metrics.mae([0, 1], [1, 2], sample_weight=[1]), r"sample_weight has shape \(1,\)"),
    "zero weights": (lambda: metrics.mae([0, 1], [1, 2], sample_weight=[0, 0]), "0 for every sample"),
    "logits": (lambda: metrics.log_loss([0, 1], [0.5, 3]), r"y_prob\[1\] is 3, which is no probability"),
    "sum": (lambda: metrics.log_loss([0, 1], [[0.5, 0.5], [0.5, 0.1]]), "of sample 1 sum to 0.6"),
    "bins": (lambda: metrics.calibration_error([0, 1], [0, 1], bins=0), "bins=0"),
    "k": (lambda: metrics.top_k_accuracy([0, 1], [[0, 1], [0, 1]], k=0), "k=0"),
    "shape": (lambda: metrics.mae(np.zeros((3, 2)), np.zeros(3)), r"\(3, 2\) and \(3,\)"),
    "no name": (lambda: metrics.MetricsEvaluator(), "needs names of figures: of accuracy"),
    "unknown name": (lambda: metrics.MetricsEvaluator("auc"), "no figure 'auc'; of classes there are accuracy"),
    "both kinds": (lambda: metrics.MetricsEvaluator("f1", "mae"), "f1 is a figure of classes and mae of numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_million_samples():
    """They are sorted, and not compared with each other."""
    rng = np.random.default_rng(0)
    y, p = rng.integers(2, size=1_000_000), rng.random(1_000_000)
    before = time.thread_time()
    assert abs(metrics.roc_auc(y, p) - 0.5) < 0.01 and metrics.average_precision(y, p) > 0.4 and metrics.f1(y, p > 0.5) > 0.4
    assert time.thread_time() - before < 20


# ---------------------------------------------------------------------- by name
def evaluated(names, y, outputs, batch=7, **options):
    e = metrics.MetricsEvaluator(*names, **options)
    for at in range(0, len(y), batch):
        e.update(outputs[at:at + batch], y[at:at + batch])
    return e.result()


OF_CLASSES = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "top_k_accuracy",
              "log_loss", "brier", "calibration_error")


@pytest.mark.parametrize("K", [2, 5])
def test_evaluator_of_classes(K):
    rng = np.random.default_rng(2)
    y, outputs = rng.integers(K, size=50), rng.standard_normal((50, K)).astype(np.float32) * 3
    got = evaluated(OF_CLASSES, y, outputs)
    p = np.exp(outputs.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    for name in OF_CLASSES[:5]:
        assert got[name] == getattr(metrics, name)(y, outputs.argmax(1))
    for name in OF_CLASSES[5:]:
        assert got[name] == pytest.approx(getattr(metrics, name)(y, p), **CLOSE), name
    assert evaluated(OF_CLASSES, np.eye(K)[y], outputs) == got
    assert evaluated(OF_CLASSES, y.reshape(25, 2), outputs.reshape(25, 2, K)) == got
    hidden = np.where(np.arange(50) < 10, -1, y)
    assert evaluated(OF_CLASSES, hidden, outputs, ignore_index=-1) == evaluated(OF_CLASSES, y[10:], outputs[10:])


def test_evaluator_of_one_score():
    rng = np.random.default_rng(2)
    y, s = rng.integers(2, size=50), rng.standard_normal(50)
    names = [name for name in OF_CLASSES if name != "top_k_accuracy"]
    two = evaluated(names, y, np.stack([-s, s], 1) / 2)
    for targets in (y, y[:, None], y.astype(np.float32)):
        assert evaluated(names, targets, s[:, None]) == pytest.approx(two, rel=1e-12)
    assert two["roc_auc"] == metrics.roc_auc(y, s)


def test_evaluator_keeps_scores_apart_where_probabilities_are_1():
    y = np.array([0, 1, 1])
    assert evaluated(["roc_auc"], y, np.array([[0.0, 50], [0, 60], [0, 70]]))["roc_auc"] == 1
    assert evaluated(["roc_auc"], y, np.array([[0.0, 50, 0], [0, 60, 0], [0, 70, 0]]))["roc_auc"] == 1


def test_evaluator_of_numbers_and_of_none():
    rng = np.random.default_rng(2)
    y = rng.standard_normal((30, 2))
    p = y + rng.standard_normal(y.shape)
    names = ("mse", "rmse", "mae", "r2")
    assert evaluated(names, y, p) == {name: getattr(metrics, name)(y, p) for name in names}
    assert all(map(np.isnan, evaluated(names, y[:0], p[:0]).values()))
    p[3] = np.nan
    assert all(map(np.isnan, evaluated(names, y, p).values()))


def test_trainer_uses_it_by_name():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    parts = data.ArrayDataset(x, y, 20).split(0.5, 0.5)
    evaluator = metrics.MetricsEvaluator("roc_auc", "log_loss")
    with Trainer(5, evaluator=evaluator, callbacks=[callbacks.EarlyStopping("roc_auc", highest=True)], seed=0) as t:
        model = Model(nn.Linear(4, 2), seed=0)
        t.init(parts, model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=0.1))
        history = t.train()
        assert history["roc_auc"][-1] > 0.95
        assert t.evaluate(parts.validation)["log_loss"] == pytest.approx(t.evaluate(parts.validation)["loss"], rel=1e-5)
        with pytest.raises(ValueError, match="MetricsEvaluator counts classes"):
            t.init(data.ArrayDataset(x, x[:, 0]), Model(nn.Linear(4, 1)), losses.MeanSquaredError(), optim.Adam())
    with Trainer(1, evaluator=metrics.MetricsEvaluator("r2")) as t, \
            pytest.raises(ValueError, match="MetricsEvaluator needs targets shaped like"):
        t.init(parts, model, losses.SoftmaxCrossEntropy(), optim.Adam())

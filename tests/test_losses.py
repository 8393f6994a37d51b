"""Every loss: its formula, its gradient by finite differences, and which targets it takes. One row a loss."""
import math

import numpy as np
import pytest
from small import DRIVERS

from tinydl import Model, Trainer, TrainingError, data, losses, nn, optim, testing
from tinydl import _kernels as K
from tinydl.metrics import AccuracyEvaluator, Evaluator, RegressionEvaluator


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def away_from_kinks(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    return x + 0.1 * np.sign(x)


def cross_entropy(x, t, weight=1.0, smoothing=0.0, ignore=None):
    """PyTorch's, of scores (..., C)."""
    x, t = x.reshape(-1, x.shape[-1]), t.reshape(-1)
    x, t = x[t != ignore], t[t != ignore]
    each, w, rows = -np.log(softmax(x)), weight * np.ones(x.shape[1]), np.arange(len(t))
    return (((1 - smoothing) * w[t] * each[rows, t]).sum() + smoothing / x.shape[1] * (w * each).sum()) / w[t].sum()


def logistic(x, t, positive=1.0, smoothing=0.0):
    t = t * (1 - smoothing) + smoothing / 2
    return np.mean(positive * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x))


def focal(x, t, alpha, gamma):
    """torchvision's sigmoid_focal_loss."""
    p = 1 / (1 + np.exp(-x))
    p_t = p * t + (1 - p) * (1 - t)
    return np.mean((alpha * t + (1 - alpha) * (1 - t)) * (1 - p_t) ** gamma * -np.log(p_t))


def negative_binomial(x, t):
    """By the probabilities of t successes before the r-th failure, but for t!."""
    mu, r, log_gamma = np.exp(x[:, :2]), np.exp(-x[:, 2:]), np.vectorize(math.lgamma, otypes=[float])
    return np.mean(log_gamma(r) - log_gamma(t + r) - r * np.log(r / (r + mu)) - t * np.log(mu / (r + mu)))


def pinball(x, t, levels):
    d = t[:, None] - x.reshape(len(x), len(levels), -1)
    q = np.array(levels)[:, None]
    return np.mean(np.where(d > 0, q * d, (q - 1) * d))


WEIGHT = np.array([0.5, 3.0, 0.0, 1.25])
LOSSES = {
    "SoftmaxCrossEntropy": (losses.SoftmaxCrossEntropy(), "labels",
                            lambda x, t: -np.mean(np.log(softmax(x))[np.arange(len(t)), t])),
    "SigmoidCrossEntropy": (losses.SigmoidCrossEntropy(), "unit", lambda x, t: np.mean(np.logaddexp(0, x) - x * t)),
    "MeanSquaredError": (losses.MeanSquaredError(), "any", lambda x, t: np.mean((x - t) ** 2)),
    "MeanAbsoluteError": (losses.MeanAbsoluteError(), "any", lambda x, t: np.mean(np.abs(x - t))),
    "Huber": (losses.Huber(0.7), "any",
              lambda x, t: np.mean(np.where(abs(x - t) <= 0.7, (x - t) ** 2 / 2, 0.7 * (abs(x - t) - 0.35)))),
    "weight": (losses.SoftmaxCrossEntropy(WEIGHT), "labels", lambda x, t: cross_entropy(x, t, WEIGHT)),
    "label_smoothing": (losses.SoftmaxCrossEntropy(label_smoothing=0.2), "labels", lambda x, t: cross_entropy(x, t, 1.0, 0.2)),
    "ignore_index": (losses.SoftmaxCrossEntropy(ignore_index=1), "labels", lambda x, t: cross_entropy(x, t, ignore=1)),
    "all three": (losses.SoftmaxCrossEntropy(WEIGHT + 0.5, 0.1, 3), "labels",
                  lambda x, t: cross_entropy(x, t, WEIGHT + 0.5, 0.1, 3)),
    "pos_weight": (losses.SigmoidCrossEntropy([2.0, 1, 0.5, 3]), "unit", lambda x, t: logistic(x, t, np.array([2, 1, 0.5, 3]))),
    "smoothed sigmoid": (losses.SigmoidCrossEntropy(3, 0.1), "unit", lambda x, t: logistic(x, t, 3, 0.1)),
    "KLDivergence": (losses.KLDivergence(), "unit", lambda x, t: np.mean((t * (np.log(t) - x)).sum(1))),
    "PoissonNLL": (losses.PoissonNLL(), "unit", lambda x, t: np.mean(np.exp(x) - t * x)),
    "TweedieNLL": (losses.TweedieNLL(1.3), "unit", lambda x, t: np.mean(np.exp(0.7 * x) / 0.7 + t * np.exp(-0.3 * x) / 0.3)),
    "TweedieNLL of a gamma": (losses.TweedieNLL(2), "unit", lambda x, t: np.mean(x + t * np.exp(-x))),
    "GaussianNLL": (losses.GaussianNLL(), "half", lambda x, t: np.mean(
        0.5 * (x[:, 2:] + (x[:, :2] - t) ** 2 / np.exp(x[:, 2:])))),
    "GaussianKL": (losses.GaussianKL(), "half", lambda x, t: np.mean(
        (np.exp(x[:, 2:]) - 1 - x[:, 2:] + (x[:, :2] - t) ** 2).sum(1) / 2)),
    "NegativeBinomialNLL": (losses.NegativeBinomialNLL(), "counts", lambda x, t: negative_binomial(x, t)),
    "SigmoidFocal": (losses.SigmoidFocal(), "bits", lambda x, t: focal(x, t, 0.25, 2)),
    "SigmoidFocal without alpha": (losses.SigmoidFocal(None, 0.5), "bits", lambda x, t: 2 * focal(x, t, 0.5, 0.5)),
    "SigmoidFocal of nothing": (losses.SigmoidFocal(None, 0), "bits", logistic),
    "Hinge": (losses.Hinge(), "signs", lambda x, t: np.mean(np.maximum(0, 1 - t * x))),
    "Quantile": (losses.Quantile([0.1, 0.7]), "half", lambda x, t: pinball(x, t, [0.1, 0.7])),
    "one Quantile": (losses.Quantile(0.25), "any", lambda x, t: pinball(x, t, [0.25])),
}


def targets(kind, shape):
    rng = np.random.default_rng(5)
    if kind == "labels":
        return rng.integers(0, shape[1], shape[0])
    if kind == "signs":
        return rng.choice([-1.0, 1.0], shape)
    if kind == "bits":
        return rng.integers(0, 2, shape).astype(float)
    if kind == "counts":
        return rng.poisson(3.0, (shape[0], shape[1] // 2)).astype(float)
    if kind == "half":
        return rng.standard_normal((shape[0], shape[1] // 2))
    return rng.random(shape) if kind == "unit" else rng.standard_normal(shape)


def test_every_loss_has_a_row():
    assert {type(loss).__name__ for loss, _, _ in LOSSES.values()} == set(losses.__all__) - {
        "CRF", "CTC", "Joint", "Loss", "PythonLoss"}      # test_crf, test_ctc, test_joint


@pytest.mark.parametrize("row", LOSSES)
def test_loss(row):
    loss, kind, f = LOSSES[row]
    x = np.random.default_rng(6).standard_normal((5, 4))
    t = targets(kind, x.shape)
    assert loss(x, t) == pytest.approx(f(x, t), rel=1e-13)
    assert testing.check_gradients(nn.Linear(3, 4), away_from_kinks((5, 3)), loss=loss, targets=t) < 1e-6


@pytest.mark.parametrize("row", LOSSES)
def test_samples_weigh_what_they_are_told_to(row):
    """As if there were as many of each: also of classes, and of labels that are ignored; in float32 too."""
    loss, kind, _ = LOSSES[row]
    x = np.random.default_rng(6).standard_normal((5, 4))
    t, w = targets(kind, x.shape), np.array([2, 0, 1, 3, 0])
    got, many = loss.mean(x, t, w / 2), loss.mean(x.repeat(w, 0), t.repeat(w, 0))
    assert got[0] == pytest.approx(many[0], rel=1e-13) and 2 * got[1] == pytest.approx(many[1], rel=1e-13)
    assert loss(x.astype("f4"), t, w) == pytest.approx(got[0], rel=1e-6)
    assert loss.mean(x, t, np.zeros(5)) == (0, 0)


@pytest.mark.parametrize("row", LOSSES)
def test_a_loss_trains_with_weights_as_its_formula_says(row):
    """One update by SGD of the only layer's bias, against finite differences of the formula over repeated samples."""
    loss, kind, f = LOSSES[row]
    x = np.random.default_rng(6).standard_normal((5, 4))
    t, w = targets(kind, x.shape), np.array([2, 1, 1, 3, 0])
    model = Model(nn.Linear(4, 4), dtype="float64", seed=0)
    state = {name: np.eye(4) if v.ndim == 2 else v * 0 for name, v in model.state_dict().items()}
    model.load_state_dict(state)
    with Trainer(1, seed=0, strategy="shard", shards_per_batch=2, enable_parallel=True, thread_count=2) as trainer:
        trainer.init(data.ArrayDataset(x, t, 5, sample_weight=w), model, loss, optim.SGD(1.0))
        trainer.train()
        value, = trainer.history["loss"]
    many = x.repeat(w, 0), t.repeat(w, 0)
    assert value == pytest.approx(f(*many), rel=1e-12)
    step = np.eye(4) * 1e-6
    slope = [(f(many[0] + s, many[1]) - f(many[0] - s, many[1])) / 2e-6 for s in step]
    bias = next(v for v in model.state_dict().values() if v.ndim == 1)
    np.testing.assert_allclose(-bias, slope, atol=1e-8)


@pytest.mark.parametrize("loss, n", [(losses.GaussianNLL(), 2), (losses.Quantile([0.2, 0.5, 0.9]), 3)], ids=repr)
def test_likelihoods_and_quantiles_of_each_step_are_those_of_as_many_samples(loss, n):
    x, t = np.random.default_rng(6).standard_normal((5, 4, 2 * n)), np.random.default_rng(7).standard_normal((5, 4, 2))
    assert loss(x, t) == pytest.approx(loss(x.reshape(20, -1), t.reshape(20, 2)), rel=1e-13)
    assert loss(x[:, :, :n], t[:, :, 0]) == loss(x[:, :, :n], t[:, :, :1])          # targets (B, T), too
    network = nn.Sequential(nn.Linear(3, 8 * n), nn.Reshape((4, 2 * n)))
    assert testing.check_gradients(network, away_from_kinks((5, 3)), loss=loss, targets=t) < 1e-6
    with pytest.raises(ValueError, match=r"outputs \(samples, \.\.\., . x targets\); the model's output is \(4, 7\)"):
        loss(np.zeros((5, 4, 7)), t)


def test_negative_binomial_is_what_pytorch_and_scipy_say():
    """Of dispersions of all sizes, in both dtypes: their values hold where a float64 can have them."""
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.uniform(-3, 7, (400, 1)), rng.uniform(-9, 9, (400, 1))], 1)
    t = rng.negative_binomial(np.exp(-x[:, 1:]).clip(0.01), 1 / (1 + np.exp(x.sum(1, keepdims=True)))).astype(float)
    log_factorial = np.vectorize(math.lgamma)(t + 1)
    r, mu = np.exp(-x[:, 1:]), np.exp(x[:, :1])
    loss = losses.NegativeBinomialNLL()
    each = np.array([loss(x[i:i + 1], t[i:i + 1]) for i in range(400)])[:, None] + log_factorial
    single = np.array([loss(x[i:i + 1].astype("f4"), t[i:i + 1]) for i in range(400)])[:, None] + log_factorial
    scale = 1 + t * (1 + np.abs(np.log(r + t + 12))) + mu + r * np.log1p(mu / r)
    with pytest.raises(ValueError, match=r"2 x targets\); the model's output is \(3,\)"):
        loss(np.zeros((2, 3)), np.ones((2, 1)))
    with pytest.raises(ValueError, match=r"needs targets of 0 or more; y runs from -1\.0"):
        loss(np.zeros((2, 2)), np.array([[1.0], [-1]]))
    for s, limit in ((-100.0, 3 - 2 * np.log(3)), (-60.0, 3 - 2 * np.log(3))):       # Poisson's
        assert loss(np.array([[np.log(3), s]]), np.array([[2.0]])) == pytest.approx(limit, rel=1e-12)
    assert np.isnan(loss(np.array([[0.0, np.nan]]), np.array([[1.0]]))) and loss(np.array([[0, 99.0]]), np.array([[0.0]])) >= 0
    stats = pytest.importorskip("scipy.stats")
    want = -stats.nbinom.logpmf(t, r, r / (r + mu))
    assert (np.abs(each - want) <= 64 * np.finfo("f8").eps * (scale + np.abs(log_factorial) + r)).all()
    assert (np.abs(single - want) <= 64 * np.finfo("f4").eps * scale).all()
    torch = pytest.importorskip("torch")
    theirs = torch.tensor(x, requires_grad=True)
    distribution = torch.distributions.NegativeBinomial(torch.exp(-theirs[:, 1:]), logits=theirs.sum(1, keepdim=True))
    nll = -distribution.log_prob(torch.tensor(t))
    assert (np.abs(each - nll.detach().numpy()) <= 64 * np.finfo("f8").eps * (scale + np.abs(log_factorial) + r * 9)).all()
    nll.sum().backward()
    grad = np.empty((400, 2))
    K.call("negative_binomial_nll", x=x, targets=t, grad=grad)
    assert (np.abs(grad * 400 - theirs.grad.numpy()) <= 64 * np.finfo("f8").eps * (scale + r * 9)).all()


def test_python_loss():
    class Quartic(losses.PythonLoss):
        def forward(self, outputs, targets):
            d = outputs - targets
            return float(np.mean(d**4)), 4 * d**3 / d.size

    assert testing.check_gradients(nn.Linear(3, 2), away_from_kinks((5, 3)), loss=Quartic(), targets=np.ones((5, 2))) < 1e-6


class Records(losses.PythonLoss):
    """Mean squared error, and the shapes and dtypes that came."""

    def __init__(self):
        self.seen = set()

    def __deepcopy__(self, memo):
        return self

    def forward(self, outputs, targets):
        self.seen.add((outputs.shape[1:], outputs.dtype.name, targets.shape[1:], targets.dtype.name))
        d = outputs - targets
        return float(np.mean(d * d)), 2 * d / d.size


class SameShape(Evaluator):
    def start(self):
        pass

    def update(self, outputs, targets):
        assert targets.shape == outputs.shape == (len(outputs), 1)

    def result(self):
        return {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y", [np.arange(6) % 2, np.linspace(0, 1, 6), np.linspace(0, 1, 6)[:, None],
                               np.linspace(0, 1, 6)[:, None, None]],
                         ids=lambda y: f"{y.dtype}{y.shape}")
def test_a_python_loss_and_evaluators_see_targets_like_the_outputs(y, dtype):
    """In training, in the validation of each epoch, in `evaluate`, from arrays and streams, and called."""
    x, loss, model = np.linspace(-1, 1, 12).reshape(6, 2), Records(), Model(nn.Linear(2, 1), dtype, seed=0)
    arrays, near = data.ArrayDataset(x, y, 4), {"rel": 1e-5}        # float32, and a learning rate that changes nothing
    for source in (arrays, data.StreamDataset(lambda: zip(x, y, strict=True), 4)):
        with Trainer(1, evaluator=SameShape(), seed=0) as t:
            t.init(data.Split(source, arrays, source), model, loss, optim.SGD(1e-9))
            trained, = t.train()["loss"]
            assert t.history["validation_loss"] == pytest.approx([trained], **near)
            assert t.evaluate()["loss"] == pytest.approx(trained, **near)
        SameShape().evaluate(model, source)
    assert loss(model.predict(x), y.tolist()) == pytest.approx(trained, **near)
    assert losses.MeanSquaredError()(model.predict(x), y) == pytest.approx(trained, **near)
    assert loss.seen == {((1,), dtype, (1,), dtype)}


def test_a_python_loss_of_labels_sees_labels():
    seen = set()

    class Labels(losses.PythonLoss):
        labels = True

        def forward(self, outputs, targets):
            seen.add((targets.shape[1:], targets.dtype.name))
            return 0.0, np.zeros_like(outputs)
    with Trainer(1, seed=0) as t:
        t.init(data.ArrayDataset(np.ones((6, 2)), np.arange(6, dtype=np.uint8) % 3, 4), Model(nn.Linear(2, 3), seed=0),
               Labels(), optim.SGD(0.1))
        t.train()
        t.evaluate()
    assert Labels()(np.zeros((2, 3)), [0, 2]) == 0 and seen == {((), "int64")}
    for wrong, words in (([0, 3], "class labels run from 0 to 3"), ([0.0, 1.0], "integer class labels"),
                         ([0, 1, 2], "2 outputs and 3 targets")):
        with pytest.raises(ValueError, match=words):
            Labels()(np.zeros((2, 3)), wrong)


@pytest.mark.parametrize("loss", [*(loss for loss, kind, _ in LOSSES.values() if kind in ("unit", "any")
                                   and "[" not in repr(loss) and loss.kernel != "kl_divergence"), Records()], ids=repr)
def test_targets_have_the_shape_of_the_outputs(loss):
    """Axes of size 1 at the end apart: as many numbers in another shape are refused, wherever they come in."""
    x, y = np.full((4, 2, 3), 0.25), np.full((4, 2, 3), 0.5)
    assert loss(x, y[..., None]) == loss(x[..., None], y) == loss(x, y)
    turned = np.full((4, 3, 2), 0.5)
    for wrong in (turned, y.reshape(4, 6), y[:1, 0, 0], 0.5, y[0, 0, 0]):
        with pytest.raises(ValueError, match="needs targets shaped like the output"):
            loss(x, wrong)
    with pytest.raises(ValueError, match="4 outputs and 3 targets"):
        loss(x, y[:3])
    with pytest.raises(ValueError, match=r"targets shaped like the outputs, \(4, 2, 3\); got \(4, 3, 2\)"):
        RegressionEvaluator().update(x, turned)
    with Trainer(1, seed=0) as t, pytest.raises(ValueError, match=r"\(samples, 2, 3\); y is float64 of shape \(4, 3, 2\)"):
        t.init(data.ArrayDataset(x, turned), Model(nn.Linear(3, 3), seed=0), loss, optim.SGD(0.1))


def test_accuracy_says_what_does_not_fit():
    e = AccuracyEvaluator()
    e.update(np.eye(3), np.eye(3))
    e.update(np.eye(3), np.arange(3.0)[:, None])
    e.update(np.array([[1.0], [-1]]), np.array([[1.0], [0]]))
    assert e.result() == {"accuracy": 1.0}
    for outputs, y in ((np.eye(3), np.zeros((3, 2))), (np.eye(3), np.zeros(2, int)), (np.ones((3, 1)), np.zeros((3, 2))),
                       (np.ones((3, 2, 2)), np.zeros(3, int))):
        with pytest.raises(ValueError, match=r"AccuracyEvaluator needs scores .* got outputs \(3, "):
            e.update(outputs, y)


@pytest.mark.parametrize("y, words", [([0, 255, 255, 0], "runs from 0 to 255"), ([-1.0, 1, 1, 1], "runs from -1.0 to 1.0"),
                                      ([0, 1, 2, 2], "runs from 0 to 2"), ([0.0, 1, 1, 1 + 1e-6], "runs from 0.0 to 1.000001")])
def test_sigmoid_cross_entropy_takes_probabilities(y, words):
    loss, x = losses.SigmoidCrossEntropy(), np.zeros((4, 2))
    with pytest.raises(ValueError, match=f"needs targets from 0 to 1; y {words}"):
        loss(np.zeros((4, 1)), y)
    with Trainer(1, seed=0) as t, pytest.raises(ValueError, match=words):
        t.init(data.ArrayDataset(x, y), Model(nn.Linear(2, 1), seed=0), loss, optim.SGD(0.1))
    with pytest.raises(ValueError, match="runs from nan to nan"):
        loss(np.zeros((2, 1)), [np.nan, 0])
    assert loss(np.zeros((2, 1)), [True, False]) == pytest.approx(np.log(2))


class Indexed(data.Dataset):
    """Somebody's own: rows of arrays that nobody has looked at."""

    input_shape, batch_size, n_batches = (2, 3), 4, 1

    def __init__(self, x, y, batch_size):
        self.arrays = x, y

    def epoch(self, seed, epoch, shuffle=True):
        yield data.Batch(*self.arrays, np.arange(4))


def stream(x, y, batch_size):
    return data.StreamDataset(lambda: zip(x, y, strict=True), batch_size)


@pytest.mark.parametrize("kind", [stream, DRIVERS["python"], Indexed])
@pytest.mark.parametrize("loss, y, words", [
    (losses.SigmoidCrossEntropy(), np.full((4, 2, 3), 255.0), "y runs from 255.0 to 255.0"),
    (losses.MeanSquaredError(), np.zeros((4, 3, 2)), r"y is float64 of shape \(4, 3, 2\)")])
def test_a_batch_with_wrong_targets_fails(kind, loss, y, words):
    with Trainer(1, seed=0) as t:
        t.init(kind(np.zeros((4, 2, 3)), y, 4), Model(nn.Linear(3, 3), seed=0), loss, optim.SGD(0.1))
        with pytest.raises(TrainingError) as e:
            t.train()
    assert isinstance(e.value.__cause__, ValueError)
    with pytest.raises(ValueError, match=words):
        raise e.value.__cause__

"""Several outputs, each with a loss and a weight: values, updates on the union of samples, data of every kind, errors."""
import re

import numpy as np
import pytest
from small import DRIVERS

from tinydl import Model, Trainer, callbacks, data, losses, nn, optim, testing
from tinydl.metrics import AccuracyEvaluator, JointEvaluator, RegressionEvaluator
from tinydl.parallel import Replica
from tinydl.parallel.strategies import Group, Hogwild, Local, Serial, Shard

rng = np.random.default_rng(7)
N = 64
X = rng.standard_normal((N, 3))
W = rng.random(N) * (rng.random(N) < 0.7)
W[8:16] = 0                     # of a whole batch
Y = {"price": rng.standard_normal((N, 2)), "kind": rng.integers(-1, 3, N), "words": rng.integers(-1, 4, (N, 5)),
     "own": rng.standard_normal((N, 2))}
Y["kind"][16:24] = -1           # nothing of a whole batch counts for this output
CLASSES = np.array([0.5, 2.0, 1.0])
SCALES = {"price": 0.3, "words": 2.0, "own": 0.0625}


class Squares(losses.PythonLoss):
    """Mean squared error in NumPy."""

    def forward(self, outputs, targets, sample_weight=None):
        w = np.ones(len(outputs)) if sample_weight is None else sample_weight
        w = (w / w.sum())[:, None] / outputs.shape[1]
        d = outputs - targets
        return float((w * d * d).sum()), 2 * w * d


class FailsAt(nn.PythonLayer):
    """Raises where a batch has this sample."""

    def __init__(self, first):
        self.first = first

    def forward(self, x):
        if (x[:, 0] == self.first).any():
            raise RuntimeError("as told")
        return x, None

    def backward(self, dy, saved):
        return dy


def model_of(seed=0, dtype="float64", names=True, fails_at=np.nan):
    """Its outputs are in another order than the losses; "unused" is not trained on."""
    x = nn.Input((3,))
    hidden = nn.Tanh()(nn.Linear(3, 4)(FailsAt(fails_at)(x)))
    outputs = {"own": nn.Linear(4, 2)(hidden), "words": nn.Reshape((5, 4))(nn.Linear(4, 20)(hidden)), "unused": hidden,
               "kind": nn.Linear(4, 3)(hidden), "price": nn.Linear(4, 2)(hidden)}
    return Model(inputs=x, outputs=outputs if names else list(outputs.values()), seed=seed, dtype=dtype)


def loss_of(**changes):
    members = {"price": losses.MeanSquaredError(), "kind": losses.SoftmaxCrossEntropy(CLASSES, 0.1, -1), "unused": None,
               "words": losses.SoftmaxCrossEntropy(ignore_index=-1), "own": Squares()}
    return losses.Joint({**members, **changes}, SCALES)


def cross_entropy(x, t, a, weight, smoothing):
    """Of samples and their labels (B, T), -1 being ignored: the sum over what counts, divided by all."""
    known = a[:, None] * (t >= 0)
    w, t, C = weight[np.maximum(t, 0)], np.maximum(t, 0), x.shape[-1]
    each = np.log(np.exp(x).sum(-1, keepdims=True)) - x
    hit = np.take_along_axis(each, t[..., None], -1)[..., 0]
    return (known * ((1 - smoothing) * w * hit + smoothing / C * (each * weight).sum(-1))).sum() / a.sum() / t.shape[1]


def formula(outputs, targets, a):
    """The joint loss in float64; a: what samples weigh."""
    o, t = outputs, targets

    def squares(name):
        return (a[:, None] * (o[name] - t[name]) ** 2).sum() / a.sum() / 2
    return (0.3 * squares("price") + 0.0625 * squares("own")
            + cross_entropy(o["kind"][:, None], t["kind"][:, None], a, CLASSES, 0.1)
            + 2 * cross_entropy(o["words"], t["words"], a, np.ones(4), 0))


def rows_of(rows):
    return {name: y[rows] for name, y in Y.items()}


def slopes(model, rows, a):
    """The gradient of `formula` by the parameters, by central differences."""
    out = np.empty_like(model.params)
    for i in range(len(out)):
        kept = model.params[i]
        values = []
        for h in (1e-6, -1e-6):
            model.params[i] = kept + h
            values.append(formula(model.predict(X[rows]), rows_of(rows), a[rows]))
        model.params[i] = kept
        out[i] = (values[0] - values[1]) / 2e-6
    return out


@pytest.mark.parametrize("a", [None, W], ids=["", "weighted"])
def test_its_value_is_the_formulas_and_its_weight_the_samples(a):
    model, loss = model_of(), loss_of()
    outputs, weights = model.predict(X), np.ones(N) if a is None else a
    assert list(outputs) == ["own", "words", "unused", "kind", "price"] and outputs["words"].shape == (N, 5, 4)
    want = formula(outputs, Y, weights)
    assert loss.mean(outputs, Y, a) == (pytest.approx(want, rel=1e-13), pytest.approx(weights.sum(), rel=1e-14))
    assert loss(outputs, Y, a) == pytest.approx(want, rel=1e-13)
    assert loss(outputs, Y, np.zeros(N)) == 0
    in_order = losses.Joint([loss.losses[loss.names.index(name)] for name in outputs], [0.0625, 2, 1, 1, 0.3])
    targets = tuple(Y[name] for name in outputs if name != "unused")
    assert in_order(tuple(outputs.values()), targets, a) == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("strategy", [Group(4), Shard(4)], ids=str)
@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("a", [None, W], ids=["", "weighted"])
def test_an_update_is_one_on_the_union_of_the_samples_that_arrived(kind, strategy, failing, a):
    """Central differences of the formula, good to 1e-9 here, are the oracle."""
    union, model = np.arange(32), model_of(fails_at=X[27, 0] if failing else np.nan)
    before = model.params.copy()
    with Trainer(1, enable_parallel=True, thread_count=2, strategy=strategy, seed=5, max_failed_fraction=1) as t:
        dataset = DRIVERS[kind](X[:32], rows_of(union), 8 if isinstance(strategy, Group) else 32,
                                sample_weight=None if a is None else a[:32])
        t.init(dataset, model, loss_of(), optim.SGD(1.0))
        t.train(shuffle=False)
        union = np.arange(24) if failing else union
        assert t.history["updates"] == [1] and len(t.history.failures) == failing
        weights = np.ones(N) if a is None else a
        fresh = model_of()
        want = formula(fresh.predict(X[union]), rows_of(union), weights[union])
        assert t.history["loss"] == pytest.approx([want], rel=1e-12)
    np.testing.assert_allclose(before - model.params, slopes(fresh, union, weights), rtol=0, atol=2e-9)


class Items(data.ItemDataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], {name: Y[name][i] for name in ("kind", "words", "price", "own")}


DATA = {
    "dict": lambda: data.ArrayDataset(X, {name: Y[name] for name in ("words", "own", "price", "kind")}, 8),
    "tuple": lambda: data.ArrayDataset(X, (Y["price"], Y["kind"], Y["words"], Y["own"]), 8),
    "batch by batch": lambda: DRIVERS["python"](X, Y, 8),
    "a part": lambda: data.ArrayDataset(X, Y, 8).subset(range(N)),
    "items": lambda: Items(8),
    "stream": lambda: data.StreamDataset(lambda: ((X[i], {k: y[i] for k, y in Y.items()}) for i in range(N)), 8, n_batches=8),
}


def trained(dataset, threads=1, model=None, **options):
    model = model or model_of(dtype="float32")
    with Trainer(2, thread_count=threads, enable_parallel=threads > 0, seed=3, **options) as t:
        t.init(dataset, model, loss_of(), optim.Adam(0.01))
        t.train(shuffle=False)
    return model


@pytest.mark.parametrize("strategy", [Serial(), Group(3), Shard(3), Local(2, 2)], ids=str)
def test_the_same_bits_from_any_data_with_any_number_of_threads(strategy):
    want = trained(DATA["dict"](), strategy=strategy).params.tobytes()
    for name, make in DATA.items():
        for threads in (1, 2, 3):
            assert trained(make(), threads, strategy=strategy).params.tobytes() == want, (name, threads)


def test_names_are_only_names():
    """A model whose outputs have none is trained to the same bits, by a list of losses in its order and a tuple of targets."""
    want = trained(DATA["dict"]()).params
    model, given = model_of(dtype="float32", names=False), loss_of()
    order = ["own", "words", "unused", "kind", "price"]
    loss = losses.Joint([given.losses[given.names.index(name)] for name in order], [0.0625, 2, 1, 1, 0.3])
    targets = tuple(Y[name] for name in order if name != "unused")
    with Trainer(2, thread_count=1, enable_parallel=True, seed=3) as t:
        t.init(data.ArrayDataset(X, targets, 8), model, loss, optim.Adam(0.01))
        t.train(shuffle=False)
    assert [y.shape[1:] for y in model.predict(X)] == [(2,), (5, 4), (4,), (3,), (2,)]
    # the sum of losses and their gradients by what they share are added in another order: a rounding or two a step
    np.testing.assert_allclose(model.params, want, rtol=1e-4, atol=1e-6)


def test_one_loss_of_weight_one_changes_no_bit():
    x = nn.Input((3,))
    params = []
    for loss, y, outputs in ((losses.MeanSquaredError(), Y["price"], None), (losses.Joint({"price": losses.MeanSquaredError()}),
                                                                            {"price": Y["price"]}, "price")):
        x = nn.Input((3,))
        out = nn.Linear(4, 2)(nn.Tanh()(nn.Linear(3, 4)(x)))
        model = Model(inputs=x, outputs={outputs: out} if outputs else out, seed=0)
        with Trainer(2, strategy=Group(3), enable_parallel=True, thread_count=2, seed=1) as t:
            t.init(data.ArrayDataset(X, y, 8), model, loss, optim.Adam(0.01))
            t.train()
        params.append((model.params.tobytes(), t.history["loss"]))
    assert params[0] == params[1]
    assert list(model.predict(X)) == ["price"]


def test_gradients():
    model, rows = model_of(), slice(0, 6)
    for loss in (loss_of(), loss_of(kind=None)):
        targets = {name: y[rows] for name, y in Y.items() if loss.losses[loss.names.index(name)] is not None}
        assert testing.check_gradients(model.layer, X[rows], loss=loss, targets=targets) < 1e-7
    assert testing.check_gradients(model.layer, X[rows]) < 1e-7         # a random projection of each output


def test_parts_are_validated_and_evaluated_by_the_formula():
    parts = data.ArrayDataset(X, Y, 8, sample_weight=W).split(0.6, 0.2, 0.2, seed=1)
    assert parts.test.y["words"].shape == (len(parts.test), 5) and parts.test.output_shape["words"] == (5, 4)
    model = model_of()
    with Trainer(1, seed=0) as t:
        t.init(parts, model, loss_of(), optim.SGD(0.1))
        t.train()
        assert "loss of words" in t.profile(2).table()
        for part, got in ((parts.test, t.evaluate()), (parts.validation, {"loss": t.history["validation_loss"][0]})):
            want = formula(model.predict(part.x), part.y, part.sample_weight)
            assert got == {"loss": pytest.approx(want, rel=1e-12)}


def test_figures_of_single_outputs():
    dataset = data.ArrayDataset(X, {"price": Y["price"], "kind": np.abs(Y["kind"])}, 8).split(0.7, 0.3, seed=1)
    evaluator = JointEvaluator({"kind": AccuracyEvaluator(), "price": RegressionEvaluator()})
    stop = callbacks.EarlyStopping("kind_accuracy", highest=True)
    model = two()
    with Trainer(1, evaluator=evaluator, callbacks=[stop], seed=0) as t:
        t.init(dataset, model, BOTH, optim.SGD(0.1))
        t.train()
        outputs, targets = model.predict(dataset.validation.x), dataset.validation.y
        assert t.history["kind_accuracy"] == [np.mean(outputs["kind"].argmax(1) == targets["kind"])]
        assert t.history["price_mse"] == [pytest.approx(np.mean((outputs["price"] - targets["price"]) ** 2), rel=1e-6)]
    for wrong, message in ((AccuracyEvaluator(), "AccuracyEvaluator is of one output, and the model has 2: JointEvaluator("),
                           (JointEvaluator({"sort": AccuracyEvaluator()}), "evaluator of 'sort'; the outputs are price, kind")):
        with pytest.raises(ValueError, match=re.escape(message)), Trainer(1, evaluator=wrong) as t:
            t.init(dataset, two(), BOTH, optim.SGD(0.1))
    for wrong in ({}, {"a": MSE}, AccuracyEvaluator()):
        with pytest.raises(TypeError, match=r"must be an Evaluator|takes a dict of evaluators"):
            JointEvaluator(wrong)


def test_hogwild_and_a_batch_of_which_nothing_counts():
    for a, updates in ((None, 8), (W, 7), (np.zeros(N), 0)):
        model = model_of()
        with Trainer(1, strategy=Hogwild(), enable_parallel=True, thread_count=2, seed=5) as t:
            t.init(data.ArrayDataset(X, Y, 8, sample_weight=a), model, loss_of(), optim.SGD(0.01))
            t.train(shuffle=False)
            assert t.history["updates"] == [updates] and np.isfinite(t.history["loss"]).all()


def test_saved_loaded_and_resumed(tmp_path):
    model = trained(DATA["dict"]())
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m", {"FailsAt": FailsAt})
    got, want = again.predict(X), model.predict(X)
    assert list(got) == list(want) == again.output_names and all(np.array_equal(got[k], want[k]) for k in want)
    with Trainer(1, seed=3) as t:
        t.init(DATA["dict"](), again, loss_of(), optim.Adam(0.01))
        t.train()
        t.save_checkpoint(tmp_path / "c")
        t.train()
    with Trainer(1, seed=3) as t:
        t.init(DATA["dict"](), model, loss_of(), optim.Adam(0.01))
        t.load_checkpoint(tmp_path / "c")
        t.train()
    assert np.array_equal(model.params, again.params)


def test_against_pytorch():
    torch = pytest.importorskip("torch")
    x = nn.Input((3,))
    hidden = nn.Tanh()(nn.Linear(3, 4)(x))
    model = Model(inputs=x, outputs={"a": nn.Linear(4, 2)(hidden), "b": nn.Linear(4, 3)(hidden)}, seed=0, dtype="float64")
    tensors = {name: torch.tensor(v, requires_grad=True) for name, v in model.state_dict().items()}
    ours = losses.Joint({"a": losses.MeanSquaredError(), "b": losses.SoftmaxCrossEntropy(CLASSES, ignore_index=-1)}, {"a": 0.7})
    sgd = torch.optim.SGD(tensors.values(), lr=0.1, momentum=0.9)
    for at in range(0, N, 16):
        tx, ta, tb = (torch.tensor(v[at:at + 16]) for v in (X, Y["price"], Y["kind"]))
        h = torch.tanh(tx @ tensors["0.weight"] + tensors["0.bias"])
        a, b = (h @ tensors[f"{i}.weight"] + tensors[f"{i}.bias"] for i in (2, 3))
        loss = 0.7 * torch.nn.functional.mse_loss(a, ta) + torch.nn.functional.cross_entropy(
            b, tb, torch.tensor(CLASSES), ignore_index=-1, reduction="sum") / 16
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    with Trainer(1, strategy=Shard(3), enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(data.ArrayDataset(X, {"a": Y["price"], "b": Y["kind"]}, 16), model, ours, optim.SGD(0.1, momentum=0.9))
        t.train(shuffle=False)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, tensors[name].detach().numpy(), rtol=1e-12, atol=1e-14)


MSE, CE = losses.MeanSquaredError(), losses.SoftmaxCrossEntropy()


def two(names=("price", "kind")):
    x = nn.Input((3,))
    outputs = [nn.Linear(3, 2)(x), nn.Linear(3, 3)(x)]
    return Model(inputs=x, outputs=dict(zip(names, outputs, strict=True)) if names else outputs, seed=0)


def init(loss, model=None, y=None, **options):
    y = {"price": Y["price"], "kind": np.abs(Y["kind"])} if y is None else y
    with Trainer(1, **options) as t:
        t.init(data.ArrayDataset(X, y, 8), model or two(), loss, optim.SGD(0.1))


BOTH = losses.Joint({"kind": CE, "price": MSE})
WRONG = [
    (lambda: init(MSE), "is the loss of one output, and the model has 2 (price, kind): losses.Joint gives each"),
    (lambda: init({"price": MSE, "kind": CE}), "got dict; several losses go into losses.Joint(...)"),
    (lambda: init(MSE, two(None)), "the model has 2: losses.Joint"),
    (lambda: init(BOTH, two(None)), "the model's outputs have no names: Model(inputs=..., outputs={'kind': ..., ...})"),
    (lambda: init(BOTH, Model(nn.Linear(3, 2))), "Joint has losses of kind, price, and the model has one output: give"),
    (lambda: init(MSE, Model(nn.Linear(3, 2))), "takes one array of targets, and the data have 2: losses.Joint"),
    (lambda: init(losses.Joint({"price": MSE, "sort": CE})), "losses of price, sort; the outputs lack 'sort' and have 'kind'"),
    (lambda: init(losses.Joint([MSE])), "Joint has losses of 0; the outputs are 2"),
    (lambda: init(BOTH, y={"price": Y["price"]}), "Joint has losses of kind, price; the targets lack 'kind'"),
    (lambda: init(BOTH, y=Y["price"]), "Joint has losses of kind, price; the targets are 1"),
    (lambda: init(losses.Joint([MSE, CE])), "the targets have the names price, kind: give Joint a dict of losses by these"),
    (lambda: init(BOTH, y={"price": Y["price"][:, :1], "kind": np.abs(Y["kind"])}),
     "output price: MeanSquaredError needs targets shaped like the output, (samples, 2); y is float64 of shape (64, 1)"),
    (lambda: init(BOTH, y={"price": Y["price"], "kind": Y["kind"]}), "output kind: class labels run from -1 to 2"),
    (lambda: losses.Joint(MSE), "a dict of losses by the names of outputs, or a list of them; got MeanSquaredError()"),
    (lambda: losses.Joint([]), "or a list of them; got []"),
    (lambda: losses.Joint({"a": None}), "a loss for one output at least"),
    (lambda: losses.Joint({"a": "mse"}), "Joint's loss of output a must be a Loss"),
    (lambda: losses.Joint([BOTH]), "Joint's loss of output 0 must be a Loss"),
    (lambda: losses.Joint({"a": MSE}, {"b": 2}), "Joint has weights for 'b'; its losses are of a"),
    (lambda: losses.Joint({"a": MSE}, [2]), "Joint(weights=[2]): a dict, as the losses, of a"),
    (lambda: losses.Joint([MSE, CE], [2]), "Joint(weights=[2]): a list, as the losses, of 0, 1"),
    (lambda: losses.Joint({"a": MSE}, {"a": -1}), "Joint: the weight of a is -1; finite"),
    (lambda: losses.Joint({"a": MSE}, {"a": np.nan}), "Joint: the weight of a is nan"),
    (lambda: losses.Joint({"a": MSE}, loss_weights={"a": 1}), "it is called weights"),
    (lambda: data.ArrayDataset(X, {"a": Y["price"], "b": Y["kind"][:5]}), "b has 5 samples and a has 64"),
    (lambda: data.ArrayDataset(X, {}), "y is a dict of no targets"),
    (lambda: data.ArrayDataset(X, Y).split(stratify=True), "stratify=True needs class labels; y is 4 targets"),
]


@pytest.mark.parametrize("call, message", WRONG, ids=[m[:50] for _, m in WRONG])
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()


def test_a_loss_that_is_not_finite_or_a_label_outside_says_of_which_output():
    y = {"price": Y["price"].copy(), "kind": np.abs(Y["kind"])}
    dataset = data.ArrayDataset(X, y, 8)
    with Trainer(1, max_failed_fraction=1) as t:
        t.init(dataset, two(), BOTH, optim.SGD(0.1))
        dataset.y["price"][3] = np.nan
        dataset.y["kind"][20] = 3
        history = t.train(shuffle=False)
    assert [str(f.exception) for f in history.failures] == [
        "the loss is nan (loss of price)", "class label 3 is outside the model's classes (loss of kind)"]


def test_items_and_streams_name_the_sample_that_does_not_fit():
    def samples():
        for i in range(16):
            yield X[i], {"price": Y["price"][i], **({} if i == 9 else {"kind": 1})}
    with Trainer(1, max_failed_fraction=1) as t:
        t.init(data.StreamDataset(samples, 8), two(), BOTH, optim.SGD(0.1))
        history = t.train()
    assert [str(f.exception) for f in history.failures] == ["sample 9: y must have the targets price, kind"]


def test_what_only_an_output_without_a_loss_needs_stays_as_it_is():
    model = two()
    before = model.state_dict()
    init_loss = losses.Joint({"price": MSE, "kind": None})
    replica = Replica(model, init_loss, 8)
    vector = np.full_like(replica.gradient_vector(), np.nan)
    replica.run(data.Batch(X[:8], {"price": Y["price"][:8]}, None), vector)
    assert not vector[-12:].any() and vector[:-12].all()        # of the second output's Linear, and of the first's
    with Trainer(2, strategy=Group(3), enable_parallel=True, thread_count=2, seed=1) as t:
        t.init(data.ArrayDataset(X, {"price": Y["price"]}, 8), model, init_loss, optim.Adam(0.1))
        t.train()
    after = model.state_dict()
    assert [np.array_equal(before[name], after[name]) for name in before] == [False, False, True, True]

"""Every layer: gradients by finite differences, outputs against NumPy, shapes, names. One row a layer."""
import copy

import numpy as np
import pytest

import tinydl.nn
from tinydl import Model, Trainer, data, losses, nn, optim, testing
from tinydl.nn.interpret import interpret
from tinydl.serialization import layer_from_json


class Square(nn.PythonLayer):
    def forward(self, x):
        return x * x, x

    def backward(self, dy, saved):
        return 2 * saved * dy


class Scale(nn.PythonLayer):
    def __init__(self, n):
        self.n = n
        self.add_parameter("scale", (n,), "ones")

    def config(self):
        return {"n": self.n}

    def forward(self, x):
        return x * self.parameter("scale"), x

    def backward(self, dy, saved):
        return dy * self.parameter("scale"), {"scale": (dy * saved).sum(0)}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x):
    from math import erf, sqrt
    return x * 0.5 * (1 + np.vectorize(erf)(x / sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def normalised(x, axis):
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)


#: of three columns: the second has but two intervals, the third none
EDGES = np.array([[-2, -0.5, 0, 0.7, 3], [-1, 0.2, 1, 1, 1], [0, 0, 0, 0, 0]])
# layer, shape of x, what it computes in inference (None: checked elsewhere)
ROWS = {
    "Linear": (nn.Linear(5, 3), (4, 5), None),
    "Linear without bias": (nn.Linear(5, 3, bias=False), (4, 5), None),
    "Linear on rows": (nn.Linear(5, 3), (4, 2, 5), None),
    "ReLU": (nn.ReLU(), (4, 5), lambda x: np.maximum(x, 0)),
    "LeakyReLU": (nn.LeakyReLU(0.2), (4, 5), lambda x: np.where(x > 0, x, 0.2 * x)),
    "ELU": (nn.ELU(1.3), (4, 5), lambda x: np.where(x > 0, x, 1.3 * np.expm1(x))),
    "Sigmoid": (nn.Sigmoid(), (4, 5), lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": (nn.Tanh(), (4, 5), np.tanh),
    "GELU": (nn.GELU(), (4, 5), gelu),
    "GELU tanh": (nn.GELU("tanh"), (4, 5), gelu_tanh),
    "SiLU": (nn.SiLU(), (4, 5), lambda x: x / (1 + np.exp(-x))),
    "SELU": (nn.SELU(), (4, 5), lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "Softplus": (nn.Softplus(2.0), (4, 5), lambda x: np.log1p(np.exp(2 * x)) / 2),
    "Mish": (nn.Mish(), (4, 5), lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "Hardswish": (nn.Hardswish(), (4, 5), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "ReLU6": (nn.ReLU6(), (4, 5), lambda x: np.clip(x, 0, 6)),
    "Hardtanh": (nn.Hardtanh(-0.5, 1.5), (4, 5), lambda x: np.clip(x, -0.5, 1.5)),
    "Hardtanh of one bound": (nn.Hardtanh(-np.inf, 0.5), (4, 5), lambda x: np.minimum(x, 0.5)),
    "Hardsigmoid": (nn.Hardsigmoid(), (4, 5), lambda x: np.clip(x + 3, 0, 6) / 6),
    "Hardsigmoid of others": (nn.Hardsigmoid(0.2, 0.4), (4, 5), lambda x: np.clip(0.2 * x + 0.4, 0, 1)),
    "Softsign": (nn.Softsign(), (4, 5), lambda x: x / (1 + np.abs(x))),
    "LogSigmoid": (nn.LogSigmoid(), (4, 5), lambda x: -np.log1p(np.exp(-x))),
    "Exp": (nn.Exp(), (4, 5), np.exp),
    "Abs": (nn.Abs(), (4, 5), np.abs),
    "Square": (nn.Square(), (4, 5), np.square),
    "Rescaling": (nn.Rescaling(-2, 0.5), (4, 5), lambda x: 0.5 - 2 * x),
    "Exp and others behind products": (nn.Sequential(
        nn.Linear(5, 4), nn.Exp(), nn.Linear(4, 4), nn.Rescaling(3, 1), nn.Linear(4, 4), nn.Square(), nn.Linear(4, 3),
        nn.LogSigmoid()), (4, 5), None),
    "GLU": (nn.GLU(), (4, 6), lambda x: x[:, :3] / (1 + np.exp(-x[:, 3:]))),
    "GLU of channels": (nn.GLU(0), (4, 2, 3), lambda x: x[:, :1] / (1 + np.exp(-x[:, 1:]))),
    "GLU inside": (nn.Sequential(nn.Linear(5, 6), nn.GLU(), nn.Linear(3, 2)), (4, 5), None),
    "UnitNormalization": (nn.UnitNormalization(), (4, 5), lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-12)),
    "UnitNormalization of rows": (nn.UnitNormalization(0.5), (4, 2, 3),
                                  lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True) + 0.5)),
    "UnitNormalization inside": (nn.Sequential(nn.Linear(5, 4), nn.UnitNormalization(), nn.Linear(4, 2)), (4, 5), None),
    "GaussianNoise": (nn.GaussianNoise(0.3), (4, 5), lambda x: x),
    "GaussianNoise inside": (nn.Sequential(nn.Linear(5, 4), nn.GaussianNoise(0.3), nn.Linear(4, 2)), (4, 5), None),
    "GaussianSample": (nn.GaussianSample(), (4, 6), lambda x: x[:, :3]),
    "GaussianSample inside": (nn.Sequential(nn.Linear(5, 6), nn.GaussianSample(), nn.Linear(3, 2)), (4, 2, 5), None),
    "PReLU": (nn.PReLU(), (4, 5), lambda x: np.where(x > 0, x, 0.25 * x)),
    "PReLU of columns": (nn.PReLU(5, init=0.5, axis=-1), (4, 2, 5), lambda x: np.where(x > 0, x, 0.5 * x)),
    "PReLU of channels": (nn.PReLU(2), (4, 2, 5), lambda x: np.where(x > 0, x, 0.25 * x)),
    "PReLU of channels of images": (nn.Sequential(nn.Conv2d(3, 2, 1), nn.PReLU(2)), (4, 3, 5, 2), None),
    "Scale": (nn.Scale(5), (4, 5), lambda x: x),
    "Scale inside": (nn.Sequential(nn.Linear(5, 4), nn.Scale(4), nn.PReLU(4), nn.Scale(4)), (4, 5), None),
    "PeriodicEmbedding": (nn.PeriodicEmbedding(5, 3, 7, 0.5), (4, 5), None),
    "PiecewiseLinearEmbedding": (
        nn.PiecewiseLinearEmbedding(EDGES), (40, 3), lambda x: np.stack([x, *(np.clip((x - EDGES[:, k]) / np.where(
            EDGES[:, k + 1] > EDGES[:, k], EDGES[:, k + 1] - EDGES[:, k], np.inf), 0, 1) for k in range(4))], 2)),
    "PiecewiseLinearEmbedding inside": (
        nn.Sequential(nn.Linear(5, 3), nn.PiecewiseLinearEmbedding(EDGES), nn.Flatten(), nn.Linear(15, 2)), (4, 5), None),
    "PeriodicEmbedding inside": (nn.Sequential(nn.Linear(5, 4), nn.PeriodicEmbedding(4), nn.Flatten(), nn.Linear(16, 2)), (4, 5),
                                 None),
    "LinearEnsemble": (nn.Sequential(nn.Linear(5, 4), nn.LinearEnsemble(4, 3, k=3), nn.Tanh(),
                                     nn.LinearEnsemble(3, 2, False, k=3)), (6, 5), None),
    "LinearBatchEnsemble": (nn.Sequential(
        nn.Linear(5, 4), nn.LinearBatchEnsemble(4, 3, k=3, scaling_init="normal"), nn.Tanh(),
        nn.LinearBatchEnsemble(3, 2, False, k=3, scaling_init=("normal", "random-signs"))), (6, 5), None),
    "Softmax": (nn.Softmax(), (4, 5), softmax),
    "LogSoftmax": (nn.LogSoftmax(), (4, 5), lambda x: np.log(softmax(x))),
    "Identity": (nn.Identity(), (4, 5), lambda x: x),
    "Identity, added": (nn.Sequential(nn.Linear(5, 5), nn.Residual(nn.Identity()), nn.Identity()), (4, 5), None),
    "Dropout": (nn.Dropout(0.4), (4, 5), lambda x: x),
    "Flatten": (nn.Flatten(), (4, 2, 3), lambda x: x.reshape(len(x), -1)),
    "LayerNorm": (nn.LayerNorm(5), (4, 5), lambda x: normalised(x, 1)),
    "BatchNorm1d": (nn.BatchNorm1d(5), (6, 5), lambda x: x / np.sqrt(1 + 1e-5)),
    "Sequential": (nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.ReLU()), (4, 5), None),
    "Sequential normed": (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Dropout(0.3), nn.LayerNorm(4),
                                        nn.Linear(4, 2), nn.Softmax()), (6, 5), None),
    "Residual": (nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.SiLU())), (4, 5), None),
    "Residual twice": (nn.Sequential(nn.Residual(nn.ReLU()), nn.Residual(nn.Linear(5, 5)), nn.Tanh()), (4, 5), None),
    "PythonLayer": (nn.Sequential(nn.Linear(5, 4), Square(), nn.Linear(4, 2)), (4, 5), None),
    "PythonLayer with a parameter": (nn.Sequential(Scale(5), nn.Linear(5, 2)), (4, 5), None),
}


def away_from_kinks(shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    return x + 0.1 * np.sign(x)


def test_every_layer_has_a_row():
    layers = {n for n in tinydl.nn.__all__ if isinstance(getattr(nn, n), type) and issubclass(getattr(nn, n), nn.Layer)}
    elsewhere = {"PythonLayer", "Add", "Concat", "Dot", "Embedding", "Graph", "Max", "Mean", "Multiply", "Permute", "Reshape",
                 "CosineSimilarity", "Slice", "Subtract", "Sum", "TiedLinear"}       # test_graph
    elsewhere |= {"AdaptiveAvgPool1d", "ConvTranspose1d", "Dropout1d", "InstanceNorm1d"}       # test_conv, test_pool
    elsewhere |= {"AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "BatchNorm2d", "Conv1d", "Conv2d",
                  "ConvTranspose2d", "Dropout2d", "GlobalAvgPool", "GlobalMaxPool", "GroupNorm",
                  "InstanceNorm2d", "MaxPool1d", "MaxPool2d", "PixelShuffle", "RMSNorm", "Upsample",
                  "ZeroPad2d"}       # test_conv, test_pool
    elsewhere |= {"LinearBatchEnsemble", "LinearEnsemble"}       # test_ensembles_values
    elsewhere |= {"GRU", "LSTM", "RNN", "EmbeddingBag", "LastStep", "MeanSteps", "BlankSteps", "CRF"}
    elsewhere |= {"DotProductAttention", "LearnedTokens", "MultiheadAttention", "PositionalEncoding", "TransformerDecoderLayer",
                  "TransformerEncoderLayer"}
    assert layers - {"Layer"} <= {type(layer).__name__ for layer, _, _ in ROWS.values()} | elsewhere


@pytest.mark.parametrize("row", ROWS)
def test_gradients(row):
    layer, shape, _ = ROWS[row]
    assert testing.check_gradients(layer, away_from_kinks(shape)) < 1e-6


@pytest.mark.parametrize("row", [r for r in ROWS if ROWS[r][2]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(row, dtype):
    layer, shape, f = ROWS[row]
    x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    y = Model(copy.deepcopy(layer), dtype, seed=0).predict(x)
    # a few roundings of values of a few units
    np.testing.assert_allclose(y, f(x.astype(np.float64)), rtol=0, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_value(dtype):
    m = Model(nn.Linear(7, 3), dtype, seed=3)
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(dtype)
    s = m.state_dict()
    np.testing.assert_allclose(m.forward(x), x @ s["weight"] + s["bias"], rtol=0, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(5,), (4, 5)], ids=["shared", "each"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ensembles_values(shape, dtype):
    x = np.random.default_rng(0).standard_normal((6, *shape)).astype(dtype)
    each = np.broadcast_to(x.reshape(6, -1, 5), (6, 4, 5)).astype(np.float64)
    m = Model(nn.LinearEnsemble(5, 3, k=4), dtype, seed=3)
    s = m.state_dict()
    np.testing.assert_allclose(m.predict(x), np.einsum("bki,kio->bko", each, s["weight"]) + s["bias"], rtol=0,
                               atol=16 * np.finfo(dtype).eps)
    m = Model(nn.LinearBatchEnsemble(5, 3, k=4, scaling_init=("normal", "random-signs")), dtype, seed=3)
    s = m.state_dict()
    assert set(s["s"].ravel()) == {-1, 1} and (s["bias"] == s["bias"][0]).all() and len(np.unique(s["r"])) == 20
    np.testing.assert_allclose(m.predict(x), (each * s["r"]) @ s["weight"] * s["s"] + s["bias"], rtol=0,
                               atol=32 * np.finfo(dtype).eps)


def test_members_of_an_ensemble_train_as_they_would_alone():
    """The loss is the mean over members: with plain SGD and k times the rate each is a network of its own."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5)), rng.integers(0, 3, 40)

    def trained(net, targets, lr, values):
        model = Model(net, "float64", seed=0)
        model.load_state_dict(values)
        with tinydl.Trainer(3, seed=0) as trainer:
            trainer.init(tinydl.data.ArrayDataset(x, targets, 8), model, losses.SoftmaxCrossEntropy(), tinydl.optim.SGD(lr))
            trainer.train()
        return model.state_dict()

    together = nn.Sequential(nn.LinearEnsemble(5, 4, k=3), nn.Tanh(), nn.LinearEnsemble(4, 3, k=3))
    first = Model(together, "float64", seed=1).state_dict()
    all_of_them = trained(together, np.repeat(y[:, None], 3, 1), 0.3, first)
    for i in range(3):
        alone = trained(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), y, 0.1, {k: v[i] for k, v in first.items()})
        for name, value in alone.items():
            np.testing.assert_allclose(all_of_them[name][i], value, rtol=0, atol=1e-13)


@pytest.mark.parametrize("wrong, says", [
    (lambda: nn.LinearEnsemble(5, 0, k=2), r"LinearEnsemble\(5, 0, k=2\): all must be at least 1"),
    (lambda: nn.LinearBatchEnsemble(5, 2, k=2, scaling_init="signs"), "scaling_init='signs'.*'random-signs'"),
    (lambda: Model(nn.LinearEnsemble(5, 2, k=4)).predict(np.ones((2, 3, 5))), r"\(3, 5\): they must be \(5,\), .*or \(4, 5\)")])
def test_wrong_ensembles(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()


def test_wrong_backward_is_found():
    class Wrong(Square):
        def backward(self, dy, saved):
            return saved * dy

    with pytest.raises(AssertionError, match=r"gradient by x\["):
        testing.check_gradients(Wrong(), away_from_kinks((2, 3)))


def test_layer_used_twice_adds_its_gradients():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.Tanh(), shared)
    assert testing.check_gradients(net, away_from_kinks((3, 4))) < 1e-6
    assert Model(net, seed=0).num_parameters == 20


def sharing(kind, *names, n=4):
    """Two layers of a kind, the second with these parameters of the first, and with others of its own."""
    first, second = kind(n), kind(n)
    for name in names:
        setattr(second, name, getattr(first, name))
    return nn.Sequential(nn.Linear(n, n), first, nn.Tanh(), second, nn.Sigmoid())


def test_batch_norm_takes_features_on_the_first_axis_or_the_last():
    """The same numbers either way; files from before the argument had them on the last."""
    x, y = np.random.default_rng(0).standard_normal((6, 4, 4)), np.arange(6) % 3
    states = []
    for network in (nn.Sequential(nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(16, 3)),
                    nn.Sequential(nn.Permute((1, 0)), nn.BatchNorm1d(4, axis=-1), nn.Permute((1, 0)), nn.Flatten(),
                                  nn.Linear(16, 3))):
        model = Model(network, np.float64, seed=0)
        with Trainer(3, seed=0, enable_parallel=False) as trainer:
            trainer.init(data.ArrayDataset(x, y, 3), model, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
            trainer.train()
        states.append([*model.state_dict().values()])
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)
    norm = Model(nn.BatchNorm1d(4), seed=0).layer
    assert norm.config().pop("axis") == 0
    before = {"type": "BatchNorm1d", "config": {k: v for k, v in norm.config().items() if k != "axis"}}
    assert layer_from_json(before, {"BatchNorm1d": nn.BatchNorm1d}, []).axis == -1
    for shape, said in (((9, 4), r"\(4, L\); features on the last axis, as behind nn.Linear or nn.LSTM, are axis=-1"),
                        ((4, 5, 6), "nn.BatchNorm2d is for images"), ((5,), r"they must be \(4,\)")):
        with pytest.raises(ValueError, match=said):
            nn.BatchNorm1d(4).output_shape(shape)
    with pytest.raises(ValueError, match="axis=1"):
        nn.BatchNorm1d(4, axis=1)


def test_slopes_of_channels_and_of_columns():
    """By PyTorch's definition; files of before axis are read as columns."""
    x, slopes = np.random.default_rng(0).standard_normal((2, 4, 3, 4)), np.array([0.1, -0.5, 0.0, 2.0])
    for axis, shaped in ((0, slopes[:, None, None]), (-1, slopes)):
        model = Model(nn.PReLU(4, axis=axis), "float64")
        model.load_state_dict({"weight": slopes})
        assert np.array_equal(model.predict(x), np.where(x > 0, x, shaped * x))
        assert np.array_equal(model.predict(x[:, :, 0, 0]), np.where(x > 0, x, slopes[:, None, None] * x)[:, :, 0, 0])
    before = {"type": "PReLU", "config": {"num_parameters": 4, "init": 0.25}}
    assert layer_from_json(before, {"PReLU": nn.PReLU}, []).axis == -1
    with pytest.raises(ValueError, match=r"must be \(4, \.\.\.\); slopes for the last axis, .* are axis=-1"):
        nn.PReLU(4).output_shape((9, 4))
    with pytest.raises(ValueError, match=r"the last axis must be 4"):
        nn.PReLU(4, axis=-1).output_shape((4, 9))
    with pytest.raises(ValueError, match=r"PReLU\(axis=1\)"):
        nn.PReLU(4, axis=1)


@pytest.mark.parametrize("kind", [lambda n: nn.Linear(n, n), nn.LayerNorm, nn.BatchNorm1d],
                         ids=["Linear", "LayerNorm", "BatchNorm1d"])
@pytest.mark.parametrize("names", [("weight",), ("bias",), ("weight", "bias")], ids="-".join)
def test_layers_that_share_a_parameter_add_their_gradients(kind, names):
    assert testing.check_gradients(sharing(kind, *names), away_from_kinks((6, 4))) < 1e-6


def test_python_layers_that_share_a_parameter_add_their_gradients():
    assert testing.check_gradients(sharing(Scale, "_parameter_scale"), away_from_kinks((6, 4))) < 1e-6


def test_dropout_mask_comes_from_seed_step_and_sample():
    from tinydl._kernels import engine
    m = Model(nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 64, bias=False)), seed=0)
    m.load_state_dict({"1.weight": np.eye(64)})
    plan = m.plan((64,), 8, loss=losses.MeanSquaredError())
    x, t = np.ones((8, 64), np.float32), np.zeros((8, 64), np.float32)

    def gradient(index, **keys):
        vector = m.params * 0
        engine.Replica(plan.program, m.params, m.statistics).run([engine.Source(x), engine.Source(t)],
                                                               np.array(index), len(index), vector, **keys)
        return vector
    same = gradient([3], seed=1, step=2)
    assert np.array_equal(same, gradient([3], seed=1, step=2))
    assert not np.array_equal(same, gradient([3], seed=1, step=3))
    assert not np.array_equal(same, gradient([3], seed=2, step=2))
    assert not np.array_equal(same, gradient([4], seed=1, step=2))
    # the mask of a sample does not depend on what is beside it: diag(dW) of {3} is that of {3, 5} less that of {5}
    both = np.diag(gradient([3, 5], seed=1, step=2).reshape(64, 64)) * 2
    alone = np.diag(same.reshape(64, 64)) + np.diag(gradient([5], seed=1, step=2).reshape(64, 64))
    np.testing.assert_allclose(both, alone, atol=1e-6)
    kept = np.count_nonzero(np.diag(same.reshape(64, 64)))
    assert 16 < kept < 48


def test_batch_norm_runs_and_infers():
    from tinydl import Trainer, data, optim
    x = np.random.default_rng(0).standard_normal((32, 3)).astype(np.float32) * 2 + 5
    m = Model(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)), seed=0)
    with Trainer(50, seed=0) as t:
        t.init(data.ArrayDataset(x, x[:, :1], 32), m, losses.MeanSquaredError(), optim.SGD(lr=0.0))
        t.train()
    s = m.state_dict()
    np.testing.assert_allclose(s["0.running_mean"], x.mean(0) * (1 - 0.9**50), rtol=1e-4)
    np.testing.assert_allclose(s["0.running_var"], x.var(0, ddof=1) * (1 - 0.9**50) + 0.9**50, rtol=1e-4)


@pytest.mark.parametrize("make, message", [
    (lambda: nn.Linear(0, 3), "Linear(0, 3)"), (lambda: nn.Dropout(1.0), "p=1.0"), (lambda: nn.GELU("x"), "'x'"),
    (lambda: nn.LeakyReLU(-1), "-1"), (lambda: nn.ELU(0), "alpha=0"), (lambda: nn.LayerNorm(0), "0"),
    (lambda: nn.BatchNorm1d(0), "BatchNorm1d(0"), (lambda: nn.Linear(2, 2, init="x"), "kaiming_uniform"),
    (lambda: Model(nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3))).plan(), "(3,)"),
    (lambda: Model(nn.Residual(nn.Linear(4, 3))).plan(), "(3,)"),
])
def test_door(make, message):
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value)


class FirstRow(nn.PythonLayer):
    def output_shape(self, shape):
        assert shape == (2, 7, 4), "a sample that nobody gave"
        return shape[1:][1:]

    def forward(self, x):
        return x[:, 0, 0], None


@pytest.mark.parametrize("layer, shape", [
    (nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), (4,)), (nn.Sequential(nn.LayerNorm((5, 4)), nn.Flatten()), (5, 4)),
    (nn.Sequential(nn.Residual(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))), nn.Linear(4, 3)), (4,)),
    (nn.Sequential(nn.Residual(nn.ReLU()), nn.Softmax(), Square(), nn.BatchNorm1d(5)), (5,)),
    (nn.Sequential(nn.Sequential(nn.Dropout(), nn.Tanh()), nn.Linear(5, 2)), (5,)),
    (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), None), (nn.Sequential(nn.Sequential(nn.Flatten()), nn.Linear(12, 2)), None),
    (nn.Residual(nn.ReLU()), None), (nn.Sequential(FirstRow(), nn.Linear(4, 2)), None),
], ids=str)
def test_the_input_shape_is_what_the_layers_know(layer, shape):
    model = Model(layer, seed=0)
    assert model.input_shape == shape
    if shape is not None:
        assert model.predict(np.ones((3, *shape))).shape == (3, *model.output_shape())


def test_a_shape_that_only_the_data_tell():
    model = Model(nn.Sequential(FirstRow(), nn.Linear(4, 2)), seed=0)
    assert model.predict(np.ones((3, 2, 7, 4))).shape == (3, 2) and model.input_shape == (2, 7, 4)


def test_python_layer_of_wrong_shape_says_so():
    class Bad(nn.PythonLayer):
        def forward(self, x):
            return x[:, :1], None

    with pytest.raises(ValueError, match="output_shape"):
        Model(Bad(), seed=0).predict(np.ones((2, 3)))


def test_edges_are_quantiles_of_the_data():
    x = np.stack([np.arange(101.0), np.r_[np.zeros(90), np.arange(1, 12)], np.arange(101) % 2], 1)
    edges = np.array(nn.PiecewiseLinearEmbedding.from_data(x, 10).edges)
    np.testing.assert_allclose(edges[0], np.arange(0, 101, 10), rtol=1e-15)
    assert edges[1].tolist() == [0, 1, 11] + [11] * 8       # nine of ten quantiles are 0
    assert (edges[2] == 1).all()                            # of 0 and 1 there is nothing between
    for wrong, message in (([[0, 2, 1]], "do not fall"), ([[0, np.nan]], "finite"), ([0, 1], "shape")):
        with pytest.raises(ValueError, match=message):
            nn.PiecewiseLinearEmbedding(wrong)
    with pytest.raises(ValueError, match="n_bins=0"):
        nn.PiecewiseLinearEmbedding.from_data(x, 0)


@pytest.mark.parametrize("layer, shape", [
    (nn.Linear(6, 5), (4, 6)), (nn.Conv2d(2, 3, 3), (2, 2, 5, 6)), (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 5, 6)),
    (nn.ConvTranspose2d(2, 3, 3), (2, 2, 4, 5)), (nn.ConvTranspose2d(4, 4, 3, groups=4), (2, 4, 4, 5))], ids=repr)
def test_activations_of_two_numbers_inside_of_what_is_before_them(layer, shape):
    """Forward and backward, as behind it: what is fused has both numbers."""
    x = np.random.default_rng(0).standard_normal(shape)
    alone = Model(copy.deepcopy(layer), "float64", seed=0)
    for activation, f in ((nn.Hardtanh(-0.4, 0.3), lambda y: np.clip(y, -0.4, 0.3)),
                          (nn.Hardsigmoid(0.9, 0.4), lambda y: np.clip(0.9 * y + 0.4, 0, 1))):
        both = Model(nn.Sequential(copy.deepcopy(layer), activation), "float64", seed=0)
        both.load_state_dict({f"0.{name}": a for name, a in alone.state_dict().items()})
        np.testing.assert_array_equal(both.predict(x), f(alone.predict(x)))
        behind = nn.Flatten(), nn.Linear(both.predict(x)[0].size, 2)       # whose gradient takes the activation's derivative in
        assert testing.check_gradients(nn.Sequential(copy.deepcopy(layer), activation, *behind), x) < 1e-6


def unit_variance_cases():
    yield nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 2)), (6,)
    yield nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Linear(72, 3)), (2, 8, 8)
    yield nn.Sequential(nn.LinearBatchEnsemble(6, 9, k=4), nn.SiLU(), nn.LinearEnsemble(9, 3, k=4)), (6,)
    yield nn.Sequential(nn.Linear(6, 6), nn.Residual(nn.Sequential(nn.Linear(6, 6), nn.GELU())), nn.Linear(6, 1)), (6,)
    a, b = nn.Input((3,)), nn.Input((4,))
    yield Model(inputs=[a, b], outputs=nn.Linear(8, 2)(nn.Concat()([nn.Linear(3, 5)(a), nn.Linear(4, 3)(b)]))).layer, (3,), (4,)


@pytest.mark.parametrize("case", list(unit_variance_cases()), ids=lambda case: type(case[0]).__name__)
def test_unit_variance(case):
    rng = np.random.default_rng(0)
    model = Model(case[0], "float64", seed=0)
    x = tuple(rng.standard_normal((300, *shape)) * 5 + 1 for shape in case[1:])
    x = x if len(x) > 1 else x[0]
    nn.initializers.unit_variance(model, x)
    stds = {}

    def record(path, layer, inputs):
        symbols = [nn.Input(x.shape[1:]) for x in inputs]
        alone = Model(inputs=symbols, outputs=copy.deepcopy(layer)(symbols if len(symbols) > 1 else symbols[0]), dtype="float64")
        alone.load_state_dict({f"0.{key}": p.data for key, p in (*layer.parameters(), *layer.statistics())})
        y = alone.predict(inputs[0] if len(inputs) == 1 else tuple(inputs))
        if hasattr(layer, "weight") and not isinstance(layer, nn.BatchNorm2d):
            stds[path] = y.std()
        return y
    interpret(model.layer, x if isinstance(x, tuple) else [x], record)
    assert len(stds) > 1
    np.testing.assert_allclose(list(stds.values()), 1, rtol=1e-12)
    biases = [v for name, v in model.state_dict().items() if name.endswith("bias") and not isinstance(
        dict(model.layer.walk())[name.rpartition(".")[0]], nn.BatchNorm2d)]
    assert not any(v.any() for v in biases)


def test_unit_variance_leaves_what_is_frozen_and_changes_nothing_where_it_cannot():
    model = Model(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), seed=0)
    model.freeze("0.*")
    before = model.state_dict()
    nn.initializers.unit_variance(model, np.random.default_rng(0).standard_normal((50, 3)))
    after = model.state_dict()
    assert all(np.array_equal(before[k], after[k]) == k.startswith("0.") for k in before)
    model.unfreeze()
    with pytest.raises(ValueError, match=r"layer 0: what it makes of x has the deviation 0\.0"):
        nn.initializers.unit_variance(model, np.zeros((50, 3)))
    with pytest.raises(ValueError, match=r"layer 0: .* the deviation nan"):
        nn.initializers.unit_variance(model, np.full((50, 3), np.inf))
    assert all(np.array_equal(v, after[k]) for k, v in model.state_dict().items())

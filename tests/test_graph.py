"""Models of several inputs and outputs, and layers called on symbolic values."""
import copy
import hashlib
import pickle
import re

import numpy as np
import pytest

from tinydl import Model, Trainer, data, losses, nn, optim, testing
from tinydl._kernels import call
from tinydl.parallel.strategies import Local

rng = np.random.default_rng(0)
NUMBERS, STORE = rng.standard_normal((90, 4)).astype(np.float32), rng.integers(0, 7, 90)
Y = (NUMBERS.sum(1) + STORE).astype(np.float32)[:, None]


def two_inputs(seed=0, dtype="float32"):
    numbers, store = nn.Input((4,), name="numbers"), nn.Input((), "int64", name="store")
    both = nn.Concat()([nn.Linear(4, 8)(numbers), nn.Embedding(7, 3)(store)])
    hidden = nn.ReLU()(nn.Linear(11, 16)(both))
    return Model(inputs=[numbers, store], outputs=nn.Linear(16, 1)(nn.Dropout(0.2)(hidden)), seed=seed, dtype=dtype)


class Items(data.ItemDataset):
    def __len__(self):
        return 90

    def __getitem__(self, i):
        return {"store": STORE[i], "numbers": NUMBERS[i]}, Y[i]


def stream(**options):
    def samples():
        return (({"numbers": a, "store": s}, y) for a, s, y in zip(NUMBERS, STORE, Y, strict=True))
    return data.StreamDataset(samples, 16, **options)


DATA = {
    "dict": lambda: data.ArrayDataset({"store": STORE.astype(np.uint8), "numbers": NUMBERS}, Y, 16),
    "tuple": lambda: data.ArrayDataset((NUMBERS, STORE), Y, 16),
    "part": lambda: data.ArrayDataset((NUMBERS, STORE), Y, 16).subset(range(90)),
    "items": lambda: Items(16),
    "stream": stream,
}


def trained(dataset, threads=1, epochs=2, **options):
    model = two_inputs()
    with Trainer(epochs, thread_count=threads, enable_parallel=True, seed=3, **options) as t:
        t.init(dataset, model, losses.MeanSquaredError(), optim.Adam(0.01))
        t.train(shuffle=False)
    return model


@pytest.mark.parametrize("strategy", [{"batches_per_update": 2}, {"strategy": "shard", "shards_per_batch": 2},
                                      {"strategy": Local(n_models=2, sync_every=2)}], ids=str)
def test_two_inputs_train_to_the_same_bits_from_any_data_with_any_number_of_threads(strategy):
    want = trained(DATA["dict"](), **strategy).params.tobytes()
    for make in DATA.values():
        for threads in (1, 2, 3):
            assert trained(make(), threads, **strategy).params.tobytes() == want, (make, threads)


def test_what_was_trained_is_saved_loaded_and_predicts_in_any_order():
    model = trained(DATA["dict"]())
    want = model.predict({"numbers": NUMBERS, "store": STORE})
    assert want.shape == (90, 1)
    assert np.array_equal(model.predict((NUMBERS, STORE.astype(np.int8))), want)
    assert np.array_equal(model.predict({"store": STORE[40:41], "numbers": NUMBERS[40:41]}), want[40:41])


def test_saved_and_loaded(tmp_path):
    model = trained(DATA["tuple"](), epochs=1)
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.input_names == ["numbers", "store"] and again.input_shape == ((4,), ())
    assert np.array_equal(again.predict((NUMBERS, STORE)), model.predict((NUMBERS, STORE)))
    text = model.summary()
    assert "numbers (4,), store () -> (1,)" in text
    assert re.search(r"1 +Embedding +store +\(3,\) +21 .*\n2 +Concat +0, 1 +\(11,\)", text)


def test_a_summary_numbers_the_calls_of_a_layer():
    x = nn.Input((3,), name="x")
    again = nn.Linear(3, 3)
    many = nn.Add()([x, again(x), again(again(x)), nn.Tanh()(x), nn.ReLU()(x)])
    text = Model(inputs=x, outputs=[many, nn.Linear(3, 2)(many)]).summary()
    assert re.search(r"0 +Linear +x .* 12 .*\n0 #2 +Linear +x .* 0 .*\n0 #3 +Linear +0 #2 ", text)
    assert re.search(r"Add +x, 0, 0 #3, \.\.\. \(5\)", text) and re.search(r"output 1 +Output +4 +\(2,\)$", text, re.M)
    assert max(map(len, text.splitlines())) <= 80


def with_a_frozen_part():
    """What a pretrained part is: the Embedding and the first Linear stay as they are."""
    model = two_inputs()
    model.freeze("0.*", "1.weight")
    return model


@pytest.mark.parametrize("make, frozen", [(two_inputs, 0), (with_a_frozen_part, 3)], ids=["two inputs", "a frozen part"])
def test_trained_to_one_hash_by_1_2_and_3_threads_saved_loaded_and_trained_on(make, frozen, tmp_path):
    def train(model, threads):
        with Trainer(2, enable_parallel=True, thread_count=threads, batches_per_update=3, seed=3) as t:
            t.init(DATA["dict"](), model, losses.MeanSquaredError(), optim.AdamW(0.01, weight_decay=0.1))
            t.train()
        return hashlib.sha256(b"".join(v.tobytes() for v in model.state_dict().values())).hexdigest()
    models = [make() for _ in range(3)]
    before = models[0].state_dict()
    assert len({train(model, threads) for model, threads in zip(models, (1, 2, 3), strict=True)}) == 1
    after = models[0].state_dict()
    assert len(models[0].frozen) == frozen == sum(np.array_equal(before[name], after[name]) for name in before)
    models[0].save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.frozen == models[0].frozen and again.num_parameters == models[0].num_parameters
    assert again.predict((NUMBERS, STORE)).tobytes() == models[0].predict((NUMBERS, STORE)).tobytes()
    assert train(again, 2) == train(models[1], 1)


def test_an_index_outside_the_table_fails_its_batch_with_the_value(caplog):
    store = STORE.copy()
    store[20] = 7
    model = two_inputs()
    with Trainer(1) as t:
        t.init(data.ArrayDataset((NUMBERS, store), Y, 16), model, losses.MeanSquaredError(), optim.SGD(0.01))
        history = t.train(shuffle=False)
    assert [f.batch_index for f in history.failures] == [1]
    assert "the integer 7 is out of range in layer 1" in str(history.failures[0].exception)
    with pytest.raises(ValueError, match="the integer -1 is out of range in layer 1"):
        model.predict((NUMBERS[:1], np.array([-1])))


def diamond():
    x = nn.Input((3,))
    shared = nn.Linear(3, 3)
    a, b = nn.Tanh()(shared(x)), nn.Sigmoid()(shared(shared(x)))
    return x, a, b


@pytest.mark.parametrize("merge", [nn.Add(), nn.Subtract(), nn.Multiply(), nn.Concat(), nn.Dot(),
                                   nn.CosineSimilarity()], ids=str)
def test_gradients_of_merging_with_a_layer_used_three_times(merge):
    x, a, b = diamond()
    symbols = [a, b] if isinstance(merge, (nn.Dot, nn.CosineSimilarity, nn.Subtract)) else [a, b, x]
    graph = Model(inputs=x, outputs=merge(symbols)).layer
    assert testing.check_gradients(graph, rng.standard_normal((4, 3))) < 1e-7


#: shapes of two or three inputs of which each stands for as many as the others have
SPREAD = [((4,), (1,)), ((1,), (4,)), ((3, 4), (3, 1)), ((1, 4), (3, 4)), ((3, 1), (1, 4)), ((2, 3, 4), (2, 1, 1)),
          ((1, 3, 1), (2, 3, 4)), ((2, 1, 4), (2, 3, 4)), ((2, 3, 4), (1, 3, 1), (2, 1, 1)), ((1, 1, 1), (2, 1, 4))]
MERGED = {"Add": sum, "Subtract": lambda xs: xs[0] - xs[1], "Multiply": lambda xs: np.prod(np.broadcast_arrays(*xs), 0)}


@pytest.mark.parametrize("shapes", SPREAD, ids=str)
@pytest.mark.parametrize("merge", MERGED)
def test_merging_spreads_what_has_1_along_an_axis(merge, shapes):
    layer, shapes = getattr(nn, merge)(), shapes[:2 if merge == "Subtract" else 3]
    inputs = [nn.Input(s) for s in shapes]
    model = Model(inputs=inputs, outputs=layer(inputs), dtype="float64", seed=0)
    xs = [rng.standard_normal((5, *s)) for s in shapes]
    np.testing.assert_allclose(model.predict(tuple(xs)), MERGED[merge](xs), rtol=1e-14, atol=1e-15)
    x = nn.Input((24,))       # gradients, of what is made inside
    made = [nn.Reshape(s)(nn.Linear(24, int(np.prod(s)))(x)) for s in shapes]
    assert testing.check_gradients(Model(inputs=x, outputs=layer(made)).layer, rng.standard_normal((3, 24))) < 1e-7


def test_a_gate_for_each_channel_of_images():
    """As they lie between convolutions, channels last; the gradient is summed where they lie."""
    x = nn.Input((2, 6, 5))
    y = nn.Conv2d(2, 3, 3, padding=1)(x)
    gate = nn.Reshape((3, 1, 1))(nn.Sigmoid()(nn.Linear(3, 3)(nn.GlobalAvgPool()(y))))
    shift = nn.Reshape((3, 1, 1))(nn.Mean((1, 2))(y))
    z = nn.Conv2d(3, 2, 3)(nn.Subtract()([nn.Add()([nn.Multiply()([y, gate]), shift]), gate]))
    assert testing.check_gradients(Model(inputs=x, outputs=z).layer, rng.standard_normal((3, 2, 6, 5))) < 1e-7


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_of_concatenation_along_any_axis(axis):
    x = nn.Input((3, 4))
    y = nn.Concat(axis)([x, nn.Tanh()(x), nn.Slice(axis, 1, 2)(x)])
    assert testing.check_gradients(Model(inputs=x, outputs=y).layer, rng.standard_normal((2, 3, 4))) < 1e-7


@pytest.mark.parametrize("layer", [
    nn.Permute((1, 0)), nn.Permute((0, 1)), nn.Slice(0, 1, 4, 2), nn.Slice(-1, -3), nn.Reshape((2, -1)), nn.Flatten(),
    nn.Identity(), nn.Mean(), nn.Mean(0), nn.Mean((0, 1)), nn.Sum(-1), nn.Sum(0), nn.Max(1), nn.Max((0, 1)), nn.Max(0),
    nn.Sequential(nn.Permute((1, 0)), nn.Linear(4, 3)), nn.Sequential(nn.Slice(1, 0, 3), nn.Linear(3, 2), nn.Tanh()),
    nn.Sequential(nn.Slice(0, 1, 2), nn.Linear(5, 2)), nn.Sequential(nn.Permute((1, 0)), nn.LayerNorm(4), nn.Sum(0)),
    nn.Sequential(nn.Slice(0, 1), nn.Softmax()),
    nn.Residual(nn.Sequential(nn.Permute((1, 0)), nn.Linear(4, 4), nn.Permute((1, 0)))),
], ids=str)
def test_gradients_of_shaping_and_reductions(layer):
    assert testing.check_gradients(layer, rng.standard_normal((3, 4, 5))) < 1e-7


@pytest.mark.parametrize("layer, ours", [
    (nn.Permute((2, 0, 1)), lambda x: x.transpose(0, 3, 1, 2)), (nn.Mean((0, 2)), lambda x: x.mean((1, 3))),
    (nn.Max((0, 2)), lambda x: x.max((1, 3))), (nn.Sum(1), lambda x: x.sum(2)),
    (nn.Slice(1, None, None, 2), lambda x: x[:, :, ::2]),
], ids=lambda of: str(of) if isinstance(of, nn.Layer) else "numpy")
def test_values_of_shaping_and_reductions(layer, ours):
    x = rng.standard_normal((3, 2, 4, 5))
    np.testing.assert_allclose(Model(layer, "float64").predict(x), ours(x), rtol=1e-14, atol=1e-15)


def test_max_lets_nan_win_and_gives_the_first_of_equals_the_gradient():
    assert np.isnan(Model(nn.Max(0)).predict([[1.0, np.nan, 3.0]]))[0]
    out, place = np.empty((1, 1)), np.empty((1, 1), np.int64)
    call("reduce_max", x=np.array([[[2.0], [5.0], [5.0]]]), out=out, place=place)
    assert (out[0, 0], place[0, 0]) == (5, 1)


def test_how_an_embedding_begins():
    for layer in (nn.Embedding(200, 30, 3, init="small_normal"), nn.EmbeddingBag(200, 30, padding_idx=3, init="small_normal")):
        w = Model(layer, seed=0).state_dict()["weight"]
        assert 0.019 < w.std() < 0.021 and not w[3].any()
        assert layer.config()["init"] == "small_normal" and "init" not in nn.Embedding(2, 2).config()
    bound = (6 / 230) ** 0.5
    w = Model(nn.Embedding(200, 30, init="xavier_uniform"), seed=0).state_dict()["weight"]
    assert 0.99 * bound < abs(w).max() <= bound
    with pytest.raises(ValueError, match=r"init='tiny': choose one of .*small_normal"):
        nn.Embedding(2, 2, init="tiny")


def test_embedding_is_a_row_of_the_table_and_its_gradient_the_sum_of_its_rows():
    model = Model(nn.Sequential(nn.Embedding(5, 2, padding_idx=-1), nn.Flatten()), "float64", seed=1)
    table = model.state_dict()["0.weight"]
    assert not table[4].any()
    x = np.array([[0, 4, 0], [3, 4, 1]])
    assert np.array_equal(model.predict(x), table[x].reshape(2, 6))
    before, targets = model.params.copy(), rng.standard_normal((2, 6))
    with Trainer(1) as t:
        t.init(data.ArrayDataset(x, targets, 2), model, losses.MeanSquaredError(), optim.SGD(1.0))
        t.train()
    want = np.zeros((5, 2))
    np.add.at(want, x.ravel(), (2 * (table[x].reshape(2, 6) - targets) / 12).reshape(6, 2))
    want[4] = 0
    np.testing.assert_allclose((before - model.params).reshape(5, 2), want, atol=1e-12)


WORDS = rng.integers(0, 9, (40, 5))


def language_model(bias=True, table=None):
    """Scores of the next of 9 words, by the table of words (Press and Wolf 2017)."""
    table = table or nn.Embedding(9, 4, padding_idx=0)
    return nn.Sequential(table, nn.Linear(4, 4), nn.Tanh(), nn.TiedLinear(table, bias))


@pytest.mark.parametrize("layer, x", [
    (language_model(), WORDS[:6].clip(1)), (language_model(False), WORDS[:6].clip(1)),        # padding's row has no slope
    (nn.Sequential(first := nn.Linear(5, 3), nn.Tanh(), nn.TiedLinear(first)), rng.standard_normal((4, 5))),
    (nn.Sequential(nn.Linear(4, 4), nn.TiedLinear(nn.Embedding(6, 4))), rng.standard_normal((4, 4))),
], ids=["words", "without bias", "autoencoder", "a table that nobody reads"])
def test_gradients_of_tied_weights(layer, x):
    assert testing.check_gradients(layer, (x,) if x.dtype.kind == "i" else x) < 1e-7


def test_a_tied_weight_is_one_parameter_and_its_gradient_the_sum_of_both_uses():
    """Against the formulas in float64: scores tanh(e a + c) E' + b of words with the rows e of E."""
    model = Model(language_model(), "float64", seed=1)
    assert list(model.state_dict()) == ["0.weight", "1.weight", "1.bias", "3.bias"]
    E, a, c, b = (v.copy() for v in model.state_dict().values())
    want = np.tanh(E[WORDS] @ a + c) @ E.T + b
    np.testing.assert_allclose(model.predict(WORDS), want, rtol=0, atol=1e-13)
    targets = rng.integers(0, 9, WORDS.shape)
    with Trainer(1, strategy="shard", shards_per_batch=3, enable_parallel=True, thread_count=2, seed=0) as t:
        t.init(data.ArrayDataset(WORDS, targets, 40), model, losses.SoftmaxCrossEntropy(), optim.SGD(1.0))
        t.train(shuffle=False)
    h = np.tanh(E[WORDS] @ a + c)
    d = np.exp(want - want.max(-1, keepdims=True))
    d = (d / d.sum(-1, keepdims=True) - np.eye(9)[targets]) / targets.size
    dE = np.einsum("rtw,rtd->wd", d, h)                             # of the scores
    np.add.at(dE, WORDS, np.where(WORDS[..., None] == 0, 0, (d @ E * (1 - h * h)) @ a.T))       # of the rows; not of padding's
    np.testing.assert_allclose(E - model.state_dict()["0.weight"], dE, rtol=0, atol=1e-14)


@pytest.mark.parametrize("strategy", [{"batches_per_update": 3}, {"strategy": "shard", "shards_per_batch": 2},
                                      {"strategy": Local(n_models=2, sync_every=2)}], ids=str)
def test_tied_weights_to_one_hash_saved_and_loaded_as_one(strategy, tmp_path):
    def train(model, threads):
        with Trainer(2, thread_count=threads, enable_parallel=True, seed=3, **strategy) as t:
            t.init(data.ArrayDataset(WORDS, WORDS[:, ::-1], 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
            t.train()
        return model.params.tobytes()
    models = [Model(language_model(), seed=0) for _ in range(3)]
    assert len({train(model, threads) for model, threads in zip(models, (1, 2, 3), strict=True)}) == 1
    models[0].save(tmp_path / "m")
    for again in (Model.load(tmp_path / "m"), copy.deepcopy(models[0]), pickle.loads(pickle.dumps(models[0]))):
        assert again.layer[3].weight is again.layer[0].weight and list(again.state_dict()) == list(models[0].state_dict())
        assert again.predict(WORDS).tobytes() == models[0].predict(WORDS).tobytes()
        assert train(again, 2) == train(copy.deepcopy(models[0]), 1)


def test_a_layer_may_be_tied_before_the_other_is_called_or_if_it_never_is(tmp_path):
    table = nn.Embedding(9, 4)
    x, words = nn.Input((4,)), nn.Input((), "int64")
    for model in (Model(inputs=[x, words], outputs=[nn.TiedLinear(table)(x), table(words)], seed=0),
                  Model(nn.TiedLinear(nn.Embedding(9, 4)), seed=0)):
        model.save(tmp_path / "m")
        again = Model.load(tmp_path / "m")
        assert again.num_parameters == 9 * 4 + 9 == model.num_parameters
        assert all(np.array_equal(again.state_dict()[name], value) for name, value in model.state_dict().items())


def test_a_tied_weight_is_frozen_as_one():
    model = Model(language_model(), seed=0)
    model.freeze("0.weight")
    before = model.state_dict()["0.weight"]
    with Trainer(1, seed=0) as t:
        t.init(data.ArrayDataset(WORDS, WORDS, 8), model, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        t.train()
    assert model.num_parameters == 4 * 4 + 4 + 9 and np.array_equal(model.state_dict()["0.weight"], before)


def test_several_outputs_are_a_tuple():
    x = nn.Input((4,))
    hidden = nn.Tanh()(nn.Linear(4, 6)(x))
    model = Model(inputs=x, outputs=[nn.Linear(6, 2)(hidden), hidden, nn.Reshape((2, 3))(hidden)], seed=0)
    assert model.output_shape() == ((2,), (6,), (2, 3))
    a, b, c = model.predict(NUMBERS)
    assert a.shape == (90, 2) and np.array_equal(b.reshape(90, 2, 3), c)
    last = model.state_dict()
    np.testing.assert_allclose(a, b @ last["2.weight"] + last["2.bias"], atol=1e-6)


def input_named(name):
    return nn.Input((3,), name=name)


def outside():
    x, z = nn.Input((3,)), nn.Input((3,), name="z")
    return Model(inputs=x, outputs=nn.Add()([x, z]))


def unused():
    x, z = nn.Input((3,)), nn.Input((3,), name="z")
    return Model(inputs=[x, z], outputs=nn.ReLU()(x))


def twice():
    a, b = input_named("a"), input_named("a")
    return Model(inputs=[a, b], outputs=nn.Add()([a, b]))


def tied_as_in_pytorch():
    table, head = nn.Embedding(9, 4), nn.Linear(4, 9)
    head.weight = table.weight
    return Model(nn.Sequential(table, head)).predict(WORDS)


X3 = nn.Input((3,))
WRONG = [
    (outside, "the outputs need <z (3,) float32>, which is none of the inputs input0"),
    (unused, "no output depends on input z"),
    (twice, "two inputs of one name: a, a"),
    (lambda: Model(inputs=nn.ReLU()(X3), outputs=X3), "is the output of ReLU()"),
    (lambda: Model(inputs=X3, outputs=NUMBERS), "Model(outputs=...) takes symbolic values"),
    (lambda: Model(nn.ReLU(), inputs=X3, outputs=X3), "Model(inputs=x, outputs=y); got layer and inputs and outputs"),
    (lambda: nn.Linear(4, 2)(X3), "the last axis must be 4"),
    (lambda: nn.Add()([X3, nn.Input((2,))]), "must have one shape, or 1 along an axis where others have more; got (3,), (2,)"),
    (lambda: nn.Multiply()([nn.Input((2, 3, 4)), nn.Input((2,))]), "got (2, 3, 4), (2,); nn.Reshape gives one axes of size 1"),
    (lambda: nn.Dot()([nn.Input((2, 3)), nn.Input((1, 3))]), "must have one shape; got (2, 3), (1, 3)"),
    (lambda: nn.Subtract()([X3, X3, X3]), "takes two inputs; got 3"),
    (lambda: nn.CosineSimilarity()([X3]), "takes two inputs or more; got 1"),
    (lambda: nn.CosineSimilarity(eps=0), "CosineSimilarity(eps=0): above 0"),
    (lambda: nn.GLU()(X3), "axis -1 has two halves, and 3 is odd"),
    (lambda: nn.GaussianSample()(X3), "the last axis has means, then as many logarithms of variances"),
    (lambda: nn.GaussianNoise(-1), "GaussianNoise(std=-1): 0 or more"),
    (lambda: nn.Rescaling(float("inf")), "Rescaling(scale=inf, offset=0.0): finite numbers"),
    (lambda: nn.Add()(X3), "takes two inputs or more; got 1"),
    (lambda: nn.ReLU()([X3, X3]), "takes 1 input; got 2"),
    (lambda: nn.ReLU()(NUMBERS), "For arrays put it into a Model and call predict"),
    (lambda: nn.Concat(1)([X3, X3]), "there is no axis 1"),
    (lambda: nn.Input((0,)), "sizes must be at least 1"),
    (lambda: nn.Input((3,), "int32"), "one of float32, float64, int64"),
    (tied_as_in_pytorch, "must have shape (4, 9): nn.TiedLinear transposes the weight of another layer"),
    (lambda: nn.TiedLinear(nn.ReLU()), "TiedLinear takes the layer whose weight it shares, an Embedding or a Linear; got ReLU()"),
    (lambda: nn.Embedding(3, 0), "both must be at least 1"),
    (lambda: two_inputs().predict(NUMBERS), "a dict or a tuple of 2 inputs (numbers, store); got ndarray"),
    (lambda: two_inputs().predict({"numbers": NUMBERS}), "missing 'store'"),
    (lambda: two_inputs().predict({"numbers": NUMBERS, "store": STORE, "z": STORE}), "not among them 'z'"),
    (lambda: two_inputs().predict((NUMBERS, STORE[:3])), "input store has 3 rows, and numbers has 90"),
    (lambda: two_inputs().predict((NUMBERS, STORE + 0.5)), "input store takes integers; got float64"),
    (lambda: two_inputs().predict((NUMBERS[:, :3], STORE)), "input numbers takes samples of shape (4,); got (3,)"),
    (lambda: trained(data.ArrayDataset((NUMBERS, NUMBERS[:, 0]), Y)), "input store takes integers; the dataset has float32"),
    (lambda: trained(data.ArrayDataset({"numbers": NUMBERS, "shop": STORE}, Y)), "missing 'store'"),
    (lambda: data.ArrayDataset({"a": NUMBERS, "b": STORE[:4]}, Y), "b has 4 samples and y has 90"),
    (lambda: data.ArrayDataset({}, Y), "a dict of no inputs"),
    (lambda: Model(nn.Max()).predict(np.zeros((2,))), "each axis once, and at least one"),
    (lambda: Model(nn.Embedding(3, 2)).predict(np.zeros((2, 1))), "input x takes integers"),
]


@pytest.mark.parametrize("call, message", WRONG, ids=[m[:50] for _, m in WRONG])
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()

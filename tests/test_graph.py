"""Models of several inputs and outputs, and layers called on symbolic values."""
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
    assert "Embedding(store)" in text and "numbers (4,), store () -> (1,)" in text


def test_an_index_outside_the_table_fails_its_batch_with_the_value(caplog):
    store = STORE.copy()
    store[20] = 7
    model = two_inputs()
    with Trainer(1) as t:
        t.init(data.ArrayDataset((NUMBERS, store), Y, 16), model, losses.MeanSquaredError(), optim.SGD(0.01))
        history = t.train(shuffle=False)
    assert [f.batch_index for f in history.failures] == [1]
    assert "value 7 is outside" in str(history.failures[0].exception)
    with pytest.raises(ValueError, match="value -1 is outside"):
        model.predict((NUMBERS[:1], np.array([-1])))


def diamond():
    x = nn.Input((3,))
    shared = nn.Linear(3, 3)
    a, b = nn.Tanh()(shared(x)), nn.Sigmoid()(shared(shared(x)))
    return x, a, b


@pytest.mark.parametrize("merge", [nn.Add(), nn.Multiply(), nn.Concat(), nn.Dot()], ids=str)
def test_gradients_of_merging_with_a_layer_used_three_times(merge):
    x, a, b = diamond()
    symbols = [a, b] if isinstance(merge, nn.Dot) else [a, b, x]
    graph = Model(inputs=x, outputs=merge(symbols)).layer
    assert testing.check_gradients(graph, rng.standard_normal((4, 3))) < 1e-7


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
], ids=str)
def test_values_of_shaping_and_reductions(layer, ours):
    x = rng.standard_normal((3, 2, 4, 5))
    np.testing.assert_allclose(Model(layer, "float64").predict(x), ours(x), rtol=1e-14, atol=1e-15)


def test_max_lets_nan_win_and_gives_the_first_of_equals_the_gradient():
    assert np.isnan(Model(nn.Max(0)).predict([[1.0, np.nan, 3.0]]))[0]
    out, place = np.empty((1, 1)), np.empty((1, 1), np.int64)
    call("reduce_max", x=np.array([[[2.0], [5.0], [5.0]]]), out=out, place=place)
    assert (out[0, 0], place[0, 0]) == (5, 1)


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


X3 = nn.Input((3,))
WRONG = [
    (outside, "the outputs need <z (3,) float32>, which is none of the inputs input0"),
    (unused, "no output depends on input z"),
    (twice, "two inputs of one name: a, a"),
    (lambda: Model(inputs=nn.ReLU()(X3), outputs=X3), "is the output of ReLU()"),
    (lambda: Model(inputs=X3, outputs=NUMBERS), "Model(outputs=...) takes symbolic values"),
    (lambda: Model(nn.ReLU(), inputs=X3, outputs=X3), "a layer, or inputs and outputs"),
    (lambda: nn.Linear(4, 2)(X3), "the last axis must be 4"),
    (lambda: nn.Add()([X3, nn.Input((2,))]), "must have one shape; got (3,), (2,)"),
    (lambda: nn.Add()(X3), "takes two inputs or more; got 1"),
    (lambda: nn.ReLU()([X3, X3]), "takes 1 input; got 2"),
    (lambda: nn.ReLU()(NUMBERS), "For arrays put it into a Model and call predict"),
    (lambda: nn.Concat(1)([X3, X3]), "there is no axis 1"),
    (lambda: nn.Input((0,)), "sizes must be at least 1"),
    (lambda: nn.Input((3,), "int32"), "one of float32, float64, int64"),
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

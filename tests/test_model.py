"""Model: names, state, files, prediction."""
import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from small import mlp

from tinydl import Model, data, nn
from tinydl.serialization import read_arrays


def test_names_are_paths_and_cannot_collide():
    m = Model(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)),
                            nn.Residual(nn.Linear(2, 2))), seed=0)
    assert list(m.state_dict()) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias",
                                    "2.layer.weight", "2.layer.bias", "1.1.running_mean", "1.1.running_var"]


def test_parameters_are_views_of_one_arena():
    m = mlp(3, 4, 2)
    assert m.num_parameters == m.params.size == 3 * 4 + 4 + 4 * 2 + 2
    m.params[...] = 7
    assert all((v == 7).all() for v in m.state_dict().values())
    assert m.layer[0].weight.data.base is not None


def test_seed_decides_the_values_in_both_dtypes():
    a, b = mlp(5, 6, 2, seed=1), mlp(5, 6, 2, seed=1, dtype="float64")
    assert np.array_equal(a.params, b.params.astype(np.float32))
    assert not np.array_equal(a.params, mlp(5, 6, 2, seed=2).params)
    w = mlp(64, 8, seed=0).state_dict()["0.weight"]
    assert abs(w).max() <= 1 / 8 and abs(w).max() > 0.9 / 8


@pytest.mark.parametrize("init, std", [("kaiming_uniform", (2 / 200) ** 0.5), ("kaiming_normal", (2 / 200) ** 0.5),
                                       ("xavier_uniform", (2 / 300) ** 0.5), ("xavier_normal", (2 / 300) ** 0.5)])
def test_initialisers(init, std):
    m = Model(nn.Linear(200, 100, init=init), seed=0)
    s = m.state_dict()
    # the deviation of 20,000 draws is within 5 standard errors of what it should be
    assert s["weight"].std() == pytest.approx(std, rel=5 / np.sqrt(2 * 20_000))
    assert not s["bias"].any()
    assert not Model(nn.Linear(3, 3, init="zeros")).params.any()


def test_predict_does_not_depend_on_the_batch():
    m = mlp(33, 65, 7, 3)
    x = np.random.default_rng(0).standard_normal((301, 33)).astype(np.float32)
    want = m.predict(x).tobytes()
    assert np.concatenate([m.predict(x[i:i + 1]) for i in range(301)]).tobytes() == want
    for batch_size in (1, 2, 7, 64, 300, 10_000):
        assert m.predict(x, batch_size).tobytes() == want


def test_predict_input_kinds():
    m = mlp(4, 3)
    x = np.random.default_rng(0).integers(0, 5, (6, 4))
    want = m.predict(x.astype(np.float32))
    for other in (x, x.astype(np.uint8), x.astype(np.float64), x.tolist(), np.asfortranarray(x), x.astype(np.float16)):
        assert np.array_equal(m.predict(other), want)
    frozen = x.astype(np.float32)
    frozen.flags.writeable = False
    assert np.array_equal(m.predict(frozen), want)
    assert m.predict(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("x, message", [(np.zeros((2, 5)), "(5,)"), (np.array(["a"]), "numbers"),
                                        (np.float32(1), "axis"), (np.zeros(4), "(rows, 4)")])
def test_predict_door(x, message):
    with pytest.raises(ValueError) as e:
        mlp(4, 3).predict(x)
    assert message in str(e.value)


def test_predict_from_several_threads():
    m = mlp(20, 30, 5)
    x = np.random.default_rng(0).standard_normal((500, 20)).astype(np.float32)
    want = m.predict(x)
    start, bad = threading.Barrier(4), []

    def work():
        start.wait()
        for size in (1, 64, 500) * 5:
            if not np.array_equal(m.predict(x, size), want):
                bad.append(size)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad


def test_load_state_dict_is_strict_and_all_or_nothing():
    m = mlp(3, 4, 2)
    before = m.params.copy()
    state = m.state_dict()
    state["x"] = state.pop("0.bias")
    state["2.weight"] = np.zeros((1, 1))
    with pytest.raises(ValueError) as e:
        m.load_state_dict(state)
    for word in ("missing: 0.bias", "unexpected: x", "misshapen: 2.weight (1, 1) for (4, 2)"):
        assert word in str(e.value)
    assert np.array_equal(m.params, before)
    m.load_state_dict({"0.bias": np.ones(4), "y": 0}, strict=False)
    assert (m.state_dict()["0.bias"] == 1).all()


def test_save_and_load(tmp_path):
    shared = nn.Linear(4, 4)
    m = Model(nn.Sequential(shared, nn.ELU(0.5), shared, nn.BatchNorm1d(4), nn.Residual(nn.LayerNorm(4)), nn.Dropout(0.2),
                            nn.Linear(4, 2, bias=False)), "float64", seed=0, name="mine")
    m.metadata["classes"] = ["a", "b"]
    m.save(tmp_path / "m.tinydl")
    k = Model.load(tmp_path / "m.tinydl")
    x = np.random.default_rng(0).standard_normal((5, 4))
    assert k.predict(x).tobytes() == m.predict(x).tobytes()
    assert (k.name, k.dtype, k.metadata, k.num_parameters) == ("mine", m.dtype, m.metadata, m.num_parameters)
    assert repr(k) == repr(m)
    about, arrays = read_arrays(tmp_path / "m.tinydl", "model file")
    assert (about["format"], about["version"]) == ("tinydl-model", 3) and list(arrays) == list(m.state_dict())


def tied():
    """Weights, biases and statistics that layers share with layers before them."""
    first, second, norms = nn.Linear(4, 4), nn.Linear(4, 4), [nn.BatchNorm1d(4), nn.BatchNorm1d(4)]
    second.weight, norms[1].bias, norms[1].running_mean = first.weight, norms[0].bias, norms[0].running_mean
    last = nn.Linear(4, 4)
    last.bias = first.bias
    return nn.Sequential(first, norms[0], nn.Residual(nn.Sequential(nn.Tanh(), second)), norms[1], first, last)


def test_a_shared_parameter_has_one_place_and_one_name(tmp_path):
    m = Model(tied(), seed=0)
    assert list(m.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.layer.1.bias", "3.weight", "5.weight",
                                    "1.running_mean", "1.running_var", "3.running_var"]
    assert m.num_parameters == m.params.size == 3 * 4 + 2 * 16 + 2 * 4 and m.statistics.size == m.momenta.size == 3 * 4
    assert f"{m.num_parameters} parameters" in m.summary()
    m.params[...] += np.arange(m.params.size)
    m.save(tmp_path / "m")
    about, arrays = read_arrays(tmp_path / "m", "model file")
    assert len(arrays) == 10 and about["shared"] == {
        "2.layer.1.weight": "0.weight", "3.bias": "1.bias", "3.running_mean": "1.running_mean", "5.bias": "0.bias"}
    x = np.random.default_rng(0).standard_normal((5, 4))
    for k in (Model.load(tmp_path / "m"), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert k.predict(x).tobytes() == m.predict(x).tobytes() and list(k.state_dict()) == list(m.state_dict())
        assert k.layer[5].bias is k.layer[0].bias is k.layer[4].bias is not m.layer[0].bias
        assert k.layer[3].running_mean is k.layer[1].running_mean


def test_parameters_are_given_before_the_model_is_made_and_fit():
    def given(layer, parameter):
        layer.weight = parameter
        return layer
    m = Model(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), seed=0)
    given(m.layer[1], m.layer[0].weight)
    with pytest.raises(ValueError, match="other parameters since"):
        m.predict(np.ones((2, 4)))
    for layer, weight in ((nn.Linear(4, 8), (4, 4)), (nn.Linear(4, 2), (2, 4)), (nn.LayerNorm(4), (2,))):
        net = nn.Sequential(given(layer, nn.Parameter(weight, nn.initializers.ones)))
        with pytest.raises(ValueError, match=r"layer 0: Parameter.* must have shape"):
            Model(net, seed=0).predict(np.ones((2, 4)))


class Twice(nn.PythonLayer):
    def forward(self, x):
        return 2 * x, None

    def backward(self, dy, saved):
        return 2 * dy


def test_custom_layers_are_named_not_imported(tmp_path):
    Model(nn.Sequential(Twice(), nn.Linear(2, 1)), seed=0).save(tmp_path / "m")
    with pytest.raises(ValueError, match="custom_layers"):
        Model.load(tmp_path / "m")
    assert Model.load(tmp_path / "m", {"Twice": Twice}).predict([[1, 2]]).shape == (1, 1)


def test_save_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "m"
    mlp(3, 2).save(path)
    before = path.read_bytes()
    m = mlp(3, 2, seed=1)
    m.metadata["bad"] = object()        # not JSON: fails in the middle
    with pytest.raises(TypeError):
        m.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_copies_are_independent():
    m = mlp(3, 4, 2)
    for k in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert np.array_equal(k.params, m.params)
        k.params[...] = 0
        assert not k.state_dict()["0.weight"].any() and m.params.any()


def test_a_layer_belongs_to_one_model():
    layer = nn.Linear(2, 2)
    m = Model(layer, seed=0)
    with pytest.raises(ValueError, match="another Model"):
        Model(layer)
    del m
    Model(layer)


def test_summary():
    text = mlp(784, 128, 10).summary()
    assert "100,480" in text and "(128,)" in text and "101,770 parameters" in text and "101,632 multiply-adds" in text


def test_describe_names_fusions():
    from tinydl.losses import SoftmaxCrossEntropy
    text = mlp(784, 512, 256, 10).plan(max_rows=128, loss=SoftmaxCrossEntropy()).describe()
    assert text.count("matmul + relu") == 2 and text.count("matmul * relu'") == 2 and "4 fused away" in text


@pytest.mark.parametrize("inputs, outputs", [(784, 128), (64, 128), (64, 64), (64, 32), (256, 120), (300, 64), (300, 33),
                                             (300, 48), (257, 32), (400, 31)])
def test_a_batch_has_the_same_bits_wherever_its_rows_lie(inputs, outputs):
    """Products read rows where they lie, or copies of them; each instruction set has shapes of its own for either."""
    from tinydl._kernels import engine
    from tinydl.losses import SoftmaxCrossEntropy
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((90, inputs)).astype(np.float32), rng.integers(0, outputs, 90)
    m = mlp(inputs, outputs)
    replica = engine.Replica(m.plan(max_rows=90, loss=SoftmaxCrossEntropy()).program, m.params, m.statistics)
    for n in (1, 3, 5, 6, 13, 14, 15, 29, 64, 90):
        index = rng.permutation(90)[:n]
        apart, together = np.full(m.params.size, np.nan, np.float32), np.full(m.params.size, np.nan, np.float32)
        losses = (replica.run([engine.Source(x), engine.Source(y)], index, n, apart),
                  replica.run([engine.Source(x[index]), engine.Source(y[index])], None, n, together))
        assert losses[0] == losses[1] and np.array_equal(apart, together), n
        assert np.isfinite(apart).all()
    with pytest.raises(IndexError, match="sample 90 is outside"):
        replica.run([engine.Source(x), engine.Source(y)], np.append(np.arange(79), 90), 80, apart)


def test_every_block_of_a_long_batch_has_rows_enough_for_its_tiles():
    """Blocks of ceil(m / blocks) rows would leave 5 for the last one here, with AVX-512."""
    from tinydl._kernels import engine
    x = np.random.default_rng(0).standard_normal((100, 784)).astype(np.float32)
    m = mlp(784, 64)
    n = 46_653
    plan = m.plan((784,), max_rows=n)
    replica, index = engine.Replica(plan.program, m.params, m.statistics), np.arange(n) % 100
    out = np.full((n, 64), np.nan, np.float32)
    replica.run([engine.Source(x)], index, n, out=out)
    assert np.array_equal(out, m.predict(x)[index])


def past_the_caches():
    """Gradients of 8 MiB are stored past the caches where they lie at whole cache lines: the same bits, and watched."""
    from tinydl._kernels import engine
    from tinydl.losses import MeanSquaredError
    for dtype, outputs in ((np.float32, 1024), (np.float64, 512)):
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((30, 2048)).astype(dtype), rng.standard_normal((30, outputs)).astype(dtype)
        m = mlp(2048, outputs, dtype=dtype)
        replica = engine.Replica(m.plan(max_rows=30, loss=MeanSquaredError()).program, m.params, m.statistics)
        memory = engine.aligned(2 * m.params.size + 1, dtype)
        past, through = memory[:m.params.size], memory[m.params.size + 1:]
        for n in (1, 5, 30):
            memory[...] = np.nan
            for slot in (past, through):
                replica.run([engine.Source(x), engine.Source(y)], None, n, slot)
            assert past.ctypes.data % 64 == 0 != through.ctypes.data % 64 and np.array_equal(past, through)
            dy = 2 / (n * outputs) * (m.predict(x[:n]) - y[:n]).astype(float)
            error = np.abs(past[:2048 * outputs].reshape(2048, outputs) - x[:n].T.astype(float) @ dy)
            assert (error <= (n + 8) * np.finfo(dtype).eps * (np.abs(x[:n]).T @ np.abs(dy) + 1e-6)).all()
        m.params[77 * outputs:78 * outputs] = 0
        x[3, 77], y[3, 5] = np.finfo(dtype).max, 1e6        # the loss is finite, a gradient is not
        with pytest.raises(engine.NonFiniteError, match="gradient"):
            replica.run([engine.Source(x), engine.Source(y)], None, 30, past)


def test_gradients_stored_past_the_caches_on_every_instruction_set():
    from tinydl import _kernels as kernels
    for isa in kernels.isa_available:
        done = subprocess.run([sys.executable, "-c", "import test_model; test_model.past_the_caches()"],
                              cwd=os.path.dirname(__file__), capture_output=True, text=True, timeout=300,
                              env=os.environ | {"TINYDL_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)})
        assert done.returncode == 0, (isa, done.stderr)


def test_without_the_package_onnx(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'tinydl-parallel\[onnx\]'"):
        Model(nn.Linear(3, 2)).to_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("first", [nn.Linear(4, 4), nn.LayerNorm(4), nn.Scale(4)], ids=lambda layer: type(layer).__name__)
def test_the_shape_last_used_is_kept(first, tmp_path):
    """The first layer knows the last axis alone; what comes behind needs the others."""
    model = Model(nn.Sequential(first, nn.GRU(4, 2)), seed=0)
    x = np.zeros((1, 6, 4))
    model.predict(x)
    assert model.input_shape == (6, 4)
    model.save(tmp_path / "m.tinydl")
    again = Model.load(tmp_path / "m.tinydl")
    assert again.input_shape == (6, 4) and again.summary() == model.summary()


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2, 1, 1), nn.GlobalMaxPool(), nn.Max(), nn.Conv2d(3, 4, 1, padding=1)],
                         ids=lambda layer: type(layer).__name__)
def test_samples_with_an_axis_of_nothing_are_refused(layer):
    with pytest.raises(ValueError, match=r"samples of shape \(3, 0, 5\) hold nothing; each axis must be at least 1"):
        Model(layer).predict(np.zeros((2, 3, 0, 5), "float32"))


def test_an_integer_out_of_range_is_named_with_what_is_allowed():
    with pytest.raises(ValueError, match="the integer 5 is out of range in the layer: an index of an Embedding is from 0 to "
                                         "num_embeddings - 1, which is 4"):
        Model(nn.Embedding(5, 3)).predict(np.array([[1, 5]]))
    with pytest.raises(ValueError, match=r"integer 9 is .* in the layer: .* num_embeddings - 1, which is 6"):
        Model(nn.EmbeddingBag(7, 3)).predict(np.array([[1, 9]]))
    x, lengths = nn.Input((6, 4)), nn.Input((), "int64", name="lengths")
    for layer in (nn.GRU(4, 2), nn.MeanSteps(), nn.MultiheadAttention(4, 2)):
        model = Model(inputs=[x, lengths], outputs=layer([x, lengths]))
        with pytest.raises(ValueError, match=r"8 is out of range in layer 0: a length is from 0 to the number of steps, 6$"):
            model.predict((np.ones((1, 6, 4)), [8]))


class Items(data.ItemDataset):
    """A constructor that calls no other one, as PyTorch's datasets have it."""

    def __init__(self, x, several=False):
        self.x, self.several = x, several

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"a": self.x[i], "b": self.x[i, :2]} if self.several else self.x[i], 0


def test_predictions_for_items_and_streams():
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    model = Model(nn.Linear(4, 3), seed=0)
    items = Items(x)
    assert items.n_batches == 2 and np.array_equal(model.predict(items), model.predict(x))
    items.drop_last = True                              # every row has a prediction
    assert items.n_samples == 32 and np.array_equal(model.predict(items, 16), model.predict(x)) and items.drop_last
    stream = data.StreamDataset(lambda: ((row, 0) for row in x[:35]), batch_size=8)
    assert np.array_equal(model.predict(stream), model.predict(x[:35]))
    for named in True, False:
        a, b = nn.Input(4, name="a"), nn.Input(2, name="b")
        outputs = [nn.Linear(4, 3)(a), nn.Linear(2, 1)(b)]
        two = Model(inputs=[a, b], outputs=dict(zip("uv", outputs, strict=True)) if named else outputs, seed=0)
        found, expected = two.predict(Items(x, several=True)), two.predict({"a": x, "b": x[:, :2]})
        assert type(found) is type(expected)
        for name in expected if isinstance(expected, dict) else range(2):
            assert np.array_equal(found[name], expected[name])
    with pytest.raises(TypeError, match="x is a Split: give one of its parts"):
        model.predict(data.ArrayDataset(x, np.zeros(40)).split(0.5, 0.5))


def test_layers_of_another_model_are_refused_with_the_way_to_take_their_values():
    base = Model(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), seed=0)
    with pytest.raises(ValueError, match=r"0.weight already belongs to another Model.*new.load_state_dict\(.*strict=False\)"):
        Model(nn.Sequential(*base.layer[:2], nn.Linear(5, 2)))


def test_layers_are_asked_for_shapes_once(monkeypatch):
    """Of a graph and one row, that would take longer than the computation."""
    asked = []
    x, k = nn.Input((4,), name="x"), nn.Input((), "int64", name="k")
    y = nn.Linear(6, 2)(nn.Concat()([x, nn.Embedding(5, 2)(k)]))
    model = Model(inputs=[x, k], outputs=y, seed=0)
    given = np.ones((3, 4)), np.array([0, 4, 2])
    first = model.predict(given)
    ask = nn.Linear.output_shape
    monkeypatch.setattr(nn.Linear, "output_shape", lambda self, *shapes: asked.append(shapes) or ask(self, *shapes))
    assert (model.predict(given) == first).all() and asked == []
    model.freeze("2.*")
    assert (model.predict(given) == first).all() and len(asked) > 0
    sequences = Model(nn.GRU(2, 3), seed=0)
    for T in range(1, 80):      # of any number of shapes
        assert sequences.predict(np.ones((1, T, 2))).shape == (1, T, 3)
    assert len(sequences._outputs) <= 32

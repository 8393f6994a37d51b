"""Weights of Keras 3, from files that it wrote and whose outputs it said (`data/`), and from Keras itself where it is there.

keras_images.keras is a Sequential model, keras_sequences.weights.h5 a functional one, keras_class.weights.h5 of a class with
layers as attributes; Keras 3.15 wrote them, and keras_expected.npz has inputs and outputs.
"""
import gzip
import json
import os
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinydl import Model, keras_weights, nn
from tinydl.keras_weights.file import Entry

DATA = Path(__file__).parent / "data"
EXPECTED = np.load(DATA / "keras_expected.npz")
rng = np.random.default_rng(0)


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


@pytest.fixture
def files(tmp_path, h5py):
    for path in DATA.glob("keras_*.gz"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return tmp_path


def close(got, want, roundings=64):
    """In float32, of Keras's layers and of ours."""
    np.testing.assert_allclose(got, want, rtol=0, atol=roundings * 2**-24 * max(1, np.abs(want).max()))


def bits(model):
    return model.params.tobytes() + model.statistics.tobytes()


def images(eps=1e-3, groups_eps=0.01):
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), padding="same"), nn.BatchNorm2d(4, eps=eps, momentum=0.01), nn.ReLU(),
        nn.Conv2d(4, 8, 2, groups=4),
        nn.ConvTranspose2d(8, 3, 2, stride=2), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 3, 3, stride=2, groups=3),
        nn.GroupNorm(1, 3, eps=groups_eps), nn.Permute((1, 2, 0)), nn.PReLU(3, axis=-1), nn.Flatten(),
        nn.Dropout(0.1), nn.Linear(60, 4), nn.LayerNorm(4, eps=1e-3), nn.Linear(4, 3))


def sequences():
    x = nn.Input((7,), "int64")
    h = nn.Embedding(9, 4)(x)
    h = nn.LSTM(4, 3, bidirectional=True)(h)
    h = nn.GRU(6, 4)(h)
    h = nn.GRU(4, 4, reset_after=False)(h)
    h = nn.RMSNorm(4, eps=1e-6)(nn.Add()([h, nn.MultiheadAttention(4, 2)(h)]))
    h = nn.LSTM(4, 4, num_layers=2)(h)
    return {"inputs": x, "outputs": nn.Linear(3, 2)(nn.RNN(4, 3, return_sequences=False)(h))}


def of_class():
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 1))


def test_a_sequential_model_of_images(files):
    model = Model(images(), seed=0)
    names = keras_weights.load(model, files / "keras_images.keras")
    x = EXPECTED["images_x"].transpose(0, 3, 1, 2)
    close(model.predict(x), EXPECTED["images_y"])
    assert list(names.items())[:4] == [("layers/conv2d", "0"), ("layers/batch_normalization", "1"),
                                       ("layers/depthwise_conv2d", "3"), ("layers/conv2d_transpose", "4")]
    exact = Model(images(), "float64", seed=0)
    keras_weights.load(exact, files / "keras_images.keras")
    close(exact.predict(x), EXPECTED["images_y"])


def test_a_functional_model_of_sequences(files):
    model = Model(**sequences(), seed=0)
    names = keras_weights.load(model, files / "keras_sequences.weights.h5")
    close(model.predict(EXPECTED["tokens_x"]), EXPECTED["tokens_y"])
    layers = {there: type(dict(model.layer.walk())[here.removesuffix(".l0").removesuffix(".l1")]).__name__
              for there, here in names.items()}
    assert layers["layers/bidirectional"] == "LSTM" and layers["layers/gru_1"] == "GRU" and len(names) == 10
    assert names["layers/lstm"].endswith(".l0") and names["layers/lstm_1"].endswith(".l1")


def test_a_model_of_a_class_needs_a_map(files):
    path, model = files / "keras_class.weights.h5", Model(of_class(), seed=0)
    before = bits(model)
    with pytest.raises(ValueError, match=r"or in which order: a_head, body/layers/dense, body/layers/dense_1, layers/dense\. "
                       r"Save a \.keras file, or give map=.*There: a_head \(\(3, 1\), \(1,\)\), .*Here: 0, Linear \(weight"):
        keras_weights.load(model, path)
    assert bits(model) == before
    map = {"layers/dense": "0", "body/layers/dense": "2", "body/layers/dense_1": "4", "a_head": "5"}
    assert keras_weights.load(model, path, map) == map
    close(model.predict(EXPECTED["class_x"]), EXPECTED["class_y"])
    assert keras_weights.load(model, path, dict(list(map.items())[:3])) == map       # one is left, and so is one place
    with pytest.raises(ValueError, match="map: 'body' there, '7' here"):
        keras_weights.load(model, path, {"body": "7"})
    with pytest.raises(ValueError, match="map: two layers for one"):
        keras_weights.load(model, path, {"a_head": "5", "layers/dense": "5"})


# ------------------------------------------------------------------ back
MAP = {"layers/dense": "0", "body/layers/dense": "2", "body/layers/dense_1": "4", "a_head": "5"}


@pytest.mark.parametrize("name, network, map, x", [
    ("keras_images.keras", lambda: {"layer": images()}, None, EXPECTED["images_x"].transpose(0, 3, 1, 2)),
    ("keras_sequences.weights.h5", sequences, None, EXPECTED["tokens_x"]),
    ("keras_class.weights.h5", lambda: {"layer": of_class()}, MAP, EXPECTED["class_x"])])
def test_what_is_saved_into_a_file_of_keras_is_loaded_from_it(files, name, network, map, x):
    model, again = Model(**network(), seed=5), Model(**network(), seed=6)
    for statistics in model.named_arrays().values():
        statistics += np.random.default_rng(1).uniform(0.1, 0.5, statistics.shape)
    names = keras_weights.save(model, files / name, map)
    assert keras_weights.load(again, files / name, map) == names
    close(again.predict(x), model.predict(x))
    before = model.state_dict()
    assert all((value == before[k]).all() for k, value in again.state_dict().items() if "bias_" not in k)   # two may be one there


def test_the_rest_of_a_keras_file_stays_as_it_is(files):
    path = files / "keras_images.keras"
    with zipfile.ZipFile(path) as z:
        before = {name: z.read(name) for name in z.namelist()}
    keras_weights.save(Model(images(), seed=0), path)
    with zipfile.ZipFile(path) as z:
        after = {name: z.read(name) for name in z.namelist()}
    assert [name for name in before if before[name] != after[name]] == ["model.weights.h5"] and before.keys() == after.keys()


def test_a_file_that_does_not_fit_stays_as_it_is(files):
    path = files / "keras_images.keras"
    before = path.read_bytes()
    for model in (Model(images(eps=1e-5)), Model(nn.Linear(3, 2))):
        with pytest.raises(ValueError, match="does not fit"):
            keras_weights.save(model, path)
    assert path.read_bytes() == before


# ------------------------------------------------------------------ what does not fit
def test_norms_with_another_epsilon(files):
    with pytest.raises(ValueError, match=r"layers/batch_normalization has epsilon=0\.001, 1 eps=1e-05: make it with eps=0\.001"):
        keras_weights.load(Model(images(eps=1e-5)), files / "keras_images.keras")
    with zipfile.ZipFile(files / "keras_images.keras") as weights:
        (files / "w.weights.h5").write_bytes(weights.read("model.weights.h5"))
    apart = {"layers/conv2d_1": "6"}        # a grouped convolution that could be the depthwise one
    with pytest.warns(UserWarning, match=r"the epsilon of layers/group_normalization; Keras's is 0\.001 unless .* eps=0\.01"):
        keras_weights.load(Model(images()), files / "w.weights.h5", apart)
    model = Model(images(groups_eps=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras_weights.load(model, files / "w.weights.h5", apart)
    with pytest.raises(ValueError, match=r"Left over there: layers/conv2d_1 .*; here: 6, Conv2d .*map="):
        keras_weights.load(model, files / "w.weights.h5")


def test_images_that_are_flattened_in_another_order(load):
    convolution = {"conv2d": [normal(3, 3, 1, 2), normal(2)]}
    with pytest.warns(UserWarning, match=r"nn\.Permute\(\(1, 2, 0\)\) belongs before nn\.Flatten"):
        load(Model(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())), convolution)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for layers in ([nn.Permute((1, 2, 0)), nn.Flatten()], [nn.GlobalAvgPool(), nn.Flatten()]):
            model = Model(nn.Sequential(nn.Conv2d(1, 2, 3), *layers))
            load(model, convolution)


def normal(*shape):
    return rng.standard_normal(shape).astype("f4")


@pytest.fixture
def load(monkeypatch):
    """load(model, layers) as of a file of these layers, {name: arrays, or {path within it: arrays}}."""
    def call(model, layers, map=None):
        entries = [Entry(f"layers/{name}", arrays if isinstance(arrays, dict) else {"": arrays}, name)
                   for name, arrays in layers.items()]
        with monkeypatch.context() as m:
            m.setattr(keras_weights, "read", lambda path: entries)
            return keras_weights.load(model, "made", map)
    return call


def file_of(folder, layers):
    """As Keras writes weights."""
    import h5py
    path = folder / "made.weights.h5"
    with h5py.File(path, "w") as f:
        for name, arrays in layers.items():
            group = f.create_group(f"layers/{name}/vars")
            group.attrs["name"] = name
            for i, a in enumerate(arrays):
                group[str(i)] = a
        f.create_group("optimizer/vars")["0"] = np.zeros(3)
        f.create_group("layers/dropout/seed_generator/vars")["0"] = np.zeros(2, "u4")
    return path


def test_ten_layers_and_more_are_in_their_order(files):
    w = [normal(2, 2) for _ in range(12)]
    path = file_of(files, {"dense" + f"_{i}" * (i > 0): [a] for i, a in enumerate(w)})
    model = Model(nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in w]))
    keras_weights.load(model, path)
    assert all(np.array_equal(model.state_dict()[f"{i}.weight"], a) for i, a in enumerate(w))


def test_more_arrays_of_a_layer_than_ten(files):
    """vars/10 stands before vars/2 in a file."""
    entry = keras_weights.read(file_of(files, {"x": [np.full(1, i, "f4") for i in range(12)]}))[0]
    assert [int(a[0]) for a in entry.arrays[""]] == list(range(12))


def test_what_is_left_over_is_listed_and_nothing_changes(load):
    dense = {"dense": [normal(3, 2), normal(2)]}
    cases = [
        ({**dense, "dense_1": [normal(2, 2)]}, nn.Linear(3, 2), r"Left over there: layers/dense_1 \(\(2, 2\)\); here: nothing"),
        (dense, nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), r"there: nothing; here: 1, Linear \(weight \(2, 2\), bias "),
        ({**dense, "lstm": {"cell": [normal(2, 8)]}}, nn.Linear(3, 2), r"Left over there: layers/lstm \(cell \(2, 8\)\)"),
        ({"dense": [normal(2, 3), normal(2)]}, nn.Linear(3, 2), r"layers/dense \(\(2, 3\), \(2,\)\) for the model, Linear"),
        ({"dense": [normal(3, 2)]}, nn.Linear(3, 2), r"layers/dense \(\(3, 2\)\) for the model, Linear"),
        ({"my_dense": [normal(3, 2), normal(2)]}, nn.Linear(3, 2), "does not say what these are, or in which order: layers/my_d"),
        ({"batch_normalization": [np.ones(3)] * 3}, nn.BatchNorm1d(3, eps=1e-3), "3 arrays for 4; scale and center are here"),
        ({"p_re_lu": [normal(4, 3)]}, nn.PReLU(3), "shared_axes"),
        ({"gru": {"cell": [normal(2, 9), normal(3, 9), normal(9)]}}, nn.GRU(2, 3), r"make it nn\.GRU\(reset_after=False\)"),
        ({"gru": {"cell": [normal(2, 9), normal(3, 9), normal(2, 9)]}}, nn.GRU(2, 3, reset_after=False), "reset_after=True"),
        ({"multi_head_attention": {f"{n}_dense": [normal(6, 3, 2), normal(3, 2)] for n in ("query", "key", "value", "output")}},
         nn.MultiheadAttention(6, 2), "other numbers of heads"),
        (dense, nn.Sequential(nn.Linear(3, 2), nn.Scale(2)), "1: Scale has no counterpart in Keras"),
        ({"dense": [np.full((3, 2), 1e300), normal(2)]}, nn.Linear(3, 2), "which is infinite as the model's float32"),
    ]
    for layers, layer, says in cases:
        model = Model(layer, seed=0)
        before = bits(model)
        with pytest.raises(ValueError, match=says):
            load(model, layers)
        assert bits(model) == before


def test_layers_in_layers_have_an_order_in_a_keras_file_alone(files, h5py):
    w = {"dense": normal(2, 2), "sequential/layers/dense": normal(2, 2), "dense_1": normal(2, 2)}
    model = Model(nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in w]))
    path = file_of(files, {name: [a] for name, a in w.items()})
    with pytest.raises(ValueError, match="in which order: layers/dense, layers/dense_1, layers/sequential/layers/dense"):
        keras_weights.load(model, path)
    with h5py.File(path, "r+") as f:
        for group, name in (("dense", "first"), ("dense_1", "last"), ("sequential/layers/dense", "inner")):
            f[f"layers/{group}/vars"].attrs["name"] = name
        f.create_group("layers/sequential/vars").attrs["name"] = "middle"

    def layer(name, *layers):
        return {"config": {"name": name, **({"layers": layers} if layers else {})}}
    with zipfile.ZipFile(files / "m.keras", "w") as z:
        z.write(path, "model.weights.h5")
        z.writestr("config.json", json.dumps(layer("", layer("first"), layer("middle", layer("inner")), layer("last"))))
    assert keras_weights.load(model, files / "m.keras") == {
        "layers/dense": "0", "layers/sequential/layers/dense": "1", "layers/dense_1": "2"}
    assert all(np.array_equal(model.state_dict()[f"{i}.weight"], w[name]) for i, name in enumerate(w))


def test_files_that_are_no_weights_of_keras(files, h5py):
    model = Model(nn.Linear(3, 2))
    model.save(files / "m")
    whole = (files / "keras_class.weights.h5").read_bytes()
    (files / "cut").write_bytes(whole[:5000])
    with h5py.File(files / "old.h5", "w") as f:
        f.create_group("dense/dense")["kernel:0"] = normal(3, 2)
    with zipfile.ZipFile(files / "bad.keras", "w") as z:
        z.writestr("model.weights.h5", whole[:5000])
        z.writestr("config.json", "{}")
    for name, says in (("m", "m holds no weights of Keras: it is a safetensors file"), ("cut", "cut is damaged: "),
                       ("old.h5", "no weights as Keras 3 writes them"), ("bad.keras", r"bad\.keras is damaged")):
        with pytest.raises(ValueError, match=says):
            keras_weights.load(model, files / name)


def test_weights_in_several_files_come_by_their_index(tmp_path, h5py):
    """A layer's arrays may be in two of them."""
    w, b, index = normal(3, 2), normal(2), tmp_path / "m.weights.json"
    for i, a in enumerate((w, b)):
        with h5py.File(tmp_path / f"m_0000{i}.weights.h5", "w") as f:
            f[f"layers/dense/vars/{i}"] = a
    index.write_text(json.dumps({"weight_map": {"/layers/dense/vars": ["m_00000.weights.h5", "m_00001.weights.h5"]}}))
    model = Model(nn.Linear(3, 2))
    assert keras_weights.load(model, index) == {"layers/dense": ""}
    with pytest.raises(ValueError, match=r"m\.weights\.json is the index of several files"):
        keras_weights.save(model, index)
    assert np.array_equal(model.state_dict()["weight"], w) and np.array_equal(model.state_dict()["bias"], b)
    model = Model(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))
    with pytest.raises(ValueError, match=r"It is one file of several: load .*m\.weights\.json, with which all of them are read"):
        keras_weights.load(model, tmp_path / "m_00000.weights.h5")
    (tmp_path / "m_00001.weights.h5").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"m_00001\.weights\.h5 is damaged"):
        keras_weights.load(model, index)


def test_values_beside_the_file_and_sizes_without_values(tmp_path, h5py):
    (tmp_path / "secret").write_bytes(b"a" * 24)
    path = tmp_path / "m.weights.h5"
    for says, make in {
            "in another file": lambda f: f.create_dataset("layers/dense/vars/0", (3, 2), "f4",
                                                          external=[(tmp_path / "secret", 0, 24)]),
            r"4,000,000,000,000 bytes, of which the file has 0": lambda f: f.create_dataset(
                "layers/dense/vars/0", (10 ** 6, 10 ** 6), "f4", chunks=(100, 100)),
            "vars/0 is no array": lambda f: f.create_group("layers/dense/vars/0")}.items():
        with h5py.File(path, "w") as f:
            make(f)
        with pytest.raises(ValueError, match=says):
            keras_weights.load(Model(nn.Linear(3, 2)), path)
    with h5py.File(path, "w") as f:
        f.create_dataset("layers/dense/vars/0", data=np.zeros((300, 200), "f4"), compression="gzip", compression_opts=9)
    keras_weights.load(Model(nn.Linear(300, 200, bias=False)), path)


def test_without_h5py_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"needs h5py: pip install 'tinydl-parallel\[keras\]'"):
        keras_weights.load(Model(of_class()), tmp_path / "m.keras")


# ------------------------------------------------------------------ formulas
def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_by_its_formula(load, reset_after):
    """z, r, h as Keras orders the gates."""
    kernel, recurrent = normal(2, 9).astype("f8"), normal(3, 9).astype("f8")
    bias = normal(*((2, 9) if reset_after else (9,))).astype("f8")
    inner, outer = (bias[1], bias[0]) if reset_after else (np.zeros(9), bias)
    x, h = normal(2, 5, 2).astype("f8"), np.zeros((2, 3))
    for t in range(5):
        a, b = x[:, t] @ kernel + outer, h @ recurrent + inner
        z, r = sigmoid(a[:, :3] + b[:, :3]), sigmoid(a[:, 3:6] + b[:, 3:6])
        n = np.tanh(a[:, 6:] + (r * b[:, 6:] if reset_after else (r * h) @ recurrent[:, 6:]))
        h = z * h + (1 - z) * n
    model = Model(nn.GRU(2, 3, return_sequences=False, reset_after=reset_after), "float64")
    load(model, {"gru": {"cell": [kernel, recurrent, bias]}})
    np.testing.assert_allclose(model.predict(x), h, rtol=1e-13, atol=1e-14)


def test_a_depthwise_convolution_by_its_formula(load):
    """Output m of channel c is c M + m."""
    kernel, x = normal(2, 2, 3, 2).astype("f8"), normal(1, 3, 4, 5).astype("f8")
    y = np.zeros((1, 6, 3, 4))
    for i in range(3):
        for j in range(4):
            y[0, :, i, j] = np.einsum("chw,hwcm->cm", x[0, :, i:i + 2, j:j + 2], kernel).reshape(-1)
    model = Model(nn.Conv2d(3, 6, 2, groups=3, bias=False), "float64")
    load(model, {"depthwise_conv2d": [kernel]})
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_by_its_formula(load, bidirectional):
    """i, f, c, o as Keras orders the gates."""
    cells = [[normal(2, 12).astype("f8"), normal(3, 12).astype("f8"), normal(12).astype("f8")] for _ in range(2)]
    x, last = normal(2, 5, 2).astype("f8"), []
    for (kernel, recurrent, bias), steps in zip(cells, (range(5), range(4, -1, -1)), strict=True):
        h, c = np.zeros((2, 2, 3))
        for t in steps:
            i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        last.append(h)
    layers = {"bidirectional": {"forward_layer/cell": cells[0], "backward_layer/cell": cells[1]}} if bidirectional else {
        "lstm": {"cell": cells[0]}}
    model = Model(nn.LSTM(2, 3, bidirectional=bidirectional, return_sequences=False), "float64")
    load(model, layers)
    np.testing.assert_allclose(model.predict(x), np.concatenate(last, 1) if bidirectional else last[0], rtol=1e-13, atol=1e-14)


def test_attention_by_its_formula(load):
    """A kernel for each head: (E, N, D), and (N, D, E) of the output."""
    kernels = {f"{name}_dense": [normal(4, 2, 2).astype("f8"), normal(2, 2).astype("f8")] for name in ("query", "key", "value")}
    out = [normal(2, 2, 4).astype("f8"), normal(4).astype("f8")]
    x = normal(3, 5, 4).astype("f8")
    q, k, v = (np.einsum("bte,end->btnd", x, kernel) + bias for kernel, bias in kernels.values())
    p = np.exp(np.einsum("btnd,bsnd->bnts", q, k) / np.sqrt(2))
    y = np.einsum("bnts,bsnd,nde->bte", p / p.sum(-1, keepdims=True), v, out[0]) + out[1]
    model = Model(nn.MultiheadAttention(4, 2), "float64")
    load(model, {"multi_head_attention": {**kernels, "output_dense": out}})
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-12, atol=1e-13)


def test_images_by_their_formulas(load):
    """Kernels (rows, columns, C, O), those of a transposed convolution (rows, columns, O, C); a norm, and a dense layer."""
    s = {"conv2d": [normal(2, 2, 3, 4)], "conv2d_transpose": [normal(1, 2, 3, 4), normal(3)],
         "batch_normalization": [normal(3), normal(3), normal(3), rng.random(3)], "dense": [normal(3, 2), normal(2)]}
    s = {name: [a.astype("f8") for a in arrays] for name, arrays in s.items()}
    x = normal(1, 4, 5, 3).astype("f8")
    y = np.zeros((1, 3, 4, 4))
    for i in range(3):
        for j in range(4):
            y[0, i, j] = np.einsum("hwc,hwco->o", x[0, i:i + 2, j:j + 2], s["conv2d"][0])
    z = np.zeros((1, 3, 8, 3)) + s["conv2d_transpose"][1]
    for j in range(4):
        z[:, :, 2 * j:2 * j + 2] += np.einsum("bhc,woc->bhwo", y[:, :, j], s["conv2d_transpose"][0][0])
    gamma, beta, mean, variance = s["batch_normalization"]
    h = ((z - mean) / np.sqrt(variance + 1e-3) * gamma + beta).mean((1, 2)) @ s["dense"][0] + s["dense"][1]
    model = Model(nn.Sequential(nn.Conv2d(3, 4, 2, bias=False), nn.ConvTranspose2d(4, 3, (1, 2), stride=(1, 2)),
                                nn.BatchNorm2d(3, eps=1e-3), nn.GlobalAvgPool(), nn.Linear(3, 2)), "float64")
    load(model, s)
    np.testing.assert_allclose(model.predict(x.transpose(0, 3, 1, 2)), h, rtol=1e-12, atol=1e-13)


def test_a_transposed_convolution_of_sequences(load):
    s = {"conv1d_transpose": [normal(4, 2, 3), normal(2)]}      # taps, out, in
    model = Model(nn.ConvTranspose1d(3, 2, 4, stride=2), "float64")
    load(model, s)
    x, (kernel, bias) = normal(5, 6, 3).astype("f8"), s["conv1d_transpose"]
    y = np.zeros((5, 14, 2)) + bias
    for t in range(6):
        y[:, 2 * t:2 * t + 4] += np.einsum("bc,toc->bto", x[:, t], kernel)
    np.testing.assert_allclose(model.predict(x.transpose(0, 2, 1)), y.transpose(0, 2, 1), rtol=1e-12, atol=1e-13)


# ------------------------------------------------------------------ Keras itself
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_of_today_writes_what_is_read_here(tmp_path, monkeypatch, h5py):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "jax"))
    keras = pytest.importorskip("keras")
    L = keras.layers
    inner = keras.Sequential([keras.Input((9, 6)), L.Dense(6, "relu"), L.LayerNormalization(epsilon=1e-4), L.Dense(6)])
    both = L.Bidirectional(L.GRU(3, return_sequences=True))
    them = keras.Sequential([keras.Input((9, 4)), L.Conv1D(5, 3, padding="same"), both, L.Dense(6), inner, L.Dense(6)])
    for w in them.weights:
        w.assign(rng.standard_normal(w.shape) * 0.5)
    x = normal(2, 9, 4)
    them.save(tmp_path / "m.keras")
    model = Model(nn.Sequential(nn.Permute((1, 0)), nn.Conv1d(4, 5, 3, padding="same"), nn.Permute((1, 0)),
                                nn.GRU(5, 3, bidirectional=True), nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU(),
                                nn.LayerNorm(6, eps=1e-4), nn.Linear(6, 6), nn.Linear(6, 6)))
    keras_weights.load(model, tmp_path / "m.keras")
    close(model.predict(x), np.asarray(them.predict(x, verbose=0)))
    model.params += 0.1 * rng.standard_normal(model.params.size)
    keras_weights.save(model, tmp_path / "m.keras")
    close(model.predict(x), np.asarray(keras.models.load_model(tmp_path / "m.keras").predict(x, verbose=0)))
    them.save_weights(tmp_path / "m.weights.h5")
    inner = "layers/sequential/layers/dense"
    keras_weights.save(model, tmp_path / "m.weights.h5", {
        "layers/dense": "4", inner: "5", f"{inner}_1": "8", "layers/dense_1": "9"})
    them.load_weights(tmp_path / "m.weights.h5")
    close(model.predict(x), np.asarray(them.predict(x, verbose=0)))


# ------------------------------------------------------------------ what a .keras file says besides
def keras_file(folder, kind, arrays, said):
    """A .keras file of one layer, of its arrays {path within it: arrays} and its arguments."""
    path = file_of(folder, {kind: [], **{f"{kind}/{inner}".rstrip("/"): a for inner, a in arrays.items()}})
    with zipfile.ZipFile(folder / "m.keras", "w") as z:
        z.write(path, "model.weights.h5")
        z.writestr("config.json", json.dumps({"config": {"layers": [{"config": {"name": kind, **said}}]}}))
    return folder / "m.keras"


def test_layers_that_compute_otherwise_are_refused(tmp_path, h5py):
    cell = {"cell": [normal(2, 12), normal(3, 12), normal(12)]}
    both = {f"{name}_layer/cell": cell["cell"] for name in ("forward", "backward")}
    conv = {"": [normal(3, 3, 1, 2), normal(2)]}
    usual = {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False}
    relu = {**usual, "activation": "relu"}
    for kind, arrays, said, layer, says in (
            ("lstm", cell, relu, nn.LSTM(2, 3), "layers/lstm has activation='relu', the model 'tanh' alone"),
            ("lstm", cell, {**usual, "recurrent_activation": "hard_sigmoid"}, nn.LSTM(2, 3),
             "has recurrent_activation='hard_sigmoid', the model 'sigmoid' alone"),
            ("bidirectional", both, {"layer": {"config": relu}}, nn.LSTM(2, 3, bidirectional=True),
             "layers/bidirectional has activation='relu', the model 'tanh' alone"),
            ("simple_rnn", {"cell": [normal(2, 3), normal(3, 3), normal(3)]}, {"activation": "relu"}, nn.RNN(2, 3),
             "has activation='relu', the model nonlinearity='tanh': make it with nonlinearity='relu'"),
            ("conv2d", conv, {"strides": [2, 2]}, nn.Conv2d(1, 2, 3),
             r"has strides=\(2, 2\), the model stride=\(1, 1\): make it with stride=\(2, 2\)"),
            ("conv2d", conv, {"strides": [1, 1], "dilation_rate": [2, 1]}, nn.Conv2d(1, 2, 3), r"with dilation=\(2, 1\)")):
        model = Model(layer, seed=0)
        before = bits(model)
        with pytest.raises(ValueError, match=says):
            keras_weights.load(model, keras_file(tmp_path, kind, arrays, said))
        assert bits(model) == before
    keras_weights.load(Model(nn.LSTM(2, 3)), keras_file(tmp_path, "lstm", cell, usual))
    keras_weights.load(Model(nn.Conv2d(1, 2, 3, stride=(2, 1))), keras_file(tmp_path, "conv2d", conv, {"strides": [2, 1]}))
    with pytest.warns(UserWarning, match="layers/lstm has go_backwards=True: it reads sequences from their end"):
        keras_weights.load(Model(nn.LSTM(2, 3)), keras_file(tmp_path, "lstm", cell, {**usual, "go_backwards": True}))


def test_bfloat16_is_two_bytes_of_a_number(tmp_path, h5py):
    values = np.array([[1.5, -0.0078125], [3.0, 2.0**-130]], np.float32)      # these have no more than bfloat16's digits
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as f:
        item = f.create_dataset("layers/dense/vars/0", data=(values.view(np.uint32) >> 16).astype("<u2").view("V2"))
        item.attrs["dtype"] = "bfloat16"
    model = Model(nn.Linear(2, 2, bias=False))
    keras_weights.load(model, path)
    assert np.array_equal(model.state_dict()["weight"], values)
    with pytest.raises(ValueError, match="has layers/dense in bfloat16"):
        keras_weights.save(model, path)

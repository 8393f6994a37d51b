"""Weights in PyTorch's names and layouts, in and out: by formulas in NumPy, and by PyTorch where it is there."""
import copy
import doctest
import io
import json
import struct
import zipfile

import numpy as np
import pytest

from tinydl import Model, Trainer, data, losses, nn, optim, torch_weights
from tinydl.formats import safetensors

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def close(got, want, n=64):
    """To n roundings of float64."""
    np.testing.assert_allclose(got, want, rtol=n * 2**-52, atol=n * 2**-52)


def bits(model):
    return model.params.tobytes() + model.statistics.tobytes()


def loaded(layer, state, map=None, **options):
    model = Model(layer, "float64", seed=1, **options)
    names = torch_weights.load(model, state, map)
    back = torch_weights.state_dict(model, names)
    assert {k for k in back if not k.endswith("num_batches_tracked")} == names.keys()
    for name in names:
        assert back[name].flags.c_contiguous and back[name].flags.owndata
        assert back[name].shape == np.shape(state[name]) and back[name].tobytes() == np.asarray(state[name]).tobytes(), name
    return model


def test_what_the_documentation_shows():
    assert doctest.testmod(torch_weights).failed == 0


def test_the_mean_of_an_averaged_model():
    """Its state has the module's names behind a prefix, and a count."""
    state = {"module.0.weight": normal(2, 3), "module.0.bias": normal(2),
             "module.2.weight": normal(1, 2), "module.2.bias": normal(1)}
    model = Model(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)), "float64")
    assert list(torch_weights.load(model, {"n_averaged": np.array(3), **state})) == list(state)
    assert np.array_equal(torch_weights.state_dict(model)["2.weight"], state["module.2.weight"])


# ------------------------------------------------------------------ formulas of PyTorch's documentation
def test_batch_norm_behind_a_convolution_trains_as_pytorchs():
    """Features of samples (C, L) are on the first axis, also where L is C."""
    torch = pytest.importorskip("torch")
    t = torch.nn
    for length in (5, 9):
        theirs, ours = (m.Sequential(m.Conv1d(3, 5, 3, padding=1), m.BatchNorm1d(5), m.ReLU(), m.Flatten(),
                                     m.Linear(5 * length, 2)) for m in (t, nn))
        theirs, model = theirs.double(), Model(ours, np.float64, seed=0)
        torch_weights.load(model, {k: v.numpy() for k, v in theirs.state_dict().items()})
        rng = np.random.default_rng(length)
        x, y = rng.standard_normal((8, 3, length)), rng.standard_normal((8, 2))
        with Trainer(3, enable_parallel=False, seed=0) as trainer:
            trainer.init(data.ArrayDataset(x, y, 8), model, losses.MeanSquaredError(), optim.SGD(0.1))
            trainer.train(shuffle=False)
        optimizer = torch.optim.SGD(theirs.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            optimizer.step()
        want = {k: v.numpy() for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
        for name, value in want.items():
            np.testing.assert_allclose(torch_weights.state_dict(model)[name], value, rtol=1e-11, atol=1e-13, err_msg=name)


def test_linear_and_batch_norm():
    s = {"a.weight": normal(4, 3), "a.bias": normal(4), "n.weight": normal(4), "n.bias": normal(4), "n.running_mean": normal(4),
         "n.running_var": rng.random(4), "n.num_batches_tracked": np.array(7), "b.weight": normal(2, 4)}
    layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2, bias=False))
    x = normal(5, 3)
    h = x @ s["a.weight"].T + s["a.bias"]
    h = (h - s["n.running_mean"]) / np.sqrt(s["n.running_var"] + 1e-5) * s["n.weight"] + s["n.bias"]
    model = loaded(layers, s)
    close(model.predict(x), np.tanh(h) @ s["b.weight"].T)
    back = torch_weights.state_dict(model)
    assert list(back) == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
                          "3.weight"]
    assert back["1.num_batches_tracked"].shape == () and back["1.num_batches_tracked"].dtype == np.int64


def test_lstm():
    H, s = 3, {}
    for suffix in ("l0", "l0_reverse"):
        s |= {f"weight_ih_{suffix}": normal(12, 2), f"weight_hh_{suffix}": normal(12, 3), f"bias_ih_{suffix}": normal(12),
              f"bias_hh_{suffix}": normal(12)}
    x, sides = normal(2, 5, 2), []
    for suffix, steps in (("l0", range(5)), ("l0_reverse", range(4, -1, -1))):
        h, c, out = np.zeros((2, H)), np.zeros((2, H)), {}
        for t in steps:
            gates = (x[:, t] @ s[f"weight_ih_{suffix}"].T + s[f"bias_ih_{suffix}"] + h @ s[f"weight_hh_{suffix}"].T
                     + s[f"bias_hh_{suffix}"])
            i, f, g, o = np.split(gates, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = out[t] = sigmoid(o) * np.tanh(c)
        sides.append(np.stack([out[t] for t in range(5)], 1))
    close(loaded(nn.LSTM(2, 3, bidirectional=True), s).predict(x), np.concatenate(sides, 2))


def test_gru():
    s = {"r.weight_ih_l0": normal(9, 2), "r.weight_hh_l0": normal(9, 3), "r.bias_ih_l0": normal(9), "r.bias_hh_l0": normal(9)}
    x, h = normal(2, 5, 2), np.zeros((2, 3))
    for t in range(5):
        a, b = x[:, t] @ s["r.weight_ih_l0"].T + s["r.bias_ih_l0"], h @ s["r.weight_hh_l0"].T + s["r.bias_hh_l0"]
        (ar, az, an), (br, bz, bn) = np.split(a, 3, 1), np.split(b, 3, 1)
        z = sigmoid(az + bz)
        h = (1 - z) * np.tanh(an + sigmoid(ar + br) * bn) + z * h
    close(loaded(nn.GRU(2, 3, return_sequences=False), s).predict(x), h)
    model = Model(nn.GRU(2, 3, reset_after=False))
    with pytest.raises(ValueError, match=r"PyTorch's GRU is nn\.GRU\(reset_after=True\)"):
        torch_weights.load(model, s)


def attention(x, s, heads):
    E = x.shape[-1]
    q, k, v = (x @ w.T + b for w, b in zip(np.split(s["in_proj_weight"], 3), np.split(s["in_proj_bias"], 3), strict=True))
    out = []
    for at in range(0, E, E // heads):
        part = slice(at, at + E // heads)
        scores = q[..., part] @ k[..., part].swapaxes(1, 2) / np.sqrt(E // heads)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        out.append(p / p.sum(-1, keepdims=True) @ v[..., part])
    return np.concatenate(out, -1) @ s["out_proj.weight"].T + s["out_proj.bias"]


@pytest.mark.parametrize("spelling", ["in_proj", "q_proj_weight", "q_proj.weight"])
def test_attention_of_one_matrix_or_of_three(spelling):
    s = {"in_proj_weight": normal(12, 4), "in_proj_bias": normal(12), "out_proj.weight": normal(4, 4), "out_proj.bias": normal(4)}
    given = dict(s)
    if spelling != "in_proj":
        weights, biases = (zip("qkv", np.split(s[f"in_proj_{kind}"], 3), strict=True) for kind in ("weight", "bias"))
        given = {f"{letter}_proj{spelling[6]}weight": w for letter, w in weights}
        if spelling[6] == ".":
            given |= {f"{letter}_proj.bias": b for letter, b in biases}
        else:
            given["in_proj_bias"] = s["in_proj_bias"]
        given |= {name: s[name] for name in ("out_proj.weight", "out_proj.bias")}
        given = dict(reversed(given.items()))       # v before q
    x = normal(2, 5, 4)
    close(loaded(nn.MultiheadAttention(4, 2), given).predict(x), attention(x, s, 2))
    mapped = {f"m.{name}": value for name, value in given.items()}
    close(loaded(nn.Sequential(nn.MultiheadAttention(4, 2)), mapped, {"m": "0"}).predict(x), attention(x, s, 2))
    close(loaded(nn.Sequential(nn.MultiheadAttention(4, 2)), mapped).predict(x), attention(x, s, 2))


ENCODER = {"attention.output.dense": "self_attn.out_proj", "attention.output.LayerNorm": "norm1",
           "intermediate.dense": "linear1", "output.dense": "linear2", "output.LayerNorm": "norm2"}


@pytest.mark.parametrize("fused", [False, True])
def test_attention_by_a_map_of_its_layers(fused):
    """As in BERT's files: what is q, k or v is said by the map alone; and as in timm's, one layer that makes all three."""
    E = 4
    s = {"in_proj_weight": normal(3 * E, E), "in_proj_bias": normal(3 * E)}
    rest = {"attention.output.dense": (E, E), "attention.output.LayerNorm": (E,), "intermediate.dense": (6, E),
            "output.dense": (E, 6), "output.LayerNorm": (E,)}
    names = {"attention.self.qkv": "self_attn.in_proj"} if fused else {
        f"attention.self.{name}": f"self_attn.{name[0]}_proj" for name in ("value", "key", "query")}
    parts = {"attention.self.qkv": (s["in_proj_weight"], s["in_proj_bias"])} if fused else {
        f"attention.self.{name}": (s["in_proj_weight"][at:at + E], s["in_proj_bias"][at:at + E])
        for name, at in (("value", 2 * E), ("key", E), ("query", 0))}
    given = {f"layer.0.{name}.{kind}": part for name, pair in parts.items()
             for kind, part in zip(("weight", "bias"), pair, strict=True)}
    given |= {f"layer.0.{name}.{kind}": normal(*(shape if kind == "weight" else shape[:1]))
              for name, shape in rest.items() for kind in ("weight", "bias")}
    map = {f"layer.0.{there}": f"0.{here}" for there, here in (names | ENCODER).items()}
    model = loaded(nn.Sequential(nn.TransformerEncoderLayer(E, 2, 6)), given, map)      # and back, by what load returned
    for name, value in s.items():
        assert np.array_equal(model.state_dict()[f"0.self_attn.{name}"], value)
    back = torch_weights.state_dict(model, map)
    assert back.keys() == given.keys() and all(np.array_equal(back[name], given[name]) for name in given)


def test_what_a_state_has_besides_weights():
    """Each error says what to do in PyTorch."""
    model = Model(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)), "float64")
    s = {"0.weight": normal(4, 3), "0.bias": normal(4), "2.weight": normal(4, 4), "2.bias": normal(4)}
    before = bits(model)
    first = {name: value for name, value in s.items() if name != "0.weight"}
    part = "0.parametrizations.weight."
    for state, says in (
            ({"state_dict": s, "epoch": 3}, r"state_dict: a dict in it, so this is a checkpoint: give the state_dict in it"),
            (first | {f"{part}original0": normal(4, 1), f"{part}original1": normal(4, 3)}, "remove_parametrizations"),
            (first | {f"{part}original": normal(4, 3), f"{part}0._u": normal(4), f"{part}0._v": normal(3)}, "in parts"),
            (first | {"0.weight_g": normal(4, 1), "0.weight_v": normal(4, 3)}, r"remove_weight_norm\(layer\)"),
            (s | {"0.lora_A.default.weight": normal(2, 3), "0.lora_B.default.weight": normal(4, 2)}, "adapters .* merge them"),
            (s | {"0.weight": normal(3, 4)}, r"0\.weight \(3, 4\) for 0\.weight \(4, 3\)\. .*Conv1D, must be transposed"),
    ):
        with pytest.raises(ValueError, match=says):
            torch_weights.load(model, state)
        assert bits(model) == before
    with pytest.raises(ValueError) as error:
        torch_weights.load(model, s | {"2.bias": normal(5)})
    assert not any(word in str(error.value) for word in ("transposed", "checkpoint", "adapters", "in parts"))


def test_names_that_a_file_leaves_out(tmp_path):
    """safetensors.torch.save_model writes a tied weight once, under the first name in the alphabet, and notes the others."""
    path = tmp_path / "tied.safetensors"
    table, bias = normal(5, 3), normal(5)
    with open(path, "wb") as f:
        safetensors.write(f, {"head.weight": table, "head.bias": bias}, lambda checksums: {"wte.weight": "head.weight"})
    whole = Model(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5)), "float64")        # two parameters here
    assert torch_weights.load(whole, path, {"wte": "0", "head": "1"}).keys() == {"wte.weight", "head.weight", "head.bias"}
    assert np.array_equal(whole.state_dict()["0.weight"], table) and np.array_equal(whole.state_dict()["1.weight"], table.T)
    part = Model(nn.Sequential(nn.Embedding(5, 3)), "float64")
    assert torch_weights.load(part, path, {"wte": "0"}, strict=False) == {"wte.weight": "0.weight"}
    assert np.array_equal(part.state_dict()["0.weight"], table)
    head = Model(nn.Sequential(nn.Linear(3, 5)), "float64")         # the name that is there goes before those that are not
    assert torch_weights.load(head, path, {"head": "0", "wte": "0"}) == {"head.weight": "0.weight", "head.bias": "0.bias"}
    with pytest.raises(ValueError, match=r"Left over of PyTorch's: head\.bias \(5,\); of the model's: nothing"):
        torch_weights.load(part, path, {"wte": "0"})


class OfEightBits:
    """A tensor as PyTorch's of float8, or one on the device "meta"."""
    dtype = "torch.float8_e4m3fn"

    def detach(self):
        return self

    def __array__(self, *args, **options):
        raise TypeError("Got unsupported ScalarType Float8_e4m3fn")


def test_numbers_that_numpy_lacks(tmp_path):
    model = Model(nn.Sequential(nn.Linear(1, 2)))
    with pytest.raises(ValueError, match=r"0\.weight is a tensor of torch\.float8_e4m3fn which NumPy cannot take \(Got"):
        torch_weights.load(model, {"0.weight": OfEightBits(), "0.bias": np.zeros(2)}, {"0": "0"}, strict=False)
    header = json.dumps({"0.weight": {"dtype": "F8_E4M3", "shape": [2, 1], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "f8").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    with pytest.raises(ValueError, match=r"f8: array '0\.weight' is of dtype 'F8_E4M3', which NumPy has not: convert it"):
        torch_weights.load(model, tmp_path / "f8")


def test_convolutions():
    s = {"c.weight": normal(4, 1, 2, 2), "c.bias": normal(4), "t.weight": normal(4, 3, 1, 2), "t.bias": normal(3)}
    x, y = normal(1, 2, 4, 5), np.zeros((1, 4, 3, 4))
    for o in range(4):          # groups=2: channel 0 for outputs 0 and 1
        for i in range(3):
            for j in range(4):
                y[0, o, i, j] = (x[0, o // 2, i:i + 2, j:j + 2] * s["c.weight"][o, 0]).sum() + s["c.bias"][o]
    z = np.zeros((1, 3, 3, 8)) + s["t.bias"][:, None, None]
    for j in range(4):          # stride (1, 2)
        z[..., 2 * j:2 * j + 2] += np.einsum("bchk,cokl->bohl", y[..., j:j + 1], s["t.weight"])
    layers = nn.Sequential(nn.Conv2d(2, 4, 2, groups=2), nn.ConvTranspose2d(4, 3, (1, 2), stride=(1, 2)))
    close(loaded(layers, s).predict(x), z)


def test_a_weight_that_layers_share():
    s = {"e.weight": normal(6, 3), "l.weight": normal(3, 3), "l.bias": normal(3), "out.weight": None, "out.bias": normal(6)}
    s["out.weight"] = s["e.weight"]
    x = np.array([[0, 5], [2, 1]])
    want = (s["e.weight"][x] @ s["l.weight"].T + s["l.bias"]) @ s["e.weight"].T + s["out.bias"]

    def layers():
        words = nn.Embedding(6, 3)
        return nn.Sequential(words, nn.Linear(3, 3), nn.TiedLinear(words))
    close(loaded(layers(), s).predict(x), want)
    once = {name: a for name, a in s.items() if name != "out.weight"}       # as safetensors' own saver leaves it
    model = Model(layers(), "float64")
    torch_weights.load(model, once)
    close(model.predict(x), want)
    before = bits(model)
    with pytest.raises(ValueError, match=r"e\.weight and out\.weight differ; in the model both are 0\.weight, which"):
        torch_weights.load(model, {**s, "out.weight": normal(6, 3)})
    assert bits(model) == before
    t = {"a.weight": normal(3, 3), "a.bias": normal(3)}
    twice = t | {"c.weight": t["a.weight"], "c.bias": t["a.bias"]}
    out = {"b.weight": normal(1, 3), "b.bias": normal(1)}
    for state in (t | out, twice | out):        # a layer used twice has a second name there, or not
        again = nn.Linear(3, 3)
        model = Model(nn.Sequential(again, nn.Tanh(), again, nn.Linear(3, 1)), "float64")
        torch_weights.load(model, state)
        y = np.tanh(x @ np.ones((2, 3)) @ t["a.weight"].T + t["a.bias"]) @ t["a.weight"].T + t["a.bias"]
        close(model.predict(x @ np.ones((2, 3))), y @ out["b.weight"].T + out["b.bias"])


# ------------------------------------------------------------------ names, order, dtypes
def two(bias=True):
    return nn.Sequential(nn.Linear(3, 3, bias), nn.ReLU(), nn.Linear(3, 3, bias))


def state_of(names, bias=True):
    return {f"{n}.{key}": normal(*shape) for n in names for key, shape in
            ([("weight", (3, 3)), ("bias", (3,))] if bias else [("weight", (3, 3))])}


def test_names_decide_before_order_and_a_map_before_both():
    s = state_of(["2", "0"])
    model = loaded(two(), s)
    assert np.array_equal(model.state_dict()["2.weight"], s["2.weight"].T)
    s = state_of(["stem", "head"])
    for map, weight in ((None, "stem"), ({"stem": "0", "head": "2"}, "stem"), ({"head": "0", "stem": "2"}, "head"),
                        ({"head.weight": "0.weight", "head.bias": "0.bias", "stem": "2"}, "head")):
        assert np.array_equal(loaded(two(), s, map).state_dict()["0.weight"], s[f"{weight}.weight"].T)
    s = state_of(["net.body.0", "net.body.2"])
    for map in ({"net.body": ""}, {"net": "else", "net.body": "", "net.body.2": "2"}):
        assert np.array_equal(loaded(two(), s, map).state_dict()["2.weight"], s["net.body.2.weight"].T)
    s = state_of(["0", "3"])        # one module more there
    assert np.array_equal(loaded(two(), s).state_dict()["2.weight"], s["3.weight"].T)


def test_what_is_left_over_is_listed_and_nothing_changes():
    model = Model(two(), "float64", seed=0)
    before = bits(model)
    whole = state_of(["0", "2"])
    cases = [
        ({**whole, "4.weight": normal(2, 3)}, None, r"Left over of PyTorch's: 4\.weight \(2, 3\); of the model's: nothing"),
        ({n: a for n, a in whole.items() if n != "2.bias"}, None, r"PyTorch's: nothing; of the model's: 2\.bias \(3,\)"),
        ({**whole, "2.weight": normal(2, 3)}, None, r"Of other shapes: 2\.weight \(2, 3\) for 2\.weight \(3, 3\)\."),
        (state_of(["a", "b", "c"]), None, r"Left over of PyTorch's: c\.weight \(3, 3\), c\.bias \(3,\); .* taken in order; map="),
        (state_of(["a", "b"]), {"a": "0"}, r"Left over of PyTorch's: b\.weight .*; of the model's: 2\.weight \(3, 3\), 2\.bias"),
        (state_of(["a", "b"]), {"a": "0", "b": "0"}, r"a\.weight, b\.weight would all be the model's 0\.weight"),
        ({"a.gain": normal(3)}, None, r"Left over of PyTorch's: a\.gain \(3,\); of the model's: 0\.weight"),
        ({**whole, "2.weight": np.zeros((3, 3), int)}, None, "2.weight is of dtype int64; weights are floating-point"),
        ({}, None, "Left over of PyTorch's: nothing; of the model's: 0.weight"),
    ]
    for state, map, says in cases:
        with pytest.raises(ValueError, match=says):
            torch_weights.load(model, state, map)
        assert bits(model) == before
    with pytest.raises(ValueError, match=r"1\.weight has 1e\+300, which is infinite as the model's float32"):
        torch_weights.load(Model(nn.Sequential(nn.ReLU(), nn.Linear(1, 1))), {"1.weight": [[1e300]], "1.bias": [0.0]})
    with pytest.raises(ValueError, match=r"two of the model's parameters would be 'x.weight'"):
        torch_weights.state_dict(model, {"x": "0", "x.weight": "2.weight"})


def test_without_strict_what_is_left_over_stays_as_it_is():
    model = Model(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), seed=0)
    before = model.state_dict()
    given = {"body.0.weight": np.ones((4, 3)), "body.0.bias": np.full(4, 2.0), "head.weight": np.ones((9, 4))}
    assert torch_weights.load(model, given, {"body": ""}, strict=False) == {"body.0.weight": "0.weight", "body.0.bias": "0.bias"}
    after = model.state_dict()
    assert (after["0.weight"] == 1).all() and (after["0.bias"] == 2).all()
    assert all(np.array_equal(before[k], after[k]) for k in ("2.weight", "2.bias"))
    for wrong, says in (({"fc.weight": np.ones((4, 3))}, "Left over of PyTorch's: fc.weight"),     # by order it would fit
                        ({"0.weight": np.ones((5, 3))}, r"Of other shapes: 0.weight \(5, 3\) for 0.weight \(4, 3\)")):
        with pytest.raises(ValueError, match=says):
            torch_weights.load(model, wrong, strict=False)
    assert all(np.array_equal(v, after[k]) for k, v in model.state_dict().items())


def test_the_order_of_the_alphabet_is_no_order(tmp_path):
    """As files have it: only numbered layers can be put right."""
    s = state_of(["stem", "body"])
    model = Model(two(), "float64")
    with pytest.raises(ValueError, match="keeps them in the alphabet's order, which says nothing of the layers' order: give"):
        torch_weights.load(model, dict(sorted(s.items())))
    once = state_of(["stem", "body"], bias=False)       # no layer tells by itself
    torch_weights.save(Model(two(bias=False)), tmp_path / "w", {"stem": "0", "body": "2"})
    with pytest.raises(ValueError, match="alphabet's order"):
        torch_weights.load(Model(two(bias=False)), tmp_path / "w")
    torch_weights.load(Model(two(bias=False)), once)
    many = state_of([str(2 * i) for i in range(12)])
    layers = nn.Sequential(*[nn.Linear(3, 3) for _ in range(12)])
    model = loaded(layers, dict(sorted(many.items())))
    for i in range(12):
        assert np.array_equal(model.state_dict()[f"{i}.weight"], many[f"{2 * i}.weight"].T)


def test_half_precision_is_converted_exactly(tmp_path):
    half, brain = normal(3, 3).astype("f2"), (normal(3, 3).astype("f4").view("u4") >> 16).astype("<u2")
    entries = {"a.weight": ("F16", half), "b.weight": ("BF16", brain)}
    header = json.dumps({name: {"dtype": d, "shape": [3, 3], "data_offsets": [18 * i, 18 * i + 18]}
                         for i, (name, (d, _)) in enumerate(entries.items())}).encode()
    (tmp_path / "h").write_bytes(struct.pack("<Q", len(header)) + header + half.tobytes() + brain.tobytes())
    model = Model(two(bias=False))
    torch_weights.load(model, tmp_path / "h", {"a": "0", "b": "2"})
    assert np.array_equal(model.state_dict()["0.weight"], half.T.astype("f4"))
    assert np.array_equal(model.state_dict()["2.weight"], (brain.astype("u4") << 16).view("f4").T)


def test_a_safetensors_file_in_and_out(tmp_path):
    s = state_of(["0", "2"])
    model = loaded(two(), s)
    torch_weights.save(model, tmp_path / "w.safetensors")
    metadata, arrays = safetensors.read(io.BytesIO((tmp_path / "w.safetensors").read_bytes()))
    assert metadata == {"format": "pt"} and all(np.array_equal(arrays[name], s[name]) for name in s)
    other = Model(two(), "float64", seed=5)
    torch_weights.load(other, str(tmp_path / "w.safetensors"))
    assert bits(other) == bits(model)
    torch_weights.save(model, tmp_path / "w.safetensors", {"stem": "0", "head": "2"})
    torch_weights.load(other, tmp_path / "w.safetensors", {"stem": "0", "head": "2"})
    assert bits(other) == bits(model)


def test_files_that_are_no_weights_of_pytorch(tmp_path):
    model = Model(two())
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"m is tinydl's own, with its layouts: Model\.load"):
        torch_weights.load(model, tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as z:
        z.writestr("w/data.pkl", b"")
    with pytest.raises(ValueError, match=r"w\.pt holds no weights of PyTorch: it is a pickle of PyTorch(.|\n)*save_file\("):
        torch_weights.load(model, tmp_path / "w.pt")
    (tmp_path / "cut").write_bytes((tmp_path / "m").read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut is damaged: it is truncated"):
        torch_weights.load(model, tmp_path / "cut")


def in_two_files(folder, s, index="model.safetensors.index.json"):
    """As Hugging Face saves a large model: two files, and which of them has what."""
    names, where = list(s), {}
    for i, some in enumerate((names[:1], names[1:]), 1):
        where |= dict.fromkeys(some, f"model-0000{i}-of-00002.safetensors")
        with open(folder / where[some[0]], "wb") as f:
            safetensors.write(f, {name: s[name] for name in some}, lambda checksums: {"format": "pt"})
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}, indent=2))
    return folder / index


def test_weights_in_several_files_come_by_their_index(tmp_path):
    s = state_of(["0", "2"])
    index, model = in_two_files(tmp_path, s), Model(two(), "float64")
    torch_weights.load(model, index)
    assert bits(model) == bits(loaded(two(), s))
    with pytest.raises(ValueError, match=r"It is one file of several: load .*model\.safetensors\.index\.json, with which all"):
        torch_weights.load(model, tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(ValueError, match=r"it is an index of several files of weights: tinydl\.torch_weights\.load\(model, "):
        Model.load(index)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00002"):
        torch_weights.load(model, index)


@pytest.mark.parametrize("where, says", [
    ({"0.weight": "../w"}, r"lists '\.\./w'; the files of an index are beside it"), ({"0.weight": 3}, "is no index of files"),
    ({"0.weight": "i.json"}, r"i\.json holds no weights of PyTorch: it is an index"), (["w"], "is no index of files"),
    ({"0.weight": "w", "7.bias": "w"}, r"i\.json lists 7\.bias, which its files do not have")])
def test_an_index_that_is_none(where, says, tmp_path):
    model = Model(two())
    torch_weights.save(model, tmp_path / "w")
    (tmp_path / "i.json").write_text(json.dumps({"weight_map": where}))
    with pytest.raises(ValueError, match=says):
        torch_weights.load(model, tmp_path / "i.json")


# ------------------------------------------------------------------ PyTorch itself
@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def both_ways(torch, module, layer, x, dtype, tmp_path, map=None):
    """Weights in and out bit for bit, by state_dict and by a file; outputs to rounding."""
    generator = torch.Generator().manual_seed(0)
    module = module.to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                value.add_(torch.rand(value.shape, generator=generator).to(value.dtype) * 0.1)
            else:
                assert name.endswith("num_batches_tracked")
    model = Model(layer, dtype, seed=1)
    names = torch_weights.load(model, module.state_dict(), map)
    given = torch.tensor(x if x.dtype.kind == "i" else x.astype(dtype))
    with torch.no_grad():
        want = module(given)
    want = (want[0] if isinstance(want, tuple) else want).numpy()
    got = model.predict(x if x.dtype.kind == "i" else x.astype(dtype))
    eps = np.finfo(dtype).eps
    assert np.abs(got - want).max() <= 200 * eps * max(1, np.abs(want).max())
    back = {name: torch.tensor(value) for name, value in torch_weights.state_dict(model, names).items()}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    module.load_state_dict(back)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items() if "num_batches" not in name)
    save_file, load_file = (getattr(pytest.importorskip("safetensors.torch"), name) for name in ("save_file", "load_file"))
    torch_weights.save(model, tmp_path / "ours", names)
    saved = load_file(tmp_path / "ours")
    assert all(torch.equal(value, before[name]) for name, value in saved.items() if "num_batches" not in name)
    save_file({name: value.clone().contiguous() for name, value in before.items()}, tmp_path / "theirs")
    other = copy.deepcopy(model)
    other.params[...], other.statistics[...] = 0, 0
    torch_weights.load(other, tmp_path / "theirs", names)
    assert bits(other) == bits(model)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recurrent_nets_of_pytorch(torch, dtype, tmp_path):
    for kind in ("LSTM", "GRU", "RNN"):
        module = getattr(torch.nn, kind)(3, 5, num_layers=2, bidirectional=True, batch_first=True)
        both_ways(torch, module, getattr(nn, kind)(3, 5, num_layers=2, bidirectional=True), normal(2, 7, 3), dtype, tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_residual_net_of_pytorch(torch, dtype, tmp_path):
    t = torch.nn

    class Block(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = t.Conv2d(8, 8, 3, padding=1, bias=False), t.BatchNorm2d(8)
            self.conv2, self.bn2 = t.Conv2d(8, 8, 3, padding=1, bias=False), t.BatchNorm2d(8)

        def forward(self, x):
            return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.stem = t.Conv2d(3, 8, 3, stride=2)
            self.layer1 = t.Sequential(Block(), Block())
            self.group, self.down = t.GroupNorm(2, 8), t.Conv2d(8, 12, 3, groups=4)
            self.fc = t.Linear(12, 5)

        def forward(self, x):
            return self.fc(self.down(self.group(self.layer1(self.stem(x)))).mean((2, 3)))

    def block():
        return [nn.Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                                          nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))), nn.ReLU()]
    layer = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *block(), *block(), nn.GroupNorm(2, 8), nn.Conv2d(8, 12, 3, groups=4),
                          nn.GlobalAvgPool(), nn.Linear(12, 5))
    both_ways(torch, Net(), layer, normal(2, 3, 11, 9), dtype, tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_of_pytorch(torch, dtype, norm_first, tmp_path, monkeypatch):
    t = torch.nn

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.words = t.Embedding(11, 8)
            layer = t.TransformerEncoderLayer(8, 2, 16, activation="gelu", norm_first=norm_first, batch_first=True)
            self.encoder = t.TransformerEncoder(layer, 2, norm=t.LayerNorm(8), enable_nested_tensor=False)
            self.out = t.Linear(8, 11)
            self.out.weight = self.words.weight

        def forward(self, x):
            return self.out(self.encoder(self.words(x)))
    words = nn.Embedding(11, 8)
    layers = [nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", norm_first=norm_first) for _ in range(2)]
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    both_ways(torch, Net(), nn.Sequential(words, *layers, nn.LayerNorm(8), nn.TiedLinear(words)), rng.integers(0, 11, (2, 6)),
              dtype, tmp_path)


def test_a_block_of_gpt2(torch):
    """Attention and a feed-forward network of Conv1D, whose weights are (in, out); GELU by tanh."""
    C, heads, T = 8, 2, 5
    s = {"ln_1.weight": normal(C), "ln_1.bias": normal(C), "ln_2.weight": normal(C), "ln_2.bias": normal(C),
         "attn.c_attn.weight": normal(C, 3 * C), "attn.c_attn.bias": normal(3 * C),
         "attn.c_proj.weight": normal(C, C), "attn.c_proj.bias": normal(C),
         "mlp.c_fc.weight": normal(C, 4 * C), "mlp.c_fc.bias": normal(4 * C),
         "mlp.c_proj.weight": normal(4 * C, C), "mlp.c_proj.bias": normal(C)}
    F, p, x = torch.nn.functional, {name: torch.tensor(a) for name, a in s.items()}, torch.tensor(normal(2, T, C))

    def norm(name, h):
        return F.layer_norm(h, (C,), p[f"{name}.weight"], p[f"{name}.bias"])

    def conv1d(name, h):
        return h @ p[f"{name}.weight"] + p[f"{name}.bias"]
    q, k, v = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in conv1d("attn.c_attn", norm("ln_1", x)).split(C, 2))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    h = x + conv1d("attn.c_proj", attended)
    want = h + conv1d("mlp.c_proj", F.gelu(conv1d("mlp.c_fc", norm("ln_2", h)), approximate="tanh"))
    names = {"ln_1": "norm1", "attn.c_attn": "self_attn.in_proj", "attn.c_proj": "self_attn.out_proj", "ln_2": "norm2",
             "mlp.c_fc": "linear1", "mlp.c_proj": "linear2"}
    layer = nn.TransformerEncoderLayer(C, heads, 4 * C, activation="gelu_tanh", norm_first=True, causal=True)
    model = Model(nn.Sequential(layer), "float64", seed=1)
    state = {name: a.T if a.ndim == 2 else a for name, a in s.items()}
    torch_weights.load(model, state, {there: f"0.{here}" for there, here in names.items()})
    close(model.predict(x.numpy()), want.numpy(), 500)


def test_a_decoder_of_pytorch(torch):
    module = torch.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).double().eval()
    x, memory = nn.Input((5, 8)), nn.Input((6, 8))
    model = Model(inputs=[x, memory], outputs=nn.TransformerDecoderLayer(8, 2, 16, causal=False)([x, memory]), dtype="float64")
    torch_weights.load(model, module.state_dict())
    a, b = normal(2, 5, 8), normal(2, 6, 8)
    with torch.no_grad():
        close(model.predict((a, b)), module(torch.tensor(a), torch.tensor(b)).numpy(), 500)


def test_tensors_of_every_kind(torch):
    model = Model(two(bias=False))
    w = torch.randn(3, 3).to(torch.bfloat16)
    torch_weights.load(model, {"0.weight": torch.nn.Parameter(torch.ones(3, 3).half()), "2.weight": w})
    assert np.array_equal(model.state_dict()["2.weight"], w.float().numpy().T)


def test_the_lines_for_a_pickle_do_what_they_say(torch, tmp_path, monkeypatch):
    pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    words, model = torch.nn.Embedding(4, 3), Model(two(bias=False))
    tied = torch.nn.Sequential(words, torch.nn.Linear(3, 4, bias=False))
    tied[1].weight = words.weight
    torch.save(tied.state_dict(), "w.pt")
    with pytest.raises(ValueError) as e:
        torch_weights.load(model, "w.pt")
    lines = str(e.value).split(":\n", 1)[1]
    exec("\n".join(line.strip() for line in lines.splitlines()))
    with open("weights.safetensors", "rb") as f:
        assert np.array_equal(safetensors.read(f)[1]["1.weight"], words.weight.detach().numpy())


def test_without_strictness_no_name_that_is_the_same_says_what_to_do():
    model = Model(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5)), seed=0)
    with pytest.raises(ValueError, match=r"With strict=False names alone decide, and none is the same: give map="):
        torch_weights.load(model, {"body.weight": np.ones((2, 3)), "body.bias": np.ones(2)}, strict=False)

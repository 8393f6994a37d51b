"""LSTM, GRU and RNN: values and gradients against NumPy and PyTorch, lengths and padding, bits, the door."""
import copy

import numpy as np
import pytest
from sequence_gradients import digests, hashed, run, wrap
from small import DRIVERS

from tinydl import Model, Trainer, data, losses, nn, optim, testing


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(layer, x, h, c, w, u, b, d):
    """One step of one sample by the formulas of the docstrings."""
    H = layer.hidden_size
    if isinstance(layer, nn.LSTM):
        i, f, g, o = np.split(w @ x + b + u @ h + d, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if isinstance(layer, nn.RNN):
        a = w @ x + b + u @ h + d
        return np.tanh(a) if layer.nonlinearity == "tanh" else np.maximum(a, 0), c
    r, z = np.split(sigmoid(w[:2 * H] @ x + b[:2 * H] + u[:2 * H] @ h + d[:2 * H]), 2)
    if layer.reset_after:
        n = np.tanh(w[2 * H:] @ x + b[2 * H:] + r * (u[2 * H:] @ h + d[2 * H:]))
    else:
        n = np.tanh(w[2 * H:] @ x + b[2 * H:] + u[2 * H:] @ (r * h) + d[2 * H:])
    return (1 - z) * n + z * h, c


def oracle(layer, state, x, lengths, h0=None, c0=None):
    """A sample after the other, only the steps that are there."""
    B, T, _ = x.shape
    H, D = layer.hidden_size, layer.directions
    out = np.zeros((B, T, H * D)) if layer.return_sequences else np.zeros((B, H * D))
    for b in range(B):
        seq = x[b, :lengths[b]]
        for k in range(layer.num_layers):
            outputs, lasts = [], []
            for d, suffix in enumerate((f"l{k}", f"l{k}_reverse")[:D]):
                w, u, bias, more = (state.get(f"{kind}_{suffix}", 0) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
                bias, more = (np.zeros(layer.gates * H) + v for v in (bias, more))
                h, c = (np.zeros(H) if s is None else s[b, k * D + d] for s in (h0, c0))
                each = []
                for step in seq[::-1] if d else seq:
                    h, c = cell(layer, step, h, c, w, u, bias, more)
                    each.append(h)
                lasts.append(h)
                outputs.append(np.array(each[::-1] if d else each).reshape(len(seq), H))
            seq = np.concatenate(outputs, 1)
        if layer.return_sequences:
            out[b, :len(seq)] = seq
        else:
            out[b] = np.concatenate(lasts)
    return out


KINDS = [(nn.LSTM, {}), (nn.GRU, {}), (nn.GRU, {"reset_after": False}), (nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"})]


def draw(seed, kinds=KINDS):
    """A random layer with its inputs: x, and perhaps lengths and an initial state."""
    rng = np.random.default_rng(seed)
    kind, more = kinds[seed % len(kinds)]
    layers = int(rng.integers(1, 4))
    layer = kind(int(rng.integers(1, 6)), int(rng.integers(1, 8)), layers, bias=bool(rng.integers(2)),
                 bidirectional=bool(rng.integers(2)), return_sequences=bool(rng.integers(2)), **more)
    B, T = int(rng.integers(1, 6)), int(rng.integers(1, 7))
    arrays = [rng.standard_normal((B, T, layer.input_size))]
    lengths = rng.integers(1, T + 1, B) if rng.integers(2) else None
    if lengths is not None:
        arrays.append(lengths)
    states = layer.states if rng.integers(2) else 0
    arrays += [rng.standard_normal((B, layers * layer.directions, layer.hidden_size)) for _ in range(states)]
    target = rng.standard_normal((B, *layer.output_shape(*(a.shape[1:] for a in arrays))))
    return layer, arrays, lengths, states, target


def parts(layer, grads):
    """Gradients by x, by the initial state, and by the layer's parameters."""
    tables = [g for name, g in grads.items() if name.endswith(".weight")]
    own = {name.split(".", 1)[1]: g for name, g in grads.items() if not name.endswith(".weight")}
    return tables[0], tables[1:], own


@pytest.mark.parametrize("seed", range(25))
def test_values_by_the_formulas(seed):
    layer, arrays, lengths, states, target = draw(seed)
    for dtype in ("float64", "float32"):
        model, sources = wrap(copy.deepcopy(layer), arrays, dtype, seed)
        state = {name.split(".", 1)[1]: v.astype(float) for name, v in model.state_dict().items()}
        want = oracle(layer, state, arrays[0], [arrays[0].shape[1]] * len(target) if lengths is None else lengths,
                      *(arrays[len(arrays) - states:] if states else ()))
        got = run(model, sources, target.astype(dtype))[0]
        # sums of 16 terms or so in each of 3 x 6 steps on top of one another, of numbers up to 30
        np.testing.assert_allclose(got, want, rtol=0, atol=3000 * np.finfo(dtype).eps)


@pytest.mark.parametrize("kind, more", KINDS, ids=lambda k: str(getattr(k, "__name__", k)))
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2, "dropout": 0.3},
                                     {"return_sequences": False, "bias": False, "bidirectional": True}], ids=str)
def test_gradients_by_differences(kind, more, options):
    rng = np.random.default_rng(1)
    layer = kind(3, 4, **options, **more)
    x, h0 = rng.standard_normal((3, 4, 3)), rng.standard_normal((3, layer.num_layers * layer.directions, 4))
    inputs = [nn.Input((4, 3)), nn.Input((), "int64", name="lengths"), *(nn.Input(h0.shape[1:]) for _ in range(layer.states))]
    graph = Model(inputs=inputs, outputs=layer(inputs)).layer
    assert testing.check_gradients(copy.deepcopy(graph), (x, np.array([4, 0, 2]), *[h0, h0 / 2][:layer.states])) < 1e-6
    assert testing.check_gradients(kind(3, 4, **options, **more), x[:2, :3]) < 1e-6


@pytest.mark.parametrize("seed", range(40))
def test_values_and_gradients_are_pytorchs(seed):
    torch = pytest.importorskip("torch")
    layer, arrays, lengths, states, target = draw(seed, [k for k in KINDS if "reset_after" not in k[1]])
    more = {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
    theirs = getattr(torch.nn, type(layer).__name__)(
        layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias, batch_first=True,
        bidirectional=layer.bidirectional, dtype=torch.float64, **more)
    model, sources = wrap(layer, arrays, seed=seed)
    number = next(name.split(".")[0] for name in model.state_dict() if "weight_ih" in name)
    model.load_state_dict({f"{number}.{name}": v.detach().numpy() for name, v in theirs.state_dict().items()}, strict=False)
    got, loss, grads = run(model, sources, target)
    x, *initial = (torch.tensor(a, requires_grad=True) for a in (arrays[0], *arrays[len(arrays) - states:][:states]))
    state = [s.transpose(0, 1).contiguous() for s in initial]
    given = x if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), True, False)
    y, last = theirs(given, None if not states else tuple(state) if states == 2 else state[0])
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, True, total_length=x.shape[1])
    last = last[0] if isinstance(layer, nn.LSTM) else last
    if not layer.return_sequences:
        y = last[-layer.directions:].transpose(0, 1).reshape(len(target), -1)
    error = torch.nn.functional.mse_loss(y, torch.tensor(target))
    error.backward()
    near = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(got, y.detach().numpy(), **near)
    assert loss == pytest.approx(error.item(), rel=1e-10)
    dx, dstate, own = parts(layer, grads)
    np.testing.assert_allclose(dx, x.grad.numpy().reshape(dx.shape), **near)
    for mine, their in zip(dstate, initial, strict=True):
        np.testing.assert_allclose(mine, their.grad.numpy().reshape(mine.shape), **near)
    assert own.keys() == dict(theirs.named_parameters()).keys()
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(own[name], p.grad.numpy(), **near, err_msg=name)


@pytest.mark.parametrize("kind, more", KINDS, ids=lambda k: str(getattr(k, "__name__", k)))
def test_what_lies_beyond_a_length_changes_no_bit(kind, more):
    rng = np.random.default_rng(3)
    x, lengths, target = rng.standard_normal((6, 9, 3)), np.array([4, 0, 7, 1, 9, 5]), rng.standard_normal((6, 9, 10))
    beyond = np.arange(9) >= lengths[:, None]
    same = set()
    for filled in (0.0, 1e30, np.nan, -np.inf):
        x[beyond] = filled
        model, sources = wrap(kind(3, 5, 2, bidirectional=True, **more), [x, lengths], "float32")
        y, loss, grads = run(model, sources, target.astype(np.float32))
        assert not y[beyond].any() and not next(iter(grads.values())).reshape(x.shape)[beyond].any()
        same.add(hashed(y, loss, *grads.values()))
    assert len(same) == 1
    # nor does how much of it there is: a sample alone, without any
    for last in (False, True):
        alike = {}
        for T in {9, *lengths.tolist()} - {0}:
            inputs = [nn.Input((T, 3)), nn.Input((), "int64", name="lengths")]
            layer = kind(3, 5, 2, bidirectional=True, return_sequences=not last, **more)
            alike[T] = Model(inputs=inputs, outputs=layer(inputs), seed=5)
        whole = alike[9].predict((x, lengths))
        for b in np.flatnonzero(lengths):
            n = lengths[b]
            alone = alike[n].predict((x[b:b + 1, :n], lengths[b:b + 1]))[0]
            assert np.array_equal(alone, whole[b] if last else whole[b, :n])


def test_gradients_do_not_depend_on_how_much_padding_there_is():
    rng = np.random.default_rng(6)
    x, lengths = rng.standard_normal((6, 9, 3)), np.array([4, 0, 7, 1, 9, 5])
    state = Model(nn.LSTM(3, 5, 2, bidirectional=True), seed=1).state_dict()
    same = set()
    for T in (9, 10, 14):
        padded = np.concatenate([x, np.ones((6, T - 9, 3))], 1)
        model, sources = wrap(nn.LSTM(3, 5, 2, bidirectional=True, return_sequences=False), [padded, lengths], "float32")
        model.load_state_dict({f"1.{name}": v for name, v in state.items()}, strict=False)
        grads = run(model, sources, np.ones((6, 10), np.float32))[2]
        same.add(hashed(*(g for name, g in grads.items() if not name.startswith("0."))))
    assert len(same) == 1


def test_bits_do_not_depend_on_the_batch_or_threads():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((70, 6, 5)).astype(np.float32), rng.integers(0, 3, 70)
    for layer in (nn.LSTM(5, 33, 2, bidirectional=True, return_sequences=False), nn.GRU(5, 20, return_sequences=False)):
        net = nn.Sequential(layer, nn.Linear(layer.hidden_size * layer.directions, 3))
        model = Model(copy.deepcopy(net), seed=0)
        whole = model.predict(x)
        for n in (1, 7, 64):
            assert np.array_equal(model.predict(x, batch_size=n), whole)
    trained = set()
    for threads in (1, 2, 3):
        for dataset in DRIVERS.values():
            model = Model(nn.Sequential(nn.LSTM(5, 9, 2, dropout=0.2, return_sequences=False), nn.Linear(9, 3)), seed=0)
            with Trainer(2, enable_parallel=True, thread_count=threads, batches_per_update=3, seed=1) as t:
                t.init(dataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
                t.train()
            trained.add(hashed(model.params))
    assert len(trained) == 1


def digest():
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal((17, 5, 7)), rng.integers(0, 6, 17)]
    made = []
    for kind, more in KINDS:
        for dtype in ("float32", "float64"):
            model, sources = wrap(kind(7, 37, 2, bidirectional=True, dropout=0.1, **more), arrays, dtype)
            y, loss, grads = run(model, sources, np.ones((17, 5, 74), dtype))
            made += [y, loss, *grads.values()]
    return hashed(*made)


def test_bits_are_the_same_on_every_instruction_set():
    assert len(digests("test_recurrent")) == 1


def test_it_learns_which_sign_came_first(tmp_path):
    """What only memory tells: the sign of the first step, behind noise."""
    rng = np.random.default_rng(0)
    x = 0.5 * rng.standard_normal((256, 12, 2)).astype(np.float32)
    y = rng.integers(0, 2, 256)
    x[:, 0, 0] = np.where(y, 2, -2)
    model = Model(nn.Sequential(nn.GRU(2, 12, return_sequences=False), nn.Linear(12, 2)), seed=0)
    with Trainer(15, seed=0) as t:
        t.init(data.ArrayDataset(x, y, 16), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.02))
        t.train()
    assert t.history["loss"][-1] < 0.05
    model.save(tmp_path / "m.npz")
    assert np.array_equal(Model.load(tmp_path / "m.npz").predict(x), model.predict(x))
    assert "GRU" in model.summary() and "6,048" in model.summary()       # 12 (2 + 12) 36


def test_parameters_are_pytorchs():
    state = Model(nn.LSTM(3, 4, 2, bidirectional=True), seed=0).state_dict()
    assert {k: v.shape for k, v in state.items()} == {
        f"{kind}_l{k}{end}": shape for k, c in ((0, 3), (1, 8)) for end in ("", "_reverse")
        for kind, shape in (("weight_ih", (16, c)), ("weight_hh", (16, 4)), ("bias_ih", (16,)), ("bias_hh", (16,)))}
    every = np.concatenate([v.ravel() for v in state.values()])
    assert 0.45 < np.abs(every).max() <= 0.5 and abs(every.mean()) < 0.03
    frozen = Model(nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2)), seed=0)
    frozen.freeze("0.weight_*", "0.bias_ih*")
    x, t = np.ones((2, 5, 3)), np.ones((2, 5, 2))
    grads = run(frozen, [x], t.astype(np.float32))[2]
    assert list(grads) == ["0.bias_hh_l0", "1.weight", "1.bias"] and all(g.any() for g in grads.values())


@pytest.mark.parametrize("kind, more", KINDS, ids=lambda k: str(getattr(k, "__name__", k)))
def test_layers_that_share_parameters_add_their_gradients(kind, more):
    x = np.random.default_rng(7).standard_normal((3, 4, 3))
    twice = kind(3, 3, **more)
    assert testing.check_gradients(nn.Sequential(twice, twice), x) < 1e-6
    for names in (["bias_hh_l0"], ["weight_hh_l0", "bias_ih_l0"]):
        first, second = kind(3, 3, **more), kind(3, 3, **more)
        for name in names:
            setattr(second, name, getattr(first, name))
        assert testing.check_gradients(nn.Sequential(first, second), x) < 1e-6


@pytest.mark.parametrize("layer, width", [
    (nn.LSTM(6, 6, 2, bidirectional=True), 12), (nn.GRU(6, 6), 6), (nn.GRU(6, 6, reset_after=False), 6), (nn.RNN(6, 6), 6),
    (nn.MultiheadAttention(6, 2), 6), (nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), 6)], ids=lambda v: type(v).__name__)
def test_what_is_frozen_changes_no_other_gradient(layer, width):
    x, target = np.random.default_rng(8).standard_normal((4, 5, 3)), np.ones((4, 5, 2))
    model = Model(nn.Sequential(nn.Linear(3, 6), copy.deepcopy(layer), nn.Linear(width, 2)), "float64", seed=0)
    every = run(model, [x], target)[2]
    for pattern in ("1.*", "0.*", *list(every)[2:-2:3]):
        model.unfreeze()
        model.freeze(pattern)
        rest = run(model, [x], target)[2]
        assert 0 < len(rest) == len(every) - len(model.frozen) < len(every)
        for name, g in rest.items():
            np.testing.assert_allclose(g, every[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make, message", [
    (lambda: nn.LSTM(0, 3), "LSTM(0, 3, num_layers=1)"), (lambda: nn.GRU(2, 3, dropout=0.5), "dropout=0.5"),
    (lambda: nn.RNN(2, 3, 2, dropout=1.0), "dropout=1.0"), (lambda: nn.RNN(2, 3, nonlinearity="gelu"), "'gelu'"),
    (lambda: Model(nn.LSTM(3, 4)).output_shape((5, 2)), "(T, 3)"), (lambda: Model(nn.LSTM(3, 4)).output_shape((3,)), "(3,)"),
    (lambda: nn.LSTM(3, 4)([nn.Input((5, 3)), nn.Input((1, 4))]), "h0, c0 (1, 4)"),
    (lambda: nn.GRU(3, 4)([nn.Input((5, 3)), nn.Input((2, 4))]), "h0 (1, 4)"),
])
def test_door(make, message):
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value)


def test_lengths_are_integers_within_the_sequence():
    x = nn.Input((5, 3))
    with pytest.raises(TypeError, match="integers as lengths"):
        nn.LSTM(3, 4)([x, nn.Input(())])
    lengths = nn.Input((), "int64", name="lengths")
    model = Model(inputs=[x, lengths], outputs=nn.LSTM(3, 4)([x, lengths]), seed=0)
    with pytest.raises(ValueError, match="6"):
        model.predict((np.ones((2, 5, 3)), np.array([5, 6])))

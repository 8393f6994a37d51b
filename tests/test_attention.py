"""MultiheadAttention and the transformer layers: values and gradients against PyTorch, masks and lengths, bits, the door."""
import copy

import numpy as np
import pytest
from sequence_gradients import digests, hashed, run, wrap

from tinydl import Model, Trainer, data, losses, nn, optim, testing


def as_pytorchs(state):
    """The arrays of a PyTorch module by tinydl's names and layouts: weights of linear1 and linear2 are transposed."""
    return {name: v.T if name.endswith(("linear1.weight", "linear2.weight")) else v for name, v in state.items()}


def compare(layer, theirs, arrays, call, seed):
    """Outputs and all gradients of both in float64. call(module, tensors) -> y."""
    import torch
    model, sources = wrap(layer, arrays, seed=seed)
    number = next(name.split(".")[0] for name in model.state_dict() if "in_proj" in name)
    state = as_pytorchs({name: v.detach().numpy() for name, v in theirs.state_dict().items()})
    model.load_state_dict({f"{number}.{name}": v for name, v in state.items()}, strict=False)
    target = np.random.default_rng(seed).standard_normal((len(arrays[0]), *layer.output_shape(*(a.shape[1:] for a in arrays))))
    got, loss, grads = run(model, sources, target)
    tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = call(theirs, tensors)
    error = torch.nn.functional.mse_loss(y, torch.tensor(target))
    error.backward()
    near = {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(got, y.detach().numpy(), **near)
    assert loss == pytest.approx(error.item(), rel=1e-10)
    by_inputs = [g for name, g in grads.items() if name.split(".", 1)[1] == "weight"]
    for mine, their in zip(by_inputs, [t for t in tensors if t.requires_grad], strict=True):
        np.testing.assert_allclose(mine, their.grad.numpy().reshape(mine.shape), **near)
    own = {name.split(".", 1)[1]: g for name, g in grads.items() if name.startswith(f"{number}.")}
    wanted = as_pytorchs({name: p.grad.numpy() for name, p in theirs.named_parameters()})
    assert own.keys() == wanted.keys()
    for name, g in wanted.items():
        np.testing.assert_allclose(own[name], g, **near, err_msg=name)


@pytest.mark.parametrize("seed", range(30))
def test_attention_is_pytorchs(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    heads, D = int(rng.integers(1, 4)), int(rng.integers(1, 6))
    B, L, M, bias, causal, cross = *(int(n) for n in rng.integers(1, 7, 3)), *(bool(v) for v in rng.integers(0, 2, 3))
    M = M if cross else L
    layer = nn.MultiheadAttention(heads * D, heads, bias=bias, causal=causal)
    theirs = torch.nn.MultiheadAttention(heads * D, heads, bias=bias, batch_first=True, dtype=torch.float64)
    arrays = [rng.standard_normal((B, n, heads * D)) for n in ((L, M) if cross else (L,))]
    padding = None
    if rng.integers(2):         # the first key always counts: where none does PyTorch gives NaN
        padding = rng.integers(0, 2, (B, M))
        padding[:, 0] = 0
        arrays.append(padding)
    elif cross and rng.integers(2):
        lengths = rng.integers(1, M + 1, B)
        padding = np.arange(M) >= lengths[:, None]
        arrays.append(lengths)
    mask = torch.ones(L, M).triu(1).bool() if causal else None

    def call(module, tensors):
        q, kv = tensors[0], tensors[1] if cross else tensors[0]
        return module(q, kv, kv, key_padding_mask=None if padding is None else torch.tensor(padding).bool(), attn_mask=mask)[0]
    compare(layer, theirs, arrays, call, seed)


@pytest.mark.parametrize("seed", range(16))
def test_transformer_layers_are_pytorchs(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    decoder, norm_first, causal, bias = (bool(v) for v in rng.integers(0, 2, 4))
    heads, D, F = int(rng.integers(1, 4)), int(rng.integers(2, 6)), int(rng.integers(1, 12))
    B, L, M = (int(n) for n in rng.integers(1, 7, 3))
    kind = "TransformerDecoderLayer" if decoder else "TransformerEncoderLayer"
    options = {"dim_feedforward": F, "dropout": 0.0, "activation": ("relu", "gelu")[seed % 2], "norm_first": norm_first,
               "bias": bias, "layer_norm_eps": 1e-3}
    layer = getattr(nn, kind)(heads * D, heads, **options, causal=causal)
    theirs = getattr(torch.nn, kind)(heads * D, heads, batch_first=True, dtype=torch.float64, **options)
    arrays = [rng.standard_normal((B, n, heads * D)) for n in ((L, M) if decoder else (L,))]
    mask = torch.ones(L, L).triu(1).bool() if causal else None
    compare(layer, theirs, arrays, lambda module, tensors: module(*tensors, mask), seed)


def test_gradients_by_differences():
    rng = np.random.default_rng(0)
    x, memory, lengths = rng.standard_normal((3, 5, 8)), rng.standard_normal((3, 7, 8)), np.array([5, 0, 3])
    for layer in (nn.MultiheadAttention(8, 4, causal=True, dropout=0.3), nn.PositionalEncoding(8, 9, learned=True),
                  nn.TransformerEncoderLayer(8, 2, 6, activation="swiglu", norm_first=True),
                  nn.TransformerEncoderLayer(8, 2, 6, activation="gelu", causal=True)):
        assert testing.check_gradients(layer, x) < 1e-6
    a, m, of_x, of_m = nn.Input((5, 8)), nn.Input((7, 8)), nn.Input((), "int64", name="a"), nn.Input((), "int64", name="b")
    mask = nn.Input((7,), "int64", name="mask")
    decoder = nn.TransformerDecoderLayer(8, 2, 6, activation="gelu", norm_first=True)
    for inputs, layer, given in (
            ([a, of_x], nn.TransformerEncoderLayer(8, 2, 6, activation="gelu"), (x, lengths)),
            ([a, m, of_x, of_m], decoder, (x, memory, lengths, np.array([0, 7, 2]))),
            ([a, m, of_x, mask], nn.MultiheadAttention(8, 2, 0.2), (x, memory, lengths + 1, rng.integers(0, 2, (3, 7))))):
        assert testing.check_gradients(Model(inputs=inputs, outputs=layer(inputs)).layer, given) < 1e-6


def test_a_query_with_nothing_to_look_at_gives_zeros_and_zero_gradients():
    rng = np.random.default_rng(1)
    x, memory = rng.standard_normal((4, 3, 6)), rng.standard_normal((4, 5, 6))
    for nothing in (np.array([0, 5, 0, 2]), np.array([[1] * 5, [0] * 5, [1] * 5, [0, 1, 1, 1, 0]])):
        model, sources = wrap(nn.MultiheadAttention(6, 2), [x, memory, nothing])
        bias = rng.standard_normal(6)
        model.load_state_dict({"2.out_proj.bias": bias}, strict=False)
        y, _, grads = run(model, sources, np.zeros((4, 3, 6)))
        dx, dmemory = grads["0.weight"].reshape(x.shape), grads["1.weight"].reshape(memory.shape)
        for b, empty in enumerate((True, False, True, False)):
            assert np.array_equal(y[b], np.broadcast_to(bias, (3, 6))) == empty
            assert (not dx[b].any()) == empty and (not dmemory[b].any()) == empty
        assert all(np.isfinite(g).all() for g in grads.values())
    model, sources = wrap(nn.MultiheadAttention(6, 2), [x, np.array([3, 0, 1, 2])])     # and steps beyond a length ask nothing
    model.load_state_dict({"1.out_proj.bias": bias}, strict=False)
    y, _, grads = run(model, sources, np.zeros((4, 3, 6)))
    beyond = np.arange(3) >= np.array([3, 0, 1, 2])[:, None]
    assert np.array_equal((y == bias).all(2), beyond)
    assert np.array_equal(grads["0.weight"].reshape(x.shape).any(2), ~beyond)


@pytest.mark.parametrize("kind", [lambda: nn.MultiheadAttention(8, 2), lambda: nn.MultiheadAttention(8, 2, causal=True),
                                  lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2),
                                  lambda: nn.TransformerEncoderLayer(8, 2, 16, norm_first=True)],
                         ids=["attention", "causal", "encoder", "norm first"])
def test_what_lies_beyond_a_length_changes_no_bit(kind):
    rng = np.random.default_rng(3)
    x, lengths = rng.standard_normal((6, 9, 8)).astype(np.float32), np.array([4, 0, 7, 1, 9, 5])
    beyond, same = np.arange(9) >= lengths[:, None], set()
    target = rng.standard_normal((6, 9, 8)).astype(np.float32)
    for filled in (0.0, 1e30, np.nan, -np.inf):
        x[beyond] = filled
        model, sources = wrap(kind(), [x, lengths], "float32")
        y, loss, grads = run(model, sources, target)
        assert not grads["0.weight"].reshape(x.shape)[beyond].any()
        same.add(hashed(y, loss, *grads.values()))
    assert len(same) == 1
    models = {}
    for T in {9, *lengths.tolist()} - {0}:
        inputs = [nn.Input((T, 8)), nn.Input((), "int64", name="lengths")]
        models[T] = Model(inputs=inputs, outputs=kind()(inputs), seed=5)
    whole = models[9].predict((x, lengths))
    for b in np.flatnonzero(lengths):
        n = lengths[b]
        assert np.array_equal(models[n].predict((x[b:b + 1, :n], lengths[b:b + 1]))[0], whole[b, :n])


def test_causal_steps_do_not_see_what_follows_and_long_sequences_take_little_memory():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1, 700, 16)).astype(np.float32)
    model = Model(nn.MultiheadAttention(16, 2, causal=True), seed=0)
    y = model.predict(x)
    changed = x.copy()
    changed[:, 400:] = 7
    assert np.array_equal(model.predict(changed)[:, :400], y[:, :400])
    plan = Model(nn.MultiheadAttention(16, 2), seed=0).plan((4096, 16), 1, loss=losses.MeanSquaredError())
    assert plan.work_bytes < 4096 * 4096


def test_bits_do_not_depend_on_the_batch_or_threads():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((70, 6, 8)).astype(np.float32), rng.integers(0, 3, 70)

    def net():
        layers = [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, activation="gelu") for _ in range(2)]
        return nn.Sequential(nn.PositionalEncoding(8), *layers, nn.Mean(0), nn.Linear(8, 3))
    model = Model(net(), seed=0)
    for n in (1, 7, 64):
        assert np.array_equal(model.predict(x, batch_size=n), model.predict(x))
    trained = set()
    for threads in (1, 2, 3):
        model = Model(net(), seed=0)
        with Trainer(2, enable_parallel=True, thread_count=threads, batches_per_update=3, seed=1) as t:
            t.init(data.ArrayDataset(x, y, 8), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
            t.train()
        trained.add(hashed(model.params))
    assert len(trained) == 1


def digest():
    rng = np.random.default_rng(5)
    x, memory, lengths = rng.standard_normal((5, 50, 12)), rng.standard_normal((5, 300, 12)), np.array([300, 0, 7, 256, 290])
    made = []
    for dtype in ("float32", "float64"):
        for layer, arrays in ((nn.MultiheadAttention(12, 2, 0.3), [x, memory, lengths]),
                              (nn.TransformerEncoderLayer(12, 3, 8, causal=True), [x]),
                              (nn.TransformerDecoderLayer(12, 1, 8, activation="swiglu"), [x, memory])):
            model, sources = wrap(layer, arrays, dtype)
            y, loss, grads = run(model, sources, np.ones((5, 50, 12), dtype), seed=3)
            made += [y, loss, *grads.values()]
    return hashed(*made)


def test_bits_are_the_same_on_every_instruction_set():
    assert len(digests("test_attention")) == 1


def test_positions():
    p = Model(nn.PositionalEncoding(6, 40), "float64").predict(np.zeros((1, 40, 6)))[0]
    for t in (0, 3, 39):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert p[t, 2 * i:2 * i + 2] == pytest.approx([np.sin(angle), np.cos(angle)], abs=1e-14)
    learned = Model(nn.PositionalEncoding(6, 40, learned=True), seed=0)
    x = np.ones((2, 7, 6), np.float32)
    assert np.array_equal(learned.predict(x) - x, np.broadcast_to(learned.state_dict()["weight"][:7] + x - x, x.shape))


def test_saved_and_loaded(tmp_path):
    x, memory = nn.Input((5, 8)), nn.Input((7, 8))
    encoded = nn.TransformerEncoderLayer(8, 2, 12, activation="swiglu", bias=False)(nn.PositionalEncoding(8, 20)(memory))
    y = nn.TransformerDecoderLayer(8, 2, 12, norm_first=True)([nn.PositionalEncoding(8, 9, learned=True)(x), encoded])
    model = Model(inputs=[x, memory], outputs=nn.MultiheadAttention(8, 4, causal=True)(y), seed=0)
    model.save(tmp_path / "m.npz")
    again = Model.load(tmp_path / "m.npz")
    rng = np.random.default_rng(0)
    given = rng.standard_normal((3, 5, 8)), rng.standard_normal((3, 7, 8))
    assert np.array_equal(again.predict(given), model.predict(given))
    assert again.state_dict().keys() == model.state_dict().keys()
    text = model.summary()
    assert all(kind in text for kind in ("TransformerDecoderLayer", "MultiheadAttention")) and f"{model.num_parameters:,}" in text
    assert copy.deepcopy(model).predict(given).tobytes() == model.predict(given).tobytes()


@pytest.mark.parametrize("make, message", [
    (lambda: nn.MultiheadAttention(8, 3), "MultiheadAttention(8, 3)"), (lambda: nn.MultiheadAttention(8, 2, 1.0), "dropout=1.0"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), "'tanh'"),
    (lambda: nn.TransformerEncoderLayer(8, 2, 0), "dim_feedforward=0"),
    (lambda: nn.PositionalEncoding(0), "PositionalEncoding(0"),
    (lambda: Model(nn.PositionalEncoding(4, 5)).output_shape((6, 4)), "at most 5"),
    (lambda: Model(nn.MultiheadAttention(8, 2)).output_shape((5, 7)), "(5, 7)"),
    (lambda: nn.MultiheadAttention(8, 2)([nn.Input((5, 8)), nn.Input((4,), "int64")]), "(4,)"),
    (lambda: nn.TransformerDecoderLayer(8, 2)([nn.Input((5, 8))]), "memory"),
    (lambda: nn.TransformerEncoderLayer(8, 2)([nn.Input((5, 8)), nn.Input((5, 8))]), "lengths"),
])
def test_door(make, message):
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value)


def test_lengths_are_integers():
    with pytest.raises(TypeError, match="integers as lengths"):
        nn.MultiheadAttention(8, 2)([nn.Input((5, 8)), nn.Input(())])
    with pytest.raises(TypeError, match="integers as lengths"):
        nn.TransformerEncoderLayer(8, 2)(nn.Input((5, 8), "int64"))


@pytest.mark.parametrize("dtype, scale", [("float32", 1e3), ("float32", 3e4), ("float32", 1e6), ("float64", 1e10)])
def test_large_scores_are_no_overflow(dtype, scale):
    """The largest of a row's exponents is exactly 0, whatever rounding does to scores of 1e9 and more."""
    layer = nn.MultiheadAttention(4, 2)
    model = Model(layer, dtype, seed=0)
    one = np.full((1, 1, 4), scale)         # a single key has all the weight
    value = one[0, 0] @ model.state_dict()["in_proj_weight"][8:].T.astype(np.float64)
    want = value @ model.state_dict()["out_proj.weight"].T
    assert np.allclose(model.predict(one)[0, 0], want, rtol=0, atol=64 * np.finfo(dtype).eps * scale)
    x = scale * np.random.default_rng(0).standard_normal((20, 7, 4))
    assert np.isfinite(model.predict(x)).all()

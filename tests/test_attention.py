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
    number = next(name.split(".")[0] for name in model.state_dict() if "out_proj" in name)
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
    M, E, separate, sizes = M if cross else L, heads * D, cross and bool(rng.integers(2)), {}
    if separate and rng.integers(2):
        sizes = {"kdim": int(rng.integers(1, 7)), "vdim": int(rng.integers(1, 7))}
    layer = nn.MultiheadAttention(E, heads, bias=bias, causal=causal, **sizes)
    theirs = torch.nn.MultiheadAttention(E, heads, bias=bias, batch_first=True, dtype=torch.float64, **sizes)
    arrays = [rng.standard_normal((B, L, E))]
    if cross:
        arrays += [rng.standard_normal((B, M, n)) for n in (layer.kdim, layer.vdim)[:1 + separate]]
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
        k = tensors[1] if cross else tensors[0]
        ignored = None if padding is None else torch.tensor(padding).bool()
        return module(tensors[0], k, tensors[2] if separate else k, key_padding_mask=ignored, attn_mask=mask)[0]
    compare(layer, theirs, arrays, call, seed)


@pytest.mark.parametrize("seed", range(16))
def test_transformer_layers_are_pytorchs(seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    decoder, norm_first, causal, bias = (bool(v) for v in rng.integers(0, 2, 4))
    heads, D, F = int(rng.integers(1, 4)), int(rng.integers(2, 6)), int(rng.integers(1, 12))
    B, L, M = (int(n) for n in rng.integers(1, 7, 3))
    kind = "TransformerDecoderLayer" if decoder else "TransformerEncoderLayer"
    options = {"dim_feedforward": F, "dropout": 0.0, "activation": ("relu", "gelu", "gelu_tanh")[seed % 3],
               "norm_first": norm_first, "bias": bias, "layer_norm_eps": 1e-3}
    layer = getattr(nn, kind)(heads * D, heads, **options, causal=causal)
    theirs = getattr(torch.nn, kind)(heads * D, heads, batch_first=True, dtype=torch.float64, **options | (
        {"activation": torch.nn.GELU("tanh")} if options["activation"] == "gelu_tanh" else {}))
    arrays = [rng.standard_normal((B, n, heads * D)) for n in ((L, M) if decoder else (L,))]
    mask = torch.ones(L, L).triu(1).bool() if causal else None
    compare(layer, theirs, arrays, lambda module, tensors: module(*tensors, mask), seed)


def test_attention_alone_is_pytorchs():
    torch = pytest.importorskip("torch")
    rng, near = np.random.default_rng(0), {"rtol": 1e-10, "atol": 1e-12}
    for heads, D, L, M, causal, scale in ((1, 3, 4, 4, False, None), (3, 2, 5, 5, True, None), (2, 4, 3, 7, False, 0.3)):
        shapes = [(n, heads * D) for n in (L, M, M)]
        arrays = [rng.standard_normal((2, *shape)) for shape in shapes]
        inputs = [nn.Input(shape, name=name) for shape, name in zip(shapes, "qkv", strict=True)]
        layer = nn.DotProductAttention(heads, causal=causal, scale=scale)
        model = Model(inputs=inputs, outputs=layer(inputs), dtype="float64")
        q, k, v = (torch.tensor(a).unflatten(2, (heads, D)).transpose(1, 2) for a in arrays)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        np.testing.assert_allclose(model.predict(tuple(arrays)), y.transpose(1, 2).flatten(2).numpy(), **near)
        assert testing.check_gradients(model.layer, tuple(arrays)) < 1e-6
    for shapes in (((4, 6), (5, 6)), ((4, 6), (5, 6), (4, 6)), ((4, 7), (5, 7), (5, 7))):
        with pytest.raises(ValueError, match=r"takes q \(L, E\), k \(M, E\) and v \(M, E\), E a multiple of 2; got samples"):
            nn.DotProductAttention(2)([nn.Input(shape, name=str(i)) for i, shape in enumerate(shapes)])


def test_gradients_by_differences():
    rng = np.random.default_rng(0)
    x, memory, lengths = rng.standard_normal((3, 5, 8)), rng.standard_normal((3, 7, 8)), np.array([5, 0, 3])
    for layer in (nn.MultiheadAttention(8, 4, causal=True, dropout=0.3), nn.PositionalEncoding(8, 9, learned=True),
                  nn.TransformerEncoderLayer(8, 2, 6, activation="swiglu", norm_first=True),
                  nn.TransformerEncoderLayer(8, 2, 6, activation="gelu", causal=True),
                  nn.TransformerEncoderLayer(8, 2, 6, activation="gelu_tanh"),
                  nn.MultiheadAttention(8, 2, rotary=True), nn.TransformerEncoderLayer(8, 2, 6, activation="gelu", rotary=True,
                                                                                      rotary_base=10.0)):
        assert testing.check_gradients(layer, x) < 1e-6
    a, m, of_x, of_m = nn.Input((5, 8)), nn.Input((7, 8)), nn.Input((), "int64", name="a"), nn.Input((), "int64", name="b")
    mask, v, values = nn.Input((7,), "int64", name="mask"), nn.Input((7, 3), name="v"), rng.standard_normal((3, 7, 3))
    wide, keys = nn.Input((7, 8), name="wide"), rng.standard_normal((3, 7, 8))
    decoder = nn.TransformerDecoderLayer(8, 2, 6, activation="gelu", norm_first=True)
    for inputs, layer, given in (
            ([a, of_x], nn.TransformerEncoderLayer(8, 2, 6, activation="gelu"), (x, lengths)),
            ([a, m, of_x, of_m], decoder, (x, memory, lengths, np.array([0, 7, 2]))),
            ([a, of_x], nn.MultiheadAttention(8, 2, rotary=True, causal=True), (x, lengths)),
            ([a, m, v, mask], nn.MultiheadAttention(8, 2, 0.2, vdim=3), (x, memory, values, rng.integers(0, 2, (3, 7)))),
            ([a, wide, m, of_m], nn.MultiheadAttention(8, 4, bias=False), (x, keys, memory, np.array([0, 7, 2]))),
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
                                  lambda: nn.TransformerEncoderLayer(8, 2, 16, norm_first=True),
                                  lambda: nn.TransformerEncoderLayer(8, 2, 16, rotary=True)],
                         ids=["attention", "causal", "encoder", "norm first", "rotary"])
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


def attended(q, k, v, heads):
    """softmax(q k' / sqrt(D)) v of each head of one sample, side by side."""
    D, out = q.shape[1] // heads, []
    for h in range(heads):
        own = slice(h * D, (h + 1) * D)
        s = q[:, own] @ k[:, own].T / np.sqrt(D)
        p = np.exp(s - s.max(1, keepdims=True))
        out.append(p / p.sum(1, keepdims=True) @ v[:, own])
    return np.concatenate(out, 1)


def with_class_token():
    """Of (5,): a row of 4 columns with another one before it, and what linear layers make of both."""
    row = nn.Reshape((1, 4))(nn.Linear(5, 4)(x := nn.Input((5,))))
    return nn.Graph.of(x, nn.Linear(8, 2)(nn.Flatten()(nn.Concat(0)([nn.LearnedTokens(1, 4)(x), row]))))


def test_learned_tokens():
    """The same rows for all samples; their gradient is the sum over the samples, and x gets none."""
    tokens = Model(nn.LearnedTokens(3, 4), "float64", seed=0)
    w = tokens.state_dict()["weight"]
    assert 0.01 < w.std() < 0.03 and (tokens.predict(np.ones((5, 2))) == w).all()
    assert (tokens.predict(np.zeros((5,), "int64")) == w).all()
    x = np.random.default_rng(0).standard_normal((4, 5))
    assert testing.check_gradients(with_class_token(), x) < 1e-7
    a, n = nn.Input((7, 4)), nn.Input((), "int64")
    drawn = Model(inputs=[a, n], outputs=nn.MultiheadAttention(4, 2)([nn.LearnedTokens(2, 4)(a), a, n]), seed=0)
    steps, lengths = np.random.default_rng(1).standard_normal((3, 7, 4)), np.array([7, 2, 4])
    other = np.where(np.arange(7)[None, :, None] < lengths[:, None, None], steps, np.nan)
    assert drawn.output_shape() == (2, 4) and (drawn.predict((steps, lengths)) == drawn.predict((other, lengths))).all()
    for freeze in (False, True):        # what stands before them has no part in it, and they may be frozen
        model = Model(nn.Sequential(nn.Linear(5, 2), nn.LearnedTokens(3, 4), nn.Linear(4, 2)), seed=0)
        if freeze:
            model.freeze("1.weight")
        before = model.state_dict()
        with Trainer(1, seed=0) as trainer:
            trainer.init(data.ArrayDataset(x, np.ones((4, 3, 2))), model, losses.MeanSquaredError(), optim.SGD(0.1))
            trainer.train()
        after = model.state_dict()
        moved = {name for name in after if not (after[name] == before[name]).all()}
        assert moved == {"1.weight", "2.weight", "2.bias"} - ({"1.weight"} if freeze else set())
    with pytest.raises(ValueError, match=r"LearnedTokens\(0, 4\): both must be at least 1"):
        nn.LearnedTokens(0, 4)


def test_rotary_positions_by_the_papers_formula():
    """Rotations of neighbouring columns, as complex numbers; only how far steps are apart counts."""
    rng, T, E, heads, base = np.random.default_rng(7), 9, 12, 2, 100.0
    x = rng.standard_normal((2, T, E))
    D = E // heads
    turn = np.exp(1j * np.arange(T)[:, None] * base ** (-2 * np.arange(D // 2) / D))
    for dtype in ("float64", "float32"):
        model = Model(nn.MultiheadAttention(E, heads, rotary=True, rotary_base=base), dtype, seed=0)
        w = {name: v.astype(float) for name, v in model.state_dict().items()}
        got = model.predict(x.astype(dtype))
        for b in range(2):
            q, k, v = np.split(x[b].astype(dtype).astype(float) @ w["in_proj_weight"].T, 3, 1)
            q, k = (np.concatenate([((one[:, 0::2] + 1j * one[:, 1::2]) * turn).view(float)
                                    for one in np.split(m, heads, 1)], 1) for m in (q, k))
            want = attended(q, k, v, heads) @ w["out_proj.weight"].T
            np.testing.assert_allclose(got[b], want, rtol=0, atol=500 * np.finfo(dtype).eps)    # sums of 12 terms, and a softmax
    # the same sequence further on attends to itself as it does here
    causal = Model(nn.MultiheadAttention(E, heads, rotary=True), "float64", seed=0)
    again = np.concatenate([x, x], 1)
    mask = np.ones((2, 2 * T), np.int64)
    mask[:, T:] = 0
    a, m = nn.Input((2 * T, E)), nn.Input((2 * T,), "int64", name="mask")
    later = Model(inputs=[a, m], outputs=nn.MultiheadAttention(E, heads, rotary=True)([a, m]), dtype="float64")
    later.load_state_dict({f"0.{name}": v for name, v in causal.state_dict().items()})
    np.testing.assert_allclose(later.predict((again, mask))[:, T:], causal.predict(x), rtol=1e-11, atol=1e-13)
    assert abs(causal.predict(x[:, ::-1])[:, ::-1] - causal.predict(x)).max() > 0.01       # and order does


def test_keys_and_values_of_their_own():
    rng = np.random.default_rng(8)
    for sizes, together in (({}, True), ({"kdim": 5, "vdim": 3}, False)):
        layer = nn.MultiheadAttention(8, 2, **sizes)
        inputs = [nn.Input((4, 8)), nn.Input((6, layer.kdim)), nn.Input((6, layer.vdim))]
        model = Model(inputs=inputs, outputs=layer(inputs), dtype="float64", seed=0)
        model.params += rng.uniform(-0.2, 0.2, model.params.size)
        w = {name.split(".", 1)[1]: v for name, v in model.state_dict().items()}
        assert ("in_proj_weight" in w) == together
        by = np.split(w["in_proj_weight"], 3) if together else [w[f"{name}_proj_weight"] for name in "qkv"]
        given = [rng.standard_normal((2, *i.shape)) for i in inputs]
        q, k, v = (a @ one.T + bias for a, one, bias in zip(given, by, np.split(w["in_proj_bias"], 3), strict=True))
        want = np.stack([attended(q[b], k[b], v[b], 2) for b in range(2)]) @ w["out_proj.weight"].T + w["out_proj.bias"]
        np.testing.assert_allclose(model.predict(tuple(given)), want, rtol=1e-12, atol=1e-13)
    # of one memory it is what it was, and the same as giving it twice
    a, m = nn.Input((4, 8)), nn.Input((6, 8))
    x, memory = rng.standard_normal((2, 4, 8)), rng.standard_normal((2, 6, 8))
    once, twice = (Model(inputs=[a, m], outputs=nn.MultiheadAttention(8, 2)(given), dtype="float64", seed=0)
                   for given in ([a, m], [a, m, m]))
    twice.params[:] = once.params
    np.testing.assert_allclose(twice.predict((x, memory)), once.predict((x, memory)), rtol=1e-13, atol=1e-15)


def test_saved_and_loaded(tmp_path):
    x, memory = nn.Input((5, 8)), nn.Input((7, 8))
    encoded = nn.TransformerEncoderLayer(8, 2, 12, activation="swiglu", bias=False)(nn.PositionalEncoding(8, 20)(memory))
    decoder = nn.TransformerDecoderLayer(8, 2, 12, norm_first=True, rotary=True, rotary_base=20.0)
    y = decoder([nn.PositionalEncoding(8, 9, learned=True)(x), encoded])
    y = nn.MultiheadAttention(8, 4, vdim=5)([y, encoded, nn.Linear(8, 5)(memory)])
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
    (lambda: nn.MultiheadAttention(6, 2, rotary=True), "3 columns must be an even number"),
    (lambda: nn.TransformerEncoderLayer(8, 2, rotary=True, rotary_base=1), "rotary_base=1"),
    (lambda: nn.MultiheadAttention(8, 2, kdim=0), "kdim=0"),
    (lambda: nn.MultiheadAttention(8, 2, rotary=True)([nn.Input((5, 8)), nn.Input((7, 8))]), "then, if you like, lengths"),
    (lambda: nn.MultiheadAttention(8, 2)([nn.Input((5, 8)), nn.Input((7, 8)), nn.Input((6, 8))]), "keys (M, 8) and values (M,"),
    (lambda: nn.MultiheadAttention(8, 2, vdim=3)([nn.Input((5, 8)), nn.Input((7, 8))]), "values (M, 3)"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), "'tanh'"),
    (lambda: nn.TransformerDecoderLayer(8, 2, activation="gelu_new"), "gelu_tanh, swiglu (by tanh it is gelu_tanh)"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation=nn.GELU("tanh")), "gelu_tanh, swiglu (by tanh it is gelu_tanh)"),
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

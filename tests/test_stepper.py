"""Step by step with the state kept: the bits of the whole sequence at once, and who cannot go so."""
import numpy as np
import pytest

from tinydl import Model, nn


def graph():
    x = nn.Input((6, 3))
    y = nn.LSTM(3, 5)(x)
    z = nn.Concat()([nn.Linear(3, 5)(x), nn.Multiply()([nn.Tanh()(y), y])])
    return {"inputs": x, "outputs": nn.Linear(10, 2)(nn.GRU(10, 10)(z))}


def last():
    x = nn.Input((6, 3))
    y = nn.LastStep()(nn.LSTM(3, 4)(x))
    return {"inputs": x, "outputs": nn.Linear(8, 2)(nn.Concat()([y, nn.Reshape((4,))(nn.Reshape((2, 2))(y))]))}


def queries():
    """With keys and values that are made by themselves."""
    x = nn.Input((6, 3))
    q, k, v = (nn.RMSNorm(6)(nn.Linear(3, 6)(x)) for _ in range(3))
    return {"inputs": x, "outputs": nn.Residual(nn.Linear(6, 6))(nn.DotProductAttention(3, causal=True)([q, k, v]))}


MODELS = {
    "lstm": lambda: {"layer": nn.LSTM(3, 5)},
    "two layers": lambda: {"layer": nn.LSTM(3, 5, num_layers=2, dropout=0.5)},
    "no bias": lambda: {"layer": nn.GRU(3, 6, num_layers=2, bias=False)},
    "reset before": lambda: {"layer": nn.GRU(3, 5, reset_after=False)},
    "rnn": lambda: {"layer": nn.Sequential(nn.RNN(3, 4), nn.RNN(4, 4, nonlinearity="relu"))},
    "wide": lambda: {"layer": nn.Sequential(nn.LSTM(3, 70), nn.GRU(70, 33), nn.Linear(33, 17))},
    "last": lambda: {"layer": nn.Sequential(nn.LSTM(3, 5), nn.GRU(5, 4, return_sequences=False), nn.Linear(4, 2), nn.Softmax())},
    "between": lambda: {"layer": nn.Sequential(
        nn.BatchNorm1d(3, axis=-1), nn.Linear(3, 8), nn.GELU(), nn.LayerNorm(8), nn.Dropout(0.3), nn.Residual(nn.LSTM(8, 8)),
        nn.RMSNorm(8), nn.PReLU(8, axis=-1), nn.Scale(8), nn.GRU(8, 4), nn.LogSoftmax())},
    "graph": graph, "last step": last,
    "temporal": lambda: {"layer": nn.Sequential(
        nn.Permute((1, 0)), nn.Conv1d(3, 8, 3, padding="causal", dilation=2), nn.ReLU(),
        nn.Residual(nn.Sequential(nn.Conv1d(8, 8, 2, padding="causal", groups=8), nn.GELU(), nn.Conv1d(8, 8, 1))),
        nn.BatchNorm1d(8), nn.PReLU(8), nn.Dropout(0.2), nn.Conv1d(8, 6, 9, padding="causal", bias=False), nn.Permute((1, 0)),
        nn.LayerNorm(6),
        nn.GRU(6, 5))},
    "attention": lambda: {"layer": nn.Sequential(
        nn.Linear(3, 12), nn.PositionalEncoding(12), nn.MultiheadAttention(12, 3, causal=True, bias=False), nn.GRU(12, 5))},
    "transformer": lambda: {"layer": nn.Sequential(
        nn.Linear(3, 8), nn.PositionalEncoding(8, 6, learned=True), nn.Dropout(0.1),
        nn.TransformerEncoderLayer(8, 2, 16, causal=True), nn.TransformerEncoderLayer(8, 4, 10, 0.2, "gelu", True, causal=True),
        nn.LayerNorm(8), nn.LastStep(), nn.Linear(8, 2))},
    "rotary": lambda: {"layer": nn.Sequential(
        nn.Linear(3, 8), nn.TransformerEncoderLayer(8, 2, 16, activation="swiglu", causal=True, rotary=True))},
    "queries": queries,
    "no state": lambda: {"layer": nn.Sequential(nn.Linear(3, 4), nn.ReLU())},
}


def steps(model, x):
    """Of x (B, T, ...) all outputs, side by side."""
    s = model.stepper()
    return [s.step(x[:, t]) for t in range(x.shape[1])]


def random_model(make, dtype):
    """With statistics and weights that no layer begins with."""
    model, rng = Model(**make(), dtype=dtype, seed=1), np.random.default_rng(5)
    model.params += rng.uniform(-0.1, 0.1, model.params.size).astype(dtype)
    model.statistics += rng.uniform(0.1, 0.5, model.statistics.size).astype(dtype)
    return model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_of_the_whole_sequence(name, dtype):
    model, x = random_model(MODELS[name], dtype), np.random.default_rng(0).normal(size=(3, 6, 3)).astype(dtype)
    whole, outputs = model.predict(x), steps(model, x)
    assert all(y.dtype == dtype and y.flags.c_contiguous for y in outputs)
    if name in ("last", "last step", "transformer"):       # as if the sequence ended there
        assert (outputs[-1] == whole).all()
        if name == "last":
            assert (outputs[2] == model.predict(x[:, :3])).all()
    else:
        assert (np.stack(outputs, 1) == whole).all()
    alone = model.stepper()
    for t in range(6):
        y = alone.step(x[1, t])
        assert y.shape == outputs[t].shape[1:] and (y == outputs[t][1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolutions_of_channels_first(dtype):
    """Sequences (C, T), as convolutions have them, in a graph and alone; wide ones, too."""
    x = nn.Input((5, 30))
    h = nn.Tanh()(nn.Conv1d(5, 40, 4, padding="causal", dilation=3)(x))
    both = nn.Add()([h, nn.Conv1d(5, 40, 1)(x)])
    for make in ({"inputs": x, "outputs": nn.Conv1d(40, 33, 2, padding="causal", groups=1)(both)},
                 {"layer": nn.Sequential(nn.ReLU(), nn.Conv1d(5, 7, 3, padding="causal"))}):
        model = random_model(lambda make=make: make, dtype)
        x = np.random.default_rng(1).normal(size=(3, 5, 30)).astype(dtype)
        whole, s = model.predict(x), model.stepper()
        outputs = [s.step(x[:, :, t]) for t in range(30)]
        assert (np.stack(outputs, 2) == whole).all()
        # and nothing that follows is seen
        changed = x.copy()
        changed[:, :, 20:] = 7
        assert (model.predict(changed)[:, :, :20] == whole[:, :, :20]).all()
        s.reset()
        assert (s.step(x[0, :, 0]) == outputs[0][0]).all()


@pytest.mark.parametrize("positions", ["sines", "learned", "rotary"])
def test_attention_over_more_steps_than_there_was_room_for(positions):
    """And than a block of keys has."""
    first = [nn.Embedding(9, 8)] + [nn.PositionalEncoding(8, 300, learned=positions == "learned")] * (positions != "rotary")
    model = random_model(lambda: {"layer": nn.Sequential(
        *first, nn.TransformerEncoderLayer(8, 2, 16, causal=True, rotary=positions == "rotary"), nn.Linear(8, 9))}, "float32")
    tokens = np.random.default_rng(0).integers(0, 9, (2, 300))
    whole, s = model.predict(tokens), model.stepper()
    assert (np.stack([s.step(t) for t in tokens.T], 1) == whole).all()
    if positions != "rotary":
        with pytest.raises(ValueError, match=r"this is step 301, and layer 1, PositionalEncoding\(.*\), knows 300: reset\(\)"):
            s.step(tokens[:, 0])
    s.reset()
    assert (s.step(tokens[0, 0]) == whole[0, 0]).all()
    with pytest.raises(ValueError, match="integer 9 is out of range"):
        s.step(9)
    assert (s.step(tokens[0, 1]) == whole[0, 1]).all()      # an error has left the state
    model.params *= 0.5                                     # the positions are those of now, too
    assert (s.step(tokens[0, 2]) != whole[0, 2]).any()
    s.reset()
    assert (s.step(tokens[0, 0]) == model.predict(tokens[:1, :1])[0, 0]).all()


def test_tokens():
    model = Model(nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 8), nn.Linear(8, 9)), seed=0)
    tokens = np.random.default_rng(0).integers(0, 9, (2, 7))
    assert (np.stack(steps(model, tokens), 1) == model.predict(tokens)).all()
    s = model.stepper()
    assert s.step(4).shape == (9,)
    with pytest.raises(ValueError, match="x is float64; the model takes integers"):
        s.step(4.0)


def test_reset_and_streams_beside_each_other():
    model, x = Model(nn.GRU(3, 4), seed=0), np.random.default_rng(0).normal(size=(5, 3))
    s, other = model.stepper(), model.stepper()
    first = [s.step(row) for row in x]
    other.step(-x[0])
    assert (s.step(x[0]) != first[0]).all()
    s.reset()
    assert all((s.step(row) == y).all() for row, y in zip(x, first, strict=True))
    s.reset()
    assert (s.step(x)[0] == first[0]).all()        # five streams now
    with pytest.raises(ValueError, match=r"x has steps of 1 streams, and there were 5 so far: reset\(\)"):
        s.step(x[0])


def test_an_error_leaves_the_state():
    model = Model(nn.Sequential(nn.Embedding(4, 3), nn.GRU(3, 4)), seed=0)
    s, fresh = model.stepper(), model.stepper()
    s.step(1)
    fresh.step(1)
    for wrong, words in ((7, "integer 7 is out of range in layer 0"), ([], "x has shape"),
                         ([[1]], r"x has shape \(1, 1\); one step is \(\), of B streams")):
        with pytest.raises(ValueError, match=words):
            s.step(np.asarray(wrong, np.int64))
    assert (s.step(2) == fresh.step(2)).all()


def lengths(layer, last=False):
    x, ends = nn.Input((6, 4), name="x"), nn.Input((), "int64", name="lengths")
    y = layer([x, ends])
    return Model(inputs=[x, ends], outputs=nn.Linear(y.shape[-1], 2)(nn.LastStep()([y, ends]) if last else y), seed=0)


@pytest.mark.parametrize("model", [
    lengths(nn.LSTM(4, 5, num_layers=2)), lengths(nn.GRU(4, 5, return_sequences=False)), lengths(nn.RNN(4, 5), last=True),
    lengths(nn.TransformerEncoderLayer(4, 2, 8, causal=True)), lengths(nn.MultiheadAttention(4, 2, causal=True))],
    ids=["lstm", "gru", "last step", "transformer", "attention"])
def test_lengths_are_left_out(model):
    x = np.random.default_rng(0).normal(size=(3, 6, 4))
    s = model.stepper()
    ys = [s.step(x[:, t]) for t in range(6)]
    for n in (1, 4, 6):
        whole = model.predict((x, np.full(3, n)))
        assert (ys[n - 1] == (whole[:, n - 1] if whole.ndim == 3 else whole)).all()


def test_a_second_input_that_is_more_than_lengths_is_refused():
    x, number = nn.Input((6, 4), name="x"), nn.Input((), "int64", name="number")
    state = nn.Reshape((1, 5))(nn.Embedding(3, 5)(number))
    for y in (nn.GRU(4, 5)([x, state]), nn.MeanSteps()([nn.GRU(4, 5)([x, number]), number])):
        with pytest.raises(ValueError, match="one input, and lengths of recurrent and attention layers; this one has x, number"):
            Model(inputs=[x, number], outputs=y).stepper()
    with pytest.raises(ValueError, match="this one has x, h"):
        h = nn.Input((1, 5), name="h")
        Model(inputs=[x, h], outputs=nn.GRU(4, 5)([x, h])).stepper()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("after", [0, 1, 4])
def test_going_on_from_a_state(name, after, tmp_path):
    model = Model(**MODELS[name](), seed=0)
    x = np.random.default_rng(1).normal(size=(3, 6, 3))
    s, other = model.stepper(), model.stepper()
    if name == "temporal":      # which does not say how wide a step is
        with pytest.raises(ValueError, match="does not say the shape of a step"):
            s.load_state_dict({"steps": 0})
        for stepper in (s, other):
            stepper.step(x[:, 0])
            stepper.reset()
    for t in range(after):
        s.step(x[:, t])
    np.savez(tmp_path / "state.npz", **s.state_dict())
    whole = [s.step(x[:, t]) for t in range(after, 6)]
    with np.load(tmp_path / "state.npz") as state:
        for stepper in (s, other):
            stepper.load_state_dict(state)
            assert np.array_equal([stepper.step(x[:, t]) for t in range(after, 6)], whole)


def test_a_state_with_more_steps_than_there_is_room_for():
    model = Model(nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8, causal=True)), seed=0)
    x = np.random.default_rng(1).normal(size=(90, 2, 4))
    s, other = model.stepper(), model.stepper()
    for row in x[:70]:
        s.step(row)
    other.load_state_dict(s.state_dict())
    assert all((s.step(row) == other.step(row)).all() for row in x[70:])
    other.load_state_dict({"steps": 0})
    assert (other.step(x[0]) == model.predict(x[:1].swapaxes(0, 1))[:, 0]).all()


def test_a_state_of_ones_own_is_the_initial_state():
    x, h, c = nn.Input((6, 3), name="x"), nn.Input((1, 5), name="h"), nn.Input((1, 5), name="c")
    whole = Model(inputs=[x, h, c], outputs=nn.LSTM(3, 5)([x, h, c]), seed=0)
    model = Model(nn.LSTM(3, 5), seed=0)
    rng = np.random.default_rng(2)
    x, h, c = rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    s = model.stepper()
    s.load_state_dict({"steps": 0, "state0": h, "state1": c})
    assert (np.stack([s.step(x[:, t]) for t in range(6)], 1) == whole.predict((x, h[:, None], c[:, None]))).all()


def test_a_state_that_does_not_fit_leaves_the_one_there_is():
    model = Model(nn.LSTM(3, 5), seed=0)
    s, same = model.stepper(), model.stepper()
    x = np.random.default_rng(3).normal(size=(2, 3))
    s.step(x[0])
    same.step(x[0])
    good = s.state_dict()
    for bad, got in (({}, ""), ({"steps": 1}, "steps ()"), (good | {"steps": -1}, "steps (), state0 (1, 5), state1 (1, 5)"),
                     (good | {"state1": np.ones((2, 5))}, "steps (), state0 (1, 5), state1 (2, 5)"),
                     (good | {"state2": 0}, "steps (), state0 (1, 5), state1 (1, 5), state2 ()")):
        with pytest.raises(ValueError) as e:
            s.load_state_dict(bad)
        assert str(e.value) == f"state must have steps, and of B streams state0 (B, 5), state1 (B, 5); got {got}"
    assert (s.step(x[1]) == same.step(x[1])).all()


def test_the_parameters_of_now():
    model, x = Model(nn.LSTM(3, 4), seed=0), np.ones((1, 1, 3))
    s = model.stepper()
    model.params *= 2
    assert (s.step(x[0, 0]) == model.predict(x)[0, 0]).all()


def attention():
    x = nn.Input((6, 8))
    return {"inputs": x, "outputs": nn.MultiheadAttention(8, 2)(x)}


def to_itself_twice():
    x = nn.Input((6, 8))
    return {"inputs": x, "outputs": nn.MultiheadAttention(8, 2, causal=True)([x, x])}


def joined():
    x = nn.Input((6, 4))
    end = nn.Reshape((1, 6))(nn.LSTM(4, 6, return_sequences=False)(x))
    return {"inputs": x, "outputs": nn.Concat(axis=0)([nn.LSTM(4, 6)(x), end])}


def over_time():
    x = nn.Input((6, 4))
    return {"inputs": x, "outputs": nn.Concat(axis=0)([nn.LSTM(4, 4)(x), x])}


@pytest.mark.parametrize("make, words", [
    (lambda: {"layer": nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 4, bidirectional=True))},
     r"layer 1, LSTM\(.*\), cannot go step by step: bidirectional"),
    (lambda: {"layer": nn.Sequential(nn.LSTM(3, 4), nn.Sequential(nn.ReLU(), nn.Mean(0)))}, r"layer 1\.1, Mean"),
    (lambda: {"layer": nn.Sequential(nn.GRU(3, 4), nn.Flatten())}, r"layer 1, Flatten\(\), cannot"),
    (lambda: {"layer": nn.Sequential(nn.GRU(3, 4), nn.LayerNorm((6, 4)))}, "layer 1, LayerNorm.* goes over the axis of steps"),
    (lambda: {"layer": nn.Sequential(nn.Linear(3, 8), nn.TransformerEncoderLayer(8, 2))},
     r"layer 1, TransformerEncoderLayer\(.*\), cannot go step by step: it looks at steps that follow, where it is not causal"),
    (attention, "layer 0, MultiheadAttention.* where it is not causal"),
    (to_itself_twice, "layer 0, MultiheadAttention.* it takes lengths, a mask or a memory"),
    (lambda: {"layer": nn.Conv1d(3, 4, 3, padding="same")}, "layer 0, Conv1d.* steps that follow"),
    (lambda: {"layer": nn.Conv1d(3, 4, 1, stride=2)}, "layer 0, Conv1d.* one after another"),
    (lambda: {"layer": nn.Sequential(nn.Linear(3, 4), nn.Conv1d(4, 4, 2, padding="causal"))}, "layer 1, Conv1d"),
    (lambda: {"layer": nn.Sequential(nn.Conv1d(3, 4, 2, padding="causal"), nn.LSTM(4, 4))}, "layer 1, LSTM"),
    (lambda: {"layer": nn.Sequential(nn.Conv1d(3, 4, 2, padding="causal"), nn.LayerNorm(4))}, "layer 1, LayerNorm"),
    (joined, "layer 3, Concat.*: it joins what has steps with what is made of the last one"),
    (over_time, "layer 1, Concat.* goes over the axis of steps")])
def test_who_cannot(make, words):
    with pytest.raises(ValueError, match=words):
        Model(**make(), seed=0).stepper()


def test_shapes_refused():
    s = Model(nn.LSTM(3, 4), seed=0).stepper()
    for shape in ((4,), (2, 4), (1, 1, 3), (0, 3), ()):
        with pytest.raises(ValueError, match=r"x has shape .*; one step is \(3,\), of B streams \(B, 3\)"):
            s.step(np.ones(shape))
    with pytest.raises(ValueError, match="x is <U1; the model takes numbers"):
        s.step(["a"])

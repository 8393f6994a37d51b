"""Batches of sequences in training: gathered and padded in native code, each with as few steps as its longest sequence needs."""
import numpy as np
import pytest
from sequence_gradients import digests, hashed

from tinydl import Model, Trainer, callbacks, data, losses, nn, optim
from tinydl._kernels import engine

rng = np.random.default_rng(0)
N, T = 120, 40
LENGTHS = np.exp(rng.uniform(0, np.log(T), N)).astype(int)
LENGTHS[[3, 7, 11]] = T, 0, 0
Y = rng.integers(0, 3, N)
CE = losses.SoftmaxCrossEntropy


class ByPython(data.SequenceDataset):
    """The same batches, one by one: only a SequenceDataset itself trains through the native driver."""


def sequences(dtype="float32", features=(4,)):
    draw = np.random.default_rng(1)
    numbers = draw.standard_normal((LENGTHS.sum(), *features))
    if dtype[0] != "f":
        numbers = np.trunc(10 * (np.abs(numbers) if dtype[0] == "u" else numbers))
    return numbers.astype(dtype)


def dataset(kind=data.SequenceDataset, dtype="float32", y=Y, features=(4,), **options):
    return kind(sequences(dtype, features), y, 8, offsets=np.cumsum([0, *LENGTHS]), **options)


def classifier(layer, steps=T, features=(4,), end=None):
    """layer([x, lengths]), and a linear layer behind it or behind `end` of it."""
    x, lengths = nn.Input((steps, *features)), nn.Input((), "int64", name="lengths")
    h = layer([x, lengths])
    h = h if end is None else end([h, lengths])
    return Model(inputs=[x, lengths], outputs=nn.Linear(h.shape[-1], 3)(h), seed=0)


def encoder():
    def layer(inputs):
        x, lengths = inputs
        for _ in range(2):
            x = nn.TransformerEncoderLayer(4, 2, 8, 0.2, "swiglu", norm_first=True, rotary=True)(
                [nn.PositionalEncoding(4)(x), lengths])
        return x
    return layer


MODELS = {
    "lstm": lambda steps=T: classifier(nn.LSTM(4, 5, 2, dropout=0.3, bidirectional=True, return_sequences=False), steps),
    "gru": lambda steps=T: classifier(nn.GRU(4, 5), steps, end=nn.LastStep()),
    "encoder": lambda steps=T: classifier(encoder(), steps, end=nn.MeanSteps()),
}


def trained(made, model, loss=None, threads=1, epochs=2, shuffle=True, **options):
    options.setdefault("batches_per_update", 2)
    with Trainer(epochs, enable_parallel=True, thread_count=threads, seed=3, **options) as t:
        t.init(made, model, loss or CE(), optim.Adam(0.01))
        assert t.resources.takes_arrays(made) != (type(made) is ByPython)
        t.train(shuffle)
    return hashed(model.params), t.history["loss"]


def parts_of_batches(name, kind, threads):
    return trained(dataset(kind), MODELS[name](), threads=threads, strategy="shard", shards_per_batch=3, batches_per_update=None,
                   epochs=1)


def predictions(name, steps, batch_size):
    made, model = dataset(max_length=steps), MODELS[name](steps)
    x, lengths = made.inputs
    return hashed(model.predict((x[np.arange(N)], lengths), batch_size))


def table(name):
    """What must be the same: threads, paddings of another size and of other numbers; parts of batches; predictions."""
    T_, kind = T + 13, data.SequenceDataset
    return [{f"{n} threads, up to {steps} steps, {padding} behind":
             trained(dataset(padding=padding, max_length=steps), MODELS[name](steps), threads=n, epochs=1)
             for n, steps, padding in ((1, T, 0), (2, T_, 7.5), (3, T, 7.5))},
            {f"{n} threads, in parts": parts_of_batches(name, kind, n) for n in (1, 3)},
            {f"batches of {size}, {steps} steps": predictions(name, steps, size) for size, steps in ((1, T), (7, T_), (64, T))}]


def same(name, made):
    for alike in made:
        assert len(set(map(str, alike.values()))) == 1, (name, alike)
    return [next(iter(alike.values())) for alike in made]


def digest():
    return hashed(np.frombuffer(str([same(name, table(name)) for name in MODELS]).encode(), np.uint8))


@pytest.mark.parametrize("name", MODELS)
def test_bits_of_both_drivers(name):
    native = data.SequenceDataset
    alike = {f"{kind.__name__}, {n} threads": trained(dataset(kind), MODELS[name](), threads=n)
             for kind, n in ((native, 1), (ByPython, 1), (ByPython, 2))}
    same(name, [alike, {kind.__name__: parts_of_batches(name, kind, 2) for kind in (native, ByPython)}])


def test_bits_of_threads_paddings_batches_and_instruction_sets():
    """A table of hashes on each instruction set; those of AVX2 and AVX-512 are one."""
    assert len(digests("test_padded_batches")) == 1
    digests("test_padded_batches", ["generic"])


def test_a_label_for_each_step_and_tokens():
    """Tokens as small integers, labels in places of their own; padded with numbers that the tokens' dtype has not."""
    labels = rng.integers(0, 3, LENGTHS.sum()).astype(np.int16)

    def model():
        x, lengths = nn.Input((T,), "int64"), nn.Input((), "int64", name="lengths")
        h = nn.GRU(4, 5, bidirectional=True)([nn.Embedding(60, 4)(x), lengths])
        return Model(inputs=[x, lengths], outputs=nn.Linear(10, 3)(h), seed=0)
    loss = CE(ignore_index=-100, label_smoothing=0.1)
    options = {"y": labels, "features": (), "per_step": True}
    got = [trained(dataset(kind, dtype, **options), model(), loss, threads=n)
           for kind, dtype, n in ((data.SequenceDataset, "uint8", 1), (data.SequenceDataset, "uint8", 3), (ByPython, "uint8", 2))]
    assert got[0] == got[1] == got[2]
    made = dataset(dtype="uint8", **options)
    (x, lengths), rows = made.inputs, np.arange(N)
    whole = data.ArrayDataset((x[rows], lengths), made.all_y[rows], 8)
    assert trained(whole, model(), loss, shuffle=False) == trained(made, model(), loss, shuffle=False)
    with pytest.raises(ValueError, match="class labels run from 0 to 2; the model's 2 outputs"):
        inputs = [nn.Input((T,), "int64"), nn.Input((), "int64", name="lengths")]
        two = nn.Linear(5, 2)(nn.GRU(4, 5)([nn.Embedding(60, 4)(inputs[0]), inputs[1]]))
        trained(dataset(dtype="uint8", **options), Model(inputs=inputs, outputs=two), loss)


@pytest.mark.parametrize("dtype, padding", [("float64", 0.1), ("int16", -3), ("uint16", -1), ("bool", 1), ("float32", 0.1)])
def test_every_dtype_is_padded_as_numpy_does(dtype, padding):
    """Where lengths are not given, padding is part of what is learned from: as from the arrays that NumPy pads."""
    steps = sequences(dtype)
    wide = np.full((N, 9, 4), padding, "int64" if padding < 0 else dtype)
    for row, at, n in zip(wide, np.cumsum([0, *LENGTHS]), LENGTHS, strict=False):
        row[:n] = steps[at:at + n][:9]
    for plan in ("float32", "float64"):
        got = []
        for kind in (data.SequenceDataset, ByPython, None):
            made = data.ArrayDataset(wide, Y, 8) if kind is None else kind(
                steps, Y, 8, offsets=np.cumsum([0, *LENGTHS]), padding=padding, lengths=False, max_length=9)
            model = Model(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), plan, seed=0)
            got.append(trained(made, model, threads=2, shuffle=False))
        assert got[0] == got[1] == got[2]


def gradient(model, made, index, padded):
    """Of the samples `index`: loss and gradient, by the plan with shorter forms or without."""
    plan = model.plan(made.input_shape, len(index), loss=CE(), padded=made.padded if padded else ())
    vector = np.full(plan.program.n_grads, np.nan, model.dtype)
    x, lengths = made.inputs
    loss = engine.Replica(plan.program, model.params, model.statistics).run(
        [engine.Source(a) for a in (x, lengths, made.y)], index, len(index), vector, seed=5)
    return loss, hashed(vector), [steps for steps, _ in plan.program.shorter or []]


@pytest.mark.parametrize("name", MODELS)
def test_shorter_forms_give_what_the_whole_plan_does(name):
    model, made = MODELS[name](), dataset()
    longest = LENGTHS.argsort(kind="stable")
    for first in (0, 40, 80, 112):          # of up to 40 steps, fewer terms than are summed in blocks
        index = longest[first:first + 8].astype(np.int64)
        loss, bits, forms = gradient(model, made, index, True)
        assert forms == [9, 12, 16, 20, 25, 32][-len(forms):] and len(forms) > 4
        assert (loss, bits) == gradient(model, made, index, False)[:2]


class Doubled(nn.PythonLayer):
    def forward(self, x):
        return 2 * x, None

    def backward(self, dy, saved):
        return 2 * dy


def over_steps(layer):
    return lambda h: nn.Permute((1, 0))(layer(nn.Permute((1, 0))(h)))


def test_models_that_look_beyond_lengths_have_no_shorter_forms():
    def behind(layer):
        return lambda inputs: layer(nn.GRU(4, 5)(inputs))
    for layer, end in ((behind(nn.Mean(0)), None), (behind(nn.BatchNorm1d(5, axis=-1)), nn.LastStep()),
                       (lambda inputs: nn.GRU(4, 5)(inputs[0]), nn.LastStep()), (behind(nn.Max(0)), None),
                       (behind(lambda h: nn.LastStep()(h)), None), (behind(nn.Flatten()), None),
                       (behind(Doubled()), nn.LastStep()), (behind(over_steps(nn.Softmax())), nn.LastStep()),
                       (behind(over_steps(nn.LogSoftmax())), nn.LastStep()),
                       (lambda inputs: nn.GRU(4, 5)([nn.Slice(0, 0, -1)(inputs[0]), inputs[1]]), nn.LastStep())):
        model = classifier(layer, end=end)
        index = LENGTHS.argsort()[:8]
        loss, bits, forms = gradient(model, dataset(), index, True)
        assert not forms and (loss, bits) == gradient(model, dataset(), index, False)[:2]
    assert not data.SequenceDataset(sequences(), Y, 8, offsets=np.cumsum([0, *LENGTHS]), lengths=False).padded
    assert data.ArrayDataset(np.ones((3, 2)), [0, 1, 1]).padded == ()


def test_dropout_by_a_schedule_in_shorter_forms():
    """Each form has a table of its own, which lives as long as the plan and has the numbers of the steps to come."""
    def got(p, **options):
        model = classifier(lambda inputs: nn.GRU(4, 5)([nn.Dropout(p)(nn.Linear(4, 4)(inputs[0])), inputs[1]]), end=nn.LastStep())
        return trained(dataset(), model, **options)
    assert got(optim.schedules.Constant(0.5)) == got(0.5)
    falling = optim.schedules.Linear(0.8, 12)
    assert got(falling) == got(falling, threads=3) != got(0.8)


def test_a_number_in_a_memory_map_that_is_none_fails_its_batch(tmp_path):
    flat = np.memmap(tmp_path / "x", np.float32, "w+", shape=(LENGTHS.sum(), 4))
    flat[:] = sequences()
    made = data.SequenceDataset(flat, Y, 8, offsets=np.cumsum([0, *LENGTHS]))
    flat[LENGTHS[:5].sum() + 1, 2] = np.nan
    assert LENGTHS[5] > 1
    with Trainer(1, seed=0) as t:
        t.init(made, MODELS["gru"](), CE(), optim.SGD(0.1))
        failures = t.train().failures
    assert len(failures) == 1 and "input0[5, 1, 2] is nan" in str(failures[0].exception)


def test_a_resume_in_mid_epoch_and_parts(tmp_path):
    """Parts go by the rows of the whole; a checkpoint in mid-epoch goes on with the same batches."""
    made = dataset().subset(np.arange(10, 100))
    want = trained(made, MODELS["gru"]())
    class Stop(callbacks.Callback):
        every = 2

        def on_update(self, trainer, *_):
            trainer.stop()
    model = MODELS["gru"]()
    with Trainer(2, enable_parallel=True, thread_count=2, seed=3, batches_per_update=2, callbacks=[Stop()]) as t:
        t.init(made, model, CE(), optim.Adam(0.01))
        t.train()
        assert 0 < t.batches_done < made.n_batches
        t.save_checkpoint(tmp_path / "c")
    model = MODELS["gru"]()
    with Trainer(2, enable_parallel=True, thread_count=1, seed=3, batches_per_update=2) as t:
        t.init(made, model, CE(), optim.Adam(0.01))
        t.load_checkpoint(tmp_path / "c")
        t.train()
    if t.epoch == 2:
        assert hashed(model.params) == want[0]


def test_profile_and_feed():
    made = dataset()
    with Trainer(1, seed=0) as t:
        t.init(made, MODELS["lstm"](), CE(), optim.Adam(0.01))
        assert "lstm_backward" in t.profile(3).table()
        with pytest.raises(ValueError, match="padded behind lengths"):
            t.feed(data.ArrayDataset((np.zeros((8, T, 4), np.float32), np.ones(8, int)), Y[:8], 8))
        t.feed(made.subset(np.arange(30)))
        t.train()

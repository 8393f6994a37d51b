"""SequenceDataset and WindowDataset."""
import numpy as np
import pandas as pd
import pytest
from sequence_gradients import hashed

from tinydl import AccuracyEvaluator, Model, Trainer, data, losses, nn, optim
from tinydl.metrics import RegressionEvaluator

rng = np.random.default_rng(0)
LENGTHS = rng.integers(0, 12, 100)
LENGTHS[7] = 11
SEQUENCES = [rng.standard_normal((n, 2)).astype(np.float32) for n in LENGTHS]
Y = rng.integers(0, 3, 100)


def batches(dataset, **options):
    return [b.load() for b in dataset.epoch(seed=3, **{"epoch": 1, **options})]


def test_every_sequence_once_padded_and_with_its_own_target():
    for made in (data.SequenceDataset(SEQUENCES, Y, 8, sample_weight=np.arange(100)),
                 data.SequenceDataset(np.concatenate(SEQUENCES), Y, 8, offsets=np.cumsum([0, *LENGTHS]),
                                      sample_weight=np.arange(100))):
        assert len(made) == 100 == made.n_samples and made.n_batches == 13 and made.input_shape == ((11, 2), ())
        for shuffle in (True, False):
            seen = []
            for b in batches(made, shuffle=shuffle):
                x, lengths = b.x
                assert x.shape[1:] == (11, 2) and x.dtype == np.float32
                for row, n, y, w in zip(x, lengths, b.y, b.weights(), strict=True):
                    i = int(w)
                    assert n == LENGTHS[i] and y == Y[i] and np.array_equal(row[:n], SEQUENCES[i]) and not row[n:].any()
                    seen.append(i)
            assert (seen == list(range(100))) != shuffle and sorted(seen) == list(range(100))
        assert repr(made) == "SequenceDataset(100 samples, x float32 (11, 2), lengths, y int64 (), weighted, batch_size=8)"
        x, y, w = made[7]
        assert np.array_equal(x[0], SEQUENCES[7]) and (x[1], y, w) == (11, Y[7], 7)


def test_batches_of_similar_lengths_from_seed_and_epoch():
    many = rng.integers(1, 100, 4000)
    made = data.SequenceDataset(np.zeros((many.sum(), 1)), np.zeros(4000, int), 32, offsets=np.cumsum([0, *many]))
    spread = [np.ptp(b.x[1]) for b in batches(made)]
    assert np.mean(spread) < 8                  # in random batches it is 93 or so
    means = np.array([b.x[1].mean() for b in batches(made)])
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.4          # not from short to long
    first = [b.x[1].tolist() for b in batches(made)]
    assert first == [b.x[1].tolist() for b in batches(made)] != [b.x[1].tolist() for b in batches(made, epoch=2)]


def test_a_label_for_each_step_and_tokens():
    labels = [rng.integers(0, 3, n) for n in LENGTHS]
    made = data.SequenceDataset([a[:, 0].astype(int) for a in SEQUENCES], labels, 8, per_step=True, max_length=6, padding=9,
                                lengths=False)
    assert made.input_shape == (6,)
    b = batches(made, shuffle=False)[0]
    for i in range(8):
        n = min(6, LENGTHS[i])
        assert np.array_equal(b.y[i], [*labels[i][:n], *[-100] * (6 - n)])
        assert np.array_equal(b.x[i], [*SEQUENCES[i][:n, 0].astype(int), *[9] * (6 - n)])


def network():
    x, lengths = nn.Input((11, 2)), nn.Input((), "int64", name="lengths")
    y = nn.Linear(8, 3)(nn.GRU(2, 8, return_sequences=False)([x, lengths]))
    return Model(inputs=[x, lengths], outputs=y, seed=0)


def test_training_on_threads_and_parts():
    made, trained = data.SequenceDataset(SEQUENCES, Y, 8), set()
    parts = data.Split(made.subset(np.arange(70)), made.subset(np.arange(70, 90)), made.subset(np.arange(90, 100)))
    for threads in (1, 2):
        model = network()
        with Trainer(2, evaluator=AccuracyEvaluator(), enable_parallel=True, thread_count=threads, batches_per_update=2,
                     seed=0) as t:
            t.init(parts, model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
            t.train()
            assert 0 <= t.evaluate()["accuracy"] <= 1 and len(t.history["validation_loss"]) == 2
        trained.add(hashed(model.params))
    assert len(trained) == 1


@pytest.mark.parametrize(("sequences", "message"), [
    ([np.ones((3, 2))] * 7 + [np.ones((4, 1))] * 2, r"got \(3, 2\) first, and \(4, 1\) as number 7"),
    ([np.ones((3, 2))] * 6 + [None], r"got \(3, 2\) first, and \(\) as number 6"),
    ([1.0, 2.0], r"got \(\) first"), ([], "got none")])
def test_the_sequence_that_does_not_fit_is_named(sequences, message):
    with pytest.raises(ValueError, match=message):
        data.SequenceDataset(sequences, np.zeros(len(sequences), int), 4)


def test_memory_maps(tmp_path):
    flat = np.memmap(tmp_path / "x", np.float32, "w+", shape=(sum(LENGTHS), 2))
    flat[:] = np.concatenate(SEQUENCES)
    made = data.SequenceDataset(flat, Y, 8, offsets=np.cumsum([0, *LENGTHS]))
    plain = data.SequenceDataset(SEQUENCES, Y, 8)
    assert np.shares_memory(made.steps, flat)
    for a, b in zip(batches(made), batches(plain), strict=True):
        assert np.array_equal(a.x[0], b.x[0]) and np.array_equal(a.y, b.y)
    flat[5] = np.nan
    with pytest.raises(ValueError, match="nan"):
        batches(made)


def test_parts_share_a_memory_map_and_their_samples_are_their_own(tmp_path):
    flat = np.memmap(tmp_path / "x", np.float32, "w+", shape=(sum(LENGTHS), 2))
    flat[:] = np.concatenate(SEQUENCES)
    made = data.SequenceDataset(flat, Y, 7, True, offsets=np.cumsum([0, *LENGTHS]), sample_weight=np.arange(100))
    parts = made.split(train=0.6, validation=10, test=0.3, seed=4)
    assert [len(part) for part in parts] == [60, 10, 30]
    assert [part.drop_last for part in parts] == [True, False, False]
    seen = np.concatenate([part.rows for part in parts])
    assert sorted(seen) == list(range(100)) and seen.tolist() != sorted(seen)
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(parts, made.split(0.6, 10, 0.3, seed=4), strict=True))
    assert not np.array_equal(parts.train.rows, made.split(0.6, 10, 0.3).train.rows)
    for part in parts:
        assert part.steps is made.steps and np.shares_memory(part.steps, flat) and part.input_shape == made.input_shape
        assert np.array_equal(part.y, Y[part.rows]) and np.array_equal(part.sample_weight, part.rows)
        assert np.all(np.abs(np.bincount(part.y, minlength=3) - np.bincount(Y) * len(part) / 100) <= 1)       # stratified
        for i, (x, y, w) in zip(part.rows, part, strict=True):
            assert np.array_equal(x[0][:x[1]], SEQUENCES[i]) and (y, w) == (Y[i], i)
    again = parts.train.split(test=0.5)
    assert sorted([*again.train.rows, *again.test.rows]) == sorted(parts.train.rows) and again.test.drop_last is False
    by_step = data.SequenceDataset(SEQUENCES, [np.full(n, i) for i, n in enumerate(LENGTHS)], per_step=True, max_length=6)
    part = by_step.split(test=0.2).test
    assert [y.tolist() for y in part.y] == [[i] * min(6, LENGTHS[i]) for i in part.rows]
    with pytest.raises(ValueError, match="int64 for each step"):
        by_step.split(stratify=True)


def outputs(heads, T=11):
    """A model that looks at no step behind a length, of outputs for each step ("steps") and one in all ("whole")."""
    x, lengths = nn.Input((T, 2)), nn.Input((), "int64", name="lengths")
    h = nn.GRU(4, 4)([nn.TransformerEncoderLayer(4, 2, 8)([nn.Linear(2, 4)(x), lengths]), lengths])
    made = {"steps": lambda: nn.Linear(4, 3)(h), "whole": lambda: nn.Linear(4, 3)(nn.MeanSteps()([h, lengths]))}
    found = {name: made[name]() for name in heads}
    return Model(inputs=[x, lengths], outputs=found if len(found) > 1 else found[heads[0]], seed=0)


@pytest.mark.parametrize("heads", [("whole",), ("steps",), ("steps", "whole")])
@pytest.mark.parametrize("per_step", [True, False])
def test_predictions_are_in_the_datasets_own_order_and_those_of_padded_arrays(heads, per_step):
    T, lengths = 20, rng.permutation(100) % 25
    sequences = [rng.standard_normal((n, 2)).astype(np.float32) for n in lengths]
    y = [rng.integers(0, 3, n) for n in lengths] if per_step else Y
    made, model = data.SequenceDataset(sequences, y, 8, per_step=per_step, max_length=T), outputs(heads, T)
    x = np.zeros((100, T, 2), np.float32)
    for row, own in zip(x, sequences, strict=True):
        row[:len(own)] = own[:T]
    plain = model.predict((x, made.lengths))
    for part, rows in ((made, np.arange(100)), (made.subset(np.arange(99, 39, -1)), np.arange(99, 39, -1))):
        found = model.predict(part, batch_size=4)       # each length ends a batch, also those that shorter plans are for
        for name in heads:
            one, wanted = (found[name], plain[name][rows]) if len(heads) > 1 else (found, plain[rows])
            if name == "steps" and per_step:
                assert isinstance(one, list) and [len(a) for a in one] == made.lengths[rows].tolist()
                assert all(np.array_equal(a, b[:len(a)]) for a, b in zip(one, wanted, strict=True))
            else:
                assert np.array_equal(one, wanted)


class ByPython(data.SequenceDataset):
    """Evaluated in batches as they come: only a SequenceDataset itself is put in order by lengths."""


@pytest.mark.parametrize("per_step", [True, False])
def test_evaluation_has_the_bits_of_batches_as_they_come(per_step, monkeypatch):
    for name, most in (("MOST_ROWS", 24), ("MOST_NUMBERS", 600)):        # several pieces, and of outputs per step several blocks
        monkeypatch.setattr(f"tinydl.metrics.evaluators.{name}", most)
    y = [rng.integers(0, 3, n) for n in LENGTHS] if per_step else Y
    model = outputs(("steps",) if per_step else ("whole",))
    ignored = {"ignore_index": -100} if per_step else {}
    with Trainer(1, evaluator=AccuracyEvaluator(**ignored)) as t:
        options = {"per_step": per_step, "sample_weight": None if per_step else np.arange(100)}
        one, other = (kind(SEQUENCES, y, 8, True, **options) for kind in (data.SequenceDataset, ByPython))
        t.init(one, model, losses.SoftmaxCrossEntropy(**ignored), optim.SGD(0.1))
        figures = t.evaluate(one)
        assert figures == t.evaluate(other)
    scores = model.predict(one.subset(np.arange(96)))
    right = np.concatenate(scores).argmax(1) == np.concatenate(one.y[:96]) if per_step else scores.argmax(1) == Y[:96]
    assert figures["accuracy"] == pytest.approx(right.mean())


def test_sequences_of_floats_without_columns_have_one():
    flat = [s[:, 0] for s in SEQUENCES]
    one, same = data.SequenceDataset(flat, Y), data.SequenceDataset([s[:, None] for s in flat], Y)
    assert one.input_shape == same.input_shape == ((one.max_length, 1), ())
    for a, b in zip(batches(one, shuffle=False), batches(same, shuffle=False), strict=True):
        assert all(map(np.array_equal, a.x, b.x))
    model = Model(nn.Sequential(nn.GRU(1, 3, return_sequences=False)), seed=0)
    alone = data.SequenceDataset(flat, Y, lengths=False)
    assert np.array_equal(model.predict(alone), model.predict(data.SequenceDataset([s[:, None] for s in flat], Y, lengths=False)))


def test_windows():
    series = np.arange(60.0).reshape(20, 3)
    made = data.WindowDataset(series, 5, 2, 3, batch_size=4, targets=[1, -1])
    assert len(made) == 5 and made.input_shape == (5, 3) and made.output_shape == (2, 2)
    assert np.shares_memory(made.x, series) and made.x.shape == (5, 5, 3)
    assert repr(made) == "WindowDataset(5 samples, x float64 (5, 3), y float64 (2, 2), batch_size=4)"
    for shuffle in (False, True):
        pairs = [(x, y) for b in batches(made, shuffle=shuffle) for x, y in zip(b.x, b.y, strict=True)]
        starts = [int(x[0, 0]) // 3 for x, _ in pairs]
        assert sorted(starts) == [0, 3, 6, 9, 12]
        for at, (x, y) in zip(starts, pairs, strict=True):
            assert np.array_equal(x, series[at:at + 5]) and np.array_equal(y, series[at + 5:at + 7][:, [1, 2]])
    assert np.array_equal(made.x[1], made[1][0])
    one = data.WindowDataset(np.arange(10), 3)
    assert "x int64 (3, 1), y float64 (1,)" in repr(one)
    assert one.output_shape == (1,) and one[0][1].dtype == np.float64 and len(one) == 7


def test_targets_of_a_table_by_name():
    table = pd.DataFrame({"sales": np.arange(20.0), "price": np.arange(20.0) + 100, "day": np.arange(20) % 7})
    for names, numbers in ("price", 1), (["day", "sales"], [2, 0]), (None, None):
        named = data.WindowDataset(table, 5, 2, targets=names)
        assert np.array_equal(named.y, data.WindowDataset(table.to_numpy(float), 5, 2, targets=numbers).y)


def test_outputs_that_do_not_fit_the_targets_of_windows_are_refused_at_the_door():
    windows = data.WindowDataset(np.arange(40.0).reshape(20, 2), 4, 3)
    model = Model(nn.Sequential(nn.Flatten(), nn.Linear(8, 6)), seed=0)
    for parts in windows, windows.split(train=0.7, test=0.3):
        with Trainer(1) as trainer, pytest.raises(ValueError, match=r"like the output, \(samples, 6\); y is .* \(1, 3, 2\)"):
            trainer.init(parts, model, losses.MeanSquaredError(), optim.Adam())


@pytest.mark.parametrize("stride, horizon", [(1, 1), (1, 4), (2, 3), (3, 2)])
def test_parts_of_windows_keep_time_in_order(stride, horizon):
    made = data.WindowDataset(np.arange(100.0), 6, horizon, stride)
    parts = made.split(train=0.6, validation=0.2, test=0.2)
    for part in parts:
        b = part._make(part.rows)
        assert np.array_equal(part.x, b.x) and np.array_equal(part.y, b.y) and np.shares_memory(part.x, made.series)
    assert np.array_equal(made.subset([3, 1]).x, made.x[[3, 1]])
    model = Model(nn.Sequential(nn.Flatten(), nn.Linear(6, 1)), seed=0)
    assert np.array_equal(model.predict(parts.test), model.predict(made.x)[parts.test.rows])
    targets = [np.concatenate([b.y.ravel() for b in batches(part)]) for part in parts]
    assert targets[0].max() < targets[1].min() <= targets[1].max() < targets[2].min()
    assert sum(map(len, parts)) >= len(made) - 2 * -(-horizon // stride) and made.split(train=1.0).test is None


def test_a_forecast_is_better_than_the_last_value():
    t = np.arange(600.0)
    series = (np.sin(t / 5) + 0.05 * rng.standard_normal(600)).astype(np.float32)
    parts = data.WindowDataset(series, 16, batch_size=32).split(train=0.8, validation=0.2)
    model = Model(nn.Sequential(nn.LSTM(1, 12, return_sequences=False), nn.Linear(12, 1)), seed=0)
    with Trainer(12, seed=0) as trainer:
        trainer.init(parts, model, losses.MeanSquaredError(), optim.Adam(0.02))
        trainer.train()
    x, y = (np.concatenate([getattr(b, name) for b in batches(parts.validation)]) for name in "xy")
    naive = np.mean((x[:, -1] - y) ** 2)
    assert trainer.history["validation_loss"][-1] < 0.5 * naive


@pytest.mark.parametrize("make, message", [
    (lambda: data.SequenceDataset(SEQUENCES, Y[:5]), "100 sequences"),
    (lambda: data.SequenceDataset(np.zeros((3, 4, 2)), Y), "offsets"),
    (lambda: data.SequenceDataset([np.zeros((2, 3)), np.zeros((2, 4))], [0, 1]), "(2, 4)"),
    (lambda: data.SequenceDataset([np.zeros((3, 2, 2))], [0]), "(T, C), or (T,); got float64 with 3 axes"),
    (lambda: data.SequenceDataset(np.zeros((3, 2)), [0, 1], offsets=[0, 2, 4]), "at most 3"),
    (lambda: data.SequenceDataset(np.zeros((3, 2)), [0, 1], offsets=[0, 2, 1]), "rise"),
    (lambda: data.SequenceDataset([np.full((2, 1), np.nan)], [0]), "nan"),
    (lambda: data.SequenceDataset(SEQUENCES[:2], [np.zeros(3, int), np.zeros(1, int)], per_step=True), "label for each step"),
    (lambda: data.SequenceDataset(SEQUENCES, Y, max_length=0), "max_length=0"),
    (lambda: data.SequenceDataset(SEQUENCES, Y).subset([100]), "0 to 99"),
    (lambda: data.WindowDataset(np.arange(5), 5), "5 steps"),
    (lambda: data.WindowDataset(np.arange(9), 5, targets=1), "targets=1: numbers of the series' 1 column, from 0"),
    (lambda: data.WindowDataset(pd.DataFrame({"a": np.arange(9.0), "b": 1.0}), 5, targets="c"),
     "targets=c: numbers of the series' 2 columns, from 0, or their names: 'a', 'b'"),
    (lambda: data.WindowDataset(pd.DataFrame({"a": [1.0, 2, np.nan], "b": 1.0}), 1), "series[2, 'a'] is nan"),
    (lambda: data.WindowDataset(np.zeros((2, 2, 2)), 1), "(2, 2, 2)"),
    (lambda: data.WindowDataset(np.arange(9), 5, stride=0), "0"),
])
def test_door(make, message):
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value)


def test_an_empty_list_among_integers_and_paddings_that_do_not_fit():
    dataset = data.SequenceDataset([[1, 2, 3], []], [0, 1], batch_size=2)
    assert dataset.steps.dtype.kind == "i"
    tokens = [np.array([1, 2], np.uint8), np.array([3], np.uint8)]
    for padding in (1.5, 300):
        with pytest.raises(ValueError, match=f"padding={padding}: a whole number that uint8 holds"):
            data.SequenceDataset(tokens, [0, 1], padding=padding)


def test_numbers_for_each_step_are_padded_with_steps_that_count_nothing():
    """Trained, evaluated and predicted: what stands behind a sequence changes no bit, and no figure is of it."""
    numbers = np.random.default_rng(4)
    y = [numbers.standard_normal((n, 2)) for n in LENGTHS]
    made = data.SequenceDataset(SEQUENCES, y, 8, per_step=True, max_length=6)
    own = np.minimum(LENGTHS, 6)
    assert made.weight_shape == (6,) and made.sample_weight.sum(1).tolist() == own.tolist()
    inside = np.arange(6) < own[:, None]
    assert (made.sample_weight == inside).all() and made.y[3].tolist() == y[3][:6].tolist()
    _, targets = next(made.epoch(0, 0, shuffle=False)).load().arrays()
    assert (targets[~inside[:8]] == 0).all()

    found = []
    for filling in (0.0, 7.0):
        arrays = np.full((len(made), 6, 2), filling)
        for row, one in zip(arrays, y, strict=True):
            row[:min(len(one), 6)] = one[:6]
        steps = np.full((len(made), 6, SEQUENCES[0].shape[1]), 0.0, SEQUENCES[0].dtype)
        for row, one in zip(steps, SEQUENCES, strict=True):
            row[:min(len(one), 6)] = one[:6]
        same = data.ArrayDataset((steps, own), arrays, 8, sample_weight=inside.astype("float32"))
        for one in (made, same):
            a, n = nn.Input((6, steps.shape[2])), nn.Input((), "int64")
            model = Model(inputs=[a, n], outputs=nn.Linear(4, 2)(nn.GRU(steps.shape[2], 4)([a, n])), dtype="float64", seed=0)
            with Trainer(2, None, RegressionEvaluator(), seed=0) as trainer:
                trainer.init(one, model, losses.MeanSquaredError(), optim.SGD(0.1))
                trainer.train(shuffle=False)
                found.append((model.params.tolist(), trainer.evaluate(one)))
    assert found[0] == found[1] == found[2] == found[3]
    errors = np.concatenate(model.predict(made)) - np.concatenate(made.y)
    assert found[0][1]["mse"] == pytest.approx((errors ** 2).mean()) == found[0][1]["loss"]

    weighed = data.SequenceDataset(SEQUENCES, y, 8, per_step=True, max_length=6, sample_weight=np.arange(len(LENGTHS)))
    assert (weighed.sample_weight == inside * np.arange(len(LENGTHS))[:, None]).all()
    with pytest.raises(ValueError, match=r"y\[.*\] is nan; all must be finite"):
        data.SequenceDataset(SEQUENCES[:2], [np.full(len(s), np.nan) for s in SEQUENCES[:2]], per_step=True)


FRAME = pd.DataFrame({"id": np.repeat(["a", "b", "c"], [3, 5, 2]), "u": np.arange(10.0), "v": np.arange(10) % 3,
                      "w": np.arange(10) > 4})


def test_groups_of_a_table_have_the_columns_of_the_first_by_name():
    groups = [group[["u", "v", "w"]] for _, group in FRAME.groupby("id")]
    made = data.SequenceDataset([groups[0], groups[1][["w", "u", "v"]], groups[2]], [0, 1, 0])
    assert made.feature_names == ["u", "v", "w"]
    assert (made.steps == FRAME[["u", "v", "w"]].astype(float).to_numpy()).all()
    assert data.SequenceDataset([group["v"] for group in groups], [0, 1, 0]).feature_names is None
    mixed = data.SequenceDataset([groups[0], groups[1].to_numpy(float)], [0, 1])       # arrays go by place
    assert mixed.feature_names == ["u", "v", "w"] and len(mixed.steps) == 8


@pytest.mark.parametrize("make, kind, message", [
    (lambda: data.SequenceDataset(FRAME.groupby("id"), [0, 1, 0]), TypeError, "give [group[columns] for _, group in sequences"),
    (lambda: data.SequenceDataset(list(FRAME.groupby("id")), [0, 1, 0]), TypeError, "give [group[columns] for _, group in"),
    (lambda: data.SequenceDataset([g for _, g in FRAME.groupby("id")], [0, 1, 0]), ValueError,
     "sequences[0] must be numbers; column 'id'"),
    (lambda: data.SequenceDataset([FRAME[["u", "v"]], FRAME[["u", "w"]]], [0, 1]), ValueError,
     "sequences[1] does not have the columns of sequences[0]: missing 'v'; not among them 'w'"),
    (lambda: data.SequenceDataset(SEQUENCES[:2], [np.zeros(len(s), int) for s in SEQUENCES[:2]]), ValueError, "per_step=True")],
    ids=["groups", "pairs", "text", "columns", "labels of steps"])
def test_tables_that_do_not_fit(make, kind, message):
    with pytest.raises(kind) as e:
        make()
    assert message in str(e.value)


def hourly(n=40):
    return pd.DataFrame({"u": np.arange(n) * 1.0, "v": np.arange(n) % 3}, index=pd.date_range("2026-01-01", periods=n, freq="h"))


def test_a_model_of_windows_or_sequences_of_a_table_knows_its_columns(tmp_path):
    table = hourly()
    windows = data.WindowDataset(table, 4, targets="u", batch_size=8)
    model = Model(nn.GRU(2, 1, return_sequences=False), seed=0)
    with Trainer(1) as trainer:
        trainer.init(windows.split(train=0.8, test=0.2), model, losses.MeanSquaredError(), optim.SGD(0.01))
        with pytest.raises(ValueError, match=r"the dataset does not have the columns .* they are in another order"):
            trainer.feed(data.WindowDataset(table[["v", "u"]], 4, targets="u", batch_size=8))
    model.save(tmp_path / "model")
    model = Model.load(tmp_path / "model")
    assert (model.predict(windows) == model.predict(windows.x)).all()
    for other, message in ((table[["v", "u"]], "they are in another order"), (table.rename(columns={"v": "t"}), "missing 'v'")):
        with pytest.raises(ValueError, match=message):
            model.predict(data.WindowDataset(other, 4))
    model = Model(nn.GRU(2, 1, return_sequences=False), seed=0)
    sequences = data.SequenceDataset([table[:5], table[5:10]], [[0.0], [1.0]], lengths=False)
    with Trainer(1) as trainer:
        trainer.init(sequences, model, losses.MeanSquaredError(), optim.SGD(0.01))
    assert model.feature_names == ["u", "v"]
    with pytest.raises(ValueError, match="they are in another order"):
        model.predict(data.SequenceDataset([table[["v", "u"]][:5]], [[0.0]], lengths=False))


def test_what_a_model_cannot_predict_of_sequences_is_said():
    x, ends = nn.Input((7, 2), name="x"), nn.Input((), "int64", name="lengths")
    model = Model(inputs=[x, ends], outputs=nn.GRU(2, 3, return_sequences=False)([x, ends]), seed=0)
    with pytest.raises(ValueError, match=r"sequences of 7 steps, and the dataset pads to 3: SequenceDataset\(.*, max_length=7\)"):
        model.predict(data.SequenceDataset([np.ones((3, 2))], [0]))
    with pytest.raises(ValueError, match=r"gives their lengths, too: say SequenceDataset\(..., lengths=False\)"):
        Model(nn.GRU(2, 3)).predict(data.SequenceDataset([np.ones((3, 2))], [0]))
    alone = data.SequenceDataset([np.ones((3, 2)), np.ones((5, 2))], [0, 1], lengths=False)
    for layer in nn.Linear(2, 3), nn.LayerNorm(2), nn.LayerNorm((5, 2)):        # which say the last axes, or all
        assert Model(nn.Sequential(layer)).predict(alone).shape[:2] == (2, 5)
    with pytest.raises(TypeError, match=r"sequences is a dict: .* several sequences a sample are padded by hand"):
        data.SequenceDataset({"a": [[1, 2]], "b": [[3]]}, [0])


@pytest.mark.parametrize("freq", ["h", "MS", "ME", "QS", "YS", "W", "B", "D", "15min"])
def test_times_that_are_equally_far_apart(freq):
    times = pd.DatetimeIndex(pd.date_range("2026-01-01", periods=60, freq=freq, tz="Europe/Berlin").to_numpy())
    data.WindowDataset(pd.DataFrame({"u": np.arange(60.0)}, index=times), 4)
    if freq == "B":     # with a holiday
        data.WindowDataset(pd.DataFrame({"u": np.arange(59.0)}, index=times.delete(20)), 4)


def test_times_that_are_not():
    table = hourly()
    with pytest.warns(UserWarning, match=r"behind 2026-01-01 06:00:00 comes 2026-01-01 09:00:00, where 0 days 01:00:00 is usual"):
        data.WindowDataset(table.drop(table.index[[7, 8, 20]]), 4)
    with pytest.warns(UserWarning, match="behind 2026-01-02 15:00:00 comes 2026-01-01 00:00:00"):
        data.WindowDataset(pd.concat([table, table]), 4)
    with pytest.raises(ValueError, match="goes back in time, from 2026-01-02 15:00:00 to 2026-01-01 00:00:00: series"):
        data.WindowDataset(table[::-1], 4)
    data.WindowDataset(table.drop(table.index[7]).reset_index(drop=True), 4)

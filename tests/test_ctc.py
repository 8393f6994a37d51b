"""CTC: its value by all paths, PyTorch's values and gradients, steps beyond a length, samples without a path; and what goes with
it: BlankSteps, pad_sequences, decoding and rates of errors."""
import itertools

import numpy as np
import pytest

from tinydl import Model, Trainer, TrainingError, data, losses, metrics, nn, optim, testing


def log_softmax(x):
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def said(path, blank):
    return [c for i, c in enumerate(path) if c != blank and (i == 0 or c != path[i - 1])]


def by_all_paths(scores, labels, blank=0, weights=None):
    """Mean over samples of -log(p) / max(labels, 1): p is the sum over the paths that say the labels."""
    T, C = scores.shape[1:]
    each = []
    for x, row in zip(log_softmax(scores), labels, strict=True):
        wanted = [c for c in row.tolist() if c >= 0]
        p = sum(np.exp(sum(x[t, c] for t, c in enumerate(path))) for path in itertools.product(range(C), repeat=T)
                if said(path, blank) == wanted)
        each.append(-np.log(p) / max(len(wanted), 1))
    return np.average(each, weights=weights)


SCORES = 2 * np.random.default_rng(0).standard_normal((6, 5, 3))
LABELS = [[1, 2], [], [1, 1, 1], [2, 1, 2, 1, 2], [2], [1, 1, 2]]     # the third and fourth have one path each
TARGETS = data.pad_sequences(LABELS, 5)


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_it_is_the_sum_over_all_paths(blank):
    other = [c for c in range(3) if c != blank]
    targets = np.where(TARGETS < 0, TARGETS, np.array([0, *other])[TARGETS])
    loss = losses.CTC(blank)
    assert loss(SCORES, targets) == pytest.approx(by_all_paths(SCORES, targets, blank), rel=1e-13)
    assert loss(SCORES.astype("f4"), targets) == pytest.approx(by_all_paths(SCORES, targets, blank), rel=1e-6)
    network = nn.Linear(2, 3)
    x = np.random.default_rng(1).standard_normal((6, 5, 2))
    assert testing.check_gradients(network, x, loss=loss, targets=targets) < 1e-6


def test_samples_weigh_what_they_are_told_to():
    w, loss = np.array([2.0, 0, 1, 3, 0, 1]), losses.CTC()
    assert loss.mean(SCORES, TARGETS, w)[1] == 7
    assert loss(SCORES, TARGETS, w) == pytest.approx(by_all_paths(SCORES, TARGETS, weights=w), rel=1e-13)
    assert loss.mean(SCORES, TARGETS, np.zeros(6)) == (0, 0)
    many = w.astype(int)
    assert loss(SCORES, TARGETS, w) == pytest.approx(loss(SCORES.repeat(many, 0), TARGETS.repeat(many, 0)), rel=1e-13)
    with pytest.raises(ValueError, match=r"takes \(samples,\)"):
        loss(SCORES, TARGETS, np.ones((6, 5)))


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("T, C, blank, dtype", [(30, 7, 0, "float64"), (12, 4, 3, "float32"), (200, 40, 5, "float32")])
def test_pytorchs_values_and_gradients(T, C, blank, dtype, zero_infinity):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(T)
    lengths = rng.integers(T // 2, T + 1, 9)
    labels = [rng.choice([c for c in range(C) if c != blank], rng.integers(0, n // 2 + 1)) for n in lengths]
    if zero_infinity:
        labels[4] = rng.choice([c for c in range(C) if c != blank], T)
        lengths[4] = T - 1
    x, targets = (3 * rng.standard_normal((9, T, C))).astype(dtype), data.pad_sequences(labels, T)
    scores = torch.tensor(x.astype(np.float64), requires_grad=True)     # its logarithms grow with T, too much for float32
    theirs = torch.nn.functional.ctc_loss(
        scores.log_softmax(2).transpose(0, 1), torch.tensor(np.concatenate(labels)), torch.tensor(lengths),
        torch.tensor([len(row) for row in labels]), blank=blank, zero_infinity=zero_infinity)
    theirs.backward()
    inputs = nn.Input((T, C)), nn.Input((), "int64")
    model = Model(inputs=[*inputs], outputs=nn.BlankSteps(blank)([nn.Linear(C, C)(inputs[0]), inputs[1]]), dtype=dtype, seed=0)
    model.load_state_dict({name: np.eye(C) if v.ndim == 2 else 0 * v for name, v in model.state_dict().items()})
    loss = losses.CTC(blank, zero_infinity)
    eps = 8 * float(np.finfo(dtype).eps)
    assert loss(model.predict((x, lengths)), targets) == pytest.approx(theirs.item(), rel=eps)
    batches = data.ArrayDataset((x, lengths), targets, 9)
    with Trainer(1, seed=0) as trainer:
        trainer.init(batches, model, loss, optim.SGD(1.0))
        assert trainer.train()["loss"][0] == pytest.approx(theirs.item(), rel=eps)
    moved = next(v for v in model.state_dict().values() if v.ndim == 1)
    slope = scores.grad.numpy()
    np.testing.assert_allclose(-moved, slope.sum((0, 1)), atol=eps * np.abs(slope).sum())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_beyond_a_length_change_no_bit(dtype):
    rng = np.random.default_rng(2)
    x, lengths = rng.standard_normal((6, 8, 4)).astype(dtype), np.array([8, 5, 6, 4, 7, 3])
    labels = [[1, 2], [], [3, 1], [2], [1, 1], [3]]
    seen = set()
    for T, beyond in ((8, 0.0), (8, 7.5), (11, 3.0), (20, -2.0)):
        filled = np.full((6, T, 4), beyond, dtype)
        for row, one, n in zip(filled, x, lengths, strict=True):
            row[:n] = one[:n]
        inputs = nn.Input((T, 4)), nn.Input((), "int64")
        hidden = nn.GRU(4, 5)([*inputs])
        scores = nn.BlankSteps()([nn.Linear(5, 4)(hidden), inputs[1]])
        model = Model(inputs=[*inputs], outputs=scores, dtype=dtype, seed=0)
        with Trainer(3, seed=0, strategy="serial") as trainer:
            dataset = data.ArrayDataset((filled, lengths), data.pad_sequences(labels, T), 3)
            trainer.init(dataset, model, losses.CTC(), optim.Adam(0.01))
            trainer.train()
            seen.add((*trainer.history["loss"], *(v.tobytes() for v in model.state_dict().values())))
        assert [row.tolist() for row in metrics.ctc_decode(model.predict((filled, lengths)))] == [
            metrics.ctc_decode(model.predict((filled, lengths))[i:i + 1, :n])[0].tolist() for i, n in enumerate(lengths)]
    assert len(seen) == 1


def test_a_model_of_unequal_lengths_learns_to_spell_with_the_same_bits_on_two_threads():
    rng = np.random.default_rng(3)
    labels = [rng.integers(1, 5, rng.integers(1, 5)) for _ in range(96)]
    noise = rng.standard_normal((5, 6))
    sequences = []      # each label is a few steps of its pattern, between steps of another one
    for row in labels:
        steps = [0, *itertools.chain(*([c] * rng.integers(2, 4) + [0] for c in row))]
        sequences.append((noise[steps] + 0.1 * rng.standard_normal((len(steps), 6))).astype("f4"))
    T = max(map(len, sequences))
    parts = data.SequenceDataset(sequences, data.pad_sequences(labels, T), 16).split(train=64, test=32, seed=0)
    found = []
    for threads in (1, 2):
        x, lengths = nn.Input((T, 6)), nn.Input((), "int64")
        hidden = nn.LSTM(6, 16, bidirectional=True)([x, lengths])
        model = Model(inputs=[x, lengths], outputs=nn.BlankSteps()([nn.Linear(32, 5)(hidden), lengths]), seed=0)
        with Trainer(25, evaluator=metrics.LabelErrorEvaluator(), enable_parallel=True, thread_count=threads, strategy="shard",
                     shards_per_batch=2, seed=0) as trainer:
            trainer.init(parts, model, losses.CTC(), optim.Adam(0.02))
            trainer.train()
            found.append((trainer.history["loss"], trainer.evaluate()))
    assert found[0] == found[1]
    assert found[0][1]["label_error_rate"] < 0.02 and found[0][1]["sequence_accuracy"] > 0.9


def spelling(T, labels, lengths=None, **options):
    x = np.random.default_rng(4).standard_normal((len(labels), T, 3))
    inputs = nn.Input((T, 3)), nn.Input((), "int64")
    model = Model(inputs=[*inputs], outputs=nn.BlankSteps()([nn.Linear(3, 3)(inputs[0]), inputs[1]]), seed=0)
    given = np.full(len(labels), T) if lengths is None else np.array(lengths)
    return data.ArrayDataset((x, given), data.pad_sequences(labels, T), 2), model, losses.CTC(**options), optim.SGD(0.1)


def test_labels_that_do_not_fit_into_the_steps():
    """Of all samples before training, of shorter ones in their batch; zero_infinity has them count as 0."""
    with Trainer(1, seed=0) as t:
        with pytest.raises(ValueError, match=r"y\[1\] needs 5 steps, .* the model gives 4: zero_infinity=True"):
            t.init(*spelling(4, [[1, 2], [1, 1, 2, 1], [2]]))
        t.init(*spelling(4, [[1], [1, 1]], [4, 2]))
        with pytest.raises(TrainingError) as e:
            t.train()
        assert "labels of sample 1 do not fit into its steps" in str(e.value.__cause__)
    for labels, lengths, fits in (([[1, 1], [2]], [2, 4], [1]), ([[1, 2], [2]], [0, 4], [1]), ([[1, 2, 1, 1], [2]], [4, 4], [1]),
                                  ([[], [2]], [0, 4], [0, 1])):
        dataset, model, loss, optimizer = spelling(4, labels, lengths, zero_infinity=True)
        scores, y = model.predict(dataset.x), dataset.y
        assert loss(scores, y) == pytest.approx(losses.CTC()(scores[fits], y[fits]) * len(fits) / 2, rel=1e-6)
        with Trainer(1, seed=0) as t:
            t.init(dataset, model, loss, optimizer)
            assert np.isfinite(t.train()["loss"][0])
            assert all(np.isfinite(v).all() for v in model.state_dict().values())
    scores = np.zeros((2, 3, 3))
    scores[1, 1] = [0, -1e30, 0]
    assert losses.CTC()(scores, np.array([[1, -1, -1], [1, 1, -1]]), [1, 0]) < np.inf
    with pytest.raises(ValueError, match="needs 3 steps"):
        losses.CTC()(scores[:, :2], np.array([[1, -1], [1, 1]]))
    scores[1, :, 1] = -np.inf       # never the label that is wanted
    assert losses.CTC()(scores, np.array([[1, -1, -1], [1, -1, -1]])) == np.inf
    scores[1, 0] = np.nan
    assert np.isnan(losses.CTC(zero_infinity=True)(scores, np.array([[1, -1, -1], [1, -1, -1]])))


def test_scores_far_apart():
    """Also where nearly nothing is left of a path's probability, and in float32."""
    scores = np.zeros((1, 6, 3))
    scores[0, :, 0] = 1e4
    want = 1e4      # a label costs as much in one step
    for dtype in ("float32", "float64"):
        got = losses.CTC()(scores.astype(dtype), data.pad_sequences([[1]], 6))
        assert got == pytest.approx(want - np.log(6), rel=1e-6)


@pytest.mark.parametrize("y, words", [
    (np.zeros((2, 4)), r"integers \(samples, 4\), .* data.pad_sequences\(labels, 4\); y is float64 of shape \(2, 4\)"),
    (np.ones((2, 3), int), r"y is int64 of shape \(2, 3\)"), (np.ones(2, int), r"y is int64 of shape \(2,\)"),
    (np.array([[1, 2, -1, -1], [1, 0, -1, -1]]), r"y\[1, 1\] is 0; CTC takes labels from 0 to 2, but for the blank, 0"),
    (np.array([[1, 3, -1, -1], [1, 1, -1, -1]]), r"y\[0, 1\] is 3"),
    (np.array([[1, 2, -1, -1], [-1, 1, -1, -1]]), r"y\[1\] has a label behind a negative number")])
def test_targets_are_looked_at(y, words):
    with pytest.raises(ValueError, match=words):
        losses.CTC()(np.zeros((2, 4, 3)), y)


def test_door():
    for wrong in (-1, 0.5, True):
        with pytest.raises(ValueError, match=f"blank={wrong}"):
            losses.CTC(wrong)
    with pytest.raises(ValueError, match=r"of 4 classes or more; the model's output is \(5, 3\)"):
        losses.CTC(3)(np.zeros((2, 5, 3)), np.full((2, 5), -1))
    with pytest.raises(ValueError, match=r"the model's output is \(3,\)"):
        losses.CTC()(np.zeros((2, 3)), np.full((2, 3), -1))
    with pytest.raises(ValueError, match=r"takes scores \(T, C\), C at least 4"):
        nn.BlankSteps(3)([nn.Input((4, 3)), nn.Input((), "int64")])
    with pytest.raises(ValueError, match="stride=0"):
        nn.BlankSteps(stride=0)
    with pytest.raises(TypeError, match="takes integers as lengths"):
        nn.BlankSteps()([nn.Input((4, 3)), nn.Input(())])
    with pytest.raises(ValueError, match=r"sequences\[1\] has 3 numbers, and length is 2"):
        data.pad_sequences([[1], [1, 2, 3]], 2)
    with pytest.raises(ValueError, match=r"sequences\[0\] is float64"):
        data.pad_sequences([[0.5]])
    assert data.pad_sequences([]).shape == (0, 0)
    assert data.pad_sequences([[1], [2, 3]], value=-100).tolist() == [[1, -100], [2, 3]]


def test_blank_steps():
    x, lengths = np.random.default_rng(5).standard_normal((5, 4, 3)), np.array([4, 0, 1, 3, 2])
    inputs = [nn.Input((4, 3)), nn.Input((), "int64")]
    for stride in (1, 2):
        model = Model(inputs=inputs, outputs=nn.BlankSteps(1, stride)(inputs), dtype="float64")
        there = np.arange(4) * stride < lengths[:, None] * stride
        want = np.where(there[..., None], x, [-1e30, 0, -1e30])
        assert np.array_equal(model.predict((x, lengths * stride)), want)
        assert np.array_equal(model.predict((x, np.maximum(lengths * stride - stride + 1, 0))),
                              np.where((np.arange(4) < lengths[:, None])[..., None], x, [-1e30, 0, -1e30]))
        with pytest.raises(ValueError, match=f"{4 * stride + 1}"):
            model.predict((x, np.full(5, 4 * stride + 1)))
    scores = nn.Linear(3, 3)(inputs[0])
    network = Model(inputs=inputs, outputs=nn.Softmax()(nn.BlankSteps(2)([scores, inputs[1]]))).layer
    assert testing.check_gradients(network, (x, lengths)) < 1e-6


def test_decoding():
    path = np.array([[0, 1, 1, 0, 1, 2, 2, 0], [2, 2, 2, 2, 2, 2, 2, 2], [0] * 8])
    decoded = metrics.ctc_decode(np.eye(3)[path])
    assert [row.tolist() for row in decoded] == [[1, 1, 2], [2], []] and decoded[0].dtype == np.int64
    assert [row.tolist() for row in metrics.ctc_decode(np.eye(3)[path], blank=2)] == [[0, 1, 0, 1, 0], [], [0]]
    for wrong in (np.zeros((2, 3)), np.zeros((2, 3, 1)), np.full((1, 1, 3), "a")):
        with pytest.raises(ValueError, match="ctc_decode takes scores"):
            metrics.ctc_decode(wrong, 1)


def test_edit_distance():
    def plain(a, b):
        if not len(a) or not len(b):
            return len(a) + len(b)
        return min(plain(a[1:], b) + 1, plain(a, b[1:]) + 1, plain(a[1:], b[1:]) + (a[0] != b[0]))
    rng = np.random.default_rng(6)
    for _ in range(30):
        a, b = (rng.integers(0, 3, rng.integers(0, 6)) for _ in range(2))
        assert metrics.edit_distance(a, b) == metrics.edit_distance(b, a) == plain(a, b)
    assert metrics.edit_distance("Saturday", "Sunday") == 3
    with pytest.raises(ValueError, match="two sequences"):
        metrics.edit_distance([[1]], [1])


def test_label_errors():
    e = metrics.LabelErrorEvaluator(blank=2)
    assert np.isnan(e.result()["label_error_rate"])
    e.update(np.eye(3)[[[0, 2, 0], [1, 1, 1]]], np.array([[0, 0, -1], [0, 1, 0]]))
    e.update(np.eye(3)[[[2, 2, 2]]], np.array([[-1, -1, -1]]))
    assert e.result() == {"label_error_rate": 2 / 5, "sequence_accuracy": 2 / 3}
    with pytest.raises(ValueError, match=r"the model's output is \(3,\)"):
        e.check_targets(np.zeros((2, 3), int), (3,))

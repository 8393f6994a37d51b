"""CRF, the layer and the loss, by all ways to tag the steps; steps behind the last tag; Viterbi's algorithm."""
import itertools

import numpy as np
import pytest

from tinydl import Model, Trainer, data, losses, metrics, nn, optim, testing

X = 2 * np.random.default_rng(0).standard_normal((6, 4, 3))
TAGS = np.array([[0, 1, 2, 1], [2, 2, -100, -100], [-100] * 4, [1, -100, -100, -100], [0, 0, 0, 0], [2, 1, 0, -100]])
TRANSITIONS = np.random.default_rng(1).standard_normal((3, 3))


def pairs(x, transitions):
    """What nn.CRF gives."""
    y = x[:, :, None] + transitions
    y[:, 0] = x[:, 0, None]
    return y


def score(x, tags, transitions):
    return sum(x[t, tag] + (transitions[tags[t - 1], tag] if t else 0) for t, tag in enumerate(tags))


def by_all_ways(x, tags, transitions, weights=None):
    w = np.ones(len(x)) if weights is None else weights
    total = count = 0.0
    for one, row, a in zip(x, tags, w, strict=True):
        own = [tag for tag in row if tag >= 0]
        every = [score(one, way, transitions) for way in itertools.product(range(x.shape[2]), repeat=len(own))]
        total += a * (np.logaddexp.reduce(every) - score(one, own, transitions))
        count += a * len(own)
    return total / count


def test_it_is_the_sum_over_all_ways_to_tag():
    loss, y, w = losses.CRF(), pairs(X, TRANSITIONS), np.array([2.0, 1, 3, 0, 1, 3])
    assert loss(y, TAGS) == pytest.approx(by_all_ways(X, TAGS, TRANSITIONS), rel=1e-13)
    assert loss(y.astype("f4"), TAGS) == pytest.approx(by_all_ways(X, TAGS, TRANSITIONS), rel=1e-6)
    assert loss(y, TAGS, w) == pytest.approx(by_all_ways(X, TAGS, TRANSITIONS, w), rel=1e-13)
    assert loss.mean(y, TAGS)[1] == (TAGS >= 0).sum() and loss.mean(y, TAGS, np.zeros(6)) == (0, 0)
    assert loss.mean(y[2:3], TAGS[2:3]) == (0, 0)       # nothing counts
    assert losses.CRF(-1)(y, np.where(TAGS < 0, -1, TAGS)) == loss(y, TAGS)
    plain = losses.SoftmaxCrossEntropy(ignore_index=-100)       # without transitions each tag is for itself
    assert loss(pairs(X, 0 * TRANSITIONS), TAGS) == pytest.approx(plain(X, TAGS), rel=1e-13)


def test_gradients_and_values_of_the_layer():
    x = np.random.default_rng(2).standard_normal((6, 4, 2))
    network = nn.Sequential(nn.Linear(2, 3), nn.CRF(3))
    assert testing.check_gradients(network, x, loss=losses.CRF(), targets=TAGS) < 1e-6
    assert testing.check_gradients(network, x) < 1e-6
    one = nn.Sequential(nn.Linear(2, 3), nn.CRF(3))
    assert testing.check_gradients(one, x[:, :1], loss=losses.CRF(), targets=TAGS[:, :1]) < 1e-6
    model = Model(nn.CRF(3), "float64", seed=0)
    begun = model.state_dict()["transitions"]
    assert np.abs(begun).max() <= 0.1 and np.unique(begun).size == 9
    model.load_state_dict({"transitions": TRANSITIONS})
    assert np.array_equal(model.predict(X), pairs(X, TRANSITIONS))
    model.freeze("transitions")
    with Trainer(1, seed=0) as trainer:
        trainer.init(data.ArrayDataset(X, TAGS, 6), model, losses.CRF(), optim.SGD(0.1))
        assert trainer.train()["loss"][0] == pytest.approx(by_all_ways(X, TAGS, TRANSITIONS), rel=1e-12)
    assert np.array_equal(model.state_dict()["transitions"], TRANSITIONS)


def test_beside_another_loss():
    """In losses.Joint a sample counts the mean over its steps, those without a tag as 0."""
    joint = losses.Joint([losses.CRF()])
    y = pairs(X, TRANSITIONS)
    want = by_all_ways(X, TAGS, TRANSITIONS) * (TAGS >= 0).sum() / TAGS.size
    assert joint((y,), (TAGS,)) == pytest.approx(want, rel=1e-13)


def test_viterbi_finds_the_best_of_all_ways():
    y = pairs(X, TRANSITIONS)
    lengths = [4, 2, 0, 1, 3, 4]
    for decoded, ends in ((metrics.viterbi_decode(y), [4] * 6), (metrics.viterbi_decode(y, lengths), lengths),
                          (metrics.viterbi_decode([one[:n] for one, n in zip(y, lengths, strict=True)]), lengths)):
        for x, tags, n in zip(X, decoded, ends, strict=True):
            best = max(itertools.product(range(3), repeat=n), key=lambda way, x=x: score(x, way, TRANSITIONS))
            assert tags.tolist() == list(best) and tags.dtype == np.int64
    for wrong, given in ((X, None), (y, [4, 5, 0, 0, 0, 0]), (y, [1])):
        with pytest.raises(ValueError, match="viterbi_decode"):
            metrics.viterbi_decode(wrong, given)


def test_a_model_learns_what_follows_what_with_the_same_bits_on_two_threads():
    """Tags 1 and 2 look alike; which it is says the one before: 2 follows 1 alone, and 1 never follows itself."""
    rng = np.random.default_rng(3)
    sequences, tags = [], []
    for n in rng.integers(6, 20, 80):
        row = [0]
        while len(row) < n:
            row += [1, 2] if rng.random() < 0.5 else [0]
        tags.append(np.array(row))
        sequences.append((np.eye(2)[np.minimum(row, 1)] + 0.3 * rng.standard_normal((len(row), 2))).astype("f4"))
    dataset = data.SequenceDataset(sequences, tags, 16, lengths=False, per_step=True)
    found = []
    for threads in (1, 2):
        model = Model(nn.Sequential(nn.Linear(2, 3), nn.CRF(3)), seed=0)
        with Trainer(30, enable_parallel=True, thread_count=threads, strategy="shard", shards_per_batch=2, seed=0) as trainer:
            trainer.init(dataset, model, losses.CRF(), optim.Adam(0.1))
            trainer.train()
            found.append((trainer.history["loss"], [v.tobytes() for v in model.state_dict().values()]))
    assert found[0] == found[1]
    decoded = metrics.viterbi_decode(model.predict(dataset))
    assert np.mean(np.concatenate(decoded) == np.concatenate(tags)) > 0.97


@pytest.mark.parametrize("outputs, y, words", [
    (np.zeros((2, 4, 3)), np.zeros((2, 4), int), r"pairs of tags .* the model's output is \(4, 3\)"),
    (np.zeros((2, 4, 3, 3)), np.zeros((2, 3), int), r"integer class labels of shape \(samples, 4\)"),
    (np.zeros((2, 4, 3, 3)), np.full((2, 4), 3), "class labels run from 3 to 3"),
    (np.zeros((2, 4, 3, 3)), np.full((2, 4), -1), "class labels run from -1"),
    (np.zeros((2, 4, 3, 3)), np.array([[1, 1, 1, 1], [1, -100, 1, -100]]), r"y\[1\] has a tag behind -100")])
def test_targets_are_looked_at(outputs, y, words):
    with pytest.raises(ValueError, match=words):
        losses.CRF()(outputs, y)


def test_door():
    for wrong in (0, 0.5, True):
        with pytest.raises(ValueError, match=f"ignore_index={wrong}"):
            losses.CRF(wrong)
    with pytest.raises(ValueError, match="at least 1 tag"):
        nn.CRF(0)
    for shape in ((3,), (4, 2), (4, 3, 3)):
        with pytest.raises(ValueError, match=r"they must be \(T, 3\)"):
            nn.CRF(3).output_shape(shape)
    with pytest.raises(ValueError, match=r"takes \(samples,\)"):
        losses.CRF()(pairs(X, TRANSITIONS), TAGS, np.ones((6, 4)))

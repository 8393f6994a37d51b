"""LastStep, MeanSteps and EmbeddingBag."""
import copy

import numpy as np
import pytest
from sequence_gradients import hashed, run, wrap

from tinydl import Model, nn, testing


@pytest.mark.parametrize("kind", [nn.LastStep, nn.MeanSteps])
def test_of_what_is_there(kind, tmp_path):
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((5, 4, 3)), np.array([4, 0, 1, 3, 2])
    inputs = [nn.Input((4, 3)), nn.Input((), "int64", name="lengths")]
    model = Model(inputs=inputs, outputs=kind()(inputs), dtype="float64")
    want = np.array([np.zeros(3) if n == 0 else a[n - 1] if kind is nn.LastStep else a[:n].mean(0)
                     for a, n in zip(x, lengths, strict=True)])
    np.testing.assert_allclose(model.predict((x, lengths)), want, atol=1e-15)
    np.testing.assert_allclose(Model(kind(), "float64").predict(x), x[:, -1] if kind is nn.LastStep else x.mean(1), atol=1e-15)
    assert testing.check_gradients(copy.deepcopy(model.layer), (x, lengths)) < 1e-6
    assert testing.check_gradients(nn.Sequential(nn.Linear(3, 2), kind()), x) < 1e-6
    model.save(tmp_path / "m.npz")
    assert np.array_equal(Model.load(tmp_path / "m.npz").predict((x, lengths)), model.predict((x, lengths)))
    same = set()
    for filled in (0.0, np.nan, np.inf):
        x[np.arange(4) >= lengths[:, None]] = filled
        made, sources = wrap(kind(), [x, lengths], "float32")
        y, loss, grads = run(made, sources, np.ones((5, 3), np.float32))
        same.add(hashed(y, loss, *grads.values()))
    assert len(same) == 1
    with pytest.raises(ValueError, match=r"\(T, C\)"):
        kind()([nn.Input((4,)), nn.Input((), "int64")])
    with pytest.raises(ValueError, match="5"):
        model.predict((x, lengths + 1))


@pytest.mark.parametrize("mode", ["mean", "sum"])
@pytest.mark.parametrize("padding", [None, 2])
def test_bags(mode, padding, tmp_path):
    rng = np.random.default_rng(1)
    bags = rng.integers(0, 6, (5, 3, 4))
    bags[0, 0] = 2
    model = Model(nn.EmbeddingBag(6, 3, mode, padding), "float64", seed=0)
    table = model.state_dict()["weight"]
    want = np.zeros((5, 3, 3))
    for at in np.ndindex(5, 3):
        own = [table[i] for i in bags[at] if i != padding]
        want[at] = 0 if not own else np.sum(own, 0) / (len(own) if mode == "mean" else 1)
    np.testing.assert_allclose(model.predict(bags), want, atol=1e-14)
    assert testing.check_gradients(nn.Sequential(nn.EmbeddingBag(6, 3, mode, padding), nn.Tanh()), (bags,)) < 1e-6
    model.save(tmp_path / "m.npz")
    assert np.array_equal(Model.load(tmp_path / "m.npz").predict(bags), model.predict(bags))
    torch = pytest.importorskip("torch")
    theirs = torch.nn.EmbeddingBag(6, 3, mode=mode, padding_idx=padding, _weight=torch.tensor(table))
    np.testing.assert_allclose(model.predict(bags[:, 0]), theirs(torch.tensor(bags[:, 0])).detach(), atol=1e-14)


def test_door():
    with pytest.raises(ValueError, match="'max'"):
        nn.EmbeddingBag(3, 2, "max")
    with pytest.raises(ValueError, match="numbers of a bag"):
        Model(nn.EmbeddingBag(3, 2)).output_shape(())

"""GaussianNoise and GaussianSample: what they draw in training, and that it is the same however batches are cut."""
import numpy as np
import pytest

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl._kernels import call


def test_what_is_drawn_is_normal_and_differs_by_step_layer_and_sample():
    x, out = np.zeros((400, 51)), np.empty((400, 51))

    def drawn(**key):
        return call("normal_noise", x=x, out=out, **{"deviation": 2.0, "seed": 1, "step": 3, "layer": 0, **key}).copy() / 2
    z = drawn()
    assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03
    assert abs((z**3).mean()) < 0.1 and abs((z**4).mean() - 3) < 0.2                # a normal distribution's
    assert abs(np.corrcoef(z[:, :-1].ravel(), z[:, 1:].ravel())[0, 1]) < 0.03 and np.unique(z).size == z.size
    for other in ({"seed": 2}, {"step": 4}, {"layer": 1}, {"first_id": 400}):
        assert abs(np.corrcoef(z.ravel(), drawn(**other).ravel())[0, 1]) < 0.03


def test_a_sample_has_its_own_mean_and_deviation():
    mean, s, out = np.full((1, 20000), 3.0), np.full((1, 20000), np.log(0.25)), np.empty((1, 20000))
    z = call("normal_noise", x=mean, log_variance=s, out=out, seed=0, step=0)
    assert abs(z.mean() - 3) < 0.02 and abs(z.std() - 0.5) < 0.02


def noise():
    return nn.GaussianNoise(0.5)


def sample():
    return nn.Sequential(nn.Linear(3, 6), nn.GaussianSample())


@pytest.mark.parametrize("inside", [noise, sample])
def test_the_same_bits_for_any_number_of_threads(inside):
    x = np.random.default_rng(0).standard_normal((40, 3)).astype("f4")
    found = []
    for threads in (1, 2, 3):
        model = Model(nn.Sequential(nn.Linear(3, 3), inside(), nn.Linear(3, 1)), seed=0)
        with Trainer(3, thread_count=threads, batches_per_update=2, seed=0) as trainer:
            trainer.init(data.ArrayDataset(x, x[:, :1], 8), model, losses.MeanSquaredError(), optim.Adam())
            trainer.train()
        found.append(model.params.tobytes())
    assert len(set(found)) == 1


def test_noise_is_drawn_anew_for_each_update_and_never_in_evaluation():
    """Outputs that are nothing but noise, against targets of 0: their mean square is the noise's."""
    x = np.zeros((4000, 5), "f4")
    model = Model(nn.Sequential(nn.Linear(5, 5), nn.GaussianNoise(0.5)), seed=0)
    model.load_state_dict({name: v * 0 for name, v in model.state_dict().items()})
    with Trainer(2, seed=0) as trainer:
        trainer.init(data.ArrayDataset(x, x, 4000), model, losses.MeanSquaredError(), optim.SGD(0.0))
        first, second = trainer.train()["loss"]
        assert first != second and abs(first - 0.25) < 0.01 and abs(second - 0.25) < 0.01
        assert trainer.evaluate()["loss"] == 0
    assert not model.predict(x).any()

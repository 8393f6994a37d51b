"""Between the average of the gradients and the update, and beside it: clipping, groups of parameters, averaged weights."""
import numpy as np
import pytest
from every_strategy import STEADY, TABLE, Fails, digest, marked, run
from small import DRIVERS, classification, mlp

from tinydl import Model, Trainer, TrainingError, data, losses, nn, optim
from tinydl._kernels import engine
from tinydl.callbacks import Callback
from tinydl.parallel.strategies import Group

OPTIONS = {"norm": {"clip_norm": 0.05}, "value": {"clip_value": 0.01}, "both": {"clip_norm": 0.05, "clip_value": 0.01},
           "ema": {"ema": 0.9}, "groups": {"groups": [{"params": "*.bias", "lr": 0.05}, {"params": "0.*", "weight_decay": 0.1}]},
           "every": {"clip_norm": 0.05, "ema": 0.9, "groups": [{"params": "2.*", "betas": (0.5, 0.9)}]}}


def wide(seed=0):
    """Of three blocks of the norm, that several workers share."""
    return mlp(6, 100, 30, 3, seed=seed)


def gradients(n=5):
    return [np.array([np.sin(t), np.cos(t), 0.1 * t]) for t in range(1, n + 1)]


# ---------------------------------------------------------------------- against PyTorch 2.13
def test_clipping_as_pytorchs():
    p = np.array([0.5, -1.0, 2.0])
    o = optim.SGD(0.1, clip_norm=1.0, clip_value=0.9)
    o.bind(p)
    for g in gradients():
        before = g.copy()
        o.step(g)
        assert np.array_equal(g, before)        # the caller's
    np.testing.assert_allclose(p, [0.46772667711832633, -0.8884941787506787, 1.8563187387131332], rtol=1e-14)
    clipped = np.clip(gradients()[-1], -0.9, 0.9)
    assert o.apply(o._state, clipped.copy()) == pytest.approx(1.0679252012485583, rel=1e-15)


def test_averaged_weights_as_pytorchs():
    p = np.array([0.5])
    o = optim.SGD(0.1, ema=0.9)
    o.bind(p)
    for g in gradients():
        o.step(g[:1])
    np.testing.assert_allclose([p[0], o.state["ema"][0]], [0.4823838350277621, 0.4047263009497348], rtol=1e-14)


def test_groups_are_optimizers_of_their_own():
    params = np.linspace(-1, 1, 40)
    sizes = {"0.weight": 12, "0.bias": 3, "embed.table": 10, "1.weight": 12, "1.bias": 3}
    groups = [{"params": "*.bias", "weight_decay": 0.0}, {"params": ["embed.*", "0.bias"], "lr": optim.schedules.Linear(0.5, 9)}]
    o = optim.SGD(0.1, 0.9, weight_decay=0.1, groups=groups)
    o.bind(params, sizes=sizes)
    own = {"0.weight": optim.SGD(0.1, 0.9, weight_decay=0.1), "1.weight": optim.SGD(0.1, 0.9, weight_decay=0.1),
           "0.bias": optim.SGD(0.1, 0.9), "1.bias": optim.SGD(0.1, 0.9),
           "embed.table": optim.SGD(optim.schedules.Linear(0.5, 9), 0.9, weight_decay=0.1)}
    ends = np.cumsum(list(sizes.values()))
    parts = {name: params[end - n:end].copy() for (name, n), end in zip(sizes.items(), ends, strict=True)}
    rng = np.random.default_rng(0)
    for name in own:
        own[name].bind(parts[name])
    for _ in range(4):
        g = rng.standard_normal(40)
        o.step(g)
        for (name, n), end in zip(sizes.items(), ends, strict=True):
            own[name].step(g[end - n:end])
    assert np.concatenate(list(parts.values())).tobytes() == params.tobytes()


# ---------------------------------------------------------------------- in training
@pytest.mark.parametrize("strategy", STEADY)
@pytest.mark.parametrize("options", OPTIONS)
def test_the_bits_are_those_of_any_threads_and_driver(strategy, options):
    x, y = classification(70)
    got, norms, states = set(), set(), set()
    for kind in DRIVERS.values():
        for threads in (1, 2, 3):
            model = wide()
            optimizer = optim.AdamW(0.01, **OPTIONS[options])
            t = run(kind(x, y, 8), model, TABLE[strategy][0](), threads, epochs=1, optimizer=optimizer)
            got.add(digest(model))
            norms.add(t.history["gradient_norm"][0])
            states.add(b"".join(v.tobytes() for v in t.runtime.resources.state.vectors.values()))
    assert len(got) == len(norms) == len(states) == 1
    assert (norms == {None}) == ("clip_norm" not in OPTIONS[options])
    plain = wide()
    run(data.ArrayDataset(x, y, 8), plain, TABLE[strategy][0](), epochs=1, optimizer=optim.AdamW(0.01))
    assert (digest(plain) in got) == (options == "ema")


@pytest.mark.parametrize("strategy", STEADY)
def test_what_clips_nothing_changes_no_bit(strategy):
    x, y = classification(70)
    models = [wide(), wide()]
    run(data.ArrayDataset(x, y, 8), models[0], TABLE[strategy][0](), epochs=1)
    t = run(data.ArrayDataset(x, y, 8), models[1], TABLE[strategy][0](), epochs=1,
            optimizer=optim.Adam(0.01, clip_norm=float("inf"), clip_value=1e9))
    assert digest(models[0]) == digest(models[1]) and 0 < t.history["gradient_norm"][0] < 100


def test_late_products_are_made_before_the_norm():
    x, y = classification(24, 1024, 4)
    digests = set()
    for threads in (1, 2):
        model = mlp(1024, 1024, 512, 4)
        assert model.plan(max_rows=8, loss=losses.SoftmaxCrossEntropy()).program.n_grads * 4 > 4 << 20
        run(data.ArrayDataset(x, y, 8), model, "shard", threads, epochs=1, shards_per_batch=2,
            optimizer=optim.SGD(0.1, clip_norm=0.5, groups=[{"params": "*.bias", "lr": 0.2}]))
        digests.add(digest(model))
    assert len(digests) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_late_products_know_their_segment_and_the_average(threads):
    x, y = classification(24, 1024, 4)
    models = [mlp(1024, 1024, 512, 4) for _ in range(2)]
    options = {"groups": [{"params": "*.bias", "lr": 0.2}], "ema": 0.9}
    trainers = [run(kind(x, y, 8), model, "shard", threads, epochs=1, shards_per_batch=2, optimizer=optim.SGD(0.1, **options))
                for kind, model in zip(DRIVERS.values(), models, strict=True)]
    assert digest(models[0]) == digest(models[1])
    assert len({t.runtime.resources.state.vectors["ema"].tobytes() for t in trainers}) == 1


@pytest.mark.parametrize("batches", [3, 4, 6])
@pytest.mark.parametrize("marks", [(0,), (24, 32), (16, 24), (40,), (8, 16, 24)], ids=str)
def test_the_mean_of_those_that_arrived_is_clipped(batches, marks):
    """Also where a half of the tree failed, and the other half's mean is not where the first gradient was."""
    x, y = marked(48)
    got, norms = set(), set()
    for kind in DRIVERS.values():
        for threads in (1, 2, 3):
            model = Model(nn.Sequential(Fails(*[m / 64 for m in marks]), nn.Linear(6, 400), nn.Tanh(), nn.Linear(400, 3)), seed=0)
            t = run(kind(x, y, 8), model, Group(batches), threads, epochs=1, optimizer=optim.Adam(0.01, clip_norm=0.05),
                    shuffle=False, max_failed_fraction=1.0)
            got.add(digest(model))
            norms.add(t.history["gradient_norm"][0])
    assert len(got) == len(norms) == 1


def test_hogwild_with_one_thread_is_serial(driver):
    x, y = classification(70)
    models = [wide(), wide()]
    for model, strategy in zip(models, ("hogwild", "serial"), strict=True):
        run(driver(x, y, 8), model, TABLE[strategy][0](), 1, epochs=1, optimizer=optim.Adam(0.01, **OPTIONS["every"]))
    assert models[0].params.tobytes() == models[1].params.tobytes()


def test_hogwild_with_several_threads_clips(driver):
    x, y = classification(70)
    t = run(driver(x, y, 8), wide(), "hogwild", 3, epochs=1, optimizer=optim.SGD(0.1, clip_norm=1e-3))
    assert t.history["updates"] == [9] and t.history["gradient_norm"][0] > 1e-3


@pytest.mark.parametrize("strategy", ["serial", "group", "local", "hogwild"])
def test_a_norm_that_is_not_finite_makes_no_update(driver, strategy):
    """In float64 squares of finite gradients overflow: such an update is left out, its batch is not."""
    x, y = classification(32)
    x, y = x.astype(np.float64), np.eye(3)[y]
    x[9] *= 1e200
    model = Model(nn.Linear(6, 3), dtype="float64", seed=0)
    t = run(driver(x, y, 8), model, strategy, 1, epochs=1, shuffle=False, batches_per_update=1 if strategy == "group" else None,
            optimizer=optim.SGD(1e-9, clip_norm=1.0), loss=losses.MeanAbsoluteError())
    assert t.history["updates"] == [3] and t.history["samples"] == [32] and t.history["gradient_norm"] == [np.inf]
    assert t.optimizer.t == 3 and np.isfinite(model.params).all()


@pytest.mark.parametrize("options", ["every", "groups"])
def test_a_resume_goes_on_to_the_bit(driver, options, tmp_path):
    x, y = classification(70)

    def trainer():
        t = Trainer(1, seed=0, thread_count=2, batches_per_update=2)
        t.init(driver(x, y, 8), wide(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01, **OPTIONS[options]))
        return t
    with trainer() as whole, trainer() as again:
        whole.train()
        whole.save_checkpoint(tmp_path / "c")
        whole.train()
        again.load_checkpoint(tmp_path / "c")
        again.train()
        assert whole.model.params.tobytes() == again.model.params.tobytes()
        assert whole.optimizer.state.keys() == again.optimizer.state.keys()
        assert all(np.array_equal(v, again.optimizer.state[k]) for k, v in whole.optimizer.state.items())


def test_validation_and_evaluation_are_of_the_averaged_weights():
    x, y = classification(70)
    parts = data.Split(data.ArrayDataset(x, y, 8), data.ArrayDataset(x, y, 8), None)
    with Trainer(1, seed=0) as t:
        t.init(parts, wide(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01, ema=0.99))
        assert t.averaged_model().params.tobytes() == t.model.params.tobytes()      # before any update
        t.train()
        averaged = t.averaged_model()
        assert averaged.params.tobytes() == t.optimizer.state["ema"].tobytes() != t.model.params.tobytes()
        scores = averaged.predict(x).astype(np.float64)
        loss = (np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]).mean()
        assert t.history["validation_loss"] == [pytest.approx(loss, rel=1e-5)] == [t.evaluate()["loss"]]
    with Trainer(1, seed=0) as t:
        t.init(parts, wide(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        with pytest.raises(ValueError, match=r"ema=0\.999"):
            t.averaged_model()


# ---------------------------------------------------------------------- the norm of each update
@pytest.mark.parametrize("strategy", ["serial", "group", "shard"])
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-12), ("float32", 1e-5)])
def test_each_updates_norm_is_that_of_its_gradient(driver, strategy, dtype, bound):
    """SGD's steps divided by lr are the gradients; in float32 the step has the parameters' rounding."""
    class Moves(Callback):
        every = 1

        def on_train_start(self, trainer):
            self.before, self.moves, self.seen = trainer.model.params.copy(), [], []

        def on_update(self, trainer, updates):
            self.moves.append(np.linalg.norm((trainer.model.params - self.before).astype(np.float64)))
            self.before = trainer.model.params.copy()
            assert len(trainer.gradient_norms) == updates
            self.seen.append(trainer.gradient_norms[-1])

        def on_epoch_end(self, trainer, record):
            assert trainer.gradient_norms.tolist() == self.seen[-record.updates:]
    x, y = classification(70)
    model, moves = mlp(6, 9, 3, dtype=dtype), Moves()
    t = run(driver(x, y, 8), model, TABLE[strategy][0](), 2, epochs=2, callbacks=[moves],
            optimizer=optim.SGD(1.0, clip_norm=float("inf")))
    np.testing.assert_allclose(moves.moves, moves.seen, rtol=bound)
    assert np.mean(moves.seen[:len(moves.seen) // 2]) == pytest.approx(t.history["gradient_norm"][0], rel=1e-14)
    assert len(t.gradient_norms) == t.history["updates"][-1]


def test_no_norm_is_kept_that_nobody_asked_for():
    x, y = classification(70)
    t = run(data.ArrayDataset(x, y, 8), wide(), "serial", 1, optimizer=optim.SGD(0.1, clip_value=1.0))
    assert t.gradient_norms.shape == (0,) and t.history["gradient_norm"] == [None, None]


@pytest.mark.parametrize("epoch_end", [False, True])
def test_norms_go_on_in_a_resume(driver, tmp_path, epoch_end):
    class Saves(Callback):
        every = 3
        seen, left = None, 1

        def on_update(self, trainer, updates):
            if self.left and not epoch_end:
                self.left = 0
                trainer.save_checkpoint(tmp_path / "c")

        def on_epoch_end(self, trainer, record):
            self.seen = trainer.gradient_norms
            if epoch_end:
                trainer.save_checkpoint(tmp_path / "c")

    def trainer():
        t = Trainer(1, seed=0, callbacks=[Saves()])
        t.init(driver(*classification(70), 8), wide(), losses.SoftmaxCrossEntropy(), optim.Adam(0.01, clip_norm=0.5))
        return t
    whole, again = trainer(), trainer()
    whole.train()
    again.load_checkpoint(tmp_path / "c")
    assert again.gradient_norms.tolist() == whole.gradient_norms[:9 if epoch_end else 3].tolist()
    if not epoch_end:
        again.train()
        assert again.callbacks[0].seen.tolist() == whole.gradient_norms.tolist() and len(whole.gradient_norms) == 9
        assert again.history["gradient_norm"] == whole.history["gradient_norm"]


# ---------------------------------------------------------------------- a step of one's own
class Own(optim.AdamW):
    def step(self, gradients):
        super().step(gradients)


class Moves(optim.SGD):
    """Moves the parameters itself."""

    def step(self, gradients):
        self._state.update.params[...] -= self.lr * gradients[:self._state.update.n]
        self.t += 1


@pytest.mark.parametrize("strategy", ["serial", "group", "shard", "hogwild"])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_step_of_ones_own_has_what_optimizer_step_does(driver, strategy, options):
    x, y = classification(70)
    got = set()
    for kind in (Own, optim.AdamW):
        model = wide()
        t = run(driver(x, y, 8), model, TABLE[strategy][0](), 1, epochs=1, optimizer=kind(0.1, **OPTIONS[options]))
        got.add((digest(model), t.history["gradient_norm"][0], t.optimizer.state.get("ema", np.zeros(0)).tobytes()))
    assert len(got) == 1


@pytest.mark.parametrize("strategy", ["serial", "group", "hogwild"])
@pytest.mark.parametrize("options", [{"clip_norm": 0.05}, {"clip_value": 0.01}, {"ema": 0.9},
                                     {"groups": [{"params": "*.bias", "lr": 0.05}]}], ids=lambda o: next(iter(o)))
def test_what_a_step_of_ones_own_would_ignore_is_an_error(driver, strategy, options):
    x, y = classification(32)
    model = wide()
    before = model.params.copy()
    with Trainer(1, strategy=strategy, enable_parallel=True, thread_count=2, seed=7) as t:
        t.init(driver(x, y, 8), model, losses.SoftmaxCrossEntropy(), Moves(0.1, **options))
        words = rf"nobody looks at {next(iter(options))}: let it call super\(\).step"
        with pytest.raises((ValueError, TrainingError), match=words):
            t.train()
        assert np.array_equal(model.params, before) and t.optimizer.t == 0
        t.init(driver(x, y, 8), model, losses.SoftmaxCrossEntropy(), Moves(0.1))
        assert t.train()["updates"][0] == t.optimizer.t > 0


# ---------------------------------------------------------------------- at the door
@pytest.mark.parametrize("options, message", [
    ({"clip_norm": 0.0}, "clip_norm=0.0"), ({"clip_value": -1}, "clip_value=-1"), ({"ema": 1.0}, "ema=1.0"),
    ({"groups": [{"lr": 1}]}, '"params"'), ({"groups": [{"params": "*", "speed": 1}]}, "a group has speed; there are lr"),
    ({"groups": [{"params": "*", "lr": -1}]}, "lr=-1"),
])
def test_door(options, message):
    with pytest.raises(ValueError) as e:
        optim.Adam(**options)
    assert message in str(e.value)


def test_a_pattern_that_matches_nothing():
    x, y = classification(16)
    with Trainer(1) as t, pytest.raises(ValueError, match=r"name matches 'embed.\*'; there are 0.weight, 0.bias, 2"):
        t.init(data.ArrayDataset(x, y, 8), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(),
               optim.SGD(0.1, groups=[{"params": "embed.*", "lr": 0.2}]))
    o = optim.SGD(0.1, groups=[{"params": "*", "lr": 0.2}])
    with pytest.raises(ValueError, match="without names"):
        o.bind(np.zeros(3))


def test_segments_that_do_not_end_where_the_parameters_do():
    update = engine.Update("sgd", np.zeros(4), {}, np.zeros(0), np.zeros(0))
    numbers = optim.SGD().numbers()
    for segments in ([(3, numbers)], [(2, numbers), (2, numbers), (4, numbers)], []):
        with pytest.raises(ValueError, match="there are 4 parameters"):
            update.set(segments)
    with pytest.raises(ValueError, match="needs state ema"):
        update.set(numbers, ema=0.9)
    with pytest.raises(ValueError, match="no numbers yet"):
        update.apply(np.zeros(4), 1)


def test_numbers_that_were_changed_in_place_are_set_again():
    """The engine skips numbers that are set already; it compares values, not the dict that it was given before."""
    p, numbers = np.ones(2), {"lr": 1.0, "momentum": 0.0, "nesterov": 0.0, "weight_decay": 0.0}
    update = engine.Update("sgd", p, {}, np.zeros(0), np.zeros(0))
    update.set(numbers)
    update.apply(np.ones(2), 1)
    numbers["lr"] = 0.5
    update.set(numbers)
    update.apply(np.ones(2), 2)
    assert p.tolist() == [-0.5, -0.5]
    update.set(numbers, clip_norm=0.0)
    assert update.apply(np.ones(2), 3) == pytest.approx(2 ** 0.5)       # the norm is asked for now
    update.set(numbers)
    assert np.isnan(update.apply(np.ones(2), 4))
    assert p.tolist() == [-1.0, -1.0]

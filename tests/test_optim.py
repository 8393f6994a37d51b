"""Optimizers against their formulas, step by step in float64; one row a configuration."""
import copy
import pickle

import numpy as np
import pytest
from small import classification, mlp

import tinydl.optim
from tinydl import Trainer, data, losses, nn, optim
from tinydl._kernels import engine


def sgd(p, g, s, t, lr, momentum, nesterov, weight_decay):
    g = g + weight_decay * p
    if momentum:
        s["b"] = momentum * s.get("b", 0) + g
        g = g + momentum * s["b"] if nesterov else s["b"]
    return p - lr * g


def adam(p, g, s, t, lr, betas, eps, weight_decay, decoupled=False):
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    b1, b2 = betas
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    return p - lr * (s["m"] / (1 - b1**t)) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)


def rmsprop(p, g, s, t, lr, alpha, eps, weight_decay, momentum, centered):
    g = g + weight_decay * p
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g * g
    v = s["v"]
    if centered:
        s["a"] = alpha * s.get("a", 0) + (1 - alpha) * g
        v = v - s["a"] ** 2
    g = g / (np.sqrt(v) + eps)
    if momentum:
        s["b"] = momentum * s.get("b", 0) + g
        g = s["b"]
    return p - lr * g


def decayed(p, g, lr, weight_decay, decoupled):
    return (p * (1 - lr * weight_decay), g) if decoupled else (p, g + weight_decay * p)


def nadam(p, g, s, t, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    mu, after = (betas[0] * (1 - 0.5 * 0.96 ** (i * momentum_decay)) for i in (t, t + 1))
    s["product"] = s.get("product", 1) * mu
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    d = np.sqrt(s["v"] / (1 - betas[1]**t)) + eps
    return p - lr * (1 - mu) / (1 - s["product"]) * g / d - lr * after / (1 - s["product"] * after) * s["m"] / d


def radam(p, g, s, t, lr, betas, eps, weight_decay, decoupled_weight_decay):
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    m, rest, most = s["m"] / (1 - betas[0]**t), 1 - betas[1]**t, 2 / (1 - betas[1]) - 1
    r = most - 2 * t * betas[1]**t / rest
    if r > 5:
        m = m * np.sqrt((r - 4) * (r - 2) * most / ((most - 4) * (most - 2) * r) * rest) / (np.sqrt(s["v"]) + eps)
    return p - lr * m


def adagrad(p, g, s, t, lr, lr_decay, weight_decay, initial_accumulator_value, eps):
    g = g + weight_decay * p
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def lion(p, g, s, t, lr, betas, weight_decay):
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p * (1 - lr * weight_decay) - lr * np.sign(betas[0] * m + (1 - betas[0]) * g)


ROWS = [
    (optim.NAdam, {"lr": 0.1}, nadam), (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}, nadam),
    (optim.RAdam, {"lr": 0.1}, radam), (optim.RAdam, {"lr": 0.1, "weight_decay": 0.1}, radam),
    (optim.RAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}, radam),
    (optim.Adagrad, {"lr": 0.1}, adagrad),
    (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1}, adagrad),
    (optim.Lion, {"lr": 0.1, "weight_decay": 0.1}, lion),
    (optim.SGD, {"lr": 0.1}, sgd),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9}, sgd),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, sgd),
    (optim.Adam, {"lr": 0.1}, adam),
    (optim.Adam, {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}, adam),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}, lambda *a, **k: adam(*a, **k, decoupled=True)),
    (optim.RMSprop, {"lr": 0.1}, rmsprop),
    (optim.RMSprop, {"lr": 0.1, "alpha": 0.9, "weight_decay": 0.01, "momentum": 0.5, "centered": True}, rmsprop),
]


def test_every_optimizer_has_a_row():
    assert {row[0].__name__ for row in ROWS} == set(tinydl.optim.__all__) - {"Optimizer", "schedules"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 64, 1000])
@pytest.mark.parametrize("cls, options, formula", ROWS, ids=lambda v: str(v) if isinstance(v, dict) else None)
def test_formula(cls, options, formula, n, dtype):
    rng = np.random.default_rng(0)
    p = rng.standard_normal(n).astype(dtype)
    want, state = p.astype(np.float64), {}
    o = cls(**options)
    o.bind(p)
    for t in range(1, 8):
        g = rng.standard_normal(n).astype(dtype)
        o.step(g)
        want = formula(want, g.astype(np.float64), state, t, **o.config())
    # each of 7 steps rounds an update of about lr (0.1; RMSprop's first is lr/sqrt(1 - alpha)) a few times
    np.testing.assert_allclose(p, want, rtol=0, atol=7 * 8 * 4 * np.finfo(dtype).eps)
    assert o.t == 7


#: torch.optim's, 2.13, of the rows that are its: [0.5, -1, 2] after 7 steps by (sin t, cos t, 0.1 t)
PYTORCH = [
    [0.38949044840218827, -1.048442174172079, 1.2851474658644853], [0.363277478343243, -0.9816530459140638, 1.1700029190575925],
    [0.254518805284968, -0.9551741529243375, 1.8898730908799457], [0.23382708649379683, -0.9036799422577718, 1.7915284517246148],
    [0.23262760776157307, -0.8870422304568373, 1.7575982025737058], [0.403076298488635, -1.0264176042907618, 1.4678713599070696],
    [0.3899349173533199, -0.9752813563724071, 1.6597113590607]]


@pytest.mark.parametrize("row, want", list(enumerate(PYTORCH)), ids=lambda v: ROWS[v][0].__name__ if isinstance(v, int) else "")
def test_pytorch(row, want):
    cls, options, _ = ROWS[row]
    p, o = np.array([0.5, -1.0, 2.0]), cls(**options)
    o.bind(p)
    for t in range(1, 8):
        o.step(np.array([np.sin(t), np.cos(t), 0.1 * t]))
    # its product of mu is a float32, whatever the parameters are
    np.testing.assert_allclose(p, want, rtol=1e-8 if cls is optim.NAdam else 1e-13)


def test_nadams_product_when_it_is_nearly_zero():
    for beta, n in ((0.9, 1000), (0.5, 200), (0.0, 70)):
        got = optim.NAdam(betas=(beta, 0.999)).numbers()["mu_product"].rates(0, n)
        want = np.multiply.accumulate(beta * (1 - 0.5 * 0.96 ** (np.arange(1, n + 1) * 4e-3)))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-17)


def test_pytorch_defaults():
    assert optim.NAdam().config() == {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0,
                                      "momentum_decay": 4e-3, "decoupled_weight_decay": False}
    assert optim.Adagrad().config() == {"lr": 1e-2, "lr_decay": 0, "weight_decay": 0, "initial_accumulator_value": 0,
                                        "eps": 1e-10}
    assert optim.SGD().config() == {"lr": 1e-3, "momentum": 0, "nesterov": False, "weight_decay": 0}
    assert optim.Adam().config() == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}
    assert optim.AdamW().config()["weight_decay"] == 1e-2
    assert optim.RMSprop().config() == {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0,
                                       "momentum": 0, "centered": False}


@pytest.mark.parametrize("make, message", [
    (lambda: optim.SGD(-1), "lr=-1"), (lambda: optim.SGD(0.1, nesterov=True), "momentum"),
    (lambda: optim.Adam(betas=(0.9, 1.0)), "1.0"), (lambda: optim.RMSprop(alpha=1), "alpha=1"),
    (lambda: optim.Adam(lr=float("nan")), "nan"),
])
def test_door(make, message):
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value)


def test_unbound_and_misfit():
    o = optim.Adam()
    with pytest.raises(RuntimeError, match="bind"):
        o.step(np.zeros(3))
    o.bind(np.zeros(3))
    with pytest.raises(ValueError, match="4 float64 for 3"):
        o.step(np.zeros(4))


def test_another_model_begins_with_fresh_state():
    o, a, b = optim.Adam(0.1), np.ones(5), np.ones(5)
    o.bind(a)
    o.step(np.ones(5))
    o.bind(a)
    assert o.t == 1 and o.state["exp_avg"].any()
    o.bind(b)
    assert o.t == 0 and not o.state["exp_avg"].any()


def test_state_round_trip_continues_to_the_bit():
    rng = np.random.default_rng(0)
    g = rng.standard_normal((6, 50))
    a, pa = optim.Adam(0.1), rng.standard_normal(50)
    b, pb = optim.Adam(0.1), pa.copy()
    a.bind(pa)
    for i in range(6):
        a.step(g[i])
    b.bind(pb)
    for i in range(3):
        b.step(g[i])
    c, pc = optim.Adam(0.1), pb.copy()
    c.load_state_dict(b.state_dict())
    c.bind(pc)
    for i in range(3, 6):
        c.step(g[i])
    assert pc.tobytes() == pa.tobytes()
    for o in (c, copy.deepcopy(c), pickle.loads(pickle.dumps(c))):      # and lies where updates are fast
        o.bind(pc)
        assert o.t == 6 and all(v.ctypes.data % 4096 == 0 and np.array_equal(v, a.state[k]) for k, v in o.state.items())
    with pytest.raises(ValueError, match="exp_avg"):
        c.load_state_dict({"t": 1})


# ---------------------------------------------------------------------- one optimizer, several trainers
class Stepped(optim.SGD):
    """With a step of its own, which the Python driver calls."""

    def step(self, gradients):
        super().step(2 * gradients)


WAYS = {"serial": {}, "group": {"strategy": "group", "batches_per_update": 2}, "local": {"strategy": "local"}}
MAKERS = {"adam": lambda: optim.Adam(0.01), "stepped": lambda: Stepped(0.01, 0.9)}


@pytest.mark.parametrize("make, way", [("adam", w) for w in WAYS] + [("stepped", "serial")])
@pytest.mark.parametrize("widths", [(6, 9, 3), (6, 2, 3)], ids=["as large", "smaller"])
def test_trainers_that_share_an_optimizer_train_as_with_one_each(driver, make, way, widths, tmp_path):
    x, y = classification(40)

    def trainers(optimizers):
        out = []
        for i, (w, optimizer) in enumerate(zip(((6, 9, 3), widths), optimizers, strict=True)):
            t = Trainer(1, seed=i, thread_count=2, **WAYS[way])
            t.init(driver(x, y, 8), mlp(*w, seed=i), losses.SoftmaxCrossEntropy(), optimizer)
            out.append(t)
        return out
    one = MAKERS[make]()
    shared, own = trainers([one, one]), trainers([MAKERS[make]() for _ in "ab"])

    def train(t):
        with t:
            t.train()
        return t.model.params.tobytes()
    for turn in (0, 1, 0, 0, 1):
        assert train(shared[turn]) == train(own[turn]) and one.t == own[turn].optimizer.t
    shared[0].save_checkpoint(tmp_path / "checkpoint")      # the optimizer holds the state of the other one's run now
    copies = [copy.deepcopy(shared[0]), pickle.loads(pickle.dumps(shared[0]))]
    assert {train(t) for t in (own[0], *copies)} == {train(shared[0])}
    own[1] = trainers([MAKERS[make](), MAKERS[make]()])[0]
    own[1].load_checkpoint(tmp_path / "checkpoint")
    assert train(own[1]) == shared[0].model.params.tobytes()


def test_an_init_that_fails_leaves_the_optimizer_and_the_models():
    class Refuses(nn.Tanh):
        def emit(self, b, x):
            raise ValueError("not today")
    x, y = classification(40)
    dataset, optimizer = data.ArrayDataset(x, y, 8), optim.Adam(0.01)
    t, whole = Trainer(1, seed=0), Trainer(1, seed=0)
    t.init(dataset, mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optimizer)
    whole.init(dataset, mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
    t.train()
    before, other = optimizer.state_dict(), tinydl.Model(nn.Sequential(Refuses(), nn.Flatten(), nn.Linear(6, 3)), seed=0)
    for trainer in (t, Trainer(1)):
        with pytest.raises(ValueError, match="not today"):
            trainer.init(dataset, other, t.loss, optimizer)
        after = optimizer.state_dict()
        assert before["t"] == after["t"] == 5 and all(np.array_equal(before[k], after[k]) for k in before)
        assert other.input_shape is None
    t.train()
    whole.train()
    whole.train()
    assert t.model.params.tobytes() == whole.model.params.tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_state_vector_that_was_not_bound_is_missed_before_an_update(driver, way):
    x, y = classification(40)
    with Trainer(1, seed=0, thread_count=2, **WAYS[way]) as t:
        t.init(driver(x, y, 8), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        t.optimizer.momentum, before = 0.9, t.model.params.tobytes()
        with pytest.raises(ValueError, match="needs state momentum_buffer"):
            t.train()
        assert t.model.params.tobytes() == before and t.optimizer.t == 0
        t.optimizer.momentum = 0.0
        assert t.train()["updates"][0] > 0


def adam_state(exp_avg=None, exp_avg_sq=None):
    return {"exp_avg": np.zeros(4) if exp_avg is None else exp_avg,
            "exp_avg_sq": np.zeros(4) if exp_avg_sq is None else exp_avg_sq}


@pytest.mark.parametrize("state, options, message", [
    (adam_state(None, np.zeros(3)), {}, "state exp_avg_sq must be 4 float64 side by side, writeable; got 3 float64"),
    (adam_state(None, np.zeros(4, np.float32)), {}, "state exp_avg_sq must be 4 float64"),
    (adam_state(np.zeros(8)[::2]), {}, r"state exp_avg must .* strides \(16,\)"),
    (adam_state(None, np.broadcast_to(0.0, 4)), {}, "state exp_avg_sq must"),
    ({"exp_avg": np.zeros(4)}, {}, "adam has the state 'exp_avg exp_avg_sq'"),
    ({**adam_state(), "more": np.zeros(4)}, {}, "adam has the state 'exp_avg exp_avg_sq'"),
    (adam_state(), {"statistics": np.zeros(2, np.float32)}, "statistics must be 2 float64"),
    (adam_state(), {"momenta": np.zeros(1)}, "1 momenta for 2 running statistics"),
    (adam_state(), {"params": np.zeros(4, np.int32)}, "params must be 4 float32"),
    (adam_state(), {"params": np.zeros(5)[::-1]}, "params must be 5 float64"),
])
def test_the_rule_is_bound_to_vectors_that_fit_alone(state, options, message):
    given = {"params": np.zeros(4), "state": state, "statistics": np.zeros(2), "momenta": np.zeros(2), **options}
    with pytest.raises(ValueError, match=message):
        engine.Update("adam", **given)


def test_the_rule_has_the_vectors_that_its_numbers_need():
    for optimizer in (optim.SGD(momentum=0.9), optim.RMSprop(momentum=0.5, centered=True)):
        for left_out in set(optimizer.names()) - {"square_avg"}:
            state = {n: np.zeros(4) for n in optimizer.names() if n != left_out}
            update = engine.Update(optimizer.rule, np.zeros(4), state, np.zeros(0), np.zeros(0))
            with pytest.raises(ValueError, match=f"needs state {left_out}"):
                update.set(optimizer.numbers())
    assert optim.SGD().names() == [] and optim.RMSprop().names() == ["square_avg"]

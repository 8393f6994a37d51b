"""Optimizers against their formulas, step by step in float64; one row a configuration."""
import copy
import pickle

import numpy as np
import pytest

import tinydl.optim
from tinydl import optim


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


ROWS = [
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
    assert {row[0].__name__ for row in ROWS} == set(tinydl.optim.__all__) - {"Optimizer"}


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


def test_pytorch_defaults():
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

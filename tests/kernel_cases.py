"""The table of operations and update rules: how to make the arguments of each, what it writes, how far from exact it may be.

A bound is built from eps and the number of roundings on the way: depth(n) for a sum of n on lanes, n for one in
order. It takes (eps, arguments, exact results) and gives, for each thing written and for "return", an absolute error.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinydl import _kernels as kernels
from tinydl._kernels import reference, schema
from tinydl._kernels.engine import Update
from tinydl._kernels.schema import KINDS

SIZES = (0, 1, 7, 8, 9, 63, 65, 1000)
MATRICES = ((0, 5), (1, 1), (1, 7), (7, 8), (8, 9), (9, 63), (63, 65), (65, 10), (3, 1000), (1000, 3), (2, 2049),
            (8200, 3), (2, 12300))
PRODUCTS = ((0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (7, 8, 9), (9, 63, 65), (63, 65, 9), (65, 1000, 7),
            (1, 1000, 63), (30, 200, 33), (400, 8, 9), (8, 7, 130), (130, 900, 10),
            (20, 790, 70), (30, 1100, 40), (30, 70, 128), (1000, 300, 33), (9, 8200, 7), (1, 12300, 37), (70, 12300, 33),
            (16400, 64, 33))    # m, k, n
VECTORS = tuple((n,) for n in SIZES)
Args = dict[str, Any]


@dataclass(frozen=True)
class Case:
    kernel: str
    make: Callable[[np.random.Generator, tuple[int, ...]], Args]        # float64 arrays, int64 arrays, numbers
    writes: tuple[str, ...]
    bound: Callable[[float, Args, Args], Args]
    shapes: tuple[tuple[int, ...], ...] = VECTORS
    in_place: tuple[str, ...] = ()      # inputs that may be the first output
    by_row: bool = False                # a row's bits have nothing to do with the other rows
    family: str = ""
    variant: str = ""
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{self.kernel}{'-' if self.variant else ''}{self.variant}")

    def arguments(self, shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Args:
        """Inputs are read-only."""
        made = self.make(np.random.default_rng([seed, *shape]), shape)
        args = {k: v.astype(dtype) if is_float(v) and k != "rates" else v for k, v in made.items()}    # which are float64
        if "itemsize" in args:
            args["itemsize"] = np.dtype(dtype).itemsize
        for k, v in args.items():
            if isinstance(v, np.ndarray) and k not in self.writes:
                v.flags.writeable = False
        return args

    def run(self, module: Any, args: Args) -> Any:
        """`kernels.call`, or the reference's function, or, of a rule, an update."""
        if module is reference:
            return getattr(reference, self.kernel)(**args)
        return update(self.kernel, **args) if self.kernel in schema.RULES else kernels.call(self.kernel, **args)

    def call(self, module: Any, args: Args) -> Args:
        """What the kernel wrote, and a number that it returned."""
        returned = self.run(module, args)
        written = {k: args[k] for k in self.writes}
        if isinstance(returned, np.ndarray):
            assert returned is args[self.writes[0]]
        elif returned is not None:
            written["return"] = returned
        return written

    def check(self, shape: tuple[int, ...], dtype: Any) -> Args:
        """Runs the kernel, holds it to its bound, and gives what it wrote."""
        args = self.arguments(shape, dtype)
        before = copied(args)
        exact = {k: v.astype(np.float64) if is_float(v) else v for k, v in copied(args).items()}
        initial = copied(exact)
        got, want = self.call(kernels, args), self.call(reference, exact)
        bounds = self.bound(float(np.finfo(dtype).eps), initial, want)
        for name, value in got.items():
            with np.errstate(invalid="ignore"):
                error = np.abs(np.asarray(value, np.float64) - want[name])
            allowed = np.broadcast_to(bounds[name] + np.finfo(dtype).tiny, error.shape)
            worst = np.argmax(error / allowed) if error.size else 0
            assert np.all(error <= allowed), (
                f"{self.id} {shape} {np.dtype(dtype)}: {name} is off by {error.flat[worst]}, "
                f"allowed {allowed.flat[worst]}, exact {np.asarray(want[name]).flat[worst]}")
        for name in set(args) - set(self.writes):
            assert np.array_equal(args[name], before[name]), f"{self.id} changed its input {name}"
        return got


def is_float(v: Any) -> bool:
    return isinstance(v, np.ndarray) and v.dtype.kind == "f"


def copied(args: Args) -> Args:
    return {k: v.copy("K") if isinstance(v, np.ndarray) else v for k, v in args.items()}


def update(rule: str, p: np.ndarray, g: np.ndarray, t: int, **state_and_numbers: Any) -> np.ndarray:
    """One update of p by the rule, as the engine makes it."""
    declared = schema.RULES[rule]
    state = {k: v for k, v in state_and_numbers.items() if k in declared.vectors and v is not None}
    bound = Update(rule, p, state, np.zeros(0, p.dtype), np.zeros(0))
    bound.set({k: v for k, v in state_and_numbers.items() if k not in declared.vectors})
    bound.apply(g, t)
    return p


def unset(shape: Any) -> np.ndarray:
    """What a kernel must write: NaN until then."""
    return np.full(shape, np.nan)


CHAIN = 4096        # terms that are added in order; more are added in a tree of such sums


def tree(n: int) -> float:
    """Its levels: each rounds once more."""
    return max(0.0, np.ceil(np.log2(max(1, n) / CHAIN)))


def chain(n: int) -> float:
    """Roundings of a sum of n terms in order."""
    return min(n, CHAIN) + tree(n)


def depth(n: int) -> float:
    """Roundings of a sum of n numbers: on 8 lanes or more, then at most 15 left over, then blocks of 1024."""
    return min(n, 1024) / 8 + 16 + min(n, CHAIN) / 1024 + tree(n)


def cols(a: np.ndarray) -> int:
    return a.shape[1]


# activations --------------------------------------------------------------------------------------------------------

def x_out(rng, shape):
    return {"x": 3 * rng.standard_normal(shape), "out": unset(shape)}


def relative(ulps: float, *names: str):
    """|error| <= ulps eps |exact|"""
    return lambda eps, a, want: {k: ulps * eps * np.abs(want[k]) for k in (names or ("out",))}


def forward(kind, bound=None, **numbers):
    return Case("activation", lambda rng, s: {**x_out(rng, s), "kind": KINDS[kind], **numbers}, ("out",), bound or relative(8),
                in_place=("x",), by_row=True, family="activations", variant="-".join([kind, *numbers]))


def backward(kind, bound, **numbers):
    def make(rng, shape):
        x = 3 * rng.standard_normal(shape)
        if kind in schema.FROM_OUTPUT:
            reference.activation(x, x, KINDS[kind], **numbers)
        return {"dy": rng.standard_normal(shape), "saved": x, "out": unset(shape), "kind": KINDS[kind], **numbers}
    return Case("activation_backward", make, ("out",), bound, in_place=("dy", "saved"), by_row=True, family="activations",
                variant="-".join([kind, *numbers]))


def by_x(ulps, scale):
    return lambda eps, a, want: {"out": ulps * eps * scale(a)}


def by_rounded_exponent(eps, a, want):
    """alpha x is rounded before it is an exponent: an error of that size, relative to what comes out."""
    x = a["saved"] if "saved" in a else a["x"]
    return {"out": eps * (8 + np.abs(a["alpha"] * x)) * np.abs(want["out"])}


ACTIVATIONS = [
    forward("identity", relative(0)),
    forward("relu", relative(0)),
    forward("leaky_relu", relative(2), alpha=0.01),
    forward("elu", alpha=1.7),
    forward("sigmoid"), forward("tanh"), forward("silu"),
    forward("gelu", by_x(4, lambda a: np.abs(a["x"]))),
    forward("gelu_tanh", by_x(4, lambda a: np.abs(a["x"]))),
    forward("selu"), forward("softplus", by_rounded_exponent, alpha=1.0),
    forward("softplus", by_rounded_exponent, alpha=2.5), forward("mish", relative(16)), forward("hardswish"),
    forward("hardtanh", relative(0), alpha=-1.5, beta=2.5),
    forward("hardsigmoid", by_x(2, lambda a: 1 + np.abs(a["x"])), alpha=0.2, beta=0.5),
    forward("exp"), forward("rescaling", by_x(2, lambda a: 0.6 * np.abs(a["x"]) + 2), alpha=-0.6, beta=2.0),
    forward("softsign"), forward("log_sigmoid"), forward("abs", relative(0)), forward("square", relative(1)),
    backward("identity", relative(0)),
    backward("relu", relative(0)),
    backward("leaky_relu", relative(2), alpha=0.01),
    backward("elu", by_x(4, lambda a: np.abs(a["dy"]) * 1.7), alpha=1.7),
    backward("sigmoid", relative(4)),
    backward("tanh", by_x(2, lambda a: np.abs(a["dy"]))),
    backward("silu", by_x(8, lambda a: np.abs(a["dy"]) * (1 + np.abs(a["saved"])))),
    backward("gelu", by_x(8, lambda a: np.abs(a["dy"]))),
    backward("gelu_tanh", by_x(8, lambda a: np.abs(a["dy"]) * (1 + np.abs(a["saved"])))),
    backward("selu", by_x(4, lambda a: np.abs(a["dy"]) * 1.8)),
    backward("softplus", by_rounded_exponent, alpha=1.0), backward("softplus", by_rounded_exponent, alpha=2.5),
    backward("mish", by_x(8, lambda a: np.abs(a["dy"]) * (1 + np.abs(a["saved"])))),
    backward("hardtanh", relative(0), alpha=-1.5, beta=2.5), backward("hardsigmoid", relative(1), alpha=0.2, beta=0.5),
    backward("hardswish", by_x(4, lambda a: np.abs(a["dy"]) * (1 + np.abs(a["saved"])))),
    backward("exp", relative(1)), backward("rescaling", relative(2), alpha=-0.6, beta=2.0),
    backward("softsign", relative(6)), backward("log_sigmoid", relative(4)), backward("abs", relative(0)),
    backward("square", relative(2)),
]


# softmax and losses -------------------------------------------------------------------------------------------------

def below_max(x):
    return x.max(1, keepdims=True, initial=-np.inf) - x


def dy_y(log):
    def make(rng, shape):
        y = 3 * rng.standard_normal(shape)
        (reference.log_softmax if log else reference.softmax)(y, y)
        return {"dy": rng.standard_normal(shape), "y": y, "out": unset(shape)}
    return make


def softmax_backward_bound(eps, a, want):
    dy, y = np.abs(a["dy"]), a["y"]
    return {"out": eps * y * (2 * dy + (depth(cols(y)) + 4) * (dy * y).sum(1, keepdims=True))}


def log_softmax_backward_bound(eps, a, want):
    dy, y = np.abs(a["dy"]), a["y"]
    return {"out": eps * (2 * dy + np.exp(y) * (depth(cols(y)) + 4) * dy.sum(1, keepdims=True))}


SOFTMAX = [
    Case("softmax", x_out, ("out",), lambda eps, a, want: {
        "out": eps * (below_max(a["x"]) + depth(cols(a["x"])) + 4) * want["out"]},
        MATRICES, ("x",), True, "softmax"),
    Case("log_softmax", x_out, ("out",), lambda eps, a, want: {
        "out": eps * (2 * below_max(a["x"]) + depth(cols(a["x"])) + 4 + np.abs(want["out"]))},
        MATRICES, ("x",), True, "softmax"),
    Case("softmax_backward", dy_y(False), ("out",), softmax_backward_bound, MATRICES, ("dy",), True, "softmax"),
    Case("log_softmax_backward", dy_y(True), ("out",), log_softmax_backward_bound, MATRICES, ("dy",), True, "softmax"),
]
NOT_EMPTY = tuple(s for s in MATRICES if 0 not in s)
TWO_ROWS = tuple(s for s in NOT_EMPTY if s[0] > 1)


def logits(rng, shape):
    return {"logits": 3 * rng.standard_normal(shape), "labels": rng.integers(0, shape[1], shape[0]),
            "grad": unset(shape)}


def cross_entropy_bound(eps, a, want):
    x = a["logits"]
    off = below_max(x) + depth(cols(x)) + 4
    p = np.abs(want["grad"]) + (a["labels"][:, None] == np.arange(cols(x))) / len(x)
    return {"grad": eps * off * p, "return": eps * off.max()}


def weighted(make, *, ignored=-100, samples=None, **more):
    """Also weights of samples, some of them 0, and, of those of `more`, weights of columns; some labels are ignored."""
    def make_weighted(rng, shape):
        a = make(rng, shape)
        n = shape[0] if samples is None or shape[0] % samples else samples
        a["weights"] = rng.random(n) * (rng.random(n) < 0.8)
        for name, value in more.items():
            a[name] = rng.random(shape[-1]) + 0.1 if value is None else value
        if "labels" in a:
            a["labels"][rng.random(len(a["labels"])) < 0.2] = ignored
            a["ignore_index"] = ignored
        return a
    return make_weighted


def weighted_cross_entropy_bound(eps, a, want):
    x, labels = a["logits"], a["labels"]
    C, e, classes = cols(x), a.get("label_smoothing", 0), a.get("class_weights", np.ones(cols(x)))
    hits = labels[:, None] == np.arange(C)
    wanted = (1 - e) * hits * classes + e / C * classes
    own = np.repeat(a["weights"], len(x) // len(a["weights"])) * hits.any(1)
    own = own / ((own * (hits * classes).sum(1)).sum() or 1)
    off = below_max(x) + depth(C) + 8
    p = np.exp(x - x.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True) * wanted.sum(1, keepdims=True) + wanted
    eps = roundings(1, eps, a)
    return {"grad": eps * off * p * own[:, None], "return": eps * (off * (wanted.sum(1) * own)[:, None]).sum(0).max()}


def two(rng, shape):
    return {"x": 2 * rng.standard_normal(shape), "targets": rng.standard_normal(shape), "grad": unset(shape)}


def probabilities(rng, shape):
    return {**two(rng, shape), "targets": rng.random(shape)}


def roundings(n, eps, a):
    """n of eps, and those of the sum of weights, in double and in order."""
    return n * eps + len(a.get("weights", ())) * 2.0**-52


def weighted_logistic_bound(eps, a, want):
    part = share(a) / a["x"][0].size * np.ones_like(a["x"])
    return {"return": roundings(16, eps, a) * (part * (np.abs(a["x"]) + 1)).sum(), "grad": roundings(16, eps, a) * part}


def weighted_bound(eps, a, want):
    return {name: roundings(8, eps, a) * np.abs(want[name]) for name in ("grad", "return")}


def loss(kernel, make=two, bound=None, **more):
    return Case(kernel, make, ("grad",), bound or relative(6, "grad", "return"), (*VECTORS[1:], (9, 65)), ("x",),
                family="losses", **more)


def share(a):
    """Of each sample in the mean over samples."""
    n = len(a["x"])
    w = np.repeat(a.get("weights", np.ones(n)), n // len(a.get("weights", np.ones(n))))
    return (w / (w.sum() or 1)).reshape(-1, *[1] * (a["x"].ndim - 1))


def kl_bound(eps, a, want):
    x, t, part = a["x"], a["targets"], share(a) / a["x"][0].size * a.get("scale", 1.0)
    return {"return": roundings(6, eps, a) * (part * t * (np.abs(np.log(t)) + np.abs(x) + 1)).sum(),
            "grad": roundings(6, eps, a) * part * t}


def poisson_bound(eps, a, want):
    part = share(a) / a["x"][0].size * (np.exp(a["x"]) * (1 + np.abs(a["x"])) + a["targets"] * (1 + np.abs(a["x"])))
    return {"return": roundings(6, eps, a) * part.sum(), "grad": roundings(6, eps, a) * part}


def tweedie(power):
    return lambda rng, shape: {**probabilities(rng, shape), "power": power}


def tweedie_bound(eps, a, want):
    x, p, part = np.abs(a["x"]), a["power"], share(a) / a["x"][0].size
    e, f = np.exp((2 - p) * a["x"]) * (1 + x), a["targets"] * np.exp((1 - p) * a["x"]) * (1 + x)
    each = e / (2 - p) + f / (p - 1) if p < 2 else x + f
    return {"return": roundings(8, eps, a) * (part * each).sum(), "grad": roundings(8, eps, a) * part * (e + f)}


def hinge_bound(eps, a, want):
    part = share(a) / a["x"][0].size * np.ones_like(a["x"])
    return {"return": roundings(6, eps, a) * (part * (1 + np.abs(a["x"]))).sum(), "grad": roundings(6, eps, a) * part}


def signs(rng, shape):
    return {**two(rng, shape), "targets": rng.choice([-1.0, 0.0, 1.0], shape)}


MANY = ((1, 6), (3, 12), (9, 66), (65, 6), (200, 600))


def halves(rng, shape):
    return {**two(rng, shape), "targets": rng.standard_normal((shape[0], shape[1] // 2))}


def thirds(rng, shape):
    return {**two(rng, shape), "targets": rng.standard_normal((shape[0], shape[1] // 3)), "levels": np.array([0.1, 0.5, 0.75])}


def gaussian_bound(eps, a, want):
    C = a["targets"].shape[1]
    m, s, part = np.abs(a["x"][:, :C]) + np.abs(a["targets"]), a["x"][:, C:], share(a) / C
    e = np.exp(-s) * (1 + np.abs(s))
    return {"return": roundings(8, eps, a) * (part * (np.abs(s) + m * m * e)).sum(),
            "grad": roundings(8, eps, a) * np.hstack([part * m * e, part * (1 + m * m * e)])}


def counts(rng, shape):
    return {**two(rng, shape), "targets": rng.poisson(2.0, (shape[0], shape[1] // 2)).astype(float)}


def counts_bound(eps, a, want):
    """Of a few terms of the size of t log(r + t + 12), mu and r, and 6 logarithms of two ratios."""
    t = a["targets"]
    C = t.shape[1]
    mu, r, part = np.exp(a["x"][:, :C]), np.exp(-a["x"][:, C:]), share(a) / C
    size = part * (4 + t * np.log(r + t + 12) + mu + r)
    return {"return": roundings(4, eps, a) * size.sum(), "grad": roundings(16, eps, a) * np.hstack([size, size])}


def gaussian_kl_bound(eps, a, want):
    C = a["targets"].shape[1]
    m, s, part = np.abs(a["x"][:, :C]) + np.abs(a["targets"]), a["x"][:, C:], share(a)
    e = np.abs(np.expm1(s))
    return {"return": roundings(8, eps, a) * (part * (np.abs(s) + e + m * m)).sum(),
            "grad": roundings(8, eps, a) * np.hstack([part * m, part * e])}


def bits(rng, shape):
    return {**two(rng, shape), "targets": rng.integers(0, 2, shape).astype(float), "alpha": 0.3, "gamma": 1.5}


def focal_bound(eps, a, want):
    part = share(a) / a["x"][0].size * np.ones_like(a["x"])
    return {"return": roundings(24, eps, a) * (part * (np.abs(a["x"]) + 1)).sum(), "grad": roundings(24, eps, a) * part}


def quantile_bound(eps, a, want):
    t = np.tile(a["targets"], (1, 3))
    part = share(a) / t.shape[1] * np.ones_like(t)
    return {"return": roundings(6, eps, a) * (part * (np.abs(t) + np.abs(a["x"]))).sum(), "grad": roundings(6, eps, a) * part}


LOSSES = [
    Case("softmax_cross_entropy", logits, ("grad",), cross_entropy_bound, NOT_EMPTY, ("logits",), family="losses"),
    loss("sigmoid_cross_entropy", probabilities, lambda eps, a, want: {
        "return": 4 * eps * (np.abs(a["x"]) + 1).mean(), "grad": 8 * eps / a["x"].size}),
    loss("mean_squared_error"), loss("mean_absolute_error"), loss("huber"),
    loss("huber", lambda rng, s: {**two(rng, s), "delta": 0.3}, variant="delta"),
    Case("softmax_cross_entropy", weighted(logits), ("grad",), weighted_cross_entropy_bound, NOT_EMPTY, ("logits",),
         family="losses", variant="weights"),
    Case("softmax_cross_entropy", weighted(logits, ignored=2, samples=9, class_weights=None, label_smoothing=0.1), ("grad",),
         weighted_cross_entropy_bound, NOT_EMPTY, ("logits",), family="losses", variant="classes-smoothing"),
    Case("softmax_cross_entropy", weighted(logits, label_smoothing=0.3), ("grad",), weighted_cross_entropy_bound, NOT_EMPTY,
         ("logits",), family="losses", variant="smoothing"),
    loss("sigmoid_cross_entropy", weighted(probabilities), weighted_logistic_bound, variant="weights"),
    loss("sigmoid_cross_entropy", weighted(probabilities, pos_weight=None, label_smoothing=0.1), weighted_logistic_bound,
         variant="positives-smoothing"),
    loss("kl_divergence", lambda rng, s: {**probabilities(rng, s), "scale": 3.0}, kl_bound),
    loss("kl_divergence", weighted(probabilities), kl_bound, variant="weights"),
    loss("poisson_nll", probabilities, poisson_bound),
    loss("poisson_nll", weighted(probabilities), poisson_bound, variant="weights"),
    loss("sigmoid_focal", bits, focal_bound), loss("sigmoid_focal", weighted(bits), focal_bound, variant="weights"),
    loss("sigmoid_focal", lambda rng, s: {**bits(rng, s), "alpha": -1.0}, focal_bound, variant="even"),
    *(loss("tweedie_nll", make, tweedie_bound, variant=f"{power}{name}") for power in (1.25, 1.5, 2.0)
      for name, make in (("", tweedie(power)), ("-weights", weighted(tweedie(power))))),
    loss("hinge", signs, hinge_bound), loss("hinge", weighted(signs), hinge_bound, variant="weights"),
    *(Case(name, make if w else plain, ("grad",), bound, MANY, ("x",), family="losses", variant=w)
      for name, plain, bound in (("gaussian_nll", halves, gaussian_bound), ("gaussian_kl", halves, gaussian_kl_bound),
                                 ("quantile", thirds, quantile_bound), ("negative_binomial_nll", counts, counts_bound))
      for w, make in (("", plain), ("weights", weighted(plain)))),
    loss("mean_squared_error", weighted(two), weighted_bound, variant="weights"),
    loss("mean_squared_error", weighted(two, samples=5), weighted_bound, variant="weights-of-five"),
    loss("mean_absolute_error", weighted(two), weighted_bound, variant="weights"),
    loss("huber", weighted(two), weighted_bound, variant="weights"),
]


# flat vectors -------------------------------------------------------------------------------------------------------

def normal(*names, **numbers):
    return lambda rng, shape: {**{k: rng.standard_normal(shape) for k in names}, **numbers}


def noise_bound(eps, a, want):
    """Of normal numbers up to 6.7, which have some roundings more; in float32 their logarithm is of a draw that is rounded."""
    scale = a.get("deviation", 1.0) * np.exp(a.get("log_variance", 0.0) / 2) * np.abs(a.get("dy", 1.0))
    return {"out": 2 * eps * np.abs(want["out"]) + scale * (64 * eps + (np.sqrt(2 * eps) if eps > 1e-10 else 0))}


def column_sum_bound(eps, a, want):
    return {"out": eps * (chain(len(a["x"])) + 1) * (np.abs(a["x"]).sum(0) + np.abs(a["out"]))}


def to_columns(rng, shape):
    return {"x": rng.standard_normal(shape), "out": rng.standard_normal(shape[1])}


VECTOR = [
    Case("add", normal("a", "b", "out"), ("out",), relative(1), in_place=("a", "b"), family="vector"),
    Case("copy", normal("x", "out"), ("out",), relative(0), family="vector"),
    Case("fill", normal("out", value=0.3), ("out",), relative(1), family="vector"),
    Case("multiply", normal("a", "b", "out"), ("out",), relative(1), in_place=("a", "b"), family="vector"),
    Case("weighted_mean", normal("a", "b", "out", wa=0.3, wb=0.7), ("out",), lambda eps, a, want: {
        "out": 3 * eps * (np.abs(0.3 * a["a"]) + np.abs(0.7 * a["b"]))}, in_place=("a", "b"), family="vector"),
    Case("squared_norm", normal("x"), (), lambda eps, a, want: {        # added in double whatever the dtype
        "return": np.finfo(np.float64).eps * (a["x"].size / 32 + 40) * want["return"]}, family="vector"),
    Case("check_finite", normal("x"), (), lambda eps, a, want: {}, family="vector"),
    Case("column_sum", to_columns, ("out",), column_sum_bound, MATRICES, family="vector"),
    Case("column_sum", lambda rng, s: {**to_columns(rng, s), "accumulate": 1}, ("out",), column_sum_bound, MATRICES,
         family="vector", variant="accumulate"),
    Case("gather_rows", lambda rng, s: {"out": unset(s), "source": 1, "index": rng.integers(0, 50, s[0]), "sources": [
        np.zeros((50, s[1])), rng.standard_normal((50, s[1])).astype(np.float32)]},
         ("out",), relative(0), MATRICES, by_row=True, family="gather"),
    Case("gather_integers", lambda rng, s: {"out": np.full(s, -1), "source": 0, "low": 0, "high": 200, "sources": [
        rng.integers(0, 200, (50, s[1])).astype(np.uint8)], "index": rng.integers(0, 50, s[0])},
         ("out",), relative(0), MATRICES, by_row=True, family="gather"),
    Case("dropout", lambda rng, s: {**x_out(rng, s), "rate": 0.3, "seed": 7, "step": 2**40, "layer": 3,
                                    "index": rng.integers(0, 2**62, s[0])},
         ("out",), relative(2), MATRICES, ("x",), True, "dropout"),
    *(Case("dropout", lambda rng, s, step=step: {**x_out(rng, s), "rates": np.array([5, 0.5, 0.25, 0.75]), "seed": 7,
                                                 "step": step},
           ("out",), relative(2), MATRICES, ("x",), family="dropout", variant=f"rates-{step}")
      for step in (0, 5, 6, 7, 2**40)),
    *(Case("normal_noise", lambda rng, s, more=more: {**x_out(rng, s), "seed": 7, "step": 2**40, "layer": 3, "deviation": 0.7,
                                                     "index": rng.integers(0, 2**62, s[0]), **more(rng, s)},
           ("out",), noise_bound,
           MATRICES, ("x",), not variant, "dropout", variant)
      for variant, more in (("", lambda rng, s: {}), ("variances", lambda rng, s: {"log_variance": rng.standard_normal(s)}))),
    Case("normal_noise_backward", lambda rng, s: {
        "dy": rng.standard_normal(s), "log_variance": rng.standard_normal(s), "out": unset(s), "seed": 7, "step": 5, "layer": 1},
         ("out",), noise_bound, MATRICES, ("dy",),
         family="dropout"),
    Case("dropout", lambda rng, s: {**x_out(rng, s), "rate": 0.999, "seed": 2**64 - 1, "step": 0, "first_id": 12},
         ("out",), relative(2), MATRICES, ("x",), family="dropout", variant="numbered"),
]


# more axes: the second of three is reduced; elements in another order; rows of a table -----------------------------

CUBES = ((0, 3, 2), (1, 1, 1), (5, 7, 1), (1, 1100, 1), (4, 3, 5), (2, 9, 65), (3, 1500, 4), (70, 2, 3))


def cube(make):
    return lambda rng, s: make(rng, *s)


def arranged(rng, a, b, c):
    """The axes of x (a, 1, 1, b, c) in another order: out (a, 1, 1, c, b)."""
    return {"x": rng.standard_normal((a, b, c)), "out": rng.standard_normal((a, c, b)), "B": a,
            "n1": 1, "n2": 1, "n3": b, "n4": c, "xb": b * c, "x1": 0, "x2": 0, "x3": c, "x4": 1,
            "yb": b * c, "y1": 0, "y2": 0, "y3": 1, "y4": b}


WAVES = ((0, 2, 3, 1), (1, 1, 1, 1), (5, 3, 16, 3), (4, 2, 17, 1), (3, 2, 40, 5), (18, 2, 20, 11), (5000, 1, 2, 2))  # R, C, K, D


def waves(rng, s):
    R, C, K, D = s
    return {"x": rng.standard_normal((R, C)), "frequency": 0.5 * rng.standard_normal((C, K)), "out": unset((R, C, D)),
            "phase": rng.uniform(-np.pi, np.pi, (C, K)), "weight": rng.standard_normal((C, K, D)),
            "bias": rng.standard_normal((C, D))}


def waves_backward(rng, s):
    R, C, K, D = s
    made = waves(rng, s)
    del made["out"], made["bias"]
    return {**made, "dy": rng.standard_normal((R, C, D)), "dx": unset((R, C)), "dfrequency": rng.standard_normal((C, K)),
            "dphase": rng.standard_normal((C, K)), "dweight": rng.standard_normal((C, K, D)),
            "dbias": rng.standard_normal((C, D))}


def intervals(rng, s):
    R, C, K, _ = s
    return {"x": rng.standard_normal((R, C)), "low": rng.standard_normal((C, K)), "slope": rng.uniform(0, 2, (C, K)),
            "out": unset((R, C, K))}


def intervals_backward(rng, s):
    made = intervals(rng, s)
    dy = rng.standard_normal(made.pop("out").shape)
    return {**made, "dy": dy, "dx": unset(s[:2])}


def wave_error(eps, a):
    """Of a cosine or sine: what rounding does to its angle, and to itself."""
    return eps * (2 * np.pi * (2 * np.abs(a["frequency"] * a["x"][..., None]) + 1) + 4)


def periodic_bound(eps, a, want):
    K, w = a["frequency"].shape[1], np.abs(a["weight"])
    return {"out": np.einsum("rck,ckd->rcd", wave_error(eps, a) + eps * (K + 2), w) + eps * (K + 2) * np.abs(a["bias"])}


def periodic_backward_bound(eps, a, want):
    x, f, dy, w = np.abs(a["x"])[..., None], np.abs(a["frequency"]), np.abs(a["dy"]), np.abs(a["weight"])
    each = (wave_error(eps, a) + eps * (w.shape[2] + 8)) * np.einsum("rcd,ckd->rck", dy, w)
    more, K = chain(len(x)) + 1, f.shape[1]
    largest = np.einsum("rcd,ckd->rck", dy, w)
    out = {"dx": 2 * np.pi * ((each + eps * (K + 4) * largest) * f).sum(2),
           "dphase": each.sum(0) + eps * more * largest.sum(0),
           "dfrequency": 2 * np.pi * ((each + 4 * eps * largest) * x).sum(0) + 2 * np.pi * eps * more * (largest * x).sum(0),
           "dweight": np.einsum("rck,rcd->ckd", wave_error(eps, a) + eps * more, dy), "dbias": eps * more * dy.sum(0)}
    return {k: v + eps * more * np.abs(a[k]) if k in a and k != "dx" else v for k, v in out.items()}


AXES = [
    Case("arrange", cube(lambda rng, *s: {**arranged(rng, *s), "itemsize": 0}), ("out",), relative(0), CUBES, family="arrange"),
    Case("arrange", cube(lambda rng, *s: {**arranged(rng, *s), "itemsize": 0, "accumulate": 1}), ("out",), relative(1), CUBES,
         family="arrange", variant="accumulate"),
    Case("reduce_sum", cube(lambda rng, a, b, c: {"x": rng.standard_normal((a, b, c)), "out": unset((a, c)), "scale": 0.37}),
         ("out",), lambda eps, a, want: {"out": eps * (a["x"].shape[1] + 4) * np.abs(a["x"]).sum(1)}, CUBES, family="reduce"),
    Case("spread", cube(lambda rng, a, b, c: {"dy": rng.standard_normal((a, c)), "out": unset((a, b, c)), "scale": 0.37}),
         ("out",), relative(2), CUBES, family="reduce"),
    Case("reduce_max", cube(lambda rng, a, b, c: {"x": rng.standard_normal((a, b, c)), "out": unset((a, c)),
                                                  "place": np.full((a, c), -1)}), ("out", "place"),
         relative(0, "out", "place"), CUBES, family="reduce"),
    Case("reduce_max_backward", cube(lambda rng, a, b, c: {"dy": rng.standard_normal((a, c)), "out": unset((a, b, c)),
                                                           "place": rng.integers(0, b, (a, c))}), ("out",), relative(0), CUBES,
         family="reduce"),
    Case("embedding",
         lambda rng, s: {"table": rng.standard_normal((20, s[1])), "rows": rng.integers(0, 20, s[0]), "out": unset(s)}, ("out",),
         relative(0), MATRICES, family="embedding"),
    Case("scale_columns", lambda rng, s: {**x_out(rng, s), "scale": rng.standard_normal(s[1])}, ("out",), relative(1), MATRICES,
         ("x",), True, "columns"),
    Case("prelu", lambda rng, s: {**x_out(rng, s), "slope": rng.standard_normal(s[1])}, ("out",), relative(1), MATRICES,
         ("x",), True, "columns"),
    Case("prelu_backward", lambda rng, s: {**x_out(rng, s), "dy": rng.standard_normal(s), "slope": rng.standard_normal(s[1]),
                                           "by_slope": unset(s)},
         ("out", "by_slope"), relative(1, "out", "by_slope"), MATRICES, ("dy",), True, "columns"),
    Case("piecewise_linear", intervals, ("out",), lambda eps, a, want: {
        "out": 3 * eps * (np.abs(a["x"][..., None]) + np.abs(a["low"])) * a["slope"]}, WAVES, by_row=True, family="piecewise"),
    Case("piecewise_linear_backward", intervals_backward, ("dx",), lambda eps, a, want: {
        "dx": eps * (a["low"].shape[1] + 2) * np.abs(a["dy"] * a["slope"]).sum(2)}, WAVES, by_row=True, family="piecewise"),
    Case("periodic", waves, ("out",), periodic_bound, WAVES, by_row=True, family="periodic"),
    Case("periodic_backward", waves_backward, ("dx", "dfrequency", "dphase", "dweight", "dbias"), periodic_backward_bound, WAVES,
         family="periodic"),
    Case("periodic_backward", lambda rng, s: {**waves_backward(rng, s), **dict.fromkeys(
        ("more_frequency", "more_phase", "more_weight", "more_bias"), 1)},
         ("dx", "dfrequency", "dphase", "dweight", "dbias"), periodic_backward_bound, WAVES, family="periodic", variant="more"),
    Case("periodic_backward", lambda rng, s: {**waves_backward(rng, s), "dx": None}, ("dfrequency", "dphase", "dweight", "dbias"),
         lambda eps, a, want: {k: v for k, v in periodic_backward_bound(eps, a, want).items() if k != "dx"}, WAVES,
         family="periodic", variant="no_dx"),
    *(Case("embedding_backward", lambda rng, s, more=more: {"dy": rng.standard_normal(s), "rows": rng.integers(0, 20, s[0]),
                                                            "dtable": rng.standard_normal((20, s[1])), **more},
           ("dtable",), lambda eps, a, want: {"dtable": eps * (len(a["dy"]) + 1) * (
               np.abs(a["dtable"]) + np.abs(a["dy"]).sum(0))}, MATRICES, family="embedding", variant=variant)
      for variant, more in (("", {}), ("padding", {"padding": 3}), ("accumulate", {"accumulate": 1}))),
]


# norms --------------------------------------------------------------------------------------------------------------

def norm(axis, gamma, beta):
    """Arguments of layer_norm (axis 1) or batch_norm (axis 0)."""
    def make(rng, shape):
        n = shape[1 - axis]
        return {"x": 2 * rng.standard_normal(shape) + 1, "gamma": rng.standard_normal(shape[1]) if gamma else None,
                "beta": rng.standard_normal(shape[1]) if beta else None, "out": unset(shape),
                "mean": unset(n), "rstd": unset(n)}
    return make


def norm_bound(axis):
    def bound(eps, a, want):
        x, gamma, beta = (0 if v is None else v for v in (a["x"], a["gamma"], a["beta"]))
        n = x.shape[axis]
        steps = (depth if axis else chain)(n) + 8
        size = np.abs(x).mean(axis, keepdims=True)
        mean, rstd = (np.expand_dims(want[k], axis) for k in ("mean", "rstd"))
        off = rstd * (steps * size + steps * np.abs(x - mean)) * (1 if a["gamma"] is None else np.abs(gamma))
        both = {"out": eps * (off + 4 * np.abs(want["out"]) + 4 * np.abs(beta)),
                "mean": eps * steps * size.squeeze(axis), "rstd": eps * steps * want["rstd"]}
        return both | {"batch_mean": both["mean"], "batch_var": eps * 4 * steps * want.get("batch_var", 0)}
    return bound


def norm_backward(axis, gamma, grads, accumulate=0):
    def make(rng, shape):
        a = norm(axis, gamma, False)(rng, shape)
        (reference.layer_norm if axis else reference.batch_norm)(**a)
        del a["beta"]
        a["dy"] = rng.standard_normal(shape)
        if grads:
            a |= {"dgamma": rng.standard_normal(shape[1]), "dbeta": rng.standard_normal(shape[1])}
        return a | {"more": accumulate, "more_beta": accumulate % 2}
    return make


def norm_backward_bound(axis):
    def bound(eps, a, want):
        x, dy = a["x"], np.abs(a["dy"])
        steps = (depth if axis else chain)(x.shape[axis]) + 8
        rstd = np.expand_dims(a["rstd"], axis)
        h = np.abs(x - np.expand_dims(a["mean"], axis)) * rstd
        g = dy if a["gamma"] is None else dy * np.abs(a["gamma"])
        off = g + g.mean(axis, keepdims=True) + h * (g * h).mean(axis, keepdims=True)
        old = a if a.get("more") and "dgamma" in a else {"dgamma": 0, "dbeta": 0}
        return {"out": eps * steps * rstd * off,
                "dgamma": eps * (chain(len(x)) + 4) * ((dy * h).sum(0) + np.abs(old["dgamma"])),
                "dbeta": eps * (chain(len(x)) + 4) * (dy.sum(0) + np.abs(old["dbeta"]))}
    return bound


def constant_bound(eps, a, want):
    """Where mean and rstd are not of x, out is two products."""
    return norm_backward_bound(0)(eps, a, want) | {"out": 4 * eps * np.abs(want["out"])}


def inference(rng, shape):
    n = shape[1]
    return {"x": rng.standard_normal(shape), "gamma": rng.standard_normal(n), "beta": rng.standard_normal(n),
            "running_mean": rng.standard_normal(n), "running_var": rng.random(n) + 0.1, "out": unset(shape)}


def inference_bound(eps, a, want):
    h = np.abs(a["x"] - a["running_mean"]) / np.sqrt(a["running_var"] + 1e-5) * np.abs(a["gamma"])
    return {"out": 8 * eps * (h + np.abs(a["beta"]))}


def pooled(made, n, activation):
    """Of n rows for each of a shape's, whose sums are made and not they."""
    return lambda rng, s: made(rng, (n * s[0], s[1])) | {"out": None, "pooled": unset(s), "scale": 0.37,
                                                         "activation": KINDS[activation]}


def pooled_bound(bound, n):
    def of_sums(eps, a, want):
        y = {"out": np.zeros_like(a["x"])}
        getattr(reference, "batch_norm" if "mean" in a else "batch_norm_inference")(**a | {"pooled": None, **y})
        rows = bound(eps, a | y, want | y)
        each = rows["out"] + eps * (chain(n) + 4) * np.abs(y["out"])
        return {k: v for k, v in rows.items() if k in want} | {
            "pooled": 0.37 * np.broadcast_to(each, a["x"].shape).reshape(-1, n, a["x"].shape[1]).sum(1)}
    return of_sums


STATISTICS = ("out", "mean", "rstd")
NORM = [
    Case("layer_norm", norm(1, True, True), STATISTICS, norm_bound(1), MATRICES, ("x",), True, "norm"),
    Case("layer_norm", norm(1, True, False), STATISTICS, norm_bound(1), MATRICES, ("x",), True, "norm", "gamma"),
    Case("layer_norm", norm(1, False, True), STATISTICS, norm_bound(1), MATRICES, ("x",), True, "norm", "beta"),
    Case("layer_norm", norm(1, False, False), STATISTICS, norm_bound(1), MATRICES, ("x",), True, "norm", "plain"),
    Case("layer_norm_backward", norm_backward(1, True, True), ("out", "dgamma", "dbeta"), norm_backward_bound(1),
         MATRICES, ("dy",), family="norm"),
    Case("layer_norm_backward", norm_backward(1, True, True, 1), ("out", "dgamma", "dbeta"), norm_backward_bound(1),
         MATRICES, ("dy",), family="norm", variant="accumulate"),
    Case("layer_norm_backward", norm_backward(1, False, False), ("out",), norm_backward_bound(1), MATRICES, ("dy",),
         True, "norm", "plain"),
    Case("batch_norm",
         lambda rng, s: norm(0, True, True)(rng, s) | {"batch_mean": unset(s[1]), "batch_var": unset(s[1])},
         (*STATISTICS, "batch_mean", "batch_var"), norm_bound(0), TWO_ROWS, ("x",), family="norm"),
    Case("batch_norm", norm(0, False, False), STATISTICS, norm_bound(0), TWO_ROWS, ("x",), family="norm",
         variant="plain"),
    Case("batch_norm", lambda rng, s: norm(0, True, True)(rng, s) | {"activation": KINDS["relu"]}, STATISTICS, norm_bound(0),
         TWO_ROWS, ("x",), family="norm", variant="relu"),
    *(Case("batch_norm", pooled(norm(0, True, True), n, activation), ("pooled", "mean", "rstd"), pooled_bound(norm_bound(0), n),
           shapes, family="norm", variant=f"pooled{n}{activation}")
      for n, activation, shapes in ((3, "relu", TWO_ROWS), (5000, "identity", ((1, 3), (2, 1), (1, 40), (2, 20))))),
    *(Case("batch_norm_inference", pooled(inference, n, activation), ("pooled",), pooled_bound(inference_bound, n), NOT_EMPTY,
           family="norm", variant=f"pooled{n}{activation}") for n, activation in ((3, "identity"), (77, "relu"))),
    Case("batch_norm_inference", inference, ("out",), inference_bound, MATRICES, ("x",), True, "norm"),
    Case("batch_norm_inference", lambda rng, s: inference(rng, s) | {"activation": KINDS["tanh"]}, ("out",), inference_bound,
         MATRICES, ("x",), True, "norm", "tanh"),
    Case("batch_norm_inference", lambda rng, s: inference(rng, s) | {"rstd": unset(s[1])}, ("out", "rstd"),
         lambda eps, a, want: inference_bound(eps, a, want) | {"rstd": 4 * eps * want["rstd"]}, NOT_EMPTY, ("x",), family="norm",
         variant="rstd"),
    Case("batch_norm_backward", norm_backward(0, True, True), ("out", "dgamma", "dbeta"), norm_backward_bound(0),
         NOT_EMPTY, ("dy",), family="norm"),
    Case("batch_norm_backward", norm_backward(0, True, True, 1), ("out", "dgamma", "dbeta"), norm_backward_bound(0),
         NOT_EMPTY, ("dy",), family="norm", variant="accumulate"),
    Case("batch_norm_backward", norm_backward(0, False, False), ("out",), norm_backward_bound(0), NOT_EMPTY, ("dy",),
         family="norm", variant="plain"),
    Case("batch_norm_backward", lambda rng, s: norm_backward(0, True, True)(rng, s) | {
        "beta": rng.standard_normal(s[1]), "activation": KINDS["relu"]}, ("out", "dgamma", "dbeta"), norm_backward_bound(0),
         NOT_EMPTY, ("dy",), family="norm", variant="relu"),
    Case("batch_norm_backward", lambda rng, s: norm_backward(0, True, True)(rng, s) | {"constant": 1}, ("out", "dgamma", "dbeta"),
         constant_bound, NOT_EMPTY, ("dy",), family="norm", variant="constant"),
    *(Case("batch_norm_backward", lambda rng, s, n=n: norm_backward(0, True, True)(rng, (n * s[0], s[1])) | {
        "dy": rng.standard_normal(s), "scale": 0.37, "beta": rng.standard_normal(s[1]), "activation": KINDS["relu"]},
           ("out", "dgamma", "dbeta"), lambda eps, a, want, n=n: norm_backward_bound(0)(
               eps, a | {"dy": np.repeat(0.37 * a["dy"], n, 0)}, want), NOT_EMPTY, family="norm", variant=f"spread{n}")
      for n in (2, 77)),
]


# optimizers ---------------------------------------------------------------------------------------------------------

def sgd_bound(eps, a, want):
    d = np.abs(a["g"]) + a["weight_decay"] * np.abs(a["p"]) + a["momentum"] * np.abs(a["momentum_buffer"])
    return {"p": eps * (2 * np.abs(a["p"]) + 8 * a["lr"] * d), "momentum_buffer": 4 * eps * d}


def adam_state(rng, shape, **numbers):
    return {"p": rng.standard_normal(shape), "g": rng.standard_normal(shape), "exp_avg": rng.standard_normal(shape) / 3,
            "exp_avg_sq": rng.random(shape) + 0.01, "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01,
            "t": 3, **numbers}


def adam_bound(eps, a, want):
    d = np.abs(a["g"]) + a["weight_decay"] * np.abs(a["p"])
    m, v = np.abs(a["exp_avg"]) + d, want["exp_avg_sq"]
    step = a["lr"] / (1 - 0.9 ** a["t"]) * m / np.sqrt(v / (1 - 0.999 ** a["t"]))
    return {"p": eps * (3 * np.abs(a["p"]) + 16 * step), "exp_avg": 4 * eps * m, "exp_avg_sq": 8 * eps * (v + 0.001 * d * d)}


def rms_state(rng, shape, **numbers):
    return {"p": rng.standard_normal(shape), "g": rng.standard_normal(shape), "square_avg": rng.random(shape) + 1,
            "momentum_buffer": rng.standard_normal(shape), "grad_avg": rng.standard_normal(shape) / 8,
            "lr": 0.01, "alpha": 0.9, "eps": 1e-8, "weight_decay": 0.1, "momentum": 0.0, "centered": 0.0, "t": 1, **numbers}


def rms_bound(eps, a, want):
    d = np.abs(a["g"]) + 0.1 * np.abs(a["p"])
    step = d / np.sqrt(want["square_avg"] - want["grad_avg"] ** 2)
    b = step + a["momentum"] * np.abs(a["momentum_buffer"])
    return {"p": eps * (2 * np.abs(a["p"]) + 0.01 * 32 * b), "square_avg": 16 * eps * want["square_avg"],
            "momentum_buffer": 32 * eps * b, "grad_avg": 4 * eps * (np.abs(a["grad_avg"]) + d)}


def sgd(variant, **numbers):
    numbers = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": 0.0, "t": 1} | numbers
    return Case("sgd", normal("p", "g", "momentum_buffer", **numbers), ("p", "momentum_buffer"), sgd_bound,
                family="updates", variant=variant)


NADAM = {"mu": 0.45, "mu_next": 0.46, "mu_product": 0.1}


def radam_bound(eps, a, want):
    m = np.abs(a["exp_avg"]) + np.abs(a["g"]) + a["weight_decay"] * np.abs(a["p"])
    step = a["lr"] / (1 - 0.9 ** a["t"]) * m * np.maximum(1, 1 / np.sqrt(want["exp_avg_sq"]))
    return {**adam_bound(eps, a, want), "p": eps * (3 * np.abs(a["p"]) + 16 * step)}


def adagrad_bound(eps, a, want):
    d = np.abs(a["g"]) + 0.1 * np.abs(a["p"])
    size = np.abs(a["sum"]) + 9 + d * d
    step = (8 * d + 4 * d * size / want["sum"]) / np.sqrt(want["sum"])
    return {"sum": 4 * eps * size, "p": eps * (2 * np.abs(a["p"]) + 0.1 * step)}


def lion_bound(eps, a, want):
    return {"p": eps * (2 * np.abs(a["p"]) + 0.2), "exp_avg": 3 * eps * (np.abs(a["exp_avg"]) + np.abs(a["g"]))}


def adam(kernel, variant="", bound=adam_bound, **numbers):
    return Case(kernel, lambda rng, s: adam_state(rng, s, **numbers), ("p", "exp_avg", "exp_avg_sq"), bound, family="updates",
                variant=variant)


def rms(variant, **numbers):
    return Case("rmsprop", lambda rng, s: rms_state(rng, s, **numbers),
                ("p", "square_avg", "momentum_buffer", "grad_avg"), rms_bound, family="updates", variant=variant)


UPDATES = [
    sgd(""), sgd("decay", weight_decay=0.1), sgd("momentum", momentum=0.9, weight_decay=0.1),
    sgd("nesterov", momentum=0.9, nesterov=1.0),
    adam("adam", weight_decay=0.0), adam("adam", "first", t=1, weight_decay=0.1), adam("adamw"), adam("adamw", "late", t=1000),
    rms(""), rms("momentum", momentum=0.9), rms("centered", centered=1.0),
    rms("both", momentum=0.9, centered=1.0),
    adam("nadam", **NADAM, decoupled=0.0), adam("nadam", "decoupled", **NADAM, decoupled=1.0),
    adam("radam", decoupled=0.0, bound=radam_bound), adam("radam", "late", t=1000, decoupled=1.0, bound=radam_bound),
    Case("adagrad", normal("p", "g", "sum", lr=0.1, lr_decay=0.1, eps=1e-10, weight_decay=0.1, initial=9.0, t=1), ("p", "sum"),
         adagrad_bound, family="updates"),
    Case("lion", normal("p", "g", "exp_avg", lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.1, t=1), ("p", "exp_avg"), lion_bound,
         family="updates"),
]


# matrix product -----------------------------------------------------------------------------------------------------

def product(trans_a=False, trans_b=False, bias=False, saved=False, **more):
    """a and b: with their rows side by side, or transposed, their columns."""
    def make(rng, mkn):
        m, k, n = mkn
        return {"a": rng.standard_normal((k, m)).T if trans_a else rng.standard_normal((m, k)),
                "b": rng.standard_normal((n, k)).T if trans_b else rng.standard_normal((k, n)),
                "out": rng.standard_normal((m, n)), "bias": rng.standard_normal(n) if bias else None,
                "saved": rng.standard_normal((m, n)) if saved else None, **more}
    return make


def product_bound(eps, a, want):
    left, right = np.abs(a["a"]), np.abs(a["b"])
    size = left @ right + (0 if a["bias"] is None else np.abs(a["bias"])) + (np.abs(a["out"]) if a.get("accumulate") else 0)
    slope = 1.2 if a.get("activation") else 1       # GELU and SiLU rise a little faster than x
    after = 8 * np.abs(want["out"]) + (4 * size if slope > 1 else 0)
    return {"out": eps * ((chain(left.shape[1]) / 2 + 2) * slope * size + after)}


MATMUL = [
    Case("matmul", product(ta, tb, **more), ("out",), product_bound, PRODUCTS, family="matmul",
         variant=f"{'NT'[ta]}{'NT'[tb]}-{name}")
    for ta in (False, True) for tb in (False, True)
    for name, more in {"": {}, "accumulate": {"accumulate": 1}, "relu": {"bias": True, "activation": KINDS["relu"]},
                       "all": {"accumulate": 1, "bias": True, "activation": KINDS["silu"]},
                       "relu_backward": {"saved": True, "activation": KINDS["relu"]},
                       "silu_backward": {"saved": True, "activation": KINDS["silu"]}}.items()
] + [
    Case("matmul", product(bias=True, activation=KINDS[name], **numbers), ("out",), product_bound, PRODUCTS,
         family="matmul", variant=name)
    for name, numbers in (("leaky_relu", {"alpha": 0.01}), ("elu", {"alpha": 1.0}), ("sigmoid", {}), ("tanh", {}), ("gelu", {}),
                          ("gelu_tanh", {}), ("hardtanh", {"beta": 6.0}), ("hardsigmoid", {"alpha": 0.2, "beta": 0.5}))
]

# images -------------------------------------------------------------------------------------------------------------

# B, C, H, W, O, kernel, stride, padding, dilation, groups
CONVOLUTIONS = ((0, 2, 4, 4, 3, 3, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1, 1, 0, 1, 1), (2, 1, 9, 20, 16, 3, 1, 1, 1, 1),
                (3, 16, 7, 7, 32, 3, 1, 1, 1, 1), (2, 6, 8, 9, 40, 3, 2, 1, 1, 2), (1, 3, 10, 11, 5, 4, 1, 3, 2, 1),
                (2, 4, 5, 6, 4, 2, 3, 0, 1, 4), (1, 5, 6, 33, 33, 2, 2, 2, 2, 1), (70, 2, 8, 8, 3, 3, 1, 0, 1, 1),
                (1, 470, 3, 4, 3, 3, 1, 1, 1, 1), (1, 24, 2, 1900, 3, 3, 1, 1, 1, 1), (1, 3, 2, 1900, 24, 3, 1, 1, 1, 1),
                (1, 2, 3, 2900, 40, 3, 2, 1, 1, 1), (2, 40, 1, 4500, 2, 2, 3, 2, 2, 2))


def convolution(of, first=False, **more):
    """Arguments of conv2d, of conv_transpose2d, or of conv2d_by_weight; first: channels of x are first, as users give images."""
    def make(rng, shape):
        B, C, H, W, O, k, s, p, d, G = shape            # noqa: E741 - the schema's letters
        Ho, Wo = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n in (H, W))
        rows, cols = (O // G, C // G) if of == "conv_transpose2d" else (C // G, O // G)
        N = 16 if cols <= 16 else 32
        panels = rng.standard_normal((G, -(-cols // N), k * k * rows, N))
        window = dict(zip(("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw"), (k, k, s, s, p, p, d, d), strict=True))
        places = {"xb": C * H * W, "xc": H * W, "xh": W, "xw": 1} if first else {"xb": C * H * W, "xc": 1, "xh": W * C, "xw": C}
        x, dy = rng.standard_normal((B, C, H, W) if first else (B, H, W, C)), rng.standard_normal((B, Ho, Wo, O))
        image = {"x": x, "C": C, "H": H, "W": W, **places}
        if of == "conv2d":
            return {**image, **window, "panels": panels, "bias": rng.standard_normal(O), "out": unset(dy.shape), **more}
        if of == "conv_transpose2d":
            made = {**window, "x": dy, "panels": panels, "bias": rng.standard_normal(C), "out": unset((B, H, W, C)), **more}
            return {**made, "saved": rng.standard_normal((B, H, W, C))} if "activation" in more else made
        sizes = dict(zip("GQRN", panels.shape, strict=True))
        return {**image, **window, **sizes, "dy": dy, "dweight": rng.standard_normal((O, C // G, k * k)),
                "db": rng.standard_normal(O), "sums": unset(panels.size + O), "terms": B * Ho * Wo, **more}
    return make


def convolution_bound(of):
    def bound(eps, a, want):
        """The same with magnitudes is what roundings are relative to."""
        sizes = {k: np.abs(v) if is_float(v) else v for k, v in a.items() if k not in ("activation", "saved")}
        for name in want:
            sizes[name] = np.abs(a[name]) if of == "conv2d_by_weight" and name != "sums" else np.zeros_like(a[name])
        getattr(reference, of)(**sizes)
        terms = len(a["dy"].reshape(-1, a["dy"].shape[-1])) if "dy" in a else a["panels"].shape[2]
        return {name: eps * ((chain(terms) / 2 + 4) * sizes[name] + np.abs(want[name])) for name in want}
    return bound


def panels_of(transposed):
    def make(rng, shape):
        _, C, _, _, O, k, *_, G = shape                 # noqa: E741
        rows, cols = (O // G, C // G) if transposed else (C // G, O // G)
        N = 16 if cols <= 16 else 32
        return {"weight": rng.standard_normal((O, C // G, k * k)), "out": unset((G, -(-cols // N), k * k * rows, N)),
                "transposed": transposed}
    return make


# B, H, W, C, kernel, stride, padding, dilation
POOLINGS = ((0, 4, 4, 3, 2, 2, 0, 1), (2, 4, 6, 16, 2, 2, 0, 1), (2, 7, 8, 5, 3, 2, 1, 1), (1, 9, 9, 40, 3, 1, 1, 2),
            (1, 5, 6, 70, 2, 3, 0, 1), (2, 5, 5, 33, 3, 3, 1, 1))


def pooling(of, dilated=True, **more):
    def make(rng, shape):
        B, H, W, C, k, s, p, d = shape
        d = d if dilated else 1
        Ho, Wo = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n in (H, W))
        Ho += Ho * s < H + p and "adaptive" not in more        # one more row of windows, which the border cuts off
        window = dict(zip(("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw"), (k, k, s, s, p, p, d, d), strict=True))
        if not dilated:
            del window["dh"], window["dw"]
        x, out = rng.standard_normal((B, H, W, C)), unset((B, Ho, Wo, C))
        if dilated:
            x = np.round(2 * x) / 2     # some are equal
            more_ = {"place": np.zeros(out.shape, np.uint8)}
            if of.endswith("backward"):
                reference.max_pool2d(x, out, **window, **more_)
                more_ |= {"saved": out.copy(), **more} if more else {}
        else:
            more_ = more
        if of.endswith("backward"):
            return {"dy": rng.standard_normal(out.shape), "out": unset(x.shape), **window, **more_}
        return {"x": x, "out": out, **window, **more_}
    return make


def pooling_bound(eps, a, want):
    sizes = {**a, ("dy" if "dy" in a else "x"): np.abs(a["dy" if "dy" in a else "x"]), "out": np.zeros_like(a["out"])}
    getattr(reference, "avg_pool2d" + "_backward" * ("dy" in a))(**sizes)
    n = max(a["kh"] * a["kw"], a["x"].shape[1] * a["x"].shape[2] if "x" in a else a["out"].shape[1] * a["out"].shape[2])
    return {"out": eps * (n + 4) * sizes["out"]}


def several(eps, a, want):
    """Gradients of a pixel that is the greatest of several windows are added: at most as many as a window has pixels."""
    sizes = {**a, "dy": np.abs(a["dy"]), "out": np.zeros_like(a["out"])}
    reference.max_pool2d_backward(**sizes)
    return {"out": eps * (a["kh"] * a["kw"] + 4) * sizes["out"]}


IMAGES = [
    *(Case("conv_panels", panels_of(t), ("out",), relative(0), CONVOLUTIONS, family="images", variant="transposed" * t)
      for t in (0, 1)),
    *(Case("conv2d", convolution("conv2d", first, activation=KINDS[kind]), ("out",), convolution_bound("conv2d"), CONVOLUTIONS,
           family="images", variant=f"{kind}{'-first' * first}") for kind, first in (("identity", False), ("relu", True))),
    Case("conv_transpose2d", convolution("conv_transpose2d"), ("out",), convolution_bound("conv_transpose2d"), CONVOLUTIONS,
         family="images"),
    Case("conv_transpose2d", convolution("conv_transpose2d", activation=KINDS["relu"]), ("out",),
         convolution_bound("conv_transpose2d"), CONVOLUTIONS, family="images", variant="backward"),
    *(Case("conv2d_by_weight", convolution("conv2d_by_weight", first, **more), ("dweight", "db", "sums"),
           convolution_bound("conv2d_by_weight"), CONVOLUTIONS, family="images", variant=variant)
      for variant, first, more in (("", False, {}), ("more-first", True, {"more": 1, "more_bias": 1}))),
    Case("max_pool2d", pooling("max_pool2d"), ("out", "place"), relative(0, "out", "place"), POOLINGS, family="images"),
    Case("max_pool2d_backward", pooling("max_pool2d_backward"), ("out",), several, POOLINGS, family="images"),
    Case("max_pool2d_backward", pooling("max_pool2d_backward", activation=KINDS["relu"]), ("out",), several, POOLINGS,
         family="images", variant="relu"),
    *(Case(f"avg_pool2d{back}", pooling(f"avg_pool2d{back}", False, **more), ("out",), pooling_bound, POOLINGS, family="images",
           variant=variant)
      for back in ("", "_backward")
      for variant, more in (("", {}), ("include", {"include": 1}), ("divisor", {"divisor": 5}), ("adaptive", {"adaptive": 1}))),
]

# B, H, W, C, kernel, stride, padding, dilation
DEPTHWISE = ((0, 4, 4, 3, 2, 2, 0, 1), (1, 1, 1, 1, 1, 1, 0, 1), (2, 7, 8, 5, 3, 1, 1, 1), (2, 8, 7, 70, 3, 2, 1, 1),
             (1, 9, 6, 33, 2, 3, 1, 2), (1, 65, 70, 18, 3, 1, 1, 1))


def depthwise(of, **more):
    def make(rng, shape):
        B, H, W, C, k, s, p, d = shape
        Ho, Wo = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n in (H, W))
        window = dict(zip(("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw"), (k, k, s, s, p, p, d, d), strict=True))
        x, dy = rng.standard_normal((B, H, W, C)), rng.standard_normal((B, Ho, Wo, C))
        if of == "depthwise2d_by_weight":
            return {**window, "x": x, "dy": dy, "dweight": unset((k * k, C)), "terms": B * Ho * Wo}
        made = {**window, "weight": rng.standard_normal((k * k, C)), "bias": rng.standard_normal(C), **more}
        if of == "depthwise2d":
            return {**made, "x": x, "out": unset(dy.shape)}
        return {**made, "x": dy, "out": unset(x.shape)} | ({"saved": rng.standard_normal(x.shape)} if more else {})
    return make


def depthwise_bound(of):
    def bound(eps, a, want):
        sizes = {k: np.abs(v) if is_float(v) else v for k, v in a.items() if k not in ("activation", "saved")}
        name = "dweight" if "dy" in a else "out"
        sizes[name] = np.zeros_like(a[name])
        getattr(reference, of)(**sizes)
        terms = a["dy"].size // a["dy"].shape[-1] if "dy" in a else len(a["weight"])
        return {name: eps * ((chain(terms) / 2 + 4) * sizes[name] + np.abs(want[name]))}
    return bound


# B, C, H, W, Ho, Wo
RESIZED = ((0, 2, 2, 2, 3, 3), (1, 1, 1, 1, 3, 2), (2, 5, 3, 4, 6, 8), (2, 17, 5, 3, 7, 9), (1, 33, 6, 7, 4, 3))


def resized(back, **more):
    def make(rng, shape):
        B, C, H, W, Ho, Wo = shape
        small, large = rng.standard_normal((B, H, W, C)), rng.standard_normal((B, Ho, Wo, C))
        return {"dy": large, "out": unset(small.shape), **more} if back else {"x": small, "out": unset(large.shape), **more}
    return make


def resized_bound(eps, a, want):
    """Shares are rounded, and are differences of numbers as large as the image."""
    back = "dy" in a
    sizes = {**a, ("dy" if back else "x"): np.abs(a["dy" if back else "x"]), "out": np.zeros_like(a["out"])}
    getattr(reference, "upsample2d" + "_backward" * back)(**sizes)
    if not a.get("bilinear"):
        return {"out": eps * a["dy"].size * sizes["out"] if back else 0 * sizes["out"]}
    return {"out": 8 * eps * sizes["out"] + eps * np.abs(a["dy" if back else "x"]).max(initial=0) * (a["dy"].size if back else 1)}


# B, P, groups, channels of a group
GROUPED = ((0, 3, 2, 2), (1, 1, 1, 2), (3, 5, 3, 2), (2, 49, 4, 16), (2, 30, 33, 1), (1, 4200, 2, 3))


def grouped(back, affine=True, **more):
    def make(rng, shape):
        B, P, G, each = shape
        C = G * each
        a = {"x": 2 * rng.standard_normal((B, P, C)) + 1, "gamma": rng.standard_normal(C) if affine else None,
             "beta": rng.standard_normal(C) if affine else None, "out": unset((B, P, C)), "mean": unset((B, G)),
             "rstd": unset((B, G))}
        if back:
            reference.group_norm(**a)
            del a["beta"]
            a |= {"dy": rng.standard_normal((B, P, C)), "out": unset((B, P, C)), **more}
            if affine:
                a |= {"dgamma": rng.standard_normal(C), "dbeta": rng.standard_normal(C)}
        return a
    return make


def by_group(a, values):
    """The mean over each group, for each of its channels."""
    B, P, C = values.shape
    G = a["mean"].shape[1]
    return np.repeat(values.reshape(B, P, G, C // G).mean((1, 3)), C // G, 1)[:, None, :]


def grouped_bound(eps, a, want):
    x, C, G = a["x"], a["x"].shape[2], a["mean"].shape[1]
    steps = chain(x.shape[1]) + depth(C // G) + 8
    mean, rstd = (np.repeat(want[k], C // G, 1)[:, None, :] for k in ("mean", "rstd"))
    gamma, beta = (0 if v is None else np.abs(v) for v in (a["gamma"], a["beta"]))
    size = by_group(a, np.abs(x))
    off = rstd * (steps * size + steps * np.abs(x - mean)) * (gamma if a["gamma"] is not None else 1)
    return {"out": eps * (off + 4 * np.abs(want["out"]) + 4 * beta), "mean": eps * steps * size[:, 0, ::C // G],
            "rstd": eps * steps * (1 + size[:, 0, ::C // G] * want["rstd"]) * want["rstd"]}


def grouped_backward_bound(eps, a, want):
    x, dy, C, G = a["x"], np.abs(a["dy"]), a["x"].shape[2], a["mean"].shape[1]
    steps = chain(x.shape[1]) + depth(C // G) + 8
    mean, rstd = (np.repeat(a[k], C // G, 1)[:, None, :] for k in ("mean", "rstd"))
    h = np.abs(x - mean) * rstd
    g = dy if a["gamma"] is None else dy * np.abs(a["gamma"])
    old = a if a.get("more") else {"dgamma": 0, "dbeta": 0}
    n = chain(x.shape[1]) + len(x) + 4
    return {"out": eps * steps * rstd * (g + by_group(a, g) + h * by_group(a, g * h)),
            "dgamma": eps * n * ((dy * h).sum((0, 1)) + np.abs(old["dgamma"])),
            "dbeta": eps * n * (dy.sum((0, 1)) + np.abs(old["dbeta"]))} if "dgamma" in a else {
                "out": eps * steps * rstd * (g + by_group(a, g) + h * by_group(a, g * h))}


def rms(back, gamma=True, **more):
    def make(rng, shape):
        a = {"x": 2 * rng.standard_normal(shape) + 1, "gamma": rng.standard_normal(shape[1]) if gamma else None,
             "out": unset(shape), "rstd": unset(shape[0])}
        if back:
            reference.rms_norm(**a)
            a |= {"dy": rng.standard_normal(shape), "out": unset(shape), **more}
            if gamma:
                a |= {"dgamma": rng.standard_normal(shape[1])}
            if more:
                a |= {"sums": unset(shape[1])}
        return a
    return make


def rms_norm_bound(eps, a, want):
    steps = depth(cols(a["x"])) + 8
    return {"out": eps * steps * np.abs(want["out"]), "rstd": eps * steps * want["rstd"]}


def rms_norm_backward_bound(eps, a, want):
    dy, s = np.abs(a["dy"]), a["rstd"][:, None]
    h, steps = np.abs(a["x"]) * s, depth(cols(a["x"])) + 8
    g = dy if a["gamma"] is None else dy * np.abs(a["gamma"])
    each = eps * (chain(len(h)) + 4) * (dy * h).sum(0)
    more = eps * np.abs(a["dgamma"]) if a.get("more") else 0
    return {"out": eps * steps * s * (g + h * (g * h).mean(1, keepdims=True)), "dgamma": each + more, "sums": each}


IMAGES += [
    Case("depthwise2d", depthwise("depthwise2d"), ("out",), depthwise_bound("depthwise2d"), DEPTHWISE, family="images"),
    Case("depthwise2d", depthwise("depthwise2d", activation=KINDS["relu"]), ("out",), depthwise_bound("depthwise2d"), DEPTHWISE,
         family="images", variant="relu"),
    Case("depthwise_transpose2d", depthwise("depthwise_transpose2d"), ("out",), depthwise_bound("depthwise_transpose2d"),
         DEPTHWISE, family="images"),
    Case("depthwise_transpose2d", depthwise("depthwise_transpose2d", activation=KINDS["relu"]), ("out",),
         depthwise_bound("depthwise_transpose2d"), DEPTHWISE, family="images", variant="backward"),
    Case("depthwise2d_by_weight", depthwise("depthwise2d_by_weight"), ("dweight",), depthwise_bound("depthwise2d_by_weight"),
         DEPTHWISE, family="images"),
    *(Case(f"upsample2d{'_backward' * back}", resized(back, **more), ("out",), resized_bound, RESIZED, family="images",
           variant=variant)
      for back in (False, True) for variant, more in (("", {}), ("bilinear", {"bilinear": 1}),
                                                      ("corners", {"bilinear": 1, "align": 1}))),
    Case("group_norm", grouped(False), STATISTICS, grouped_bound, GROUPED, ("x",), family="images"),
    Case("group_norm", grouped(False, False), STATISTICS, grouped_bound, GROUPED, ("x",), family="images", variant="plain"),
    Case("group_norm_backward", grouped(True), ("out", "dgamma", "dbeta"), grouped_backward_bound, GROUPED, ("dy",),
         family="images"),
    Case("group_norm_backward", grouped(True, more=1, more_beta=1), ("out", "dgamma", "dbeta"), grouped_backward_bound, GROUPED,
         ("dy",), family="images", variant="more"),
    Case("group_norm_backward", grouped(True, False), ("out",), grouped_backward_bound, GROUPED, ("dy",), family="images",
         variant="plain"),
    Case("rms_norm", rms(False), ("out", "rstd"), rms_norm_bound, MATRICES, ("x",), True, "norm"),
    Case("rms_norm", rms(False, False), ("out", "rstd"), rms_norm_bound, MATRICES, ("x",), True, "norm", "plain"),
    Case("rms_norm_backward", rms(True), ("out", "dgamma"), rms_norm_backward_bound, MATRICES, ("dy",), family="norm"),
    Case("rms_norm_backward", rms(True, more=1), ("out", "dgamma", "sums"), rms_norm_backward_bound, MATRICES, ("dy",),
         family="norm", variant="more"),
    Case("rms_norm_backward", rms(True, False), ("out",), rms_norm_backward_bound, MATRICES, ("dy",), True, "norm", "plain"),
]

CASES = ACTIVATIONS + SOFTMAX + LOSSES + VECTOR + AXES + NORM + UPDATES + MATMUL + IMAGES

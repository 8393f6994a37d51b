"""kernel_cases.py's table for operations over sequences: what their arguments are, and how far from exact the results may be.

Weights are uniform in +-1/sqrt(H), as layers begin, and what comes in is of the size of 1. Then a step's error is that of a
product of k terms and a few functions, and the step before's comes on top, at most twice over: gates are below 1, and rows of
the weights have a norm of about 0.6.
"""
import numpy as np
from kernel_cases import Case, unset

from tinydl._kernels import reference
from tinydl._kernels.schema import KINDS

STEPS = ((0, 2, 3), (1, 1, 1), (2, 3, 5), (4, 5, 16), (3, 4, 33), (15, 3, 40), (2, 2, 131))       # B, L, H
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
KEPT = {"lstm": ("before", "cells", "tanhs"), "gru": ("before", "hidden"), "rnn": ("before",)}


def recurrent(name, rich, **settings):
    """rich: with lengths, biases and an initial state, as the second of two directions; else only what must be there."""
    def make(rng, shape):
        B, L, H = shape
        G = GATES[name] * H
        a = {"x": rng.standard_normal((B, L, G)), "w_hh": rng.uniform(-1, 1, (G, H)) / np.sqrt(H), "gates": unset((B, L, G)),
             **settings}
        if not rich:
            return a | {"last": unset((B, H))}
        a |= {"b_hh": rng.standard_normal(G), "lengths": rng.integers(0, L + 1, B), "h0": rng.standard_normal((B, H)),
              "out": rng.standard_normal((B, L, 2 * H)), "last": rng.standard_normal((B, 2 * H)), "column": H, "reverse": 1}
        if name == "lstm":
            a["c0"] = rng.standard_normal((B, H))
        return a | {kept: unset((B, L, H)) for kept in KEPT[name]}
    return make


def recurrent_backward(name, rich, **settings):
    def make(rng, shape):
        B, L, H = shape
        a = recurrent(name, True, **settings)(rng, shape)
        if not rich:
            a |= {"lengths": None, "column": 0, "reverse": 0, "h0": np.zeros((B, H)), "out": unset((B, L, H)),
                  "last": unset((B, H))} | ({"c0": None} if name == "lstm" else {})
        getattr(reference, name)(**a)
        kept = {"lstm": ("cells", "tanhs", "c0"), "gru": ("before", "hidden"), "rnn": ()}[name]
        made = {k: a[k] for k in ("gates", "w_hh", "lengths", "column", "reverse", *kept)} | settings
        made |= {"dgates": unset(a["gates"].shape), "dlast": rng.standard_normal(a["last"].shape)}
        if rich:
            made |= {"dy": rng.standard_normal(a["out"].shape), "dh0": unset((B, H))}
        if rich and name == "lstm":
            made["dc0"] = unset((B, H))
        if rich and name == "gru" and not settings.get("reset_before"):
            made["dhidden"] = unset((B, L, H))
        return made
    return make


def bound(eps, a, want):
    k = max(a["w_hh"].shape)
    L = a["gates"].shape[1]
    return {name: eps * (k + 16) * (L + 1) * (1 + np.abs(value).max(initial=1.0)) for name, value in want.items()}


def case(name, rich, variant, backward, **settings):
    kept = KEPT[name] if rich else ()
    if backward:
        writes = ("dgates", *(("dh0",) if rich else ()), *(("dc0",) if rich and name == "lstm" else ()),
                  *(("dhidden",) if rich and name == "gru" and not settings["reset_before"] else ()))
        return Case(name + "_backward", recurrent_backward(name, rich, **settings), writes, bound, STEPS, ("gates",),
                    family="recurrent", variant=variant)
    return Case(name, recurrent(name, rich, **settings), ("gates", "last", *(("out",) if rich else ()), *kept), bound, STEPS,
                ("x",), family="recurrent", variant=variant)


SEQUENCES = [
    Case("mask_steps", lambda rng, s: {"x": rng.standard_normal(s), "lengths": rng.integers(0, s[1] + 1, s[0]), "out": unset(s)},
         ("out",), lambda eps, a, want: {"out": 0 * want["out"]}, STEPS, ("x",), family="recurrent"),
    *(case(name, rich, f"{variant}{'rich' if rich else 'plain'}", backward, **settings)
      for name, variant, settings in (("lstm", "", {}), ("gru", "", {"reset_before": 0}), ("gru", "before-", {"reset_before": 1}),
                                      ("rnn", "tanh-", {"kind": KINDS["tanh"]}), ("rnn", "relu-", {"kind": KINDS["relu"]}))
      for rich in (False, True) for backward in (False, True)),
]

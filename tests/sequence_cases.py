"""kernel_cases.py's table for operations over sequences: what their arguments are, and how far from exact the results may be.

Weights are uniform in +-1/sqrt(H), as layers begin, and what comes in is of the size of 1. Then a step's error is that of a
product of k terms and a few functions, and the step before's comes on top, at most twice over: gates are below 1, and rows of
the weights have a norm of about 0.6.
"""
import numpy as np
from kernel_cases import Case, relative, unset

from tinydl._kernels import reference, reference_attention
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


HEADS = ((0, 2, 3, 1, 4), (1, 1, 1, 1, 1), (2, 3, 5, 2, 4), (2, 45, 7, 1, 16), (1, 5, 300, 1, 3), (1, 46, 520, 1, 8),
         (2, 4, 3, 3, 33), (2, 7, 9, 2, 64))        # B, L, M, N, D


def attend(*which, rate=0.0, causal=0):
    """which: of the inputs that need not be there."""
    def make(rng, shape):
        B, L, M, N, D = shape
        a = {"q": rng.standard_normal((B, L, N * D + 3)), "kv": rng.standard_normal((B, M, 2 * N * D + 2)),
             "out": unset((B, L, N * D)), "lse": unset((B, N, L)), "D": D, "q_at": 3, "k_at": 1, "v_at": N * D + 2,
             "scale": D**-0.5, "rate": rate, "causal": causal}
        given = {"lengths": rng.integers(0, M + 1, B), "ignored": rng.integers(0, 2, (B, M)),
                 "q_lengths": rng.integers(0, L + 1, B)}
        return a | {name: given[name] for name in which} | ({"seed": 3, "step": 5, "layer": 1} if rate else {})
    return make


def attend_backward(*which, rate=0.0, causal=0):
    def make(rng, shape):
        B, L, _, N, D = shape
        a = attend(*which, rate=rate, causal=causal)(rng, shape)
        reference.attention(**a)
        return a | {"dy": rng.standard_normal((B, L, N * D)), "dq": np.zeros(a["q"].shape), "dkv": np.zeros(a["kv"].shape)}
    return make


def attention_bound(eps, a, want):
    """Of a weight: what rounding does to its score, below the largest, and to the sum. Of the gradients: what that does to each
    of their terms, and the sums of these."""
    D, N = a["D"], a["out"].shape[2] // a["D"]
    q, k, v = (reference_attention.heads(a[name], a[at], N, D) for name, at in (("q", "q_at"), ("kv", "k_at"), ("kv", "v_at")))
    L, M = q.shape[2], k.shape[2]
    seen = reference_attention.counts((len(q), L, M), a.get("lengths"), a.get("ignored"), a.get("q_lengths"), a["causal"])
    p, lse = reference_attention.weights(q, k, a["scale"], seen)
    size = a["scale"] * np.abs(q) @ np.abs(k).swapaxes(2, 3)
    off = eps * ((D + 4) * size.max(initial=1.0) + M / 8 + 24) / (1 - a["rate"])
    if "dy" not in a:
        y = p @ np.abs(v)
        return {"out": off * y.swapaxes(1, 2).reshape(a["out"].shape), "lse": off + 4 * eps * np.abs(lse)}
    d, y = np.abs(reference_attention.heads(a["dy"], 0, N, D)), np.abs(reference_attention.heads(a["out"], 0, N, D))
    ds = 2 * (off + eps * (D + L + M)) / (1 - a["rate"]) * p * (d @ np.abs(v).swapaxes(2, 3) + (d * y).sum(3, keepdims=True))
    out = {"dq": np.zeros(a["q"].shape), "dkv": np.zeros(a["kv"].shape)}
    ds *= a["scale"]
    for name, at, value in (("dq", "q_at", ds @ np.abs(k)), ("dkv", "k_at", ds.swapaxes(2, 3) @ np.abs(q)),
                            ("dkv", "v_at", 2 * (off + eps * L) * p.swapaxes(2, 3) @ d)):
        out[name][..., a[at]:a[at] + N * D] = value.swapaxes(1, 2).reshape(*out[name].shape[:2], N * D)
    return out


ATTENTION = [
    Case("attention" + "_backward" * backward, (attend_backward if backward else attend)(*which, **options),
         ("dq", "dkv") if backward else ("out", "lse"), attention_bound, HEADS, family="attention", variant=variant)
    for variant, which, options in (("", (), {}), ("causal", (), {"causal": 1}), ("lengths", ("lengths", "q_lengths"), {}),
                                    ("ignored", ("ignored", "lengths"), {"causal": 1}), ("dropout", ("lengths",), {"rate": 0.3}))
    for backward in (False, True)
]

def rotate(rng, shape):
    B, L, _, N, D = shape
    D += D % 2
    angles = rng.uniform(0, 7, (L, D // 2))
    turns = np.stack([np.cos(angles), np.sin(angles)], 2).reshape(L, D)
    return {"x": rng.standard_normal((B, L, N * D + 3)), "turns": turns, "out": unset((B, L, N * D + 3)), "n": N * D}


ROTARY = [Case("rotary", lambda rng, s, back=back: rotate(rng, s) | {"back": back}, ("out",),
               lambda eps, a, want: {"out": 4 * eps * (1 + 2 * np.abs(a["x"]).max(initial=0.0)) * np.ones(want["out"].shape)},
               HEADS, ("x",), family="attention", variant="back" * back) for back in (0, 1)]

def spoken(blank=0, weights=False, **settings):
    """Label sequences of all lengths that fit, some with neighbours that are equal, and samples whose last steps are certainly
    blank. With zero_infinity every third has more labels than steps."""
    def make(rng, shape):
        B, L, C = shape
        x, labels = 2 * rng.standard_normal(shape), np.full((B, L), -1)
        for i in range(B):
            steps = rng.integers((L + 1) // 2, L + 1)
            x[i, steps:] = np.where(np.arange(C) == blank % C, 0, -1e30)
            n = steps // 2 if i % 3 or not settings else L
            labels[i, :n] = rng.integers(0, C - 1, n)
            labels[i] += (labels[i] >= blank % C)
        return {"logits": x, "labels": labels, "grad": unset(shape), "weights": rng.integers(0, 3, B).astype(float) if weights
                else None, "blank": blank % C, **settings}
    return make


def spoken_bound(eps, a, want):
    """In each step, what rounding does to a logarithm of a probability and to one of a sum of three."""
    B, L, _ = a["logits"].shape
    w = np.ones(B) if a["weights"] is None else a["weights"]
    part = w / (w.sum() or 1) / np.maximum((a["labels"] >= 0).sum(1), 1)
    off = eps * (L + 1) * (np.abs(a["logits"][np.abs(a["logits"]) < 1e29]).max(initial=0) + 6)
    return {"return": off * part.sum(), "grad": off * part[:, None, None] * np.ones(a["logits"].shape)}


def tagged(weights=False):
    def make(rng, shape):
        B, L, C = shape
        labels = np.where(np.arange(L) < rng.integers(0, L + 1, (B, 1)), rng.integers(0, C, (B, L)), -100)
        return {"logits": 2 * rng.standard_normal((B, L, C, C)), "labels": labels, "grad": unset((B, L, C, C)),
                "weights": rng.integers(0, 3, B).astype(float) if weights else None}
    return make


def tagged_bound(eps, a, want):
    """In each step, what rounding does to a logarithm of a sum of C, and to a score."""
    L, C = a["logits"].shape[1:3]
    w, n = np.ones(len(a["labels"])) if a["weights"] is None else a["weights"], (a["labels"] >= 0).sum(1)
    part = w / ((w * n).sum() or 1)
    off = eps * (L + 1) * (np.abs(a["logits"]).max(initial=0) + np.log(C) + 4)
    return {"return": off * part.sum(), "grad": off * part[:, None, None, None] * np.ones(a["logits"].shape)}


SPOKEN = ((1, 1, 2), (2, 4, 3), (4, 9, 5), (7, 30, 12), (3, 130, 40), (2, 70, 600))      # B, L, C

SEQUENCES = [
    *(Case("crf", tagged(weights), ("grad",), tagged_bound,
           ((1, 1, 2), (3, 4, 3), (5, 9, 1), (4, 30, 7), (2, 60, 20), (2, 5, 130)), ("logits",), family="losses",
           variant="weights" * weights) for weights in (False, True)),
    *(Case("mask_steps", lambda rng, s, stride=stride, blank=blank: {
        "x": rng.standard_normal(s), "lengths": rng.integers(0, s[1] * stride + 1, s[0]), "out": unset(s), "stride": stride,
        "blank": min(blank, s[2] - 1)}, ("out",), lambda eps, a, want: {"out": eps * np.abs(want["out"])}, STEPS, ("x",),
        family="recurrent", variant=variant) for variant, stride, blank in (("", 1, -1), ("stride", 3, -1), ("blank", 2, 1))),
    *(Case("ctc", make, ("grad",), spoken_bound, SPOKEN, ("logits",), family="losses", variant=variant)
      for variant, make in (("", spoken()), ("weights", spoken(-1, True)), ("zero", spoken(1, zero_infinity=1)))),
    *(Case("pool_steps", lambda rng, s, mean=mean, all_of=all_of: {
        "x": rng.standard_normal(s), "lengths": None if all_of else rng.integers(0, s[1] + 1, s[0]), "out": unset((s[0], s[2])),
        "mean": mean}, ("out",), lambda eps, a, want: {"out": eps * (a["x"].shape[1] + 2) * np.abs(a["x"]).max(1)}, STEPS,
        family="steps", variant=variant) for variant, mean, all_of in (("last", 0, False), ("mean", 1, False), ("all", 1, True))),
    *(Case("pool_steps_backward", lambda rng, s, mean=mean: {
        "dy": rng.standard_normal((s[0], s[2])), "lengths": rng.integers(0, s[1] + 1, s[0]), "out": unset(s), "mean": mean},
        ("out",), relative(2), STEPS, family="steps", variant="mean" if mean else "last") for mean in (0, 1)),
    *(Case("embedding_bag", lambda rng, s, more=more: {
        "table": rng.standard_normal((20, s[2])), "rows": rng.integers(0, 20, s[:2]), "out": unset((s[0], s[2])), **more},
        ("out",), lambda eps, a, want: {"out": eps * (a["rows"].shape[1] + 2) * np.abs(a["table"]).sum(0)}, STEPS,
        family="embedding", variant="-".join(more)) for more in ({}, {"padding": 3, "mean": 1})),
    *(Case("embedding_bag_backward", lambda rng, s, more=more: {
        "dy": rng.standard_normal((s[0], s[2])), "rows": rng.integers(0, 20, s[:2]), "dtable": rng.standard_normal((20, s[2])),
        **more}, ("dtable",), lambda eps, a, want: {"dtable": eps * (a["rows"].size + 2) * (
            np.abs(a["dtable"]) + a["rows"].shape[1] * np.abs(a["dy"]).sum(0))}, STEPS, family="embedding",
        variant="-".join(more)) for more in ({}, {"padding": 3, "mean": 1}, {"accumulate": 1})),
    *(case(name, rich, f"{variant}{'rich' if rich else 'plain'}", backward, **settings)
      for name, variant, settings in (("lstm", "", {}), ("gru", "", {"reset_before": 0}), ("gru", "before-", {"reset_before": 1}),
                                      ("rnn", "tanh-", {"kind": KINDS["tanh"]}), ("rnn", "relu-", {"kind": KINDS["relu"]}))
      for rich in (False, True) for backward in (False, True)),
    *ATTENTION, *ROTARY,
]

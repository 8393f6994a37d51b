"""Shorter forms of a plan: a batch of sequences that are padded behind their lengths runs with as few steps as it needs.

A plan is compiled for T steps. Where that changes nothing but the number of zeros, it is compiled for fewer steps, too, each
time a fifth fewer, and the engine runs each batch by the form with the fewest steps that its longest sequence fits into
(Program.set_shorter): no batch has more than a quarter of its steps in vain. What a form costs is its compilation, below a
millisecond, and its operations' arguments; parameters, gradients and workspace are the plan's.

It changes nothing where everything that depends on T either does the same to each step, whatever the others are, or takes the
lengths and looks at no step beyond them, and where the loss ignores what comes out there. All operations that do so are named
here; a plan with another one that depends on T (a mean over all steps, a convolution) has no shorter forms.

Sums over the steps of a batch have terms of 0 where there is padding. Only sums of more than TD_CHAIN terms (csrc/td.h), which
are added in a tree, may differ in their last bits by how many there are. So what a form gives depends on its batch, or part of
a batch, alone: not on threads or drivers.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tinydl.plan.compiler import Plan
from tinydl.plan.operation import Op, ref
from tinydl.plan.values import Rows

#: each form has so many times the steps of the next longer one, down to FEWEST. With 0.8 and lengths of 5 to 200 there are 14
LESS, FEWEST = 0.8, 8

#: what does to each step the same; of gradients of parameters, sums over steps whose terms are 0 beyond a length
EACH_STEP = {"matmul", "activation", "activation_backward", "softmax", "softmax_backward", "log_softmax",
             "log_softmax_backward", "softmax_cross_entropy", "add", "copy", "fill", "arrange", "multiply", "weighted_mean",
             "embedding", "embedding_backward", "scale_columns", "prelu", "prelu_backward", "column_sum", "layer_norm",
             "layer_norm_backward", "rms_norm", "rms_norm_backward", "dropout", "rotary"}
#: of these, what goes over each row as a whole: a row that gets longer with T is one over the steps
OVER_ROWS = {"softmax", "softmax_backward", "log_softmax", "log_softmax_backward", "softmax_cross_entropy"}
#: what looks at no step beyond the lengths that it is given
WITH_LENGTHS = {"mask_steps", "pool_steps", "pool_steps_backward", "lstm", "lstm_backward", "gru", "gru_backward", "rnn",
                "rnn_backward", "attention", "attention_backward"}


def with_shorter(plan: Plan, T: int, compiled: Callable[[int], Plan], padded: tuple[int, ...]) -> Plan:
    """The plan, which is for T steps, with its shorter forms, if it can have any. compiled(T): the plan for so many steps.
    padded: the sources that are padded, by their numbers; their lengths are source 1."""
    forms, steps = list[tuple[int, Plan]](), int(T * LESS)
    while steps >= FEWEST:
        try:
            form = compiled(steps)
        except ValueError:      # of a layer that takes T steps and no others
            return plan
        if not _differs_in_steps_alone(plan, form, padded, (T, steps)):
            return plan
        forms.append((steps, form))
        steps = int(steps * LESS)
    if forms:
        plan.program.set_shorter([(steps, form.program) for steps, form in reversed(forms)])
        every = [plan, *(form for _, form in forms)]        # the operations of each have addresses of its own arrays
        return replace(plan, constants=[c for one in every for c in one.constants],
                       by_step=[table for one in every for table in one.by_step])
    return plan


def _differs_in_steps_alone(plan: Plan, form: Plan, padded: tuple[int, ...], steps: tuple[int, int]) -> bool:
    return (not plan.program.hooks and len(plan.ops) == len(form.ops) and form.work_bytes <= plan.work_bytes
            and all(_same_of_fewer(a, b, padded, steps) for a, b in zip(plan.ops, form.ops, strict=True)))


def _same_of_fewer(a: Op, b: Op, padded: tuple[int, ...], steps: tuple[int, int]) -> bool:
    """Whether b is a, or a of fewer steps that give the same. steps: of the plans that a and b are in."""
    if a.name != b.name or a.reals != b.reals:
        return False
    for name, place in a.places.items():
        other = b.places[name]
        if name in ("partial", "room"):     # what an operation needs for itself
            continue
        if place is None or other is None:
            if place is not other:
                return False
        elif place[1] != other[1] or place[0].space != other[0].space:
            return False
        elif place[0].space not in ("work", "address") and ref(place) != ref(other):
            return False
    differ = {name: (size, b.sizes[name]) for name, size in a.sizes.items() if size != b.sizes[name]}
    if not differ:
        return True
    if a.name in ("gather", "gather_rows", "gather_integers"):
        return a.sizes["source"] in padded
    if a.name in WITH_LENGTHS:      # of all steps, or a batch with room for its lengths might have too few
        return a.places["lengths"] is not None and all(pair == steps for pair in differ.values())
    return (a.name in EACH_STEP and all(_count(m) * steps[1] == _count(n) * steps[0] for m, n in differ.values())
            and not (a.name in OVER_ROWS and "C" in differ))


def _count(size: Any) -> int:
    return size.per_sample if isinstance(size, Rows) else int(size)

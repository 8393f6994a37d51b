"""What the arguments of estimators may be: `fit` checks them by these rules, since constructors leave them as they are."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["Rule", "boolean", "check", "either", "one_of", "real", "whole"]


class Rule(NamedTuple):
    """Whether a value is allowed, and which are, for people."""

    holds: Callable[[Any], bool]
    says: str


def whole(least: int) -> Rule:
    """A whole number, at least so much."""
    return Rule(lambda v: isinstance(v, Integral) and not isinstance(v, (bool, np.bool_)) and int(v) >= least,
                f"a whole number, at least {least}")


def real(least: float, most: float = float("inf"), *, above: bool = False, below: bool = False) -> Rule:
    """A finite number from least to most. above: not least itself; below: not most itself."""
    says = f"a number {'above' if above else 'from'} {least:g}" + (
        "" if most == float("inf") else f" {'and below' if below else 'to'} {most:g}")

    def holds(v: Any) -> bool:
        if not isinstance(v, Real) or isinstance(v, (bool, np.bool_)) or not abs(float(v)) < float("inf"):
            return False
        x = float(v)
        return (x > least if above else x >= least) and (x < most if below else x <= most)
    return Rule(holds, says)


def one_of(*values: Any) -> Rule:
    """One of some strings, numbers or None."""
    return Rule(lambda v: any(v is own or (type(v) is type(own) and v == own) for own in values),
                " or ".join(filter(None, [", ".join(map(repr, values[:-1])), repr(values[-1])])))


def either(*rules: Rule) -> Rule:
    """Any of them."""
    return Rule(lambda v: any(rule.holds(v) for rule in rules), ", or ".join(rule.says for rule in rules))


#: True or False
boolean = Rule(lambda v: isinstance(v, (bool, np.bool_)), "True or False")


def _seeds(value: Any) -> bool:
    try:
        check_random_state(value)
    except ValueError:
        return False
    return True


#: what all estimators have
SEED = Rule(_seeds, "a whole number from 0 to 4294967295, a numpy.random.RandomState, or None")


def check(owner: object, rules: Mapping[str, Rule]) -> None:
    """ValueError names the first attribute of `owner` that is not as its rule says, its value, and what it may be."""
    for name, rule in {**rules, "random_state": SEED}.items():
        value = getattr(owner, name)
        if not rule.holds(value):
            raise ValueError(f"{type(owner).__name__}({name}={value!r:.60}): {rule.says}")

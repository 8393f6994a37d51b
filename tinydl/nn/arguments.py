"""The arguments that a layer or loss was made with: `repr` shows them, and a model's file holds them.

Where a user's class, or one that it is derived from, defines `config`, that says them; so do tinydl's own. Of any other class
with a constructor they are recorded when it is called: by name, with defaults, and as copies, since the constructor may
change or keep a list. What a JSON file cannot hold (an array, a function) is recorded as a placeholder, so that the object
can still be copied without it; saving then asks for `config`. (Keras records them alike; scikit-learn looks for attributes
of the same names.)
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any

import numpy as np

__all__ = ["RecordsArguments", "has_recorded_arguments"]


@dataclass(frozen=True, eq=False)
class Unsaved:
    """In place of an argument that a file cannot hold."""

    type: str

    def __repr__(self) -> str:
        return f"<{self.type}>"


class RecordsArguments:
    """A user's subclass with a constructor of its own, and no `config`, has the one below."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        tinydls = "config" not in vars(cls) and cls.config.__module__.startswith("tinydl.")     # it knows other arguments
        if "__init__" in vars(cls) and tinydls:
            cls.__init__ = _recording(vars(cls)["__init__"])    # type: ignore[method-assign]
            cls.config = RecordsArguments.config                # type: ignore[method-assign]

    def config(self) -> dict[str, Any]:
        """The constructor's arguments by name. They are recorded by themselves; override it, JSON-ready, where one of them is
        something that JSON has not, like an array: `Model.load` calls the constructor with what it returns."""
        return dict(vars(self).get("_arguments", {}))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"


def has_recorded_arguments(made: RecordsArguments) -> bool:
    """Whether its `config` is what was recorded. ValueError where its constructor is not one that records: a dataclass's, or of
    a class beside tinydl's."""
    kind = type(made)
    if kind.config is not RecordsArguments.config or kind.__init__ is object.__init__:
        return False
    if "_arguments" not in vars(made):
        raise ValueError(f"the arguments that {kind.__name__} was made with are not known: override {kind.__name__}.config() so "
                         "that it returns them")
    return True


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor, noting its arguments before it begins."""
    @wraps(init)
    def recording(self: RecordsArguments, *args: Any, **options: Any) -> None:
        if type(self).__init__ is recording:        # not called by a subclass's
            try:
                bound = signature(init).bind(self, *args, **options)
            except TypeError:
                pass                                # as the constructor will say
            else:
                bound.apply_defaults()
                _, *given = bound.arguments.items()
                self._arguments = {name: _kept(value) for name, value in given}     # type: ignore[attr-defined]
        init(self, *args, **options)
    return recording


def _kept(value: Any) -> Any:
    """A copy that JSON can express, with tuples for tuples; or a placeholder."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, RecordsArguments):
        return value
    if type(value) in (list, tuple):
        return type(value)(map(_kept, value))
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _kept(item) for key, item in value.items()}
    return Unsaved(type(value).__name__)

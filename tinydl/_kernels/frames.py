"""forget_frames: what is done with an exception before it is kept."""
from __future__ import annotations

import sys
import traceback
from types import ModuleType

import numpy as np

HEAD = "Traceback (most recent call last):\n"
#: calls of a traceback that are kept as text: arbitrary, and enough to see who called (a deep recursion has a thousand)
CALLS = 50


def forget_frames(error: BaseException) -> None:
    """Replace the traceback of `error`, and of all that it came from, by its text, as a note: `traceback.print_exception`
    shows the same lines as before.

    The frames of a traceback hold the variables of every call down to the one that raised, and so a whole batch. Arrays
    among the arguments and attributes of an exception become their text, too. Exceptions that the caller is handling are
    not touched: `error` only happened meanwhile.
    """
    around = set()
    now = sys.exception()
    while now is not None:
        around.add(id(now))
        now = now.__context__
    ours, seen = [error], set(around)
    for e in ours:
        if id(e) in seen:
            continue
        seen.add(id(e))
        if e.__traceback__ is not None:
            lines = traceback.format_tb(e.__traceback__, -CALLS)
            e.__traceback__ = None
            if hasattr(e, "__notes__"):             # an object that is raised again and again has the last traceback only
                e.__notes__ = [note for note in e.__notes__ if not note.startswith(HEAD)]
            e.add_note((HEAD + "".join(lines)).rstrip())
        _forget_arrays(e)
        if id(e.__context__) in around:
            e.__context__ = None
        ours += [o for o in (e.__cause__, e.__context__) if o is not None]
        if isinstance(e, BaseExceptionGroup):
            ours += e.exceptions


def _forget_arrays(e: BaseException) -> None:
    if isinstance(e, AttributeError) and not isinstance(e.obj, (type, ModuleType)):
        e.obj = type(e.obj)         # it is kept for "did you mean", and its class is enough for that
    args, attributes = e.args, dict(vars(e))
    if any(isinstance(value, np.ndarray) for value in (*args, *attributes.values())):
        e.args = tuple(map(_text, args))
        vars(e).update({name: _text(value) for name, value in attributes.items()})
        try:
            str(e)
        except Exception:           # the message is made of them, so they stay
            e.args = args
            vars(e).update(attributes)


def _text(value: object) -> object:
    """A short text of an array; everything else as it is."""
    return np.array2string(value, threshold=20, edgeitems=2) if isinstance(value, np.ndarray) else value

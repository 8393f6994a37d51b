"""Ctrl-C, SIGTERM and the like at the wrong moment: held back while updates and their books must go together."""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Opened", "uninterrupted"]

#: CPython's own functions, without the enumerations that the module wraps them in: a third of what an epoch costs in Python
_signal: Any = getattr(signal, "_signal", signal)

#: those whose handlers are known to raise: Ctrl-C, a polite kill, a terminal that is closed, a timer
HELD = [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name)]


class uninterrupted:
    """Within it a signal of HELD waits: for the end, for `held.let_in()`, or for `with held.open():`, where its handler
    is called at once. What a handler raises there is a KeyboardInterrupt until the end of the block, and then itself:
    within, an exception of another kind may be a batch's fault.

    In other threads than the main one no handler is called anyway, and nothing is done. The handler that stands for all
    others decides by one flag, so there is no moment at which some signals are held and some not; where it is still
    installed after the end, since a signal came there, it passes all on. Where signals come, in a hole or outside of any
    block, no loop with a condition is inside a `with` or `try` of its own function: see
    test_an_interrupt_between_two_turns_of_a_loop_passes_the_withs_around_it.

    While an exception of a handler is on its way out of a hole, all is held: it must not be interrupted where it passes.
    Where it never arrives, the hole is open again: what is raised in a `__del__` is lost, and a callback may catch it.

    In a child that another thread than the main one has forked, there are no such blocks any more: the main thread is not
    there to end them, and the handlers are those from before.
    """

    def __enter__(self) -> uninterrupted:
        self.holding = self._inside = self._in_hole = False
        self._came: list[int] = []
        self._on_its_way: BaseException | None = None       # raised in the hole
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._raised: BaseException | None = None
        self._thread = threading.get_ident()
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                before = _signal.getsignal(number)
                if callable(before):        # else ignored, the system's own, or not set from Python
                    self._before[number] = before
                    _signal.signal(number, self._handle)
        self.holding = self._inside = True      # in this order: a signal between the two is held
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._in_hole and self._on_its_way is not None and not _is_handled(self._on_its_way):
            self.holding, self._on_its_way = False, None
        if self.holding:
            self._came.append(number)
            return
        try:
            self._before[number](number, frame)
        except BaseException as e:
            # before the exception goes anywhere: the next signal finds all held, even at the end of `with held.open()`
            self.holding = self._inside
            if not self._inside:
                raise
            if frame is not None and frame.f_code is Opened.__exit__.__code__:
                self._in_hole = False
            if isinstance(e, KeyboardInterrupt):
                self._on_its_way = e
                raise
            self._raised, self._on_its_way = e, KeyboardInterrupt()
            raise self._on_its_way from None

    def deliver(self) -> None:
        """Call the handlers of what came. Where one raises, the others are called too at the end, and held before it."""
        try:
            if self._came and not self.holding:
                signal.raise_signal(self._came.pop(0))
        finally:
            if self._came and not self.holding:
                self.deliver()

    def let_in(self) -> None:
        """Deliver what came until now, and go on holding back."""
        if self._came:
            with self.open():
                pass

    def open(self) -> Opened:
        """A stretch in which a signal may come."""
        return Opened(self)

    def _restore_handlers(self) -> None:
        for number, before in self._before.items():
            if _signal.getsignal(number) == self._handle:        # else the handler has set another
                _signal.signal(number, before)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._inside = self.holding = False
        self._on_its_way = None     # its traceback holds this block: a cycle otherwise
        try:
            self._restore_handlers()
        finally:
            self.deliver()
        if isinstance(error, KeyboardInterrupt) and self._raised is not None:
            raise self._raised


class Opened:
    """A hole in an `uninterrupted`; an interrupt that comes in it finds the rest of the block held again."""

    def __init__(self, held: uninterrupted) -> None:
        self._held = held

    def __enter__(self) -> None:
        self._held.holding = False
        self._held.deliver()
        self._held._in_hole = True      # last: what a handler raises before leaves no hole behind

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held._in_hole = False     # a signal that comes before this line: see _handle
        self._held.holding = True
        self._held._on_its_way = None


def _after_fork() -> None:
    for number in HELD:
        handler = _signal.getsignal(number)
        while isinstance(block := getattr(handler, "__self__", None), uninterrupted) and block._thread != threading.get_ident():
            handler = block._before[number]
            _signal.signal(number, handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _is_handled(error: BaseException) -> bool:
    """Whether the calling code runs because of `error`: in an except, a finally or an __exit__ that it passes."""
    now = sys.exception()
    while now is not None and now is not error:
        now = now.__context__
    return now is not None

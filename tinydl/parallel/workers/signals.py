"""Holding signals (Ctrl-C, SIGTERM, ...) back while an update and the counts of it must be made together."""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Opened", "uninterrupted"]

#: CPython's C functions, without the conversion to enumerations that the `signal` module adds: that took a third of an epoch's
#: time in Python
_signal: Any = getattr(signal, "_signal", signal)

#: the signals whose handlers commonly raise: Ctrl-C, `kill`, a terminal that is closed, a timer; on Windows Ctrl-Break
HELD = [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGBREAK") if hasattr(signal, name)]


class uninterrupted:
    """`with uninterrupted() as held:` keeps the signals of HELD back: their handlers are called at the end of the block, in
    `held.let_in()`, or at once within `with held.open():`.

    If a handler raises within `held.open()`, the exception is a KeyboardInterrupt on its way through the block, whatever its
    type is, since code in the block takes other exceptions for a batch's failure. At the end of the block it becomes the
    handler's own exception again.

    How it works:
     - Python calls handlers in the main thread only, so in other threads the block does nothing.
     - One handler replaces those of all signals, and one flag (`holding`) tells it whether to keep a signal, so there is no
       moment at which some signals are held and others are not. If a signal arrives while the old handlers are being put
       back, it calls the old one itself.
     - After a handler has raised within `held.open()`, all signals are held again, so that nothing interrupts the exception's
       way out. If somebody catches it before (a callback may; Python drops what is raised in a `__del__`), signals are
       delivered at once again.
     - Where a signal may arrive, that is within `held.open()` and outside of any block, never put a `while cond` loop inside a
       `with` or `try` of the same function: CPython can skip the exit (see
       test_an_interrupt_between_two_turns_of_a_loop_passes_the_withs_around_it).
     - In a child that a thread other than the main one has forked, nobody is there to end the main thread's blocks, so the
       old handlers are put back at once.
    """

    def __enter__(self) -> uninterrupted:
        self.holding = self._inside = self._in_hole = False
        self._came: list[int] = []
        self._on_its_way: BaseException | None = None       # what a handler raised within `open`, until it leaves that
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._raised: BaseException | None = None
        self._thread = threading.get_ident()
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                before = _signal.getsignal(number)
                if callable(before):        # else it is ignored, or handled by the system or by C code
                    self._before[number] = before
                    _signal.signal(number, self._handle)
        self.holding = self._inside = True      # `holding` first: a signal between the two assignments is held
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
            # before the exception leaves this handler: the next signal is to be held, even at the end of `with held.open()`
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
        """Call the handlers of the signals that were held. If one raises, the others are called nevertheless at the end of
        the block; before that, they are still held."""
        try:
            if self._came and not self.holding:
                signal.raise_signal(self._came.pop(0))
        finally:
            if self._came and not self.holding:
                self.deliver()

    def let_in(self) -> None:
        """Call the handlers of the signals that arrived until now, and go on holding signals back."""
        if self._came:
            with self.open():
                pass

    def open(self) -> Opened:
        """A context manager within which signals are delivered at once."""
        return Opened(self)

    def _restore_handlers(self) -> None:
        for number, before in self._before.items():
            if _signal.getsignal(number) == self._handle:        # else the handler has set another
                _signal.signal(number, before)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._inside = self.holding = False
        self._on_its_way = None     # its traceback refers to this object: without this, they would keep each other alive
        try:
            self._restore_handlers()
        finally:
            self.deliver()
        if isinstance(error, KeyboardInterrupt) and self._raised is not None:
            raise self._raised


class Opened:
    """Within it, signals are delivered though an `uninterrupted` block is around it. When a handler raises here, signals are
    held again for the rest of the block."""

    def __init__(self, held: uninterrupted) -> None:
        self._held = held

    def __enter__(self) -> None:
        self._held.holding = False
        self._held.deliver()
        self._held._in_hole = True      # last: if `deliver` raises, `__exit__` is not called

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held._in_hole = False     # a signal that arrives in __exit__ before this line is treated in _handle
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
    """Whether `error` is being handled: the calling code is in an except, a finally or an __exit__ that it is passing."""
    now = sys.exception()
    while now is not None and now is not error:
        now = now.__context__
    return now is not None

"""The command line: `tinydl demo | train | evaluate | predict | export | info | bench`.

Bad input ends with one line on stderr and exit code 2; Ctrl-C with 130, SIGTERM (on Windows, Ctrl-Break) with 143 (also where
what it saves then cannot be written: the line says so), a closed pipe quietly with 141, as a shell counts them; `train --ranks`
with 75 where another rank is gone. Each command is a module here, imported when it is called.
"""
from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tinydl.cli.errors import CommandError, Terminated
from tinydl.cli.options import parser
from tinydl.parallel.errors import RankError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's) and return its exit code; it never exits by itself."""
    try:
        with _sigterm_raises():
            try:
                return _run(argv)
            except (KeyboardInterrupt, Terminated):
                with suppress(OSError):         # its end has a reason already
                    _flush()
                raise
            finally:
                _flush()
    except CommandError as e:
        return _end(2, str(e))
    except BrokenPipeError:
        return 141
    except OSError as e:
        return _end(2, f"{e.filename}: {e.strerror}" if e.filename else str(e.strerror or e))
    except MemoryError as e:
        return _end(2, f"not enough memory{f': {e}' if str(e) else ''}")
    except KeyboardInterrupt as e:
        return _end(130, str(e) or "interrupted")
    except RankError as e:
        return _end(75, str(e))
    except Terminated as e:
        return _end(143, str(e) or "terminated")


def _run(argv: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(argv)
    except SystemExit as e:         # --help, --version
        return int(e.code or 0)
    module, function = options.run.split(":")
    command: Any = getattr(importlib.import_module(module), function)
    return int(command(options))


def _flush() -> None:
    """Write what is left of the output; where that fails it goes nowhere, or the interpreter would try again at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise


def _end(code: int, message: str) -> int:
    line = " ".join(message.split())
    try:
        print(f"tinydl: {line}", file=sys.stderr, flush=True)
    except OSError:
        pass
    return code


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM and Ctrl-Break raise Terminated, once, so that half-written files are removed and checkpoints saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Terminated
    # Windows has no SIGTERM from elsewhere, but Ctrl-Break
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, its in before.items():
            signal.signal(number, its or signal.SIG_DFL)

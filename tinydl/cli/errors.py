"""How a command ends before its time."""
from __future__ import annotations


class CommandError(Exception):
    """Bad input: one line for people on stderr, exit code 2."""


class Terminated(BaseException):
    """SIGTERM arrived: exit code 143."""

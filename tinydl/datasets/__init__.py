"""Small data sets: digits, el_nino (real, in the package), spiral, sine, cosine (made), mnist, cifar10, idx (files that you
have)."""
from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.datasets.cifar10 import cifar10
from tinydl.datasets.digits import digits
from tinydl.datasets.el_nino import el_nino
from tinydl.datasets.idx import idx
from tinydl.datasets.made import cosine, sine, spiral
from tinydl.datasets.mnist import mnist

__all__ = ["cifar10", "cosine", "digits", "el_nino", "idx", "mnist", "sine", "spiral"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)

"""Small data sets: digits (real, in the package), spiral, sine, cosine (made), mnist (files that you have)."""
from tinydl.datasets.digits import digits
from tinydl.datasets.made import cosine, sine, spiral
from tinydl.datasets.mnist import mnist

__all__ = ["cosine", "digits", "mnist", "sine", "spiral"]

"""Which batches of an update a rank runs, or which copies of the model it trains."""
from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def width(k: int, size: int) -> int:
    """Slots of a rank at most, where `size` ranks share k: the least power of two that leaves none over."""
    return 1 << (-(-k // size) - 1).bit_length()


def share(k: int, n: int, rank: int, size: int) -> range:
    """The slots of rank number `rank` of `size`, in a group that has n of the usual k slots (n < k: the last of an epoch). Copies
    of strategy local are slots, too, of which there are always k.

    Slots i w .. i w + w - 1, w a power of two, are a node of the tree of means (GradientAggregator) of any number of slots, and
    so is what the end of the group leaves of them.

        >>> [list(share(6, 6, rank, 2)) for rank in range(2)]
        [[0, 1, 2, 3], [4, 5]]
        >>> [len(share(8, 8, rank, 3)) for rank in range(3)]
        [4, 4, 0]
    """
    w = width(k, size)
    return range(min(rank * w, n), min(rank * w + w, n))


def shares(groups: Array, k: int, rank: int, size: int) -> Array:
    """For each group, which is pieces groups[g]..groups[g + 1] - 1, where this rank's share begins and ends: (groups, 2)."""
    w = width(k, size)
    ends: Array = np.minimum(groups[:-1, None] + np.array([rank * w, rank * w + w]), groups[1:, None])
    return ends

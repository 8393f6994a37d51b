"""Types of the arrays that the doors take: float32 or float64, one dtype in a call, unless said otherwise."""
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Int64 = npt.NDArray[np.int64]

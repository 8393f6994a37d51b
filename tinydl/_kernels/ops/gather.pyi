from typing import Any

import numpy.typing as npt

from tinydl._kernels.ops.door import Floats, Int64

def gather_rows(source: npt.NDArray[Any], index: Int64, out: Floats) -> Floats: ...

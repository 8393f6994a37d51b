from tinydl._kernels.ops.door import Floats, Int64

def dropout(x: Floats, out: Floats, rate: float, seed: int, step: int, layer: int = 0, ids: Int64 | None = None,
            first_id: int = 0) -> Floats: ...

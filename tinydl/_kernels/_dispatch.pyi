isa: str
isa_available: tuple[str, ...]
isa_built: tuple[str, ...]

def current_cpu() -> int: ...

isa: str
isa_available: tuple[str, ...]
isa_built: tuple[str, ...]

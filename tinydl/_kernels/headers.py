"""The C headers that are made of schema.py when the package is built (setup.py calls `write`).

    schema_types.h          once: numbers of dtypes, activations and changes of pictures, the largest operation
    schema_arguments.h      for each dtype: a struct of arguments for each operation, of state and numbers for each rule
    schema_table.h          for each dtype, behind the kernels: what fills those structs, and the tables
"""
from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def _schema() -> Any:
    """schema.py alone: nothing else of the package can be imported before it is built."""
    import sys
    spec = importlib.util.spec_from_file_location("tinydl_schema", Path(__file__).with_name("schema.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pointer(schema: Any, o: Any) -> str:
    if o.dtype == "address":
        return f"const void **{o.name}"
    c_type = "void" if o.dtype == "any" else schema.DTYPES[o.dtype] if o.dtype else "T"
    return f"{'' if o.written else 'const '}{c_type} *{o.name}"


def types(schema: Any) -> str:
    operations = schema.OPERATIONS.values()
    enum = ", ".join
    return "\n".join([
        "#ifndef TD_SCHEMA_TYPES_H", "#define TD_SCHEMA_TYPES_H",
        f"enum td_dtype {{ {enum(f'TD_{name.upper()}' for name in schema.DTYPES)} }};",
        f"enum td_activation {{ {enum(f'TD_{name.upper()}' for name in schema.ACTIVATIONS)} }};",
        f"enum td_change_kind {{ {enum(f'TD_CHANGE_{name}' for name in schema.CHANGES)} }};",
        *(f"typedef struct {{ double {enum(numbers) or 'unused'}; }} td_{name};" for name, numbers in schema.CHANGES.items()),
        "/* F(name) for each random change of pictures */",
        f"#define TD_CHANGES(F) {' '.join(f'F({name})' for name in schema.CHANGES)}",
        f"enum {{ TD_MAX_CHANGE = {max(map(len, schema.CHANGES.values()))} }};",
        "/* F(dtype, C type) for each dtype */",
        f"#define TD_DTYPES(F) {' '.join(f'F({name}, {c})' for name, c in schema.DTYPES.items())}",
        f"enum {{ TD_MAX_REFS = {max(len(o.operands) for o in operations)}, "
        f"TD_MAX_SIZES = {max(len(o.sizes) for o in operations)}, "
        f"TD_MAX_REALS = {max(len(o.real_numbers) for o in operations)}, TD_MAX_NUMBERS = "
        f"{max(len(r.reals) for r in schema.RULES.values())}, TD_MAX_STATE = "
        f"{max(len(r.vectors) for r in schema.RULES.values())} }};",
        "#endif", ""])


def arguments(schema: Any) -> str:
    lines = []
    for o in schema.OPERATIONS.values():
        fields = [*(f"{_pointer(schema, a)};" for a in o.operands.values()), *(f"i64 {s};" for s in o.sizes),
                  *(f"double {r};" for r in o.real_numbers)]
        lines += [f"/* {o.does} */", f"typedef struct {{ {' '.join(fields) or 'int unused;'} }} NAME({o.name}_args);"]
    for r in schema.RULES.values():
        state = list(r.vectors)
        lines += [f"/* {r.does} */",
                  f"typedef struct {{ {' '.join(f'T *{name};' for name in state) or 'int unused;'} }} NAME({r.name}_state);",
                  f"static inline NAME({r.name}_state) NAME({r.name}_state_of)(void *const *state) {{",
                  f"    return (NAME({r.name}_state)){{{', '.join(f'state[{i}]' for i in range(len(state))) or 0}}};", "}",
                  f"typedef struct {{ double {', '.join(r.reals)}; }} NAME({r.name}_numbers);"]
    return "\n".join([*lines, ""])


def table(schema: Any) -> str:
    lines = []
    for o in schema.OPERATIONS.values():
        fill = [*(f".{a} = td_at(op, ctx, {i})" for i, a in enumerate(o.operands)),
                *(f".{s} = td_size(op, ctx, {i})" for i, s in enumerate(o.sizes)),
                *(f".{r} = op->real[{i}]" for i, r in enumerate(o.real_numbers))]
        lines += [f"static int NAME(run_{o.name})(const td_op *op, td_ctx *ctx) {{",
                  f"    const NAME({o.name}_args) a = {{{', '.join(fill)}}};",
                  f"    return NAME({o.name}_op)(&a, ctx);", "}"]
    rows = [f'{{"{name}", NAME(run_{name})}},' for name in schema.OPERATIONS]
    rules = [f'{{"{name}", NAME({name})}},' for name in schema.RULES]
    lines += ["static const td_opdef NAME(ops)[] = {", *rows, "{0, 0}};",
              "static const td_updatedef NAME(updates)[] = {", *rules, "{0, 0}};"]
    return "\n".join([*lines, ""])


def write(folder: Path) -> list[str]:
    """Write the headers into `folder`, where they differ from what is there (or all would be compiled anew); their paths."""
    schema = _schema()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, make in (("schema_types.h", types), ("schema_arguments.h", arguments), ("schema_table.h", table)):
        path, text = folder / name, "/* Made of schema.py by headers.py. */\n" + make(schema)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        paths.append(str(path))
    return paths

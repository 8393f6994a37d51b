"""A Sphinx extension: docstrings that are plain text, as they are written, on the pages of the API.

tinydl's docstrings are for `help()`: paragraphs, lists with "-", indented blocks of code or aligned text, and names in backticks.
Here each becomes what it looks like, a name in backticks a
link where it is on a page, and the name of an argument bold where its description follows.

It also warns (which is an error with -W) where a public name is on no page.
"""
from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import tinydl

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: modules below the packages of tinydl that users import names from
DEEPER = ("tinydl.optim.schedules", "tinydl.parallel.strategies",
          *(f"tinydl.tabular.{part}" for part in ("recipe", "network", "rows", "tasks", "training")))


def public_names() -> dict[str, Any]:
    """What the `__all__` of tinydl, of its packages and modules, and of DEEPER list, by full name."""
    names: dict[str, Any] = {}
    here = [m.name for m in pkgutil.iter_modules(tinydl.__path__, "tinydl.") if not m.name.startswith("tinydl._")]
    for module in map(importlib.import_module, ["tinydl", *here, *DEEPER]):
        names |= {f"{module.__name__}.{name}": getattr(module, name) for name in getattr(module, "__all__", ())}
    return names


# ------------------------------------------------------------------ plain text as reST
def rest(text: Iterable[str], places: Iterable[str] = (), arguments: Iterable[str] = ()) -> list[str]:
    """The lines of a docstring as those of reST. places: modules and classes where names in it are looked for, too; arguments:
    names that are bold where their description follows."""
    out: list[str] = []
    for kind, lines in _blocks(text):
        if kind == "code":
            out += [f".. code-block:: {_language(lines)}", "", *(f"    {line}".rstrip() for line in lines), ""]
        else:
            first, rest = ("- ", "  ") if kind == "item" else ("", "")
            escaped = _escaped("\n".join(lines), tuple(places), tuple(arguments)).split("\n")
            out += [(first if i == 0 else rest) + line for i, line in enumerate(escaped)] + [""]
    return out


def _blocks(text: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Paragraphs ("text"), items of lists ("item"), and what is indented, or a session of Python (whose indentation is lost where
    it is all that follows the first line): "code"."""
    kind: str = ""
    lines: list[str] = []
    for line in [*text, ""]:
        blank, indent = not line.strip(), len(line) - len(line.lstrip())
        session = line.lstrip().startswith(">>>")
        goes_on = bool(lines) and lines[0].lstrip().startswith(">>>") and lines[-1].strip()
        if kind == "code" and (blank or indent >= 3 or session or goes_on):
            lines.append(line)
            continue
        item = re.match(r" ?- +", line)
        is_item = bool(item) or (kind == "item" and indent >= 2)
        now = "" if blank else "item" if is_item else "code" if indent >= 3 or session else "text"
        if kind and (now != kind or item):
            yield kind, _dedented(lines) if kind == "code" else lines
            lines = []
        kind = now
        if not blank:
            lines.append(line if kind == "code" else line[item.end():] if item else line.strip())
    if kind == "code":
        yield kind, _dedented(lines)


def _dedented(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        lines.pop()
    least = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return [line[least:] for line in lines]


def _language(lines: list[str]) -> str:
    if lines[0].startswith(">>>"):
        return "pycon"
    try:
        ast.parse("\n".join(lines))
        return "python"
    except SyntaxError:
        return "text"


def _escaped(text: str, places: Iterable[str], arguments: Iterable[str]) -> str:
    """A paragraph in which only names in backticks mean something, and those of arguments with a colon behind them."""
    name = "|".join(sorted((re.escape(a.replace("_", r"\_")) for a in arguments), key=len, reverse=True)) or r"(?!)"
    described = re.compile(rf"(?<![^\s(])({name})(?=(, ({name}))*:\s)")
    parts = re.split(r"(`+)(.+?)\1", text, flags=re.DOTALL)         # text, backticks, code, text, ...
    for i in range(0, len(parts), 3):
        parts[i] = described.sub(r"**\1**", re.sub(r"([\\*_|`]|::)", r"\\\1", parts[i]))
        if i and re.match(r"\w", parts[i]):
            parts[i] = "\\ " + parts[i]                             # reST wants a space behind what is marked
        if i + 2 < len(parts):
            if re.search(r"[\w=]$", parts[i]):
                parts[i] += "\\ "
            parts[i + 1], parts[i + 2] = "", _code(" ".join(parts[i + 2].split()), places)
    return "".join(parts)


def _code(text: str, places: Iterable[str]) -> str:
    name = text.split("(")[0]
    for full in (name, *(f"{place}.{name}" for place in places), f"tinydl.{name}"):
        if re.fullmatch(r"[\w.]+", name) and _is_public(full):
            return f":py:obj:`{text} <{full}>`"
    return f"``{text}``"


def _is_public(full: str) -> bool:
    """Whether it is a public name, or an attribute of one."""
    owner, _, attribute = full.rpartition(".")
    return full in NAMES or (owner in NAMES and not attribute.startswith("_") and hasattr(NAMES[owner], attribute))


NAMES = public_names()


# ------------------------------------------------------------------ Sphinx
def on_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    places = [name, name.rpartition(".")[0], name.rsplit(".", 2)[0]]
    try:
        arguments = list(inspect.signature(obj).parameters) if callable(obj) else []
    except (TypeError, ValueError):
        arguments = []
    lines[:] = rest(lines, places, arguments)


def on_member(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what an estimator inherits from scikit-learn, which has pages of its own."""
    return True if not str(getattr(obj, "__module__", "tinydl")).startswith("tinydl") else None


def on_built(app: Sphinx, env: Any) -> None:
    from sphinx.util.logging import getLogger
    pages = env.domains["py"].objects
    documented = {id(NAMES[name]) for name in pages if name in NAMES}
    for name, value in NAMES.items():
        if name not in pages and id(value) not in documented and name != "tinydl.__version__":
            getLogger(__name__).warning("%s is public (in an __all__) and on no page: docs/api/ has none of it", name)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-skip-member", on_member)
    app.connect("env-check-consistency", on_built)
    return {"parallel_read_safe": True}

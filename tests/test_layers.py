"""The architecture: who may import whom, and what the command line must not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "xmodal_cli"
LAYERS = {
    "errors": 0,
    **dict.fromkeys(("types", "config", "catalog", "paths", "starter"), 1),
    **dict.fromkeys(("data", "backbones", "models", "losses", "metrics"), 2),
    **dict.fromkeys(("features", "retrieval", "captioning", "training"), 3),
    "recipes": 4,
    "cli": 5,
    "__main__": 6,
}
HEAVY = ("torch", "numpy", "faiss", "PIL", "transformers", "open_clip", "torchvision", "timm", "numba", "matplotlib")
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(file: Path) -> list[tuple[str, int]]:
    """(module, column of the statement) for every import, wherever it stands."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.col_offset) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += [(f"{node.module}.{alias.name}", node.col_offset) for alias in node.names]
    return found


def room(parts: tuple[str, ...]) -> str:
    return parts[1].removesuffix(".py") if len(parts) > 1 else "__init__"


def test_the_tree_is_the_one_the_layers_name() -> None:
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")}
    assert rooms - {"__init__", "presets"} == set(LAYERS)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_file_imports_lower_layers_or_its_own_folder(file: Path) -> None:
    own = room((PACKAGE.name, *file.relative_to(PACKAGE).parts))
    for module, _ in imports(file):
        parts = tuple(module.split("."))
        if parts[0] != PACKAGE.name or own == "__init__":
            continue
        other = room(parts)
        if other in (own, "__version__"):
            continue
        assert other in LAYERS, f"{file}: {module}"
        same_folder = file.parent == PACKAGE and (PACKAGE / f"{other}.py").exists()
        assert LAYERS[other] < LAYERS[own] or same_folder, f"{file.name} ({own}) imports {module}"


@pytest.mark.parametrize("name", ["errors", "types", "config", "catalog", "paths", "starter"])
def test_the_lowest_layers_import_nothing_heavy_at_run_time(name: str) -> None:
    file = PACKAGE / name / "__init__.py" if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    modules = {(n.module or "") if isinstance(n, ast.ImportFrom) else n.names[0].name for n in top}
    assert not {m.split(".")[0] for m in modules} & set(HEAVY)


def loaded_by(*args: str) -> list[str]:
    """The heavy modules that a command line has loaded when it ends."""
    code = (
        "import sys, json\n"
        "from xmodal_cli.__main__ import main\n"
        f"code = main({list(args)!r})\n"
        f"print(json.dumps([code, [m for m in {HEAVY!r} if m in sys.modules]]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    code_, heavy = json.loads(done.stderr.strip().splitlines()[-1])
    assert code_ == 0, done.stderr
    return heavy


def commands() -> list[str]:
    from xmodal_cli.cli import app

    groups = [g.name for g in app.registered_groups]
    names = [c.name for c in app.registered_commands] + groups
    assert len(names) >= 5
    return sorted(str(n) for n in names)


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by("--help") == []


@pytest.mark.parametrize("command", commands())
def test_help_of_each_command_loads_nothing_heavy_and_shows_an_example(command: str) -> None:
    assert loaded_by(command, "--help") == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_are_of_a_sober_size(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").count("\n")
    assert lines <= 400
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "cli" not in file.parts:
            length = (node.end_lineno or 0) - node.lineno + 1
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            names = [a.arg for a in arguments if a.arg not in ("self", "cls")]
            assert length <= 60, f"{file.name}:{node.name} has {length} lines"
            assert len(names) <= 8, f"{file.name}:{node.name} takes {len(names)} arguments"

"""The architecture: who may import whom, and what the command line must not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "xmodal_cli"
LAYERS = {
    **dict.fromkeys(("errors", "version"), 0),
    **dict.fromkeys(
        ("types", "reporter", "settings", "config", "catalog", "paths", "starter", "device", "atomic_folder"), 1
    ),
    **dict.fromkeys(
        (
            "argument_types",
            "batch_size",
            "dataset_types",
            "device",
            "drafts",
            "file_errors",
            "file_identity",
            "file_lock",
            "function_words",
            "interrupts",
            "json_checksum",
            "length_mask",
            "memory",
            "numba_kernel",
            "output_files",
            "printable",
            "process_sum",
            "regions",
            "result_json",
            "shell_commands",
            "splits",
            "unit_vectors",
            "viewer",
        ),
        1,
    ),
    **dict.fromkeys(("data", "backbones", "models", "losses", "metrics"), 2),
    **dict.fromkeys(("features", "retrieval", "captioning", "training"), 3),
    **dict.fromkeys(("inference", "evaluation"), 4),
    **dict.fromkeys(("trainers", "reports", "doctor"), 5),
    "recipes": 6,
    **dict.fromkeys(("api", "demo", "serve"), 7),
    "cli": 8,
    "__main__": 9,
    "__init__": 10,  # re-exports the API
}
NOT_CODE = ("presets",)
HEAVY = (
    "torch",
    "numpy",
    "faiss",
    "PIL",
    "transformers",
    "open_clip",
    "torchvision",
    "timm",
    "numba",
    "matplotlib",
    "jinja2",
)
FILES = sorted(PACKAGE.rglob("*.py"))
ROOTS = (Path(), Path("bench"), Path("faults"))  # folders of tests that are not those of a module


@dataclass(frozen=True)
class Edge:
    """An import, or a use of an attribute of an imported module: ``module`` uses ``name`` of ``target``."""

    module: str
    target: str
    name: str = ""


# ---------------------------------------------------------------------------- reading imports


def module_of(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def edges_of(package: Path) -> list[Edge]:
    """Every import of the package by the package: at the top, inside functions, under ``TYPE_CHECKING``."""
    files = {module_of(file, package): file for file in sorted(package.rglob("*.py"))}
    codes = {module: file.read_text(encoding="utf-8") for module, file in files.items()}
    return [edge for module, code in codes.items() for edge in edges_in(code, module, files)]


def edges_in(code: str, module: str, files: Mapping[str, Path]) -> Iterator[Edge]:
    """Those of the code of one of the modules ``files``."""
    tree = ast.parse(code)
    local: dict[str, str] = {}  # name in this file -> module of the package
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in files:
                    yield Edge(module, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                if target in files:
                    local[alias.asname or alias.name] = target
                    yield Edge(module, target)
                elif node.module in files:
                    yield Edge(module, node.module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in local:
            yield Edge(module, local[node.value.id], node.attr)


# ---------------------------------------------------------------------------- the rules


def part_of(module: str) -> str:
    """The package or top-level module that has a layer."""
    return module.split(".")[1] if "." in module else "__init__"


def wrong_layers(edges: list[Edge]) -> set[str]:
    """Imports of a higher layer, or of another package of the same one. Files of layer 1 may import each other."""
    found = set()
    for edge in edges:
        own, other = part_of(edge.module), part_of(edge.target)
        if own == other:
            continue
        upward, same = LAYERS[other] > LAYERS[own], LAYERS[other] == LAYERS[own]
        if upward or (same and LAYERS[own] != 1):
            found.add(f"{edge.module} ({LAYERS[own]}) imports {edge.target} ({LAYERS[other]})")
    return found


def circles(edges: list[Edge]) -> set[str]:
    """Modules that are reached from themselves, with one step of each circle."""
    targets: dict[str, set[str]] = {}
    for edge in edges:
        if edge.module != edge.target:
            targets.setdefault(edge.module, set()).add(edge.target)
    found = set()
    for start, first in targets.items():
        seen, ahead = set[str](), list(first)
        while ahead:
            module = ahead.pop()
            if module == start:
                found.add(start)
                break
            if module not in seen:
                seen.add(module)
                ahead += targets.get(module, ())
    return found


def private_uses(edges: list[Edge]) -> set[str]:
    """Names and modules that begin with an underscore, used from outside the folder that holds them."""
    found = set()
    for edge in edges:
        parts = [*edge.target.split("."), *([edge.name] if edge.name else [])]
        for position, part in enumerate(parts):
            if not part.startswith("_") or part.startswith("__"):
                continue
            folder = parts[:position] if position < len(edge.target.split(".")) else parts[: position - 1]
            holder = folder if len(folder) > 1 else parts[:2]  # a top-level module keeps its names to itself
            if edge.module.split(".")[: len(holder)] != holder:
                found.add(f"{edge.module} uses {'.'.join(parts)}")
    return found


RULES = {"layers": wrong_layers, "circles": circles, "private": private_uses}


@pytest.fixture(scope="module")
def edges() -> list[Edge]:
    found = edges_of(PACKAGE)
    assert len(found) > 800
    return found


def test_every_package_has_a_layer() -> None:
    parts = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")}
    assert parts - set(NOT_CODE) == set(LAYERS)


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(edges: list[Edge], rule: str) -> None:
    assert RULES[rule](edges) == set()


VIOLATIONS = [
    ("layers", "paths.py", "from xmodal_cli.cli import output"),
    ("layers", "losses/triplet.py", "def f():\n    from xmodal_cli.recipes.train import train_model"),
    ("layers", "data/scan.py", "from xmodal_cli.metrics import java"),
    ("layers", "inference/models.py", "import xmodal_cli.evaluation.scoring"),
    ("layers", "errors.py", "from xmodal_cli import config"),
    ("circles", "catalog.py", "def f():\n    from xmodal_cli.config import Config"),
    ("circles", "training/log.py", "if TYPE_CHECKING:\n    from xmodal_cli.training import loop"),
    ("circles", "retrieval/vectors.py", "from xmodal_cli.retrieval.search import top_hits"),
    ("private", "cli/output.py", "from xmodal_cli.catalog import _names"),
    ("private", "recipes/train.py", "from xmodal_cli.models.captioners import _cache"),
    ("private", "trainers/job.py", "from xmodal_cli.backbones.text._transformers import load_folder"),
    ("private", "api.py", "from xmodal_cli import paths\nfolder = paths._hidden"),
]


@pytest.mark.parametrize(("rule", "file", "code"), VIOLATIONS)
def test_a_planted_violation_is_caught(edges: list[Edge], rule: str, file: str, code: str) -> None:
    module = module_of(PACKAGE / file, PACKAGE)
    files = {module_of(path, PACKAGE): path for path in FILES}
    planted = edges_in((PACKAGE / file).read_text(encoding="utf-8") + f"\n{code}\n", module, files)
    caught = RULES[rule]([*(edge for edge in edges if edge.module != module), *planted])
    assert any(text.startswith(module) for text in caught), caught


# ---------------------------------------------------------------------------- what is loaded


@pytest.mark.parametrize("name", [name for name, layer in LAYERS.items() if layer < 2 or name == "__init__"])
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
    from xmodal_cli.cli.app import build_app

    app = build_app()
    groups = [g.name for g in app.registered_groups]
    names = [c.name for c in app.registered_commands] + groups
    assert len(names) >= 5
    return sorted(str(n) for n in names)


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by("--help") == []


@pytest.mark.parametrize("command", commands())
def test_help_of_each_command_loads_nothing_heavy_and_shows_an_example(command: str) -> None:
    assert loaded_by(command, "--help") == []


# ---------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_and_functions_are_short(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "cli" not in file.relative_to(PACKAGE).parts:
            length = (node.end_lineno or 0) - node.lineno + 1
            keywords = [] if file.name == "api.py" else node.args.kwonlyargs  # options of the API are keywords
            arguments = node.args.posonlyargs + node.args.args + keywords
            names = [a.arg for a in arguments if a.arg not in ("self", "cls")]
            assert length <= 60, f"{file.name}:{node.name} has {length} lines"
            assert len(names) <= 8, f"{file.name}:{node.name} takes {len(names)} arguments"


def test_recipes_are_few_and_short() -> None:
    """One function per command: the rest belongs in lower layers."""
    files = [f for f in (PACKAGE / "recipes").glob("*.py") if f.name != "__init__.py"]
    assert len(files) <= 16
    assert sum(f.read_text(encoding="utf-8").count("\n") for f in files) <= 1500


def test_a_class_name_is_unique() -> None:
    where: dict[str, list[str]] = {}
    for file in FILES:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name.lstrip("_"), []).append(str(file.relative_to(PACKAGE)))
    assert {name: files for name, files in where.items() if len(files) > 1} == {}


def test_tests_mirror_the_package() -> None:
    """``tests/a/test_b*.py`` tests ``a/b.py`` or ``a/b/``; ``test_all_*`` and ``test_contract*`` test the folder."""
    tests = Path(__file__).parent
    unmatched = []
    for file in sorted(tests.rglob("test_*.py")):
        folder, name = file.parent.relative_to(tests), file.stem.removeprefix("test_")
        if folder in ROOTS or name.startswith(("all_", "contract")):
            assert folder in ROOTS or (PACKAGE / folder).is_dir(), f"{folder} is not in the package"
            continue
        modules = {p.stem.lstrip("_") for p in (PACKAGE / folder).glob("*") if p.stem != "__init__"}
        if not any(name == module or name.startswith(f"{module}_") for module in modules):
            unmatched.append(str(file.relative_to(tests)))
    assert unmatched == []

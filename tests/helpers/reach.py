"""Static reach of a command: the definitions and modules of the package that its function uses, directly or indirectly.

A definition is a top-level function, class or assignment. It uses another where its body has that name, imported or
defined in the same file, or an attribute of an imported module. Components that ``catalog`` finds by name and calls
through protocols are not counted. ``python -m helpers.reach``, with ``tests`` on the path, updates the page.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from helpers.generated import update

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
COMMANDS = ("train", "index", "search", "caption", "eval")

Definition = tuple[str, str]  # module, name


@dataclass
class Module:
    """One file: its definitions by name, and the names that its imports define."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Definition] = field(default_factory=dict)  # a whole module has the name ""


def read_modules(package: Path) -> dict[str, Module]:
    """Every module of the package, by its dotted name."""
    files = {_name_of(file, package): file for file in sorted(package.rglob("*.py"))}
    return {name: _read(file, set(files)) for name, file in files.items()}


def _name_of(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read(file: Path, names: set[str]) -> Module:
    tree, module = ast.parse(file.read_text(encoding="utf-8")), Module()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)):
                module.definitions.setdefault(name, []).append(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                target = (whole, "") if whole in names else (node.module or "", alias.name)
                if target[0] in names:
                    module.imports[alias.asname or alias.name] = target
    return module


def reach(modules: dict[str, Module], module: str, name: str) -> list[Definition]:
    """Definitions that ``name`` of ``module`` uses, directly or indirectly, itself included; nearest first."""
    start = (module, name)
    found, ahead = {start: None}, deque([start])
    while ahead:
        for used in _uses(modules, *ahead.popleft()):
            if used not in found:
                found[used] = None
                ahead.append(used)
    return list(found)


def _uses(modules: dict[str, Module], module: str, name: str) -> list[Definition]:
    own, found = modules[module], []
    for part in (part for node in own.definitions[name] for part in ast.walk(node)):
        if isinstance(part, ast.Name):
            found.append(_resolve(modules, module, part.id))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            target, whole = own.imports.get(part.value.id, ("", "none"))
            found.append(_resolve(modules, target, part.attr) if target and not whole else None)
    return [definition for definition in found if definition is not None]


def _resolve(modules: dict[str, Module], module: str, name: str) -> Definition | None:
    """The definition that ``name`` means in ``module``, through imports; None for a builtin, a local or a module."""
    seen = set[Definition]()
    while module in modules and (module, name) not in seen:
        seen.add((module, name))
        if name in modules[module].definitions:
            return module, name
        module, name = modules[module].imports.get(name, ("", ""))
    return None


def function_of(command: str) -> Definition:
    """The function of ``xmodal COMMAND``; for a search, the one that plain queries go to."""
    if command == "search":
        return "xmodal_cli.cli.fast_path", "run_query"
    return f"xmodal_cli.cli.{command}", "command"


def walks() -> dict[str, list[Definition]]:
    """The numbered steps of the page per command: ``1. `package/module.py`: `function` does...`` below a heading."""
    text = PAGE.read_text(encoding="utf-8")
    found: dict[str, list[Definition]] = {}
    for command, body in re.findall(r"^### `(\w+)`\n(.*?)(?=^#|\Z)", text, flags=re.M | re.S):
        steps = re.findall(r"^\d+\. `([\w/]+)\.py`: `(\w+)`", body, flags=re.M)
        found[command] = [(f"xmodal_cli.{file.replace('/', '.')}", name) for file, name in steps]
    return found


def table() -> str:
    """The generated table of the page: definitions and modules per command."""
    modules = read_modules(ROOT / "xmodal_cli")
    rows = ["| command | definitions | modules |", "|---|---|---|"]
    for command in COMMANDS:
        found = reach(modules, *function_of(command))
        rows.append(f"| `{command}` | {len(found)} | {len({module for module, _ in found})} |")
    return "\n".join(rows)


if __name__ == "__main__":
    update(PAGE, "reach", table())

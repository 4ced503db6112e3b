"""The file tree of the README: one line per package and top-level module, from the first sentences of their docstrings.

``python -m helpers.tree``, with ``tests`` on the path, updates ``README.md``.
"""

from __future__ import annotations

import ast
from pathlib import Path

from helpers.generated import update

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "xmodal_cli"
PAGE = ROOT / "README.md"
PRESETS = "Architecture, loss, optimizer and schedule under a published name: one TOML file each."
SKIPPED = ("__init__.py",)
WIDTH = 18


def tree() -> str:
    """The block of the README: packages first, then modules that are not empty, in alphabetical order."""
    packages = [p for p in sorted(PACKAGE.iterdir()) if p.is_dir() and p.name != "__pycache__"]
    modules = [p for p in sorted(PACKAGE.glob("*.py")) if p.name not in SKIPPED and p.stat().st_size]
    lines = [f"  {name:{WIDTH}} {about}" for name, about in map(_describe, [*packages, *modules])]
    return "\n".join(["```", "xmodal_cli/", *lines, "```"])


def _describe(path: Path) -> tuple[str, str]:
    """The name as shown, and the first sentence of the docstring, without backquotes and the final period."""
    if path.name == "presets":
        return "presets/", PRESETS.rstrip(".")
    file = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first = text.splitlines()[0] if text else ""
    return f"{path.name}/" if path.is_dir() else path.name, first.partition(". ")[0].replace("``", "").rstrip(".")


if __name__ == "__main__":
    update(PAGE, "tree", tree())

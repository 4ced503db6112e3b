"""The documents are true: the command reference, the changelog's version, the README's commands and links."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import runpy
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers import reach, tree
from helpers.generated import block

from xmodal_cli.version import __version__

ROOT = Path(__file__).resolve().parents[1]
LAYERS = runpy.run_path(str(ROOT / "tests" / "test_layers.py"))["LAYERS"]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_command_reference_is_current() -> None:
    from xmodal_cli.cli.reference import reference

    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == reference()


def test_the_table_of_settings_is_current() -> None:
    from xmodal_cli.config.reference import settings_page

    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()


def test_every_command_shows_worked_examples_and_has_few_options() -> None:
    from xmodal_cli.cli.reference import reference

    sections = reference().split("\n## ")[1:]
    assert len(sections) >= 10
    for section in sections:
        name = section.splitlines()[0]
        assert section.count(f"\n{name.split(' ')[0]} ") >= 2, f"{name} has no worked example"
        assert section.count("\n| `--") <= 19, f"{name} has too many options"


def test_the_changelog_names_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands_in(page: Path) -> list[str]:
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("xmodal ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_on_the_pages_parse(page: Path) -> None:
    """Every ``xmodal ...`` line in a shell block names a command and options that exist."""
    import typer.main

    from xmodal_cli.cli.app import build_app

    for line in commands_in(page):
        words = shlex.split(line.partition(" #")[0].partition(" > ")[0])[1:]
        command = typer.main.get_command(build_app())
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if getattr(command, "commands", None) is None:
            command.make_context("xmodal", list(words), resilient_parsing=False)
        else:
            assert not words or words[0].startswith("-"), f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_trainings_on_a_page_have_different_folders(page: Path) -> None:
    """A reader can run them one after another: a folder with a run is refused."""
    options = [dict(pairwise(shlex.split(line, comments=True))) for line in commands_in(page) if " train " in line]
    runs = [o for o in options if "--model" in o and "--data" in o]
    folders = [o.get("--out", f"{o['--model']}-{Path(o['--data']).name}") for o in runs]
    assert sorted(folders) == sorted(set(folders))


def python_in(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if python_in(page)], ids=lambda p: p.name)
def test_python_on_the_pages_uses_names_and_arguments_that_exist(page: Path) -> None:
    """Names that are imported from the package, and the keywords of calls of these names and of ``xmodal.NAME``."""
    import xmodal_cli as xmodal

    names: dict[str, object] = {"xmodal": xmodal}
    for code in python_in(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("xmodal_cli"):
                module = importlib.import_module(str(node.module))
                names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
            if isinstance(node, ast.Call) and (called := resolve(node.func, names)) is not None:
                inspect.signature(called).bind_partial(**{word.arg: None for word in node.keywords if word.arg})


def resolve(node: ast.expr, names: dict[str, object]) -> Any:
    """The function or class that ``NAME`` or ``xmodal.NAME`` is; None for other expressions."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "xmodal":
        return getattr(names["xmodal"], node.attr)
    return names.get(node.id) if isinstance(node, ast.Name) else None


# ---------------------------------------------------------------------------- generated blocks


def test_the_file_tree_of_the_readme_is_current() -> None:
    """``python -m helpers.tree``, with ``tests`` on the path, updates it."""
    assert block(tree.PAGE, "tree") == tree.tree()


def test_the_file_tree_has_every_package_and_module() -> None:
    shown = {line.split()[0] for line in block(tree.PAGE, "tree").splitlines() if line.startswith("  ")}
    here = {p.name if p.is_file() else f"{p.name}/" for p in tree.PACKAGE.iterdir() if p.is_dir() or p.stat().st_size}
    assert shown == {name for name in here if not name.startswith("__") and not name.endswith(".typed")} | {
        "__main__.py"
    }
    for line in block(tree.PAGE, "tree").splitlines():
        assert not line.startswith("  ") or len(line.split()) > 3, f"no description: {line}"


def test_the_reach_of_each_command_on_the_page_is_current() -> None:
    """``python -m helpers.reach``, with ``tests`` on the path, updates it."""
    assert block(reach.PAGE, "reach") == reach.table()


def test_the_walks_on_the_page_name_functions_that_the_command_reaches() -> None:
    modules = reach.read_modules(reach.ROOT / "xmodal_cli")
    walks = reach.walks()
    assert set(walks) == set(reach.COMMANDS)
    for command, steps in walks.items():
        reached = reach.reach(modules, *reach.function_of(command))
        assert len(steps) >= 8
        assert [step for step in steps if step not in reached] == [], command


def test_reach_follows_imports_and_attributes_of_modules(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from package import b\ndef start():\n    return b.one()\ndef unused(): ...\n")
    (package / "b.py").write_text("def one():\n    from package.c import Two as T\n    return T\nNOT = 1\n")
    (package / "c.py").write_text("SIZE = 3\nclass Two:\n    def f(self):\n        return SIZE\n")
    found = reach.reach(reach.read_modules(package), "package.a", "start")
    assert found == [("package.a", "start"), ("package.b", "one"), ("package.c", "Two"), ("package.c", "SIZE")]


@pytest.mark.parametrize("page", ["architecture.md", "contributing.md"])
def test_the_layers_on_the_pages_are_those_of_the_test(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\d+) \| (.+?) \|", text, flags=re.M))
    shown = {name: int(number) for number, names in table.items() for name in re.findall(r"`(\w+)`", names)}
    assert shown == {name: layer for name, layer in LAYERS.items() if name != "__init__"}

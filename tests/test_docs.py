"""The documents are true: the command reference, the changelog's version, the README's commands and links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from xmodal_cli.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_command_reference_is_current() -> None:
    from xmodal_cli.cli.reference import reference

    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == reference()


def test_every_command_shows_worked_examples_and_has_few_options() -> None:
    from xmodal_cli.cli.reference import reference

    sections = reference().split("\n## ")[1:]
    assert len(sections) >= 10
    for section in sections:
        name = section.splitlines()[0]
        assert section.count(f"\n{name.split(' ')[0]} ") >= 2, f"{name} has no worked example"
        assert section.count("\n| `--") <= 13, f"{name} has too many options"


def test_the_changelog_names_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands_in(page: Path) -> list[str]:
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("xmodal ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_on_the_pages_parse(page: Path) -> None:
    """Every ``xmodal ...`` line in a shell block names a command and options that exist."""
    import typer.main

    from xmodal_cli.cli.app import app

    for line in commands_in(page):
        words = shlex.split(line.partition(" #")[0].partition(" > ")[0])[1:]
        command = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if getattr(command, "commands", None) is None:
            command.make_context("xmodal", list(words), resilient_parsing=False)
        else:
            assert not words or words[0].startswith("-"), f"{page.name}: {line}"

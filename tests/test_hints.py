"""The commands, options and settings in the messages of the package exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer.main

from xmodal_cli.cli.app import build_app
from xmodal_cli.config import Config

PACKAGE = Path(__file__).resolve().parents[1] / "xmodal_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
OTHER_PROGRAMS = re.compile(r"(?:hf download|pip install|uv tool|torchrun|faiss|ray start)\b[^`;,]*")
COMMAND = re.compile(r"(?:^|[`:;(]\s?|\b(?:then|see|or|in|with|run) )xmodal ((?:[a-z]+ ?)+)([^`;,]*)", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
SETTING = re.compile(r"\b([a-z]+(?:\.[a-z_]+)+)=")
FUNCTIONS = {"xmodal_command": (), "index_command": ("index",)}
WORDS = {"--index-url", "--force-reinstall", "--upgrade"}  # of pip
PLACEHOLDERS = ("section.key",)
SAFE_NAMES = [  # registered datasets, backbones, a port
    "data/registry.py: data get X",
    "data/registry.py: data add X PATH",
    "data/registry.py: data add X PATH",
    "data/registry.py: data add X PATH",
    "doctor/home.py: data add X PATH",
    "features/image_features.py: data add NAME PATH --features-from X",
    "features/region_import.py: features DATA --backbone X@PATH --kind regions",
]
OTHER_SETTINGS = ("decoding", "nearest")  # sections of commands other than train


def messages(file: Path) -> Iterator[tuple[int, str]]:
    """The strings of a file that are not docstrings, with the line; values in f-strings and calls are ``X``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # docstrings
            parts.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            parts.update(map(id, node.values))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            parts.update(map(id, node.args))
            yield node.lineno, " ".join(["xmodal", *FUNCTIONS[node.func.id], *map(text, node.args)])
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in parts and " " in text(node):
            yield node.lineno, text(node)


def text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(text(value) for value in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "X"


def commands() -> dict[str, Any]:
    """The commands of the app, such as ``data add``, and the groups, such as ``data``."""
    found: dict[str, Any] = {}

    def add(name: str, command: Any) -> None:
        found[name] = command
        for word, below in getattr(command, "commands", {}).items():
            add(f"{name} {word}".strip(), below)

    add("", typer.main.get_command(build_app()))
    return found


COMMANDS = commands()


def options_of(command: Any) -> set[str]:
    return {"--help", *(name for p in command.params for name in (*p.opts, *p.secondary_opts))}


ALL_OPTIONS = WORDS.union(*map(options_of, COMMANDS.values()))


def find_command(words: list[str]) -> str:
    """The longest command that ``words`` begin with; empty if there is none."""
    names = (" ".join(words[:count]) for count in (2, 1))
    return next((name for name in names if name in COMMANDS), "")


def exists(setting: str) -> bool:
    """Whether a setting is a field; the arguments of components, ``model.args.NAME``, are not checked."""
    fields: Any = Config
    for name in setting.split("."):
        if not is_dataclass(fields):
            return True
        types = get_type_hints(fields)
        if name not in types:
            return False
        fields = types[name]
    return True


def problems(message: str) -> Iterator[str]:
    message = OTHER_PROGRAMS.sub("", message)
    for words, rest in COMMAND.findall(message):
        name = find_command(words.split())
        if not name:
            yield f"no command xmodal {words}"
        elif unknown := [o for o in OPTION.findall(rest) if o not in options_of(COMMANDS[name])]:
            yield f"xmodal {name} has no {', '.join(unknown)}"
    yield from (f"no command has {option}" for option in OPTION.findall(message) if option not in ALL_OPTIONS)
    for setting in SETTING.findall(message):
        if not exists(setting) and setting not in PLACEHOLDERS and setting.partition(".")[0] not in OTHER_SETTINGS:
            yield f"no setting {setting}"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("see `xmodal data info DATA`; or xmodal index --list", []),
        ("see `xmodal daat info`", ["no command xmodal daat info"]),
        ("update it: xmodal index X --rebuid", ["xmodal index has no --rebuid", "no command has --rebuid"]),
        ("use --nearestt, or --beam 3", ["no command has --nearestt"]),
        ("for example --set training.epohcs=3", ["no setting training.epohcs"]),
        ("add --set model.text_encoder.args.word_dim=300", []),
        ("this is not an xmodal model", []),
    ],
)
def test_what_is_found_in_a_message(message: str, expected: list[str]) -> None:
    assert list(problems(message)) == expected


def test_commands_options_and_settings_in_messages_exist() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {problem}"
        for file in FILES
        for line, message in messages(file)
        for problem in problems(message)
    ]
    assert found == []


def test_values_in_commands_are_quoted() -> None:
    """Names and paths are in commands by ``xmodal_command``; the others are names that contain no such characters."""
    found = [
        f"{file.relative_to(PACKAGE)}: {words}{rest}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        for words, rest in COMMAND.findall(text(node))
        if re.search(r"\bX\b", rest)
    ]
    assert found == SAFE_NAMES


def test_messages_are_found() -> None:
    """The scan reads f-strings and quoted commands."""
    found = [message for file in FILES for _, message in messages(file)]
    assert "xmodal models default X" in found
    assert len([message for message in found if COMMAND.search(message)]) > 50

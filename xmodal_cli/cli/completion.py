"""What the Tab key completes at the prompt: commands, names of indexes and of picture files."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

COMMANDS = ("open", "k", "index", "help", "quit")

_INDEX = re.compile(r":i\w* +(\S*)")
_LAST_WORD = re.compile(r"(?:\\.|[^\s\\])*$")


def complete(line: str) -> list[str]:
    """All lines that ``line`` may become."""
    if match := _INDEX.fullmatch(line):
        from xmodal_cli.retrieval.registry import names

        return [line[: match.start(1)] + name for name in names() if name.startswith(match[1])]
    if line.startswith(":"):
        return [f":{name}" for name in COMMANDS if name.startswith(line[1:])]
    match = _LAST_WORD.search(line)
    start = match.start() if match else len(line)
    start += line[start : start + 1] in ("+", "-")
    return [line[:start] + name for name in _files(re.sub(r"\\(.)", r"\1", line[start:]))]


def _files(begun: str) -> list[str]:
    """Folders and pictures whose path begins so, as they are typed."""
    from xmodal_cli.data.image_names import is_image_name

    folder, stem = os.path.split(begun)
    found = []
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        for entry in os.scandir(Path(folder or ".").expanduser()):
            if entry.name.startswith(stem) and (stem or not entry.name.startswith(".")):
                if entry.is_dir():
                    found.append(os.path.join(folder, entry.name, ""))  # noqa: PTH118 - it ends in a slash
                elif is_image_name(entry.name):
                    found.append(os.path.join(folder, entry.name))  # noqa: PTH118 - keeps ./ and ~
    return [re.sub(r"([\s\"'\\])", r"\\\1", name) for name in sorted(found)]


def complete_by_tab() -> None:
    """Give the key its meaning, where Python has line editing."""
    try:
        import readline
    except ImportError:
        return
    found: list[str] = []

    def choice(line: str, number: int) -> str | None:
        if number == 0:  # the key was pressed; then it asks for one after the other
            found[:] = complete(line)
        return found[number] if number < len(found) else None

    readline.set_completer_delims("")
    readline.set_completer(choice)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")

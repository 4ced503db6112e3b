"""Tab completion for the search prompt: commands, index names and photo files."""

from __future__ import annotations

import contextlib
import os
import re

COMMANDS = ("open", "k", "index", "help", "quit")

_INDEX = re.compile(r":i\w* +(\S*)")
_LAST_WORD = re.compile(r"(?:\\.|[^\s\\])*$")


def complete(line: str) -> list[str]:
    """All completions of ``line``, as complete lines."""
    if match := _INDEX.fullmatch(line):
        from xmodal_cli.retrieval.registry import names

        return [line[: match.start(1)] + name for name in names() if name.startswith(match[1])]
    if line.startswith(":"):
        return [f":{name}" for name in COMMANDS if name.startswith(line[1:])]
    match = _LAST_WORD.search(line)
    start = match.start() if match else len(line)
    start += line[start : start + 1] in ("+", "-")
    return [line[:start] + name for name in _complete_path(re.sub(r"\\(.)", r"\1", line[start:]))]


def _complete_path(prefix: str) -> list[str]:
    """Folders and photos whose path starts with ``prefix``, escaped for the prompt."""
    from xmodal_cli.data.image_names import is_image_name
    from xmodal_cli.paths import expand_home

    folder, stem = os.path.split(prefix)
    names = []
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        for entry in os.scandir(expand_home(folder or ".")):
            if entry.name.startswith(stem) and (stem or not entry.name.startswith(".")):
                if entry.is_dir():
                    names.append(os.path.join(folder, entry.name, ""))  # noqa: PTH118 - ends with a slash
                elif is_image_name(entry.name):
                    names.append(os.path.join(folder, entry.name))  # noqa: PTH118 - keeps ./ and ~
    return [re.sub(r"([\s\"'\\])", r"\\\1", name) for name in sorted(names)]


def enable_tab_completion() -> None:
    """Bind the Tab key to ``complete``, if the readline module is available."""
    try:
        import readline
    except ImportError:
        return
    completions: list[str] = []

    def completer(line: str, index: int) -> str | None:
        if index == 0:  # readline calls it with 0, 1, 2, ... until it returns None
            completions[:] = complete(line)
        return completions[index] if index < len(completions) else None

    readline.set_completer_delims("")
    readline.set_completer(completer)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")

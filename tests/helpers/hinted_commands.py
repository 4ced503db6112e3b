"""The commands in the hint of an error, as a shell runs them."""

from __future__ import annotations

import re
import shlex

COMMAND = re.compile(r"\bxmodal (?:'[^']*'|\"[^\"]*\"|[^;`'\"])+")


def hinted_commands(hint: str) -> list[list[str]]:
    """The arguments after ``xmodal`` of each command in ``hint``, which ends at a semicolon, a backquote or the end."""
    return [shlex.split(found)[1:] for found in COMMAND.findall(hint)]

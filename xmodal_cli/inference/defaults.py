"""The model that speaks where none is named: what ``xmodal models default`` set, else the one that is shipped."""

from __future__ import annotations

import tomllib
from typing import Any

from xmodal_cli import paths, starter
from xmodal_cli.errors import BadData

SECTION = "defaults"


def default_model(kind: str) -> str:
    """The name of the ``matcher`` or ``captioner`` to use. Raises BadData when the settings cannot be read."""
    return str(read_settings().get(SECTION, {}).get(kind, starter.NAMES[kind]))


def default_models() -> dict[str, str]:
    """Kind -> name. Raises BadData."""
    return {kind: default_model(kind) for kind in starter.NAMES}


def read_settings() -> dict[str, Any]:
    """The settings at home; empty where there are none."""
    file = paths.config_file()
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadData(f"{file} cannot be read: {error}", "mend it, or remove it and set the defaults again") from error
    section = found.get(SECTION, {})
    if not isinstance(section, dict) or not all(isinstance(name, str) for name in section.values()):
        raise BadData(f"{file}: [{SECTION}] is to name a matcher and a captioner", 'write: matcher = "NAME"')
    return found

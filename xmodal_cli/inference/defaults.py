"""The default models: those set with ``xmodal models default``, else the bundled ones."""

from __future__ import annotations

import tomllib
from typing import Any

from xmodal_cli import paths, starter
from xmodal_cli.errors import BadData
from xmodal_cli.file_errors import reading

SECTION = "defaults"
TAGGER = "tagger"


def default_model(kind: str) -> str:
    """The name of the default ``matcher`` or ``captioner``. Raises BadData for an invalid settings file."""
    return str(read_settings().get(SECTION, {}).get(kind, starter.NAMES[kind]))


def default_tagger() -> str:
    """The name of the default tagger, empty if none was set: no tagger is bundled. Raises BadData."""
    return str(read_settings().get(SECTION, {}).get(TAGGER, ""))


def default_models() -> dict[str, str]:
    """Kind -> name of the default model; without a tagger if none was set. Raises BadData."""
    tagger = default_tagger()
    return {kind: default_model(kind) for kind in starter.NAMES} | ({TAGGER: tagger} if tagger else {})


def read_settings() -> dict[str, Any]:
    """The settings file in ``XMODAL_HOME``; empty if there is none. Raises BadData."""
    file = paths.config_file()
    with reading(file, "fix it, or delete it and set the defaults again"):
        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
    section = settings.get(SECTION, {})
    if not isinstance(section, dict) or not all(isinstance(name, str) for name in section.values()):
        raise BadData(f"{file}: [{SECTION}] must contain names of models", 'for example: matcher = "NAME"')
    return settings

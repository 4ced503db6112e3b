"""The model that speaks where none is named: what ``xmodal models default`` set, else the one that is shipped."""

from __future__ import annotations

import tomllib
from typing import Any

import tomli_w

from xmodal_cli import paths, starter
from xmodal_cli.errors import BadData, UnknownName

_SECTION = "defaults"


def default_model(kind: str) -> str:
    """The name of the ``matcher`` or ``captioner`` to use. Raises BadData when the settings cannot be read."""
    return str(_settings().get(_SECTION, {}).get(kind, starter.NAMES[kind]))


def default_models() -> dict[str, str]:
    """Kind -> name. Raises BadData."""
    return {kind: default_model(kind) for kind in starter.NAMES}


def set_default(what: str) -> tuple[str, str]:
    """Make the model ``what`` the default of its kind; gives (kind, name). Raises as ``describe_model``, BadData."""
    from xmodal_cli.recipes.models import describe_model

    found = describe_model(what)
    if found.kind not in starter.NAMES:
        raise UnknownName.of("kind of model", found.kind, list(starter.NAMES))
    settings = _settings()
    chosen = dict(settings.get(_SECTION, {}))
    name = what if what == found.name else found.source
    chosen[found.kind] = name
    if name == starter.NAMES[found.kind]:
        del chosen[found.kind]  # what a newer xmodal ships is then the default again
    paths.write_text(paths.config_file(), tomli_w.dumps({**settings, _SECTION: chosen}))
    return found.kind, name


def _settings() -> dict[str, Any]:
    """The settings at home; empty where there are none."""
    file = paths.config_file()
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadData(f"{file} cannot be read: {error}", "mend it, or remove it and set the defaults again") from error
    section = found.get(_SECTION, {})
    if not isinstance(section, dict) or not all(isinstance(name, str) for name in section.values()):
        raise BadData(f"{file}: [{_SECTION}] is to name a matcher and a captioner", 'write: matcher = "NAME"')
    return found

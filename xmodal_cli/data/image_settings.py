"""The user's settings of reading images: ``[images]`` in ``XMODAL_HOME/config.toml``, or environment variables.

``XMODAL_MAX_MEGAPIXELS`` and ``XMODAL_STRICT`` override the file.
"""

from __future__ import annotations

import functools
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xmodal_cli import paths
from xmodal_cli.errors import BadData, ConfigError, UnknownName
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.settings import check_settings, setting

SECTION = "images"
VARIABLES = {"max_megapixels": "XMODAL_MAX_MEGAPIXELS", "strict": "XMODAL_STRICT"}


@dataclass(frozen=True)
class ImageSettings:
    """How image files are read."""

    max_megapixels: int = setting(
        179, "largest image, in megapixels after decoding at a reduced scale; 4 bytes of memory per pixel", min=1
    )
    strict: bool = setting(False, "leave out truncated images instead of decoding them as far as possible")

    @property
    def max_pixels(self) -> int:
        """``max_megapixels`` in pixels."""
        return self.max_megapixels * 1_000_000


def image_settings() -> ImageSettings:
    """The current settings; the file is read again when it was changed. Raises BadData, ConfigError, UnknownName."""
    file = paths.config_file()
    variables = tuple((name, os.environ.get(variable, "")) for name, variable in VARIABLES.items())
    return _read(file, size_and_mtime(file), variables)


@functools.lru_cache(maxsize=8)
def _read(file: Path, version: tuple[int, int] | None, variables: tuple[tuple[str, str], ...]) -> ImageSettings:
    values = _read_section(file) if version is not None else {}
    types = {declared.name: type(declared.default) for declared in fields(ImageSettings)}
    for name, value in values.items():
        if name not in types:
            raise UnknownName.of(f"setting in [{SECTION}] of {file}", name, types)
        if type(value) is not types[name]:
            raise ConfigError(f"{SECTION}.{name} in {file} must be {_type_name(types[name])}, not {value!r}")
    values |= {name: _parse(name, text, types[name]) for name, text in variables if text}
    settings = ImageSettings(**values)
    check_settings(settings, f"{SECTION}.")
    return settings


def _read_section(file: Path) -> dict[str, Any]:
    try:
        section = tomllib.loads(file.read_text(encoding="utf-8")).get(SECTION, {})
    except (OSError, ValueError) as error:
        raise BadData(f"{file} cannot be read: {error}", "fix it, or delete it and set the defaults again") from error
    if not isinstance(section, dict):
        raise BadData(f"{file}: [{SECTION}] must be a table", "for example: max_megapixels = 400")
    return dict(section)


def _parse(name: str, text: str, kind: type) -> int | bool:
    """The value of an environment variable."""
    if kind is bool:
        return text != "0"
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{VARIABLES[name]} must be {_type_name(kind)}, not {text!r}", "for example: 400") from None


def _type_name(kind: type) -> str:
    return "true or false" if kind is bool else "a whole number"

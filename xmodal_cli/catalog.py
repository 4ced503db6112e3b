"""Finds a component by its file name, and lists names without importing anything heavy.

A *kind* is a folder; a component is one file in it; its name is the file's name with dashes for
underscores. A file that starts with an underscore is its folder's plumbing, not a component.
Every component module has a ``build(...)`` with flat keyword arguments; what it returns, and what
the recipe passes besides the user's arguments, is stated in the kind's ``__init__`` docstring.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from xmodal_cli.errors import ConfigError, UnknownName

PACKAGE = Path(__file__).parent

# kind -> (folder, file suffix)
KINDS: dict[str, tuple[str, str]] = {
    "preset": ("presets", ".toml"),
    "format": ("data/formats", ".py"),
    "region_format": ("data/regions", ".py"),
    "image_backbone": ("backbones/image", ".py"),
    "text_backbone": ("backbones/text", ".py"),
    "matcher": ("models/matchers", ".py"),
    "image_encoder": ("models/image_encoders", ".py"),
    "text_encoder": ("models/text_encoders", ".py"),
    "pooling": ("models/poolings", ".py"),
    "similarity": ("models/similarities", ".py"),
    "loss": ("losses", ".py"),
    "retrieval_metric": ("metrics/retrieval", ".py"),
    "captioner": ("models/captioners", ".py"),
    "language_model": ("backbones/language", ".py"),
    "caption_loss": ("losses/captions", ".py"),
    "caption_metric": ("metrics/captions", ".py"),
}


def names(kind: str) -> list[str]:
    """The names of all components of ``kind``, sorted; no component is imported."""
    folder, suffix = KINDS[kind]
    stems = (p.stem for p in (PACKAGE / folder).glob(f"*{suffix}"))
    return sorted(stem.replace("_", "-") for stem in stems if not stem.startswith("_"))


def path(kind: str, name: str) -> Path:
    """The file that defines ``name``. Raises UnknownName with the nearest right name."""
    if canonical(name) not in names(kind):
        raise UnknownName.of(kind.replace("_", " "), name, names(kind))
    folder, suffix = KINDS[kind]
    stem = canonical(name) if suffix == ".toml" else canonical(name).replace("-", "_")
    return PACKAGE / folder / f"{stem}{suffix}"


def load(kind: str, name: str) -> ModuleType:
    """Import the module of one component. Raises UnknownName."""
    file = path(kind, name)
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return importlib.import_module(".".join((PACKAGE.name, *parts)))


def build(kind: str, name: str, args: Mapping[str, Any], **given: Any) -> Any:
    """Call the component's ``build`` with the user's ``args`` and what the recipe has ``given``.

    Raises UnknownName for an argument that ``build`` does not take, ConfigError where one that
    it needs is missing or has a value it refuses.
    """
    function = load(kind, name).build
    accepted = set(inspect.signature(function).parameters)
    what = f"{kind.replace('_', ' ')} {name!r}"
    for key in args:
        if key not in accepted - set(given):
            raise UnknownName.of(f"argument of {what}", key, accepted - set(given))
    try:
        return function(**{k: v for k, v in given.items() if k in accepted}, **args)
    except (TypeError, ValueError, RuntimeError) as error:  # torch tells impossible sizes by RuntimeError
        raise ConfigError(f"{what} cannot be built: {error}", "see --print-config") from error


def canonical(name: str) -> str:
    """The listed form of a name: ``order_emb`` and ``order-emb`` are the same component."""
    return name.replace("_", "-")

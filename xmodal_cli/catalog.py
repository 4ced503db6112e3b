"""Finds components by file name, and lists their names without importing them.

A *kind* is a folder, a component is one file in it, and its name is the file name with dashes instead of underscores.
A file name with a leading underscore is shared code, not a component. Every component module has a ``build(...)`` with
flat keyword arguments. Its return type is documented in the ``__init__`` docstring of the kind; arguments that it
receives besides those of the user are in ``GIVEN``.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.settings import MAX_WHOLE, is_too_large

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
    "tagger": ("models/taggers", ".py"),
    "tag_loss": ("losses/tags", ".py"),
}

# kind -> arguments passed to its ``build`` besides those of the user; a component declares the ones that it needs
GIVEN: dict[str, tuple[str, ...]] = {
    "matcher": ("image_encoder", "text_encoder", "similarity", "embed_dim"),
    "image_encoder": ("image_dim", "image_kind", "embed_dim"),
    "text_encoder": ("vocab_size", "text_dim", "embed_dim"),
    "pooling": ("dim",),
    "loss": ("num_images", "embed_dim"),
    "captioner": ("image_dim", "image_kind", "vocab_size", "embed_dim"),
    "caption_metric": ("training", "max_length"),
    "tagger": ("image_dim", "image_kind", "vocab_size", "embed_dim"),
}

# kinds whose ``build`` has no arguments: indexes and embeddings files store only the name
NAME_ONLY = ("similarity",)

# annotations of ``build`` parameters that are checked
TYPES: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "str": str}


def names(kind: str) -> list[str]:
    """The sorted names of all components of ``kind``, without importing them."""
    folder, suffix = KINDS[kind]
    stems = (p.stem for p in (PACKAGE / folder).glob(f"*{suffix}"))
    return sorted(stem.replace("_", "-") for stem in stems if not stem.startswith("_"))


def path(kind: str, name: str) -> Path:
    """The file of the component ``name``. Raises UnknownName."""
    if canonical(name) not in names(kind):
        raise UnknownName.of(kind.replace("_", " "), name, names(kind))
    folder, suffix = KINDS[kind]
    stem = canonical(name) if suffix == ".toml" else canonical(name).replace("-", "_")
    return PACKAGE / folder / f"{stem}{suffix}"


def load(kind: str, name: str) -> ModuleType:
    """Import the module of a component. Raises UnknownName."""
    file = path(kind, name)
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return importlib.import_module(".".join((PACKAGE.name, *parts)))


def build(kind: str, name: str, args: Mapping[str, Any], **given: Any) -> Any:
    """Call ``build`` of a component with the user's ``args`` and those of ``given`` that it declares.

    Raises UnknownName for an unknown argument, ConfigError for a value of the wrong type or one that ``build`` rejects
    by ValueError, TypeError for a bug in the component: a parameter without a value. Other errors of ``build`` are
    bugs and are not caught.
    """
    function = load(kind, name).build
    parameters = inspect.signature(function).parameters
    _check_parameters(kind, name, parameters, {*given, *args})
    if unknown := set(given) - set(GIVEN.get(kind, ())):
        raise TypeError(f"{', '.join(sorted(unknown))} is not declared in catalog.GIVEN[{kind!r}]")
    what = f"{kind.replace('_', ' ')} {name!r}"
    settable = set(parameters) - set(given)
    for key, value in args.items():
        if key not in settable:
            raise UnknownName.of(f"argument of {what}", key, settable)
        _check_type(what, parameters[key], value)
    bound = inspect.signature(function).bind(**{k: v for k, v in given.items() if k in parameters}, **args)
    try:
        return function(*bound.args, **bound.kwargs)
    except ValueError as error:
        raise ConfigError(f"{what} cannot be built: {error}", "see --print-config") from error
    except RuntimeError as error:
        if not args or type(error) is not RuntimeError:
            raise
        # torch raises a plain RuntimeError for invalid sizes, such as a negative number of units
        raise ConfigError(f"{what} cannot be built: {error}", "see --print-config") from error


def _check_parameters(
    kind: str, name: str, parameters: Mapping[str, inspect.Parameter], supplied: Collection[str]
) -> None:
    """Raise TypeError for a parameter without a value, and for a misspelled name of ``GIVEN``."""
    known = GIVEN.get(kind, ())
    function = f"build() of the {kind.replace('_', ' ')} {name!r} in {path(kind, name)}"
    passed = f"{', '.join(known)} are passed to it" if known else "nothing is passed to it"
    if parameters and kind in NAME_ONLY:
        raise TypeError(
            f"{function} has parameters, but only the name of a {kind} is stored: write one file per variant"
        )
    for parameter in parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{function} has the parameter {parameter}: only keyword parameters are supported")
        if parameter.name in known or parameter.name in supplied:
            if parameter.default is parameter.empty and parameter.name not in supplied:
                raise TypeError(f"{function} needs {parameter.name!r}, which was not passed by its caller")
            continue
        if parameter.default is parameter.empty:
            raise TypeError(f"{function} has a parameter {parameter.name!r} without a default, and {passed}")
        unused = [other for other in known if other not in parameters]
        if near := difflib.get_close_matches(parameter.name, unused, n=1, cutoff=0.85):
            raise TypeError(f"{function} has a parameter {parameter.name!r}: did you mean {near[0]!r}? {passed}")


def _check_type(what: str, parameter: inspect.Parameter, value: object) -> None:
    """Raise ConfigError for a value that is not of the annotated type or not finite; only ``TYPES`` are checked."""
    annotation = parameter.annotation
    wanted = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if wanted not in TYPES:
        return
    if not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted != "bool"):
        raise ConfigError(
            f"{what} cannot be built: {parameter.name} must be {wanted}, not {value!r}", "see --print-config"
        )
    if is_too_large(value):
        raise ConfigError(
            f"{what} cannot be built: {parameter.name} must be at most {MAX_WHOLE:,}", "see --print-config"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(
            f"{what} cannot be built: {parameter.name} must be a finite number, not {value}", "see --print-config"
        )


def canonical(name: str) -> str:
    """The canonical form of a name: ``order_emb`` is ``order-emb``."""
    return name.replace("_", "-")

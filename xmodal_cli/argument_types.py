"""The types of the arguments of the Python API, checked against the annotations of its functions.

A public function begins with ``check_arguments(function, locals())``: a value that is not of the annotated type is an
error with the name of the argument, before anything is read or loaded. Iterators are not read, only lists and tuples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xmodal_cli.errors import ConfigError

PATH = "a path (str or pathlib.Path)"
_SEVERAL = re.compile(r"(?:Sequence|Iterable|Mapping)\[(.*)\]")


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first of the ``arguments`` of ``function`` that is not of its annotated type."""
    for name, annotation in function.__annotations__.items():
        if name in arguments and not _matches(arguments[name], annotation):
            wanted = " or ".join(map(_describe, annotation.split(" | ")))
            hint = f"help(xmodal.{function.__qualname__}) describes the arguments"
            raise ConfigError(f"{name} must be {wanted}, not {arguments[name]!r:.80}", hint)


def _matches(value: object, annotation: str) -> bool:
    return any(_is_of(value, kind) for kind in annotation.split(" | "))


def _is_of(value: object, kind: str) -> bool:
    several = _SEVERAL.fullmatch(kind)
    if several is None:
        return _KINDS[kind][2](value)
    if kind.startswith("Mapping"):
        return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | os.PathLike | Mapping):
        return False
    return all(_is_of(item, several[1]) for item in value) if isinstance(value, list | tuple) else True


def _describe(kind: str) -> str:
    several = _SEVERAL.fullmatch(kind)
    if several is None:
        return _KINDS[kind][0]
    return "a dict with str keys" if kind.startswith("Mapping") else f"a list of {_KINDS[several[1]][1]}"


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike) and "\0" not in os.fsdecode(value)


def _is_image(value: object) -> bool:
    return _is_path(value) or hasattr(value, "getexif")  # of PIL


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)  # of NumPy too


# annotation -> its description, that of several, the check
_KINDS: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "None": ("None", "", lambda value: value is None),
    "str": ("a str", "str", lambda value: isinstance(value, str)),
    "bool": ("True or False", "", lambda value: type(value).__name__ in ("bool", "bool_")),  # of NumPy too
    "int": ("a whole number", "whole numbers", _is_whole),
    "float": ("a number", "numbers", _is_number),
    "PathLike": (PATH, "paths", _is_path),
    "ImageInput": (f"{PATH}, a PIL image", "paths and PIL images", _is_image),
    "ImageTextDataset": ("an ImageTextDataset", "", lambda value: hasattr(value, "examples")),
    "Reporter": ("a Reporter", "", lambda value: hasattr(value, "warn")),
    "np.ndarray": ("an array", "", lambda value: hasattr(value, "__array__") or isinstance(value, list)),
}

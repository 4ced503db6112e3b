"""Fields of settings dataclasses: the default, the help text and the bounds of a setting are declared together.

``setting`` declares a field; ``check_value`` and ``check_settings`` check values against its bounds. The comments of
``--print-config`` and ``docs/settings.md`` are made from the same metadata.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from xmodal_cli.errors import ConfigError, UnknownName

KEY = "setting"
MAX_WHOLE = 2**53  # larger whole numbers are not exact as floats, and fit in no array
MAX_SEED = 2**32 - 1  # the largest that NumPy takes


@dataclass(frozen=True)
class Bounds:
    """The values that a setting may have: ``min`` and ``max`` are allowed themselves, ``above`` and ``below`` are not.

    Numbers are always finite, whole numbers at most ``MAX_WHOLE``. Empty ``choices`` allow every value.
    """

    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()

    def allow(self, value: Any) -> bool:
        """Whether ``value``, of the right type, is inside the bounds."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (
            math.isfinite(value)
            and not is_too_large(value)
            and (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """``above 0 and at most 1``, ``adam or adamw``; empty where every value is allowed."""
        if self.choices:
            *others, last = (str(choice) for choice in self.choices)
            return f"{', '.join(others)} or {last}" if others else last
        ends = (("at least", self.min), ("above", self.above), ("at most", self.max), ("below", self.below))
        return " and ".join(f"{words} {end}" for words, end in ends if end is not None)


def is_too_large(value: object) -> bool:
    """Whether a whole number is larger, or smaller, than any setting can be."""
    return isinstance(value, int) and abs(value) > MAX_WHOLE


RATE = Bounds(min=0, below=1)  # dropout and everything like it
POSITIVE = Bounds(min=1)  # sizes
LAYERS = Bounds(min=1, max=1000)  # more are never built


@dataclass(frozen=True)
class SettingInfo:
    """The metadata of a field that ``setting`` declared."""

    help: str
    bounds: Bounds


def setting(
    default: Any,
    help: str,
    *,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] = (),
) -> Any:
    """A field of a frozen settings dataclass. A ``default`` that is a dict is copied for each instance."""
    metadata = {KEY: SettingInfo(help, Bounds(min, max, above, below, tuple(choices)))}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def info_of(declared: Field[Any]) -> SettingInfo:
    """The metadata of a field. Raises KeyError for a field that ``setting`` did not declare."""
    info: SettingInfo = declared.metadata[KEY]
    return info


def check_value(name: str, value: Any, declared: Field[Any], default: Any = None) -> None:
    """Raise ConfigError where ``value`` is outside the bounds, UnknownName where it is not one of the choices.

    ``name`` is that of the setting with its section, as ``training.epochs``; ``default`` is the value that the setting
    has if it is omitted, by default that of its declaration.
    """
    bounds = info_of(declared).bounds
    if bounds.allow(value):
        return
    usual = f"the default is {declared.default if default is None else default!r}"
    if not bounds.choices or not isinstance(value, str):
        raise ConfigError(f"{name} must be {_describe(bounds, value)}, not {value}", usual)
    near = difflib.get_close_matches(str(value), [str(choice) for choice in bounds.choices], n=1, cutoff=0.5)
    raise UnknownName(f"{name} must be {bounds}, not {value!r}", f"did you mean {near[0]!r}?" if near else usual)


def check_argument(name: str, value: float | str, bounds: Bounds) -> None:
    """Raise ValueError where an argument of a component's ``build`` is outside its bounds."""
    if not bounds.allow(value):
        raise ValueError(f"{name} must be {_describe(bounds, value)}, not {value!r}")


def _describe(bounds: Bounds, value: object) -> str:
    """What a value that is outside the bounds must be."""
    return f"at most {MAX_WHOLE:,}" if is_too_large(value) else str(bounds) or "a finite number"


def check_settings(settings: Any, prefix: str = "") -> None:
    """Check all fields of a settings dataclass and of the dataclasses inside it. Raises ConfigError, UnknownName.

    ``prefix`` stands before the names of the fields in messages, as ``decoding.``.
    """
    for declared in fields(settings):
        value, name = getattr(settings, declared.name), f"{prefix}{declared.name}"
        if is_dataclass(value):
            check_settings(value, f"{name}.")
        else:
            check_value(name, value, declared)

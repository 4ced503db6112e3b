"""Read configurations from presets, TOML files and ``--set section.key=value``, and check them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from xmodal_cli import catalog
from xmodal_cli.config.renames import NOTES, new_component_name, new_name, upgrade
from xmodal_cli.config.sections import Component, Config
from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.file_errors import naming
from xmodal_cli.file_identity import read_regular
from xmodal_cli.paths import expand_home
from xmodal_cli.settings import check_value
from xmodal_cli.splits import canonical_split


def load_config(preset: str, settings: Sequence[str] = ()) -> Config:
    """The configuration of a preset's name or of a TOML file, with ``section.key=value`` settings on top.

    The settings that a TOML file leaves out are those of its ``preset``, without one the defaults. Raises ConfigError,
    UnknownName.
    """
    is_file = preset.endswith(".toml")
    if not is_file and ("/" in preset or os.sep in preset):
        raise ConfigError(f"{preset} is neither a preset's name nor a .toml file", "give one of them")
    file = Path(preset) if is_file else catalog.path("preset", preset)
    with naming(file):
        tables = upgrade(_read_toml(file))
        base = _base(tables)
        config = _resolve_data_path(_merge(base, tables, "", base), file)
    config = replace(config, preset=config.preset or (file.stem if is_file else catalog.canonical(preset)))
    return with_settings(config, settings)


def with_settings(config: Config, settings: Sequence[str]) -> Config:
    """``config`` with ``section.key=value`` settings on top. Raises UnknownName, ConfigError.

    The hint for an invalid value has the value of ``config``, which the setting has if it is omitted.
    """
    merged = config
    for setting in settings:
        merged = _merge(merged, _parse_setting(setting), "", config)
    return merged


def data_argument(config: Config, data: str | None = None) -> str:
    """The dataset to train on: ``data``, else that of ``[data]``, else ``shapes``. Raises ConfigError."""
    if data is not None:
        return data
    if config.data.name and config.data.path:
        raise ConfigError("data.name and data.path are both set", "keep one of them, or give --data")
    return config.data.path or config.data.name or "shapes"


def with_data(config: Config, data: str) -> Config:
    """``config`` with ``data``, a name or a path, as its dataset."""
    return replace(config, data=replace(config.data, name=data, path=""))


def _base(tables: Mapping[str, Any]) -> Config:
    """The preset that the tables of a TOML file name, else the defaults. Raises UnknownName.

    ``preset`` may also be the name of another TOML file, as in ``config.toml`` of its runs, which have all settings.
    """
    name = tables.get("preset", "")
    if not isinstance(name, str) or not name:
        return Config()
    if catalog.canonical(name) in catalog.names("preset"):
        base: Config = _without_replaced_args(load_config(name), tables)
        return base
    if "model" not in tables:
        raise UnknownName.of("preset", name, catalog.names("preset"))
    return Config()


def _without_replaced_args(current: Any, tables: Mapping[str, Any]) -> Any:
    """Drop ``args`` of ``current`` where ``tables`` have both the component's name and its ``args``, which are all."""
    changes: dict[str, Any] = {}
    if isinstance(getattr(current, "args", None), dict) and {"name", "args"} <= tables.keys():
        changes["args"] = {}
    for key, table in tables.items():
        if isinstance(table, Mapping) and is_dataclass(inner := getattr(current, key, None)):
            changes[key] = _without_replaced_args(inner, table)
    return replace(current, **changes)


def _resolve_data_path(config: Config, file: Path) -> Config:
    if not config.data.path:
        return config
    path = (file.absolute().parent / expand_home(config.data.path)).resolve()
    return replace(config, data=replace(config.data, path=str(path)))


def flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings in ``tables`` by their names, such as ``training.epochs``."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def to_dict(config: Config) -> dict[str, Any]:
    """Plain tables, ready for TOML or JSON."""
    return asdict(config)


def from_dict(tables: Mapping[str, Any]) -> Config:
    """The inverse of ``to_dict``, of tables with old names too. Raises UnknownName, ConfigError."""
    config: Config = _merge(Config(), upgrade(tables), "", Config())
    return config


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_regular(file).decode("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no configuration file {file}", "give a preset's name or an existing .toml file"
        ) from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", "give a preset's name or a .toml file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", "fix that line") from error


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"--set {setting} is not of the form section.key=value", "for example --set training.epochs=10"
        )
    table: dict[str, Any] = {}
    inner = table
    *sections, last = key.strip().split(".")
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = _parse_value(text.strip())
    return table


def _parse_value(text: str) -> Any:
    """A TOML value where it reads as one, else the text itself: ``0.1``, ``true``, ``adamw``."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(current: Any, tables: Mapping[str, Any], where: str, defaults: Any) -> Any:
    """A copy of the dataclass ``current`` with the values of ``tables`` in it; ``defaults`` is for hints."""
    known = {declared.name: declared for declared in fields(current)}
    changes: dict[str, Any] = {}
    for key, value in tables.items():
        path = f"{where}{key}"
        _refuse_old_name(path)
        if key not in known:
            raise UnknownName.of("setting", path, [f"{where}{name}" for name in known])
        changes[key] = _convert(getattr(current, key), value, path, known[key], getattr(defaults, key))
    return replace(current, **changes)


def _refuse_old_name(path: str) -> None:
    if (new := new_name(path)) is not None:
        raise UnknownName(f"there is no setting called {path!r}", f"it is called {new!r} now")


def _refuse_old_component(path: str, value: Any) -> None:
    if isinstance(value, str) and (new := new_component_name(path, value)) is not None:
        hint = f"it is called {new!r} now{NOTES.get(path, '')}"
        raise UnknownName(f"there is no component called {value!r} for {path}", hint)


def _convert(old: Any, value: Any, where: str, declared: Field[Any], default: Any) -> Any:
    if isinstance(old, Component):
        old, value = _component(old, value, where)
    if is_dataclass(old):
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{where} is a section, not a value", f"set one of its keys: {', '.join(f.name for f in fields(old))}"
            )
        return _merge(old, value, f"{where}.", default)
    if isinstance(old, dict):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a table, not a value", f"set one of its keys, as {where}.key=value")
        for key, entry in value.items():
            _refuse_old_name(f"{where}.{key}")
            _refuse_old_component(f"{where}.{key}", entry)
        return {**old, **value}
    return _checked(value, where, declared, default)


def _component(old: Component, value: Any, where: str) -> tuple[Component, Any]:
    """A component given by its name alone, or another component, which does not take over the old one's arguments."""
    if isinstance(value, str):
        return Component(), {"name": catalog.canonical(value)}
    if isinstance(value, Mapping) and value.get("name", old.name) != old.name:
        return Component(), value
    return old, value


def _checked(value: Any, where: str, declared: Field[Any], old: Any) -> Any:
    """``value`` as the type of ``old``, the value without this setting. Raises ConfigError, UnknownName."""
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and isinstance(value, str | list):
        value = tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else tuple(value)
    if type(value) is not type(old) or (isinstance(old, tuple) and not all(isinstance(word, str) for word in value)):
        raise ConfigError(f"{where} must be {_noun(old)}, not {value!r}", f"the default is {old!r}")
    _refuse_old_component(where, value)
    if where in ("data.val_split", "data.train_splits"):
        value = canonical_split(value) if isinstance(value, str) else tuple(map(canonical_split, value))
    check_value(where, value, declared, old)
    return value


def _noun(value: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a word", tuple: "a list of words"}[
        type(value)
    ]

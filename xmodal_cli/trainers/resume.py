"""The folder of a run, and whether it can be trained in: new, resumed with the same settings, or without a model.

torch is not imported: the command line checks it before anything else.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmodal_cli.config import Config, flatten, from_dict, to_dict, with_data
from xmodal_cli.errors import ConfigError
from xmodal_cli.file_errors import naming, reading
from xmodal_cli.models.model_file import read_header
from xmodal_cli.paths import CONFIG_FILE, MODEL_FILE, STATE_FILE, runs_dir
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.types import FeatureSource

OPTIONS = {
    "features.backbone": "--backbone",
    "data.features_from": "--features-from",
    "training.seed": "--seed",
    "training.precision": "--precision",
}


def run_folder(config: Config, data: str, out: Path | None = None) -> Path:
    """The folder of the run: ``out``, or ``runs/<preset>-<data>`` in ``XMODAL_HOME``."""
    return out or runs_dir() / f"{config.preset}-{Path(data).resolve().stem if Path(data).exists() else data}"


def state_file(run: Path) -> Path:
    """The file that a run resumes from."""
    return run / "last" / STATE_FILE


def features_from_of(run: Path) -> FeatureSource | None:
    """The declared backbone in the model file of a run that is resumed, which may have been compared with photos."""
    model = run / MODEL_FILE
    return read_header(model).features_from if model.exists() else None


def check_folder(run: Path, config: Config, resume: bool) -> None:
    """Raise ConfigError if ``run`` contains a run that is not resumed, or one with other settings.

    A run that failed before its first evaluation has nothing to keep and is started again.
    """
    existing = run / CONFIG_FILE
    if not existing.exists() or not ((run / MODEL_FILE).exists() or state_file(run).exists()):
        return
    if not resume:
        hint = f"use --resume to continue it, choose another --out, or delete {run}"
        raise ConfigError(f"{run} already contains a training run", hint)
    with naming(existing), reading(existing, f"choose another --out, or delete {run}"):
        previous = from_dict(tomllib.loads(existing.read_text(encoding="utf-8")))
    before, now = (flatten(to_dict(_fixed_settings(settings))) for settings in (previous, config))
    changed = {key: before.get(key) for key in [*before, *now] if before.get(key) != now.get(key)}
    if changed:
        raise ConfigError(
            f"{run} was trained with different settings: {_differences(changed, now)}", _hint(run, changed)
        )


def _fixed_settings(config: Config) -> Config:
    """The settings that must not change when a run is resumed."""
    depends_on_epochs = config.schedule.name in ("cosine", "linear") or config.captioning.scheduled_sampling > 0
    epochs = config.training.epochs if depends_on_epochs else 0
    config = with_data(config, "")  # what the dataset contains is compared
    training = replace(config.training, epochs=epochs, patience=0, device="", log_every=0, tensorboard=False)
    return replace(config, training=training)


def _differences(changed: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    texts = [f"{key} is {_text(value)} there, not {_text(now.get(key))}" for key, value in changed.items()]
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def _hint(run: Path, changed: Mapping[str, Any]) -> str:
    """The options that resume the run as it was started, or the command if there are many."""
    options = [f"{OPTIONS[key]} {shlex.quote(_text(value))}" if key in OPTIONS else
               f"--set {shlex.quote(f'{key}={_text(value)}')}"
               for key, value in changed.items()]  # fmt: skip
    if "preset" in changed or any(value is None for value in changed.values()) or len(options) > 3:
        command = xmodal_command("train", "--model", run / CONFIG_FILE, "--out", run, "--resume")
        return f"resume with the original settings: {command}; or choose another --out"
    reason = " (the schedule depends on it)" if "training.epochs" in changed else ""
    return f"resume with {' '.join(options)}{reason}, or choose another --out"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else "not set" if value is None else str(value)

"""Settings: frozen dataclasses, presets as TOML, ``--set section.key=value``. Knows no component.

Precedence: the dataclasses' defaults < a preset or TOML file < ``--set`` < explicit flags. Unknown
names are errors that name the nearest right one. What a component takes is its own affair: its
``args`` pass through to its ``build``, which checks them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.types import Decoding


@dataclass(frozen=True)
class Component:
    """A part chosen by name, with the arguments of its ``build``."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig:
    """The architecture and the parts it is given. ``embed_dim`` 0 is that of the image features."""

    name: str = "vse"
    args: dict[str, Any] = field(default_factory=dict)
    embed_dim: int = 1024
    image_encoder: Component = Component("linear")
    text_encoder: Component = Component("gru")
    similarity: Component = Component("cosine")


@dataclass(frozen=True)
class FeaturesConfig:
    """Which features the model reads. ``crops`` is 1, 2 for the picture and its mirror image, or 10 for ten crops.

    With ``optimizer.image_tower`` above 0 the backbone is trained too: its last ``tuned_blocks`` on what the blocks
    before them give, which is computed once; or at 0 all of it, from pixels.
    """

    backbone: str = "efficientnet-lite2"
    kind: str = "global"
    crops: int = 1
    tuned_blocks: int = 0


@dataclass(frozen=True)
class TextConfig:
    """A pretrained sentence encoder to stand before the model's own, such as ``minilm``; none for words from scratch.

    ``same`` is the text tower of the image backbone, where that has one, as CLIP's have.
    With ``optimizer.text_tower`` above 0 it is trained too: its last ``tuned_layers``, or at 0 all of them.
    ``word_vectors`` is a GloVe or word2vec text file that the words from scratch start from.
    """

    backbone: str = ""
    tuned_layers: int = 0
    word_vectors: str = ""


@dataclass(frozen=True)
class DataConfig:
    """Which splits are trained on and which decides; words rarer than ``min_word_count`` are unknown."""

    train_splits: tuple[str, ...] = ("train", "restval")
    val_split: str = "val"
    min_word_count: int = 1


@dataclass(frozen=True)
class OptimizerConfig:
    """``adam`` or ``adamw``; ``grad_clip`` is the largest gradient norm, 0 for none.

    ``image_tower`` and ``text_tower``: the pretrained networks' share of the learning rate; at 0 they stay as they are.
    """

    name: str = "adam"
    lr: float = 2e-4
    image_tower: float = 0.0
    text_tower: float = 0.0
    weight_decay: float = 0.0
    grad_clip: float = 2.0


@dataclass(frozen=True)
class ScheduleConfig:
    """``constant``, ``step`` (times ``gamma`` every ``step_epochs``), ``cosine`` or ``linear``, after a warm-up."""

    name: str = "constant"
    warmup_steps: int = 0
    step_epochs: int = 15
    gamma: float = 0.1


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how. ``patience`` is the number of epochs without a better val score, 0 for no early stop.

    ``ema``: decay of the moving average of the weights that is evaluated and kept, 0 for the weights themselves.
    ``keep_start``: the model before the first step is evaluated too, and may prove the best.
    ``whole_images``: all captions of an image are in one batch, so that each image is needed once an epoch.
    """

    epochs: int = 15
    batch_size: int = 128
    patience: int = 0
    ema: float = 0.0
    keep_start: bool = False
    whole_images: bool = False
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    log_every: int = 20
    tensorboard: bool = True


@dataclass(frozen=True)
class WarmupConfig:
    """Another loss for the first epochs: hardest negatives alone can leave a fresh model where all scores are alike."""

    epochs: int = 0
    loss: Component = Component("triplet")


@dataclass(frozen=True)
class AugmentationConfig:
    """What is done to pictures that are trained on from pixels.

    A part of at least ``min_area`` of the picture is cut out, and mirrored in ``flip`` of the cases; colours change by
    up to ``jitter``.
    """

    min_area: float = 0.6
    flip: float = 0.5
    jitter: float = 0.0


@dataclass(frozen=True)
class CaptioningConfig:
    """What only captioners need.

    ``language_model`` is a pretrained one to start from (``gpt2``, ``hf/NAME``, a folder), none for one from scratch.
    Its share of the learning rate is ``optimizer.text_tower``. ``tags``: the share of training captions with one or two
    of their own words before them, so that ``--tags`` can ask for something.
    ``one_caption``: an epoch takes one random caption of each image instead of all.
    ``scheduled_sampling``: the share of words replaced by the model's own in the last epoch; it grows from 0.
    """

    language_model: str = ""
    tags: float = 0.0
    one_caption: bool = False
    scheduled_sampling: float = 0.0


@dataclass(frozen=True)
class Config:
    """Everything that decides a training, but for the data it runs on. ``kind``: ``matcher`` or ``captioner``."""

    preset: str = ""
    kind: str = "matcher"
    model: ModelConfig = ModelConfig()
    loss: Component = Component("triplet")
    warmup: WarmupConfig = WarmupConfig()
    features: FeaturesConfig = FeaturesConfig()
    text: TextConfig = TextConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    captioning: CaptioningConfig = CaptioningConfig()
    decoding: Decoding = Decoding()


# what a number may not fall below
LEAST: dict[str, float] = {
    **dict.fromkeys(("training.epochs", "training.batch_size", "training.log_every", "schedule.step_epochs"), 1),
    **dict.fromkeys(("data.min_word_count",), 1),
    **dict.fromkeys(("model.embed_dim",), 0),
    **dict.fromkeys(
        (
            "features.tuned_blocks",
            "text.tuned_layers",
            "training.patience",
            "training.seed",
            "schedule.warmup_steps",
            "schedule.gamma",
            "warmup.epochs",
        ),
        0,
    ),
    **dict.fromkeys(("optimizer.lr", "optimizer.weight_decay", "optimizer.grad_clip"), 0),
    **dict.fromkeys(("optimizer.image_tower", "optimizer.text_tower", "training.ema"), 0),
    **dict.fromkeys(("decoding.beam", "decoding.num", "decoding.max_length", "decoding.groups"), 1),
    **dict.fromkeys(("decoding.min_length", "decoding.length_penalty", "decoding.no_repeat", "decoding.top_k"), 0),
    **dict.fromkeys(("decoding.seed", "decoding.diversity", "captioning.scheduled_sampling", "captioning.tags"), 0),
    **dict.fromkeys(("augmentation.min_area", "augmentation.flip", "augmentation.jitter"), 0),
}


def load_config(preset: str, settings: Sequence[str] = ()) -> Config:
    """The configuration of a preset's name or of a TOML file, with ``section.key=value`` settings on top."""
    is_file = preset.endswith(".toml")
    file = Path(preset) if is_file else catalog.path("preset", preset)
    config: Config = _merge(Config(), _read_toml(file), "")
    config = replace(config, preset=config.preset or (file.stem if is_file else catalog.canonical(preset)))
    return with_settings(config, settings)


def with_settings(config: Config, settings: Sequence[str]) -> Config:
    """``config`` with ``section.key=value`` settings on top. Raises UnknownName, ConfigError."""
    for setting in settings:
        config = _merge(config, _parse_setting(setting), "")
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Plain tables, ready for TOML or JSON."""
    return asdict(config)


def from_dict(tables: Mapping[str, Any]) -> Config:
    """The inverse of ``to_dict``. Raises UnknownName, ConfigError."""
    config: Config = _merge(Config(), tables, "")
    return config


def to_toml(config: Config) -> str:
    """The resolved configuration as TOML."""
    import tomli_w

    return tomli_w.dumps(to_dict(config))


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no configuration file {file}", "give a preset's name or an existing .toml file"
        ) from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", "give a preset's name or a .toml file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", "mend that line") from error


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


def _merge(current: Any, tables: Mapping[str, Any], where: str) -> Any:
    """A copy of the dataclass ``current`` with the values of ``tables`` in it."""
    known = {f.name for f in fields(current)}
    changes: dict[str, Any] = {}
    for key, value in tables.items():
        if key not in known:
            raise UnknownName.of("setting", f"{where}{key}", [f"{where}{name}" for name in known])
        changes[key] = _convert(getattr(current, key), value, f"{where}{key}")
    return replace(current, **changes)


def _convert(old: Any, value: Any, where: str) -> Any:
    if isinstance(old, Component) and isinstance(value, str):
        return Component(catalog.canonical(value))
    if isinstance(old, Component) and isinstance(value, Mapping) and value.get("name", old.name) != old.name:
        name = _checked(old.name, value["name"], f"{where}.name")
        old = Component(name)  # another part: the old one's arguments are not its own
    if is_dataclass(old):
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{where} is a section, not a value", f"set one of its keys: {', '.join(f.name for f in fields(old))}"
            )
        return _merge(old, value, f"{where}.")
    if isinstance(old, dict):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a table, not a value", f"set one of its keys, as {where}.key=value")
        return {**old, **value}
    return _checked(old, value, where)


def _checked(old: Any, value: Any, where: str) -> Any:
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, tuple) and isinstance(value, str | list):
        value = tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else tuple(value)
    if type(value) is not type(old) or (isinstance(old, tuple) and not all(isinstance(word, str) for word in value)):
        raise ConfigError(f"{where} must be {_noun(old)}, not {value!r}", f"it is {old!r} unless you set it")
    least = LEAST.get(where)
    if least is not None and not value >= least:
        raise ConfigError(f"{where} must be at least {least}, not {value}", f"it is {old!r} unless you set it")
    return value


def _noun(value: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a word", tuple: "a list of words"}[
        type(value)
    ]

"""Checks of settings, features and captions that need no image features: made before these are extracted."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from xmodal_cli import catalog
from xmodal_cli.backbones.image_backbones import check_request, is_from_files
from xmodal_cli.backbones.names import find_weights, split_name
from xmodal_cli.config import Config, FeaturesConfig
from xmodal_cli.errors import ConfigError, IncompatibleFeatures, MissingData
from xmodal_cli.inference.models import describe_as
from xmodal_cli.inference.towers import input_features
from xmodal_cli.memory import available_bytes, format_bytes
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.paths import expand_home
from xmodal_cli.reporter import Reporter
from xmodal_cli.trainers.caption_limits import limit_words
from xmodal_cli.trainers.tagger import find_tags
from xmodal_cli.types import ImageTextDataset

# sections of settings that a kind of model does not read
UNUSED = {
    "matcher": ("captioning", "decoding", "tagging"),
    "captioner": ("text", "tagging"),
    "tagger": ("text", "captioning", "decoding"),
}
READERS = {"captioning": "captioners", "decoding": "captioners", "tagging": "taggers", "text": "matchers"}
OF_MATCHERS = ("chunk_size", "local_loss")  # settings of [training]
LOGIT_COPIES = 4  # (captions, words, vocab) float32 arrays at once: logits, log-probabilities and their gradients


def check_sections(config: Config) -> None:
    """Raise ConfigError for a setting that this kind of model does not read."""
    for section in UNUSED[config.kind]:
        settings: Any = getattr(config, section)
        default = type(settings)()
        for name in (field.name for field in fields(settings)):
            if getattr(settings, name) != getattr(default, name):
                raise ConfigError(
                    f"{section}.{name} applies only to {READERS[section]}, and {config.preset} is a {config.kind}",
                    "leave it out",
                )
    for name in OF_MATCHERS if config.kind != "matcher" else ():
        if getattr(config.training, name):
            raise ConfigError(
                f"training.{name} applies only to matchers, and {config.preset} is a {config.kind}", "leave it out"
            )


def report_frozen_parts(config: Config, reporter: Reporter) -> None:
    """Report a warning for settings that choose what is fine-tuned of a pretrained network that is frozen."""
    rates = config.optimizer
    for setting, value, name, rate in (
        ("features.tuned_blocks", config.features.tuned_blocks, "image_tower_lr_scale", rates.image_tower_lr_scale),
        ("text.tuned_layers", config.text.tuned_layers, "text_tower_lr_scale", rates.text_tower_lr_scale),
    ):
        if value and not rate:
            reporter.warn(f"{setting}={value} has no effect, because optimizer.{name} is 0: the network is frozen")
    if config.training.gradient_checkpointing and not rates.image_tower_lr_scale:
        reporter.warn(
            "training.gradient_checkpointing has no effect, because optimizer.image_tower_lr_scale is 0: the image "
            "backbone is frozen"
        )


def report_shuffle_window(config: Config, reporter: Reporter) -> None:
    """Report a warning for a window of images where nothing is trained from pixels."""
    if config.training.shuffle_window and input_features(config).kind != "pixels":
        reporter.warn(
            f"training.shuffle_window={config.training.shuffle_window} has no effect, because nothing is trained from "
            "pixels: the window of features on disk follows from features.memory"
        )


def report_val_in_training(config: Config, reporter: Reporter) -> None:
    """Report a warning if the split that chooses the best model is trained on."""
    val = config.data.val_split
    if val in config.data.train_splits:
        reporter.warn(f"the split {val} is trained on and evaluated, so the best epoch and its metrics mean little")


def report_untrained_start(config: Config, init_from: str | None, reporter: Reporter) -> None:
    """Report a warning for self-critical training from random weights, whose samples are noise."""
    if config.kind == "captioner" and catalog.canonical(config.loss.name) == "self-critical" and init_from is None:
        reporter.warn(
            "self-critical training starts from random weights and will hardly learn: train with the loss of the preset"
            " first, then run this command with --init-from RUN"
        )


def check_training_data(config: Config, train: ImageTextDataset, init_from: str | None, device: str) -> None:
    """Raise the errors of the captions to train on, of the backbone and of the model to initialize from.

    Features of the dataset itself are compared when they are read.
    """
    has_features = any(example.feature is not None for example in train.examples)
    if init_from is not None:
        _check_initial_model(config, init_from, has_features)
    if not has_features:
        _check_source(input_features(config))
    captions = limit_words(train, config.data.max_caption_words)
    if config.kind == "tagger":
        find_tags(config, train, init_from)
    elif not (init_from or config.text.backbone or config.captioning.language_model):  # they have a vocabulary
        tokenizer = vocabulary_of(config, captions)
        if config.kind == "captioner" and not device.startswith("cuda"):
            _check_logits(config, captions.captions, tokenizer.vocab_size)


def _check_source(settings: FeaturesConfig) -> None:
    """Raise the errors of a backbone's name, kind and files. Nothing is read.

    These are UnknownName, ConfigError, MissingData and BadModel.
    """
    check_request(settings.backbone, settings.kind, settings.crops)
    file = split_name(settings.backbone)[1]
    if file and is_from_files(settings.backbone) and not expand_home(file).exists():
        raise MissingData(f"there are no regions at {file}", "give the file or folder after bottom-up@")
    if file and not is_from_files(settings.backbone):
        find_weights(file)


def _check_initial_model(config: Config, init_from: str, has_features: bool) -> None:
    """Raise BadModel, ConfigError or IncompatibleFeatures for a model that has other parts or reads other features."""
    info = describe_as(config.kind, init_from, "initialize from a model that was trained with this preset")
    name, expected = str(info.header.architecture.get("name")), catalog.canonical(config.model.name)
    if catalog.canonical(name) != expected:
        message = f"{info.name} is a {name}, this preset trains a {expected}"
        raise ConfigError(message, "use the preset it was trained with")
    if has_features:
        return
    read, features = info.meta, input_features(config)
    accepted = [(features.kind, features.crops)]
    if config.optimizer.image_tower_lr_scale:  # or one that was trained on what its tower computes
        accepted.append((config.features.kind, read.crops))
    before, now = split_name(read.backbone), split_name(features.backbone)
    same_backbone = before[0] == now[0] and bool(before[1]) == bool(now[1])  # weights are compared when they are read
    if not same_backbone or (read.kind, read.crops) not in accepted:
        raise IncompatibleFeatures(
            f"{info.name} reads {read.kind} features of {read.backbone} with crops={read.crops}, this training has "
            f"{features.kind} features of {features.backbone} with crops={features.crops}",
            "initialize from a model with the same features, or set --backbone, features.kind and features.crops",
        )


def vocabulary_of(config: Config, train: ImageTextDataset) -> Tokenizer:
    """The words of the training captions. Raises BadData, ConfigError."""
    return Tokenizer.from_captions(train.captions, config.data.min_word_count, config.data.max_vocab)


def _check_logits(config: Config, captions: list[str], vocab_size: int) -> None:
    available = available_bytes()
    if available is None:
        return
    words = min(config.decoding.max_length, max(len(caption.split()) for caption in captions)) + 1
    per_caption = 4 * LOGIT_COPIES * words * vocab_size
    size = min(config.training.batch_size, len(captions))
    if size * per_caption > available:
        raise ConfigError(
            f"a batch of {size:,} captions needs about {format_bytes(size * per_caption)} for the scores of its words, "
            f"and {format_bytes(available)} are available",
            f"decrease it, for example --set training.batch_size={max(1, min(available // per_caption // 2, 4096))}",
        )

"""The architecture of the model to train, and its check before image features are extracted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from xmodal_cli.backbones.image_backbones import other_features_error
from xmodal_cli.config import Config
from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.features.image_features import known_meta
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.taggers import LoadedTagger
from xmodal_cli.inference.towers import ImageSide, TextSide, input_features
from xmodal_cli.inference.weights import without_memory
from xmodal_cli.models.assembly import (
    Sizes,
    Towers,
    build_captioner,
    build_matcher,
    build_tagger,
    describe,
    describe_captioner,
)
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.trainers.initialization import check_initial_weights
from xmodal_cli.types import FeatureMeta, ImageTextDataset, LanguageModel

BUILDERS = {"matcher": build_matcher, "captioner": build_captioner, "tagger": build_tagger}
TRIAL_VOCAB = 8  # words, where the captions decide on the number


@dataclass(frozen=True)
class Pretrained:
    """The pretrained networks inside the model, and the tagger that gives it tags; each None where it has none."""

    image: ImageSide | None
    text: TextSide | None
    language_model: LanguageModel | None
    tagger: LoadedTagger | None

    @property
    def sides(self) -> dict[str, ImageSide | TextSide]:
        """The towers, by side."""
        sides: dict[str, ImageSide | TextSide | None] = {"image": self.image, "text": self.text}
        return {name: side for name, side in sides.items() if side is not None}

    def towers(self) -> Towers:
        """The networks in front of the encoders."""
        return {name: side.stack() for name, side in self.sides.items()}


def describe_architecture(config: Config, meta: FeatureMeta, vocab_size: int, pretrained: Pretrained) -> dict[str, Any]:
    """The architecture of a model on features that ``meta`` describes, for the header of its file."""
    image, text = pretrained.image, pretrained.text
    image_dim, image_kind = (meta.dim, meta.kind) if image is None else (image.dim, image.kind)
    sizes = Sizes(image_dim, image_kind, vocab_size, text.backbone.meta.dim if text is not None else 0)
    model = replace(config.model, embed_dim=config.model.embed_dim or image_dim)
    describe_fn = describe if config.kind == "matcher" else describe_captioner
    return describe_fn(model, sizes, {name: side.facts() for name, side in pretrained.sides.items()})


def given_tokenizer(pretrained: Pretrained, init_from: str | None) -> Tokenizer | None:
    """The tokenizer of the model to initialize from, or of the pretrained text network; None without either."""
    if init_from is not None:
        return Tokenizer.from_json(describe_model(init_from).header.tokenizer)
    if pretrained.text is not None:
        return Tokenizer.from_json(pretrained.text.backbone.tokenizer)
    if pretrained.language_model is not None:
        return Tokenizer.from_json(pretrained.language_model.tokenizer)
    return None


def check_model(config: Config, train: ImageTextDataset, pretrained: Pretrained, init_from: str | None) -> None:
    """Build the model with its sizes, without memory, and compare it with the model to initialize from.

    Nothing is checked for regions whose files are not given. Raises ConfigError,
    IncompatibleFeatures, and the errors of building the backbone.
    """
    meta = known_meta(train, input_features(config))
    if meta is None:
        return
    if init_from is not None:
        _check_features(init_from, meta, pretrained.image)
    architecture = describe_architecture(config, meta, _vocab_size(pretrained, init_from), pretrained)
    with without_memory():
        model = BUILDERS[config.kind](architecture, pretrained.towers())
    if init_from is not None:
        check_initial_weights(model, init_from)


def _vocab_size(pretrained: Pretrained, init_from: str | None) -> int:
    """The number of words, or of tags of a tagger, if the captions do not decide on it."""
    if init_from is not None:
        return int(describe_model(init_from).header.architecture["vocab_size"])
    tokenizer = given_tokenizer(pretrained, None)
    return tokenizer.vocab_size if tokenizer else TRIAL_VOCAB


def _check_features(init_from: str, meta: FeatureMeta, image: ImageSide | None) -> None:
    """Raise IncompatibleFeatures unless the model reads the same features, or those that the image tower computes."""
    info = describe_model(init_from)
    read = info.meta
    tower = None if image is None else (image.backbone, image.fingerprint, image.kind, image.dim)
    if read.key() != meta.key() and (read.backbone, read.fingerprint, read.kind, read.dim) != tower:
        if (read.backbone, read.kind, read.dim) == (meta.backbone, meta.kind, meta.dim):
            raise other_features_error(info.name, read, meta)
        raise IncompatibleFeatures(
            f"{info.name} reads features of {read.backbone}, this training has {meta.backbone}",
            "initialize from a model of the same backbone, or name that backbone with --backbone",
        )

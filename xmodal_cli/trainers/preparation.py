"""Prepare a training run: dataset, features, vocabulary and components become a ``Job``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from xmodal_cli.config import Config, to_dict
from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import captioned
from xmodal_cli.device import Compute
from xmodal_cli.errors import IncompatibleFeatures, UnknownName
from xmodal_cli.features.image_features import ImageFeatures, read_image_features
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.towers import ImageSide, TextSide, image_side, input_features, text_side, text_states
from xmodal_cli.models.assembly import Sizes, describe, describe_captioner
from xmodal_cli.models.model_file import ModelHeader
from xmodal_cli.models.token_batches import token_ids
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.reporter import Reporter
from xmodal_cli.trainers import captioner, matcher
from xmodal_cli.trainers.job import Job, Split, whole_captions
from xmodal_cli.trainers.language_models import adopt_language_model_sizes, language_model
from xmodal_cli.types import FeatureMeta

KINDS = ("matcher", "captioner")


def prepare(config: Config, data: str, run: Path, init_from: str | None, reporter: Reporter) -> Job:
    """Load the data, extract missing features, build the tokenizer and the architecture. Raises XmodalError."""
    compute = Compute(config.training.device, config.training.precision).resolve()
    objective(config).check_parts(config)
    dataset = load_dataset(data)
    language = language_model(config)
    config = adopt_language_model_sizes(config, language)
    text, image = text_side(config), image_side(config)
    parts = [captioned(dataset, *config.data.train_splits), captioned(dataset, config.data.val_split)]
    pictures = [read_image_features(part, input_features(config), compute, reporter) for part in parts]
    meta = pictures[0].meta
    encoder = text.backbone if text is not None else language
    pretrained = None if encoder is None else encoder.tokenizer
    if init_from is not None:
        tokenizer = _tokenizer_of(init_from, meta, image)
    else:
        tokenizer = _tokenizer(config, pictures[0].dataset.captions, pretrained)
    header = ModelHeader(
        kind=config.kind,
        architecture=_architecture(config, meta, tokenizer, (image, text)),
        tokenizer=tokenizer.to_json(),
        backbone=asdict(meta),
        similarity=config.model.similarity.name if config.kind == "matcher" else "",
        training=to_dict(config),
        dataset={"name": dataset.name, "splits": list(config.data.train_splits), "fingerprint": fingerprint(dataset)},
    )

    def split(found: ImageFeatures) -> Split:
        if config.kind == "captioner":
            wanted = config.captioning.tags, config.training.seed
            return Split(found, *whole_captions(found.dataset.captions, tokenizer, *wanted))
        captions = (
            text_states(text.backbone, found.dataset.captions, compute, reporter)
            if text is not None and text.cached
            else token_ids(found.dataset.captions, tokenizer)
        )
        return Split(found, *captions)

    towers = {name: side.stack() for name, side in (("image", image), ("text", text)) if side is not None}
    train, val = (split(part) for part in pictures)
    return Job(config, run, train, val, header, towers, compute, reporter, language.tensors if language else None)


def objective(config: Config) -> Any:
    """What a training of this kind optimises: ``recipes.learner`` or ``recipes.caption_learner``."""
    if config.kind not in KINDS:
        raise UnknownName.of("kind of model", config.kind, KINDS)
    if config.kind == "matcher":
        return matcher

    return captioner


def _tokenizer(config: Config, captions: Sequence[str], pretrained: str | None) -> Tokenizer:
    """The vocabulary: of the pretrained encoder, or of the training captions."""
    if pretrained:
        return Tokenizer.from_json(pretrained)
    return Tokenizer.from_captions(captions, config.data.min_word_count)


def _architecture(
    config: Config, meta: FeatureMeta, tokenizer: Tokenizer, sides: tuple[ImageSide | None, TextSide | None]
) -> dict[str, Any]:
    image, text = sides
    image_dim, image_kind = (meta.dim, meta.kind) if image is None else (image.dim, image.kind)
    sizes = Sizes(image_dim, image_kind, tokenizer.vocab_size, text.backbone.meta.dim if text is not None else 0)
    model = replace(config.model, embed_dim=config.model.embed_dim or image_dim)
    tell = describe_captioner if config.kind == "captioner" else describe
    return tell(model, sizes, {k: s.facts() for k, s in (("image", image), ("text", text)) if s is not None})


def _tokenizer_of(init_from: str, meta: FeatureMeta, image: ImageSide | None) -> Tokenizer:
    """The vocabulary of the model to start from, which must read the same features, or what our tower makes."""
    info = describe_model(init_from)
    read = info.meta
    ours = None if image is None else (image.backbone, image.fingerprint, image.kind, image.dim)
    if read.key() != meta.key() and (read.backbone, read.fingerprint, read.kind, read.dim) != ours:
        raise IncompatibleFeatures(
            f"{info.name} reads features of {read.backbone}, this training has {meta.backbone}",
            "start from a model of the same backbone, or name that backbone with --backbone",
        )
    return Tokenizer.from_json(info.header.tokenizer)

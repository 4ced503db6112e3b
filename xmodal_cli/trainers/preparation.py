"""Prepare a training run: dataset, features, vocabulary and architecture become a ``Job``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xmodal_cli.config import Config, to_dict
from xmodal_cli.data.caption_cleaning import left_out_warnings
from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.features.feature_source import declare_source, with_known_cosine
from xmodal_cli.features.image_features import ImageFeatures, check_same_features, read_image_features
from xmodal_cli.inference.models import describe_as
from xmodal_cli.inference.towers import image_side, input_features, text_side, text_states
from xmodal_cli.models.model_file import ModelHeader
from xmodal_cli.models.token_cache import cached_tokens
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.reporter import Reporter
from xmodal_cli.trainers import small_data
from xmodal_cli.trainers.architecture import Pretrained, check_model, describe_architecture, given_tokenizer
from xmodal_cli.trainers.batch_check import check_batches
from xmodal_cli.trainers.caption_limits import check_vocabulary, limit_caption_words
from xmodal_cli.trainers.early_checks import (
    check_sections,
    check_training_data,
    report_frozen_parts,
    report_shuffle_window,
    report_val_in_training,
    vocabulary_of,
)
from xmodal_cli.trainers.job import Job, Split, plan_split
from xmodal_cli.trainers.language_models import adopt_language_model_sizes, language_model
from xmodal_cli.trainers.objective import find_objective
from xmodal_cli.trainers.predicted_tags import captions_with_tags, describe_tags, load_tags_of
from xmodal_cli.trainers.resume import features_from_of
from xmodal_cli.trainers.tagger import find_tags, tag_split
from xmodal_cli.training.distributed import SINGLE, ProcessGroup
from xmodal_cli.types import FeatureMeta, FeatureSource, ImageTextDataset


def prepare(
    config: Config,
    data: str,
    run: Path,
    init_from: str | None,
    reporter: Reporter,
    check_photos: Path | None = None,
    group: ProcessGroup = SINGLE,
) -> Job:
    """Load the data, extract missing features, build the tokenizer and the architecture. Raises XmodalError.

    ``check_photos`` is a folder of photos on which the declared backbone of precomputed features is checked.
    """
    compute = group.compute(Compute(config.training.device, config.training.precision))
    find_objective(config).check(config)
    check_vocabulary(config)
    check_sections(config)
    report_frozen_parts(config, reporter)
    report_shuffle_window(config, reporter)
    report_val_in_training(config, reporter)
    if init_from is not None:
        describe_as(config.kind, init_from, "initialize from a model that was trained with this preset")
    dataset = _declare_source(config, load_dataset(data), run, check_photos, compute, reporter)
    for warning in left_out_warnings(dataset.select(*config.data.train_splits, config.data.val_split)):
        reporter.warn(warning)
    splits = _select_splits(config, dataset)
    check_batches(config, splits[0], compute.device, reporter)
    check_training_data(config, splits[0], init_from, compute.device)
    config, pretrained = _load_pretrained(config, compute)
    check_model(config, splits[0], pretrained, init_from)
    train_images, val_images = _read_images(config, splits, compute, reporter)
    tags = find_tags(config, train_images.dataset, init_from) if config.kind == "tagger" else []
    tokenizer = (
        Tokenizer.from_captions(tags)
        if tags
        else given_tokenizer(pretrained, init_from) or vocabulary_of(config, train_images.dataset)
    )
    train_images = limit_caption_words(train_images, config.data.max_caption_words, reporter)
    header = _build_header(config, dataset, train_images.meta, tokenizer, pretrained)
    header.architecture.update(describe_tags(tags, pretrained.tagger))
    train, val = (
        tag_split(images, tags) if tags else _build_split(config, images, tokenizer, pretrained, compute, reporter)
        for images in (train_images, val_images)
    )
    return Job(
        config=config,
        run=run,
        train=train,
        val=val,
        header=header,
        tokenizer=tokenizer,
        towers={name: side.stack() for name, side in pretrained.sides.items()},
        compute=compute,
        reporter=reporter,
        group=group,
        init_from=init_from,
        language_model=pretrained.language_model.tensors if pretrained.language_model else None,
        adapted=small_data.adapt(config, _count_steps(config, train)),
    )


def _load_pretrained(config: Config, compute: Compute) -> tuple[Config, Pretrained]:
    """The pretrained networks that the settings name; the settings take over the sizes of a language model."""
    loaded = language_model(config)
    config = adopt_language_model_sizes(config, loaded)
    text = text_side(config)
    return config, Pretrained(image_side(config), text, loaded, load_tags_of(config, compute))


def _declare_source(
    config: Config,
    dataset: ImageTextDataset,
    run: Path,
    check_photos: Path | None,
    compute: Compute,
    reporter: Reporter,
) -> ImageTextDataset:
    """The dataset with the declared backbone of its precomputed features, if there is one; checked on photos."""
    declared = config.data.features_from
    source = FeatureSource(declared, config.features.crops) if declared else dataset.features_from
    if source is None:
        if check_photos is not None:
            hint = "name the backbone that computed the features: --features-from BACKBONE"
            raise ConfigError("--check-photos needs a declared backbone", hint)
        return dataset
    if check_photos is None:
        source = with_known_cosine(source, dataset.features_from, features_from_of(run))
        if source == dataset.features_from:
            return dataset  # it was compared when it was registered
    return declare_source(dataset, source, check_photos, compute, reporter)


def _select_splits(config: Config, dataset: ImageTextDataset) -> tuple[ImageTextDataset, ImageTextDataset]:
    """The captioned images to train on, and those of the val split. Raises BadData."""
    return select_captioned(dataset, *config.data.train_splits), select_captioned(dataset, config.data.val_split)


def _count_steps(config: Config, train: Split) -> int:
    """The steps of an epoch."""
    if config.kind == "tagger":
        return -(-len(train.lengths) // config.training.batch_size)
    return len(plan_split(config, train))


def _read_images(
    config: Config, splits: Sequence[ImageTextDataset], compute: Compute, reporter: Reporter
) -> tuple[ImageFeatures, ImageFeatures]:
    """The image features of the train splits and of the val split; missing ones are extracted."""
    settings = input_features(config)
    train, val = (read_image_features(split, settings, compute, reporter) for split in splits)
    check_same_features("the model to train", train.meta, val.dataset, val.meta)
    return train, val


def _build_header(
    config: Config, dataset: ImageTextDataset, meta: FeatureMeta, tokenizer: Tokenizer, pretrained: Pretrained
) -> ModelHeader:
    """The header of the model file, without metrics."""
    return ModelHeader(
        kind=config.kind,
        architecture=describe_architecture(config, meta, tokenizer.vocab_size, pretrained),
        tokenizer=tokenizer.to_json(),
        backbone=asdict(meta),
        similarity=config.model.similarity.name if config.kind == "matcher" else "",
        training=to_dict(config),
        dataset=_describe_dataset(config, dataset),
    )


def _describe_dataset(config: Config, dataset: ImageTextDataset) -> dict[str, Any]:
    facts = {"name": dataset.name, "splits": list(config.data.train_splits), "fingerprint": fingerprint(dataset)}
    return facts | ({"features_from": asdict(dataset.features_from)} if dataset.features_from else {})


def _build_split(
    config: Config,
    images: ImageFeatures,
    tokenizer: Tokenizer,
    pretrained: Pretrained,
    compute: Compute,
    reporter: Reporter,
) -> Split:
    """The images with their captions: tokens, or the states of a sentence encoder whose lower layers are frozen."""
    captions: Sequence[str] = images.dataset.captions
    if config.kind == "captioner":
        return captions_with_tags(config, images, tokenizer, pretrained.tagger, reporter)
    text = pretrained.text
    if text is not None and text.cached:
        return Split(images, *text_states(text.backbone, captions, compute, reporter))
    tokens = cached_tokens(captions, tokenizer, tokenizer.encode, reporter)
    return Split(images, tokens.gather, tokens.lengths)

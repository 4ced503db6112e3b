"""Tags in front of the captions that a captioner is trained on: words of the caption, or the tags of a tagger."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from xmodal_cli.captioning.tags import add_tags, tag_prompt
from xmodal_cli.config import Config
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.features.image_features import ImageFeatures
from xmodal_cli.inference.taggers import LoadedTagger, dataset_probabilities, load_tagger, tag_words
from xmodal_cli.models.flat_tokens import FlatTokens, encode_flat
from xmodal_cli.models.token_cache import cached_tokens
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.reporter import Reporter
from xmodal_cli.trainers.job import Split


def check_tags(config: Config) -> None:
    """Raise ConfigError for tags that would not be used."""
    settings = config.captioning
    if config.loss.name == "self-critical" and (settings.tagger or settings.tag_prob):
        raise ConfigError(
            "self-critical training generates captions without tags",
            'leave the tags out: --set captioning.tag_prob=0 --set captioning.tagger=""',
        )
    if settings.tagger and not settings.tag_prob:
        raise ConfigError(
            "captioning.tagger has no effect while captioning.tag_prob is 0", "add --set captioning.tag_prob=1"
        )


def load_tags_of(config: Config, compute: Compute) -> LoadedTagger | None:
    """The tagger of the settings of a captioner, if any. Raises the errors of ``load_tagger``."""
    if config.kind != "captioner" or not config.captioning.tagger:
        return None
    return load_tagger(config.captioning.tagger, compute)


def describe_tags(tags: Sequence[str], tagger: LoadedTagger | None) -> dict[str, Any]:
    """What the architecture of a model file records: the ``tags`` of a tagger, the ``tagger`` of a captioner."""
    if tags:
        return {"tags": list(tags), "vocab_size": len(tags)}
    return {} if tagger is None else {"tagger": {"name": tagger.name, "fingerprint": tagger.info.fingerprint}}


def captions_with_tags(
    config: Config, images: ImageFeatures, tokenizer: Tokenizer, tagger: LoadedTagger | None, reporter: Reporter
) -> Split:
    """The captions of a split from BOS to EOS, each with tags before it with probability ``captioning.tag_prob``."""
    settings, dataset = config.captioning, images.dataset
    tags = None if tagger is None else _tags_of_images(tagger, images, tokenizer, settings.num_tags, reporter)
    given = None if tags is None else [tags[image] for image in dataset.image_of_caption]
    if not settings.tag_prob:
        tokens = cached_tokens(dataset.captions, tokenizer, tokenizer.encode_captions, reporter)
        return Split(images, tokens.gather, tokens.lengths, torch.zeros_like(tokens.lengths))
    tokens, prompt_lengths = _encode_with_tags(config, dataset.captions, tokenizer, given)
    prompts = () if tags is None else [tag_prompt(tokenizer, words) for words in tags]
    return Split(images, tokens.gather, tokens.lengths, prompt_lengths, prompts)


def _encode_with_tags(
    config: Config, captions: Sequence[str], tokenizer: Tokenizer, given: Sequence[Sequence[str]] | None
) -> tuple[FlatTokens, Tensor]:
    """The tokens of captions with tags, and (captions,) int64 lengths of the tags."""
    random, prompt_lengths = Random(config.training.seed), list[int]()

    def encode(some: Sequence[str]) -> list[list[int]]:
        start = len(prompt_lengths)
        given_here = None if given is None else given[start : start + len(some)]
        encoded = tokenizer.encode_captions(some)
        tagged, lengths = add_tags(tokenizer, encoded, config.captioning.tag_prob, random, given_here)
        prompt_lengths.extend(lengths)
        return tagged

    tokens = encode_flat(captions, encode, tokenizer.vocab_size)
    return tokens, torch.tensor(prompt_lengths, dtype=torch.int64)


def _tags_of_images(
    tagger: LoadedTagger, images: ImageFeatures, tokenizer: Tokenizer, num: int, reporter: Reporter
) -> list[list[str]]:
    """The ``num`` best tags of each image that the captioner has in its vocabulary."""
    readable, probabilities = dataset_probabilities(tagger, images.dataset, reporter)
    by_id = dict(zip(readable.ids, tag_words(tagger, probabilities, tokenizer, num), strict=True))
    return [by_id.get(image_id, []) for image_id in images.dataset.ids]

"""``data.max_caption_words`` and ``data.max_vocab``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xmodal_cli.config import Config, with_settings
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.features.image_features import ImageFeatures
from xmodal_cli.models.tokenizer import SPECIALS, Tokenizer
from xmodal_cli.reporter import SILENT, SilentReporter
from xmodal_cli.trainers.caption_limits import check_vocabulary, limit_caption_words
from xmodal_cli.types import Example, FeatureMeta, ImageTextDataset


def images_of(*captions: tuple[str, ...]) -> ImageFeatures:
    examples = tuple(Example(f"{n}", None, texts, "train") for n, texts in enumerate(captions))
    dataset = ImageTextDataset("tiny", "vse", Path("tiny"), examples)
    meta = FeatureMeta("precomputed", "", "global", 2)
    return ImageFeatures(dataset, meta, torch.arange(2.0 * len(captions)).view(-1, 2))


class Recorder(SilentReporter):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def info(self, message: str) -> None:
        self.messages.append(message)


def test_captions_with_more_words_are_left_out() -> None:
    images = images_of(("one two three", "one"), ("one two three four",), ("one two",))
    reporter = Recorder()
    limited = limit_caption_words(images, 3, reporter)
    assert reporter.messages == [
        "1 of 4 training captions have more than 3 words and are left out, and 1 of 3 images that have no other"
    ]
    assert [e.captions for e in limited.dataset.examples] == [("one two three", "one"), ("one two",)]
    assert limited.dataset.ids == ("0", "2")
    assert limited.features is not None
    assert limited.features.tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert [e.captions for e in limit_caption_words(images, 1, SILENT).dataset.examples] == [("one",)]
    assert limit_caption_words(images, 0, SILENT) is images
    without = replace(images, features=None)
    assert limit_caption_words(without, 2, SILENT).dataset.ids == ("0", "2")


def test_no_caption_is_short_enough() -> None:
    with pytest.raises(BadData, match="all training captions of tiny have more than 1 words"):
        limit_caption_words(images_of(("one two",)), 1, SILENT)


def test_max_vocab_keeps_the_most_frequent_words() -> None:
    captions = ["a dog", "a dog runs", "a cat runs", "a dog"]
    tokenizer = Tokenizer.from_captions(captions, 1, max_words=3)
    assert set(tokenizer.word_ids()) == {"a", "dog", "runs"}
    assert tokenizer.vocab_size == 3 + len(SPECIALS)
    assert tokenizer.unknown_words("a cat runs") == ["cat"]
    assert Tokenizer.from_captions(captions).vocab_size == 4 + len(SPECIALS)
    assert set(Tokenizer.from_captions(captions, 3, max_words=2).word_ids()) == {"a", "dog"}


@pytest.mark.parametrize("setting", ["text.backbone=minilm", "captioning.language_model=gpt2"])
def test_a_pretrained_vocabulary_cannot_be_limited(setting: str) -> None:
    config = with_settings(Config(), ["data.max_vocab=15000"])
    check_vocabulary(config)
    with pytest.raises(ConfigError, match=r"data\.max_vocab cannot limit the vocabulary"):
        check_vocabulary(with_settings(config, [setting]))

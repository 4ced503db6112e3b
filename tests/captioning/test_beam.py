"""Beam search against greedy search, against all captions there are, and against a slow one that never stops early."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers import slow_decoding
from helpers.table_captioner import END, MARKS, EndlessCaptioner, TableCaptioner, numbers

from xmodal_cli.captioning.decoding import decode
from xmodal_cli.errors import BadModel, ConfigError
from xmodal_cli.types import Decoding, SpecialTokens

IMAGES = range(5)


def same(ours, slow) -> None:
    assert [caption.tokens for caption in ours] == [caption.tokens for caption in slow]
    assert [caption.ended for caption in ours] == [caption.ended for caption in slow]
    np.testing.assert_allclose([c.score for c in ours], [c.score for c in slow], rtol=1e-5)
    np.testing.assert_allclose([c.log_prob for c in ours], [c.log_prob for c in slow], rtol=1e-5)


@pytest.mark.parametrize("max_length", [1, 3, 12])
@pytest.mark.parametrize("no_repeat_ngram_size", [0, 1, 2])
def test_a_beam_of_one_is_greedy(max_length, no_repeat_ngram_size):
    model = TableCaptioner(end_bonus=-1.0)
    settings = Decoding(beam=1, max_length=max_length, no_repeat_ngram_size=no_repeat_ngram_size, length_penalty=0.7)
    found = decode(model, numbers(*IMAGES), MARKS, settings)
    for image, captions in zip(IMAGES, found, strict=True):
        same(captions, [slow_decoding.greedy(model, image, settings)])


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(("vocab_size", "min_length", "max_length"), [(5, 0, 5), (5, 4, 5), (6, 1, 3), (6, 2, 2)])
def test_a_wide_beam_finds_the_best_of_all_captions(length_penalty, vocab_size, min_length, max_length):
    model = TableCaptioner(vocab_size)
    settings = Decoding(120, 4, max_length, min_length, length_penalty)
    found = decode(model, numbers(*IMAGES), MARKS, settings)
    for image, captions in zip(IMAGES, found, strict=True):
        same(captions, slow_decoding.every_caption(model, image, settings)[:4])


@pytest.mark.parametrize("no_repeat_ngram_size", [1, 2, 3])
def test_a_wide_beam_finds_the_best_without_repeats(no_repeat_ngram_size):
    model = TableCaptioner(vocab_size=5, end_bonus=-2.0)
    settings = Decoding(60, 5, 5, 4, 0.5, no_repeat_ngram_size)
    found = decode(model, numbers(*IMAGES), MARKS, settings)
    for image, captions in zip(IMAGES, found, strict=True):
        same(captions, slow_decoding.every_caption(model, image, settings)[:5])
        assert not any(slow_decoding.repeats(caption.tokens, no_repeat_ngram_size) for caption in captions)


@pytest.mark.parametrize("beam", [2, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 1.7])
@pytest.mark.parametrize("end_bonus", [-2.0, 1.0])
def test_stopping_early_changes_nothing(beam, length_penalty, end_bonus):
    for num, no_repeat_ngram_size in itertools.product((1, beam), (0, 2)):
        model = TableCaptioner(vocab_size=8, end_bonus=end_bonus)
        settings = Decoding(beam, num, 8, 2, length_penalty, no_repeat_ngram_size)
        found = decode(model, numbers(*IMAGES), MARKS, settings)
        for image, captions in zip(IMAGES, found, strict=True):
            same(captions, slow_decoding.beam(model, image, settings))


def test_it_does_stop_early():
    model = TableCaptioner(end_bonus=4.0)
    decode(model, numbers(*IMAGES), MARKS, Decoding(beam=3, max_length=200, length_penalty=0.0))
    assert model.steps < 50


@pytest.mark.parametrize(("beam", "groups"), [(3, 3), (4, 2), (6, 2), (6, 3)])
@pytest.mark.parametrize("diversity", [0.0, 0.5, 3.0])
def test_diverse_beams_are_those_of_the_slow_search(beam, groups, diversity):
    for num in (1, groups, beam):
        model = TableCaptioner(vocab_size=8, end_bonus=1.0)
        settings = Decoding(beam, num, 6, num_beam_groups=groups, diversity_penalty=diversity)
        found = decode(model, numbers(*IMAGES), MARKS, settings)
        for image, captions in zip(IMAGES, found, strict=True):
            same(captions, slow_decoding.beam(model, image, settings))


def test_diversity_makes_captions_begin_with_more_words():
    model = TableCaptioner(vocab_size=12, end_bonus=-1.0)

    def first_words(settings: Decoding) -> int:
        found = decode(model, numbers(*range(20)), MARKS, settings)
        return sum(len({caption.tokens[0] for caption in captions}) for captions in found)

    assert (
        first_words(Decoding(4, 4, 6)) < first_words(Decoding(4, 4, 6, num_beam_groups=4, diversity_penalty=20.0)) == 80
    )


def test_the_n_best_are_different_and_in_order():
    for captions in decode(TableCaptioner(), numbers(*IMAGES), MARKS, Decoding(beam=8, num=8)):
        assert len({caption.tokens for caption in captions}) == 8
        scores = [caption.score for caption in captions]
        assert scores == sorted(scores, reverse=True)
        for caption in captions:
            assert not {*MARKS.banned, END} & {*caption.tokens}
            assert 1 <= len(caption.tokens) <= 20


def test_fewer_where_there_are_no_more():
    (captions,) = decode(TableCaptioner(vocab_size=5), numbers(0), MARKS, Decoding(beam=8, num=8, max_length=1))
    assert sorted(caption.tokens for caption in captions) == [(3,), (4,)]


@pytest.mark.parametrize("settings", [Decoding(beam=1), Decoding(beam=4, num=4), Decoding(sample=True, num=3)])
def test_a_model_that_never_ends_is_cut(settings):
    for captions in decode(EndlessCaptioner(), numbers(*IMAGES), MARKS, settings):
        assert len(captions) == settings.num
        for caption in captions:
            assert len(caption.tokens) == 20
            assert not caption.ended
            assert caption.score == pytest.approx(caption.log_prob / 20, rel=1e-5)


@pytest.mark.parametrize("settings", [Decoding(beam=1), Decoding(beam=3), Decoding(sample=True)])
def test_where_no_word_is_left_the_caption_ends(settings):
    settings = Decoding(settings.beam, 1, 20, 6, no_repeat_ngram_size=1, sample=settings.sample)
    for model in (TableCaptioner(vocab_size=6), EndlessCaptioner(vocab_size=6)):
        for (caption,) in decode(model, numbers(*IMAGES), MARKS, settings):
            assert sorted(caption.tokens) == [3, 4, 5]
            assert caption.ended


@pytest.mark.parametrize(
    "settings",
    [
        Decoding(1),
        Decoding(5, 5),
        Decoding(3, 2, no_repeat_ngram_size=2),
        Decoding(6, 3, num_beam_groups=3),
        Decoding(num=4, sample=True),
    ],
)
def test_the_batch_does_not_change_a_caption(settings):
    model = TableCaptioner(end_bonus=1.0)
    together = decode(model, numbers(*IMAGES), MARKS, settings, attention=True)
    for image in IMAGES:
        (alone,) = decode(model, numbers(image), MARKS, settings, attention=True, first=image)
        same(alone, together[image])
        for one, other in zip(alone, together[image], strict=True):
            assert torch.equal(one.attention, other.attention)


@pytest.mark.parametrize(
    "settings",
    [Decoding(1), Decoding(4, 4), Decoding(6, 6, num_beam_groups=3, diversity_penalty=2), Decoding(num=3, sample=True)],
)
def test_attention_and_chances_are_those_of_the_captions_own_words(settings):
    model = TableCaptioner(end_bonus=-0.5)
    found = decode(model, numbers(*IMAGES), MARKS, settings, prompt=(5, 3), attention=True)
    for image, captions in zip(IMAGES, found, strict=True):
        for caption in captions:
            beginnings = [(0, 5, 3, *caption.tokens[:n]) for n in range(len(caption.tokens) + 1)]
            looked = [model.look_up(image, beginning)[1] for beginning in beginnings[:-1]]
            np.testing.assert_array_equal(caption.attention, np.stack(looked))
            tokens = (*caption.tokens, END) if caption.ended else caption.tokens
            gained = [model.look_up(image, b)[0][t] for b, t in zip(beginnings, tokens, strict=False)]
            assert caption.log_prob == pytest.approx(sum(gained), rel=1e-5)


def test_attention_is_kept_only_where_asked_for():
    assert decode(TableCaptioner(), numbers(0), MARKS, Decoding())[0][0].attention is None


def test_start_and_end_may_be_one_token():
    special_tokens = SpecialTokens(1, 1, (0, 1, 2))
    for captions in decode(TableCaptioner(end_bonus=1.0), numbers(*IMAGES), special_tokens, Decoding(beam=3)):
        assert captions[0].ended


def test_no_images_give_no_captions():
    empty = torch.empty(0, 1)
    for settings in (Decoding(), Decoding(sample=True)):
        assert decode(NoImages(), empty, MARKS, settings) == []


class NoImages(TableCaptioner):
    def step(self, state, tokens):
        return torch.empty(*tokens.shape, self.vocab_size), state


class Diverged(TableCaptioner):
    def step(self, state, tokens):
        log_probs, state = super().step(state, tokens)
        return log_probs * torch.nan, state


def test_a_model_of_nans_is_told():
    with pytest.raises(BadModel, match="not numbers"):
        decode(Diverged(), numbers(0), MARKS, Decoding())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Decoding(beam=2, num=3), r"decoding\.num is 3"),
        (Decoding(beam=0), r"decoding\.beam must be at least 1, not 0"),
        (Decoding(min_length=9, max_length=8), r"decoding\.min_length is 9"),
        (Decoding(length_penalty=-1.0), r"decoding\.length_penalty must be at least 0, not -1"),
        (Decoding(beam=5, num_beam_groups=2), r"decoding\.num_beam_groups is 2"),
        (Decoding(sample=True, num_beam_groups=5), r"decoding\.num_beam_groups is 5"),
        (Decoding(sample=True, temperature=0.0), r"decoding\.temperature must be above 0, not 0"),
        (Decoding(sample=True, top_p=0.0), r"decoding\.top_p must be above 0 and at most 1, not 0"),
    ],
)
def test_settings_that_contradict_each_other_are_told(settings, told):
    with pytest.raises(ConfigError, match=told) as caught:
        decode(TableCaptioner(), numbers(0), MARKS, settings)
    assert caught.value.hint.startswith(("it must be ", "the default is "))

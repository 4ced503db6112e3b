"""Beam search against reference implementations: greedy, exhaustive, and beam search without early termination."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers import reference_decoding
from helpers.table_captioner import EOS, SPECIAL, EndlessCaptioner, TableCaptioner, image_features

from xmodal_cli.captioning.decoding import decode
from xmodal_cli.errors import BadModel, ConfigError
from xmodal_cli.types import Decoding, SpecialTokens

IMAGES = range(5)


def assert_same(captions, expected) -> None:
    assert [caption.tokens for caption in captions] == [caption.tokens for caption in expected]
    assert [caption.ended for caption in captions] == [caption.ended for caption in expected]
    np.testing.assert_allclose([c.score for c in captions], [c.score for c in expected], rtol=1e-5)
    np.testing.assert_allclose([c.log_prob for c in captions], [c.log_prob for c in expected], rtol=1e-5)


@pytest.mark.parametrize("max_length", [1, 3, 12])
@pytest.mark.parametrize("no_repeat", [0, 1, 2])
def test_beam_size_one_is_greedy(max_length, no_repeat):
    model = TableCaptioner(eos_bonus=-1.0)
    settings = Decoding(beam=1, max_length=max_length, no_repeat_ngram_size=no_repeat, length_penalty=0.7)
    results = decode(model, image_features(*IMAGES), SPECIAL, settings)
    for image, captions in zip(IMAGES, results, strict=True):
        assert_same(captions, [reference_decoding.greedy_search(model, image, settings)])


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(("vocab_size", "min_length", "max_length"), [(5, 0, 5), (5, 4, 5), (6, 1, 3), (6, 2, 2)])
def test_a_wide_beam_is_exhaustive(length_penalty, vocab_size, min_length, max_length):
    model = TableCaptioner(vocab_size)
    settings = Decoding(120, 4, max_length, min_length, length_penalty)
    results = decode(model, image_features(*IMAGES), SPECIAL, settings)
    for image, captions in zip(IMAGES, results, strict=True):
        assert_same(captions, reference_decoding.exhaustive_search(model, image, settings)[:4])


@pytest.mark.parametrize("no_repeat", [1, 2, 3])
def test_a_wide_beam_is_exhaustive_without_repeated_ngrams(no_repeat):
    model = TableCaptioner(vocab_size=5, eos_bonus=-2.0)
    settings = Decoding(60, 5, 5, 4, 0.5, no_repeat)
    results = decode(model, image_features(*IMAGES), SPECIAL, settings)
    for image, captions in zip(IMAGES, results, strict=True):
        assert_same(captions, reference_decoding.exhaustive_search(model, image, settings)[:5])
        assert not any(reference_decoding.has_repeated_ngram(caption.tokens, no_repeat) for caption in captions)


@pytest.mark.parametrize("beam", [2, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 1.7])
@pytest.mark.parametrize("eos_bonus", [-2.0, 1.0])
def test_early_termination_is_exact(beam, length_penalty, eos_bonus):
    for num, no_repeat in itertools.product((1, beam), (0, 2)):
        model = TableCaptioner(vocab_size=8, eos_bonus=eos_bonus)
        settings = Decoding(beam, num, 8, 2, length_penalty, no_repeat)
        results = decode(model, image_features(*IMAGES), SPECIAL, settings)
        for image, captions in zip(IMAGES, results, strict=True):
            assert_same(captions, reference_decoding.beam_search(model, image, settings))


@pytest.mark.parametrize(("beam", "groups"), [(2, 1), (5, 1), (4, 2)])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 1.7])
@pytest.mark.parametrize("eos_bonus", [-2.0, 1.0, 3.0])
def test_heuristic_early_stopping_equals_the_reference(beam, groups, length_penalty, eos_bonus):
    for num in (1, beam):
        model = TableCaptioner(vocab_size=8, eos_bonus=eos_bonus)
        settings = Decoding(beam, num, 8, 2, length_penalty, num_beam_groups=groups, early_stopping="heuristic")
        results = decode(model, image_features(*IMAGES), SPECIAL, settings)
        for image, captions in zip(IMAGES, results, strict=True):
            assert_same(captions, reference_decoding.beam_search(model, image, settings))


def test_heuristic_early_stopping_takes_fewer_steps_and_can_miss_the_best_caption():
    steps, scores = {}, {}
    for rule in ("exact", "heuristic"):
        model = TableCaptioner(vocab_size=8, eos_bonus=3.0)
        settings = Decoding(beam=5, max_length=20, length_penalty=1.0, early_stopping=rule)
        scores[rule] = np.array(
            [captions[0].score for captions in decode(model, image_features(*range(40)), SPECIAL, settings)]
        )
        steps[rule] = model.steps
    assert steps["heuristic"] < steps["exact"]
    assert (scores["heuristic"] <= scores["exact"] + 1e-6).all()
    assert (scores["heuristic"] < scores["exact"] - 1e-6).any()


def test_search_terminates_early():
    model = TableCaptioner(eos_bonus=4.0)
    decode(model, image_features(*IMAGES), SPECIAL, Decoding(beam=3, max_length=200, length_penalty=0.0))
    assert model.steps < 50


@pytest.mark.parametrize(("beam", "groups"), [(3, 3), (4, 2), (6, 2), (6, 3)])
@pytest.mark.parametrize("diversity", [0.0, 0.5, 3.0])
def test_diverse_beam_search_equals_the_reference(beam, groups, diversity):
    for num in (1, groups, beam):
        model = TableCaptioner(vocab_size=8, eos_bonus=1.0)
        settings = Decoding(beam, num, 6, num_beam_groups=groups, diversity_penalty=diversity)
        results = decode(model, image_features(*IMAGES), SPECIAL, settings)
        for image, captions in zip(IMAGES, results, strict=True):
            assert_same(captions, reference_decoding.beam_search(model, image, settings))


def test_diversity_increases_the_number_of_first_tokens():
    model = TableCaptioner(vocab_size=12, eos_bonus=-1.0)

    def num_first_tokens(settings: Decoding) -> int:
        results = decode(model, image_features(*range(20)), SPECIAL, settings)
        return sum(len({caption.tokens[0] for caption in captions}) for captions in results)

    assert (
        num_first_tokens(Decoding(4, 4, 6))
        < num_first_tokens(Decoding(4, 4, 6, num_beam_groups=4, diversity_penalty=20.0))
        == 80
    )


def test_the_n_best_are_distinct_and_sorted():
    for captions in decode(TableCaptioner(), image_features(*IMAGES), SPECIAL, Decoding(beam=8, num=8)):
        assert len({caption.tokens for caption in captions}) == 8
        scores = [caption.score for caption in captions]
        assert scores == sorted(scores, reverse=True)
        for caption in captions:
            assert not {*SPECIAL.banned, EOS} & {*caption.tokens}
            assert 1 <= len(caption.tokens) <= 20


def test_fewer_captions_if_there_are_no_more():
    (captions,) = decode(
        TableCaptioner(vocab_size=5), image_features(0), SPECIAL, Decoding(beam=8, num=8, max_length=1)
    )
    assert sorted(caption.tokens for caption in captions) == [(3,), (4,)]


@pytest.mark.parametrize("settings", [Decoding(beam=1), Decoding(beam=4, num=4), Decoding(sample=True, num=3)])
def test_captions_without_eos_are_cut(settings):
    for captions in decode(EndlessCaptioner(), image_features(*IMAGES), SPECIAL, settings):
        assert len(captions) == settings.num
        for caption in captions:
            assert len(caption.tokens) == 20
            assert not caption.ended
            assert caption.score == pytest.approx(caption.log_prob / 20, rel=1e-5)


@pytest.mark.parametrize("settings", [Decoding(beam=1), Decoding(beam=3), Decoding(sample=True)])
def test_a_caption_ends_if_no_token_is_allowed(settings):
    settings = Decoding(settings.beam, 1, 20, 6, no_repeat_ngram_size=1, sample=settings.sample)
    for model in (TableCaptioner(vocab_size=6), EndlessCaptioner(vocab_size=6)):
        for (caption,) in decode(model, image_features(*IMAGES), SPECIAL, settings):
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
def test_captions_do_not_depend_on_the_batch(settings):
    model = TableCaptioner(eos_bonus=1.0)
    batched = decode(model, image_features(*IMAGES), SPECIAL, settings, attention=True)
    for image in IMAGES:
        (single,) = decode(model, image_features(image), SPECIAL, settings, attention=True, first=image)
        assert_same(single, batched[image])
        for one, other in zip(single, batched[image], strict=True):
            np.testing.assert_array_equal(one.attention, other.attention)


@pytest.mark.parametrize(
    "settings",
    [Decoding(1), Decoding(4, 4), Decoding(6, 6, num_beam_groups=3, diversity_penalty=2), Decoding(num=3, sample=True)],
)
def test_attention_and_log_prob_belong_to_the_tokens_of_the_caption(settings):
    model = TableCaptioner(eos_bonus=-0.5)
    results = decode(model, image_features(*IMAGES), SPECIAL, settings, prompt=(5, 3), attention=True)
    for image, captions in zip(IMAGES, results, strict=True):
        for caption in captions:
            prefixes = [(0, 5, 3, *caption.tokens[:n]) for n in range(len(caption.tokens) + 1)]
            attention = [model.look_up(image, prefix)[1] for prefix in prefixes[:-1]]
            np.testing.assert_array_equal(caption.attention, np.stack(attention))
            tokens = (*caption.tokens, EOS) if caption.ended else caption.tokens
            log_probs = [
                model.look_up(image, prefix)[0][token] for prefix, token in zip(prefixes, tokens, strict=False)
            ]
            assert caption.log_prob == pytest.approx(sum(log_probs), rel=1e-5)


def test_attention_is_returned_only_if_requested():
    assert decode(TableCaptioner(), image_features(0), SPECIAL, Decoding())[0][0].attention is None


def test_bos_and_eos_may_be_the_same_token():
    special_tokens = SpecialTokens(1, 1, (0, 1, 2))
    for captions in decode(TableCaptioner(eos_bonus=1.0), image_features(*IMAGES), special_tokens, Decoding(beam=3)):
        assert captions[0].ended


def test_no_images_give_no_captions():
    empty = torch.empty(0, 1)
    for settings in (Decoding(), Decoding(sample=True)):
        assert decode(EmptyBatch(), empty, SPECIAL, settings) == []


class EmptyBatch(TableCaptioner):
    def step(self, state, tokens):
        return torch.empty(*tokens.shape, self.vocab_size), state


class NaNCaptioner(TableCaptioner):
    def step(self, state, tokens):
        log_probs, state = super().step(state, tokens)
        return log_probs * torch.nan, state


def test_a_model_that_outputs_nan_is_an_error():
    with pytest.raises(BadModel, match="outputs NaN"):
        decode(NaNCaptioner(), image_features(0), SPECIAL, Decoding())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Decoding(beam=2, num=3), r"decoding\.num must be at most the beam size, 2, not 3"),
        (Decoding(beam=0), r"decoding\.beam must be at least 1 and at most 100000, not 0"),
        (Decoding(min_length=9, max_length=8), r"decoding\.min_length must be at most 8, not 9"),
        (Decoding(length_penalty=-1.0), r"decoding\.length_penalty must be at least 0 and at most 10, not -1"),
        (
            Decoding(beam=5, num_beam_groups=2),
            r"decoding\.num_beam_groups must be a divisor of the beam size, 5, not 2",
        ),
        (Decoding(sample=True, num_beam_groups=5), r"decoding\.num_beam_groups must be 1 for sampling, not 5"),
        (Decoding(sample=True, temperature=0.0), r"decoding\.temperature must be above 0, not 0"),
        (Decoding(sample=True, top_p=0.0), r"decoding\.top_p must be above 0 and at most 1, not 0"),
    ],
)
def test_invalid_settings_are_an_error(settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        decode(TableCaptioner(), image_features(0), SPECIAL, settings)
    assert error.value.hint.startswith(("change it, ", "the default is "))

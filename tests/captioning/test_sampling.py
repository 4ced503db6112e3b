"""Sampling against probabilities of the reference implementation, and samples for self-critical training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import reference_decoding
from helpers.table_captioner import EOS, SPECIAL, EndlessCaptioner, TableCaptioner, image_features

from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.sampling import sample_categorical, sample_next
from xmodal_cli.captioning.token_sampling import sample_tokens
from xmodal_cli.types import Decoding

GRID = (torch.arange(20_000) + 0.5) / 20_000  # evenly spaced in (0, 1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (50, 1.0), (0, 0.5), (0, 0.9), (4, 0.7), (1, 1.0)])
def test_token_frequencies_are_the_probabilities(temperature, top_k, top_p):
    settings = Decoding(sample=True, temperature=temperature, top_k=top_k, top_p=top_p)
    for image in range(4):
        log_probs = TableCaptioner(vocab_size=9).look_up(image, (0,))[0]
        expected = reference_decoding.sampling_probs(log_probs, temperature, top_k, top_p)
        tokens = sample_next(torch.tensor(log_probs).expand(len(GRID), -1), GRID, settings)
        frequencies = np.bincount(tokens, minlength=9) / len(GRID)
        np.testing.assert_allclose(frequencies, expected, atol=1.5 / len(GRID))
        assert set(np.flatnonzero(frequencies)) <= set(np.flatnonzero(expected))


def test_tokens_of_probability_zero_are_never_sampled():
    probs = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0])
    noise = torch.tensor([0.0, 0.3, 1 - 2**-24])
    assert sample_categorical(probs.expand(3, -1), noise).tolist() == [1, 3, 3]
    assert sample_categorical(1e-30 * probs.expand(3, -1), noise).tolist() == [1, 3, 3]


def test_tokens_that_are_not_allowed_are_never_sampled():
    settings = Decoding(num=200, sample=True, min_length=3, max_length=6, no_repeat_ngram_size=1, temperature=3.0)
    for captions in decode(TableCaptioner(vocab_size=12, eos_bonus=2.0), image_features(*range(5)), SPECIAL, settings):
        for caption in captions:
            assert 3 <= len(caption.tokens) <= 6
            assert len({*caption.tokens}) == len(caption.tokens)
            assert not {*SPECIAL.banned, EOS} & {*caption.tokens}


def test_samples_depend_on_the_seed_and_the_index_in_the_job():
    model, settings = TableCaptioner(), Decoding(num=6, sample=True, seed=3)
    results = decode(model, image_features(*[4] * 7), SPECIAL, settings)
    again = decode(model, image_features(*[4] * 2), SPECIAL, settings, first=5)
    assert again == results[5:]
    assert results[0] != results[1]
    assert decode(model, image_features(4), SPECIAL, replace(settings, seed=4))[0] != results[0]


def test_a_larger_num_adds_to_the_same_samples():
    model, settings = TableCaptioner(), Decoding(num=3, sample=True)
    few, many = (decode(model, image_features(0), SPECIAL, replace(settings, num=num))[0] for num in (3, 9))
    assert {c.tokens for c in few} <= {c.tokens for c in many}


def test_samples_are_sorted_by_score():
    for captions in decode(TableCaptioner(), image_features(*range(5)), SPECIAL, Decoding(num=9, sample=True)):
        scores = [caption.score for caption in captions]
        assert scores == sorted(scores, reverse=True)
        for caption in captions:
            length = len(caption.tokens) + caption.ended
            assert caption.score == pytest.approx(caption.log_prob / length, rel=1e-5)


def test_sampling_from_one_candidate_is_greedy():
    model = TableCaptioner()
    greedy = decode(model, image_features(*range(5)), SPECIAL, Decoding(beam=1))
    for settings in (
        Decoding(sample=True, top_k=1),
        Decoding(sample=True, top_p=1e-6),
        Decoding(sample=True, temperature=1e-3),
    ):
        assert [c[0].tokens for c in decode(model, image_features(*range(5)), SPECIAL, settings)] == [
            c[0].tokens for c in greedy
        ]


# ---------------------------------------------------------------------------- for self-critical training


def until_eos(row: list[int]) -> tuple[int, ...]:
    return tuple(row[: row.index(EOS)]) if EOS in row else tuple(row)


def test_greedy_tokens_equal_beam_size_one():
    model = TableCaptioner(eos_bonus=1.0)
    tokens = sample_tokens(model, image_features(*range(9)), SPECIAL, 5, 8, greedy=True)
    assert tokens.shape[:2] == (9, 1)
    results = decode(model, image_features(*range(9)), SPECIAL, Decoding(beam=1, min_length=0, max_length=8))
    assert [until_eos(row[0]) for row in tokens.tolist()] == [captions[0].tokens for captions in results]


def test_rows_are_padded_with_eos_to_the_longest_caption():
    model = TableCaptioner(eos_bonus=2.0)
    tokens = sample_tokens(model, image_features(*range(9)), SPECIAL, 4, 30, torch.Generator().manual_seed(0))
    assert tokens.dtype == torch.int64
    ended = (tokens == EOS).long()
    assert (ended.diff(dim=-1) >= 0).all()  # only EOS after EOS
    assert tokens.shape[-1] == 1 + max(len(until_eos(row)) for rows in tokens.tolist() for row in rows) < 30
    assert not torch.isin(tokens, torch.tensor(SPECIAL.banned)).any()


def test_captions_that_are_cut_have_no_eos():
    tokens = sample_tokens(EndlessCaptioner(), image_features(0, 1), SPECIAL, 3, 5)
    assert tokens.shape == (2, 3, 5)
    assert not (tokens == EOS).any()


def test_tokens_are_sampled_from_the_unmodified_probabilities():
    model = TableCaptioner(vocab_size=6)
    tokens = sample_tokens(model, image_features(2), SPECIAL, 20_000, 2, torch.Generator().manual_seed(1))[0]
    first, second = (
        reference_decoding.sampling_probs(
            np.where(np.isin(range(6), SPECIAL.banned), -np.inf, model.look_up(2, prefix)[0]), 1.0, 0, 1.0
        )
        for prefix in ((0,), (0, 4))
    )
    np.testing.assert_allclose(np.bincount(tokens[:, 0], minlength=6) / 20_000, first, atol=0.02)
    next_tokens = tokens[tokens[:, 0] == 4, 1]
    np.testing.assert_allclose(np.bincount(next_tokens, minlength=6) / len(next_tokens), second, atol=0.04)


def test_generator_state_does_not_depend_on_the_samples():
    """Otherwise a resumed training would not repeat the same steps."""
    states = []
    for eos_bonus in (-9.0, 0.0, 9.0):
        generator = torch.Generator().manual_seed(5)
        samples = [
            sample_tokens(TableCaptioner(eos_bonus=eos_bonus), image_features(0, 1), SPECIAL, 2, 9, generator)
            for _ in range(2)
        ]
        assert samples[0].shape != samples[1].shape or not torch.equal(*samples) or eos_bonus == 9.0
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])
    generator = torch.Generator().manual_seed(5)
    again = sample_tokens(TableCaptioner(), image_features(0, 1), SPECIAL, 2, 9, generator)
    assert torch.equal(
        again,
        sample_tokens(TableCaptioner(), image_features(0, 1), SPECIAL, 2, 9, torch.Generator().manual_seed(5)),
    )

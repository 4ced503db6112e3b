"""Sampling against chances that were worked out apart, and what self-critical training draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import slow_decoding
from helpers.table_captioner import END, MARKS, EndlessCaptioner, TableCaptioner, numbers

from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.sampling import chosen, draw, sample_tokens
from xmodal_cli.types import Decoding

GRID = (torch.arange(20_000) + 0.5) / 20_000  # every number from 0 to 1, evenly


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (50, 1.0), (0, 0.5), (0, 0.9), (4, 0.7), (1, 1.0)])
def test_words_are_drawn_by_their_chances(temperature, top_k, top_p):
    settings = Decoding(sample=True, temperature=temperature, top_k=top_k, top_p=top_p)
    for image in range(4):
        log_probs = TableCaptioner(vocab_size=9).look_up(image, (0,))[0]
        wanted = slow_decoding.chances(log_probs, temperature, top_k, top_p)
        drawn = chosen(torch.tensor(log_probs).expand(len(GRID), -1), GRID, settings)
        shares = np.bincount(drawn, minlength=9) / len(GRID)
        np.testing.assert_allclose(shares, wanted, atol=1.5 / len(GRID))
        assert set(np.flatnonzero(shares)) <= set(np.flatnonzero(wanted))


def test_what_has_no_chance_is_never_drawn():
    chances = torch.tensor([0.0, 0.3, 0.0, 0.7, 0.0])
    noise = torch.tensor([0.0, 0.3, 1 - 2**-24])
    assert draw(chances.expand(3, -1), noise).tolist() == [1, 3, 3]
    assert draw(1e-30 * chances.expand(3, -1), noise).tolist() == [1, 3, 3]


def test_forbidden_words_are_never_drawn():
    settings = Decoding(num=200, sample=True, min_length=3, max_length=6, no_repeat_ngram_size=1, temperature=3.0)
    for captions in decode(TableCaptioner(vocab_size=12, end_bonus=2.0), numbers(*range(5)), MARKS, settings):
        for caption in captions:
            assert 3 <= len(caption.tokens) <= 6
            assert len({*caption.tokens}) == len(caption.tokens)
            assert not {*MARKS.banned, END} & {*caption.tokens}


def test_the_seed_and_the_place_in_the_job_decide():
    model, settings = TableCaptioner(), Decoding(num=6, sample=True, seed=3)
    whole = decode(model, numbers(*[4] * 7), MARKS, settings)
    again = decode(model, numbers(*[4] * 2), MARKS, settings, first=5)
    assert again == whole[5:]
    assert whole[0] != whole[1]
    assert decode(model, numbers(4), MARKS, replace(settings, seed=4))[0] != whole[0]


def test_more_samples_begin_with_the_fewer():
    model, settings = TableCaptioner(), Decoding(num=3, sample=True)
    few, many = (decode(model, numbers(0), MARKS, replace(settings, num=num))[0] for num in (3, 9))
    assert {c.tokens for c in few} <= {c.tokens for c in many}


def test_samples_are_in_the_order_of_their_scores():
    for captions in decode(TableCaptioner(), numbers(*range(5)), MARKS, Decoding(num=9, sample=True)):
        scores = [caption.score for caption in captions]
        assert scores == sorted(scores, reverse=True)
        for caption in captions:
            length = len(caption.tokens) + caption.ended
            assert caption.score == pytest.approx(caption.log_prob / length, rel=1e-5)


def test_one_word_to_choose_from_is_greedy():
    model = TableCaptioner()
    greedy = decode(model, numbers(*range(5)), MARKS, Decoding(beam=1))
    for other in (
        Decoding(sample=True, top_k=1),
        Decoding(sample=True, top_p=1e-6),
        Decoding(sample=True, temperature=1e-3),
    ):
        assert [c[0].tokens for c in decode(model, numbers(*range(5)), MARKS, other)] == [c[0].tokens for c in greedy]


# ---------------------------------------------------------------------------- for self-critical training


def words_of(row: list[int]) -> tuple[int, ...]:
    return tuple(row[: row.index(END)]) if END in row else tuple(row)


def test_greedy_tokens_are_those_of_a_beam_of_one():
    model = TableCaptioner(end_bonus=1.0)
    tokens = sample_tokens(model, numbers(*range(9)), MARKS, 5, 8, greedy=True)
    assert tokens.shape[:2] == (9, 1)
    found = decode(model, numbers(*range(9)), MARKS, Decoding(beam=1, min_length=0, max_length=8))
    assert [words_of(row[0]) for row in tokens.tolist()] == [captions[0].tokens for captions in found]


def test_rows_are_filled_with_ends_and_no_longer_than_needed():
    model = TableCaptioner(end_bonus=2.0)
    tokens = sample_tokens(model, numbers(*range(9)), MARKS, 4, 30, torch.Generator().manual_seed(0))
    assert tokens.dtype == torch.int64
    ended = (tokens == END).long()
    assert (ended.diff(dim=-1) >= 0).all()  # after an end, ends alone
    assert tokens.shape[-1] == 1 + max(len(words_of(row)) for rows in tokens.tolist() for row in rows) < 30
    assert not torch.isin(tokens, torch.tensor(MARKS.banned)).any()


def test_what_has_not_ended_has_no_end():
    tokens = sample_tokens(EndlessCaptioner(), numbers(0, 1), MARKS, 3, 5)
    assert tokens.shape == (2, 3, 5)
    assert not (tokens == END).any()


def test_tokens_are_drawn_by_the_models_own_chances():
    model = TableCaptioner(vocab_size=6)
    tokens = sample_tokens(model, numbers(2), MARKS, 20_000, 2, torch.Generator().manual_seed(1))[0]
    first, second = (
        slow_decoding.chances(
            np.where(np.isin(range(6), MARKS.banned), -np.inf, model.look_up(2, prefix)[0]), 1.0, 0, 1.0
        )
        for prefix in ((0,), (0, 4))
    )
    np.testing.assert_allclose(np.bincount(tokens[:, 0], minlength=6) / 20_000, first, atol=0.02)
    after = tokens[tokens[:, 0] == 4, 1]
    np.testing.assert_allclose(np.bincount(after, minlength=6) / len(after), second, atol=0.04)


def test_a_generator_repeats_itself_whatever_was_drawn():
    """What is taken from it depends on the sizes alone, or a resumed training would go another way."""
    states = []
    for end_bonus in (-9.0, 0.0, 9.0):
        generator = torch.Generator().manual_seed(5)
        drawn = [
            sample_tokens(TableCaptioner(end_bonus=end_bonus), numbers(0, 1), MARKS, 2, 9, generator) for _ in range(2)
        ]
        assert drawn[0].shape != drawn[1].shape or not torch.equal(*drawn) or end_bonus == 9.0
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])
    generator = torch.Generator().manual_seed(5)
    again = sample_tokens(TableCaptioner(), numbers(0, 1), MARKS, 2, 9, generator)
    assert torch.equal(
        again, sample_tokens(TableCaptioner(), numbers(0, 1), MARKS, 2, 9, torch.Generator().manual_seed(5))
    )

"""Scheduled sampling replaces words, and nothing that is given when captions are generated."""

from __future__ import annotations

import pytest
import torch

from xmodal_cli.trainers.scheduled_sampling import replace_tokens
from xmodal_cli.types import CaptionerOutput

SAMPLED = 99


def captioner(image_features, image_of_caption, tokens):
    """A captioner that is certain of the token 99."""
    return CaptionerOutput(100.0 * torch.nn.functional.one_hot(torch.full(tokens.shape, SAMPLED), 100).float())


TOKENS = torch.tensor([[1, 20, 21, 1, 30, 31], [1, 20, 1, 30, 31, 32], [1, 30, 31, 32, 33, 34]])
PROMPTS = torch.tensor([3, 2, 0])  # two tags and a second BOS, one tag and a second BOS, none


def test_bos_and_the_prompt_are_kept():
    replaced = replace_tokens(captioner, torch.zeros(3, 1), torch.arange(3), TOKENS, 1.0, PROMPTS)
    expected = [[1, 20, 21, 1, SAMPLED, SAMPLED], [1, 20, 1, *[SAMPLED] * 3], [1, *[SAMPLED] * 5]]
    assert replaced.tolist() == expected


def test_without_prompts_every_word_may_be_replaced():
    replaced = replace_tokens(captioner, torch.zeros(3, 1), torch.arange(3), TOKENS, 1.0)
    assert replaced.tolist() == [[1, *[SAMPLED] * 5]] * 3


@pytest.mark.parametrize("prob", [0.2, 0.8])
def test_the_share_of_replaced_words_is_the_probability(prob):
    torch.manual_seed(0)
    tokens = torch.cat((TOKENS[:, :4], torch.full((3, 2000), 5)), dim=1)
    replaced = replace_tokens(captioner, torch.zeros(3, 1), torch.arange(3), tokens, prob, torch.tensor([3, 3, 3]))
    assert torch.equal(replaced[:, :4], tokens[:, :4])
    assert (replaced[:, 4:] == SAMPLED).float().mean().item() == pytest.approx(prob, abs=0.03)

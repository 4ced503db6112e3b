"""The losses of captioners against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.losses.captions.self_critical import gather_log_probs
from xmodal_cli.training.rewards import Rewards, generated_lengths
from xmodal_cli.types import CaptionerOutput, SampledCells


def batch():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 7, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 7, (3, 4))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    return logits, targets, mask


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_the_mean_over_tokens(smoothing):
    logits, targets, mask = batch()
    total, count = 0.0, 0
    for caption in range(3):
        for position in range(4):
            if mask[caption, position]:
                log_probs = [x - math.log(sum(math.exp(y) for y in logits[caption, position].tolist()))
                             for x in logits[caption, position].tolist()]  # fmt: skip
                of_target = log_probs[targets[caption, position]]
                total -= (1 - smoothing) * of_target + smoothing * sum(log_probs) / 7
                count += 1
    loss = catalog.build("caption_loss", "cross-entropy", {"label_smoothing": smoothing})
    assert loss(CaptionerOutput(logits), targets, mask).item() == pytest.approx(total / count, abs=1e-6)


def test_padding_has_no_gradient():
    logits, targets, mask = batch()
    catalog.build("caption_loss", "cross-entropy", {})(CaptionerOutput(logits), targets, mask).backward()
    assert torch.equal(logits.grad.abs().sum(-1) > 0, mask)


def test_the_doubly_stochastic_term_is_the_squared_difference_to_1_per_cell():
    logits, targets, mask = batch()
    attention = torch.rand(3, 4, 5, dtype=torch.float64).softmax(-1)
    plain, both = (
        catalog.build("caption_loss", "cross-entropy", {"doubly_stochastic": weight})(
            CaptionerOutput(logits, attention), targets, mask
        )
        for weight in (0.0, 3.0)
    )
    expected = 0.0
    for caption in range(3):
        for cell in range(5):
            total = sum(attention[caption, position, cell].item() for position in range(4) if mask[caption, position])
            expected += (1 - total) ** 2 / 15
    assert (both - plain).item() == pytest.approx(3 * expected, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_per_caption_the_loss_is_equation_14_of_xu_et_al(smoothing):
    logits, targets, mask = batch()
    attention = torch.rand(3, 4, 5, dtype=torch.float64).softmax(-1)
    args = {"label_smoothing": smoothing, "doubly_stochastic": 0.7, "per_caption": True}
    loss = catalog.build("caption_loss", "cross-entropy", args)(CaptionerOutput(logits, attention), targets, mask)
    log_probs, expected = logits.detach().log_softmax(-1), 0.0
    for caption in range(3):
        tokens = [position for position in range(4) if mask[caption, position]]
        for position in tokens:
            row = log_probs[caption, position]
            expected -= ((1 - smoothing) * row[targets[caption, position]] + smoothing * row.mean()).item()
        for cell in range(5):
            expected += 0.7 * (1 - sum(attention[caption, position, cell].item() for position in tokens)) ** 2
    assert loss.item() == pytest.approx(expected / 3, abs=1e-5)


@pytest.mark.parametrize("per_caption", [False, True])
@pytest.mark.parametrize("name", ["cross-entropy", "variational-bound"])
def test_a_caption_without_tokens_does_not_count(name, per_caption):
    """Processes without a part of a batch have one such caption."""
    logits, targets, mask = batch()
    attention = torch.rand(3, 4, 5, dtype=torch.float64).softmax(-1)
    cells = SampledCells(torch.rand(3, 4), torch.rand(3, 4), torch.tensor([True, False, True]))
    mask[2] = False
    values = []
    for end in (2, 3):
        rows = slice(end)
        parts = SampledCells(cells.log_probs[rows], cells.entropy[rows], cells.is_sampled[rows])
        loss = catalog.build("caption_loss", name, {"doubly_stochastic": 0.7, "per_caption": per_caption})
        values.append(loss(CaptionerOutput(logits[rows], attention[rows], parts), targets[rows], mask[rows]))
    assert values[0].item() == pytest.approx(values[1].item(), abs=1e-6)


@pytest.mark.parametrize("args", [{"doubly_stochastic": -1}, {"label_smoothing": 1}, {"label_smoothing": -1}])
def test_cross_entropy_rejects_invalid_arguments(args):
    with pytest.raises(ConfigError):
        catalog.build("caption_loss", "cross-entropy", args)


def test_missing_captions_are_not_part_of_the_baseline():
    loss = catalog.build("caption_loss", "self-critical", {"num_samples": 3})
    exists = torch.tensor([[True, True, False], [True, False, False]])
    rewards = torch.tensor([[1.0, 2.0, 0.0], [4.0, 0.0, 0.0]])
    torch.testing.assert_close(loss.advantages(rewards, None, exists), torch.tensor([[-1.0, 1.0, 0.0], [0.0] * 3]))
    with_greedy = loss.advantages(rewards, torch.tensor([3.0, 0.5]), exists)
    torch.testing.assert_close(with_greedy, torch.tensor([[-2.0, -1.0, 0.0], [3.5, 0.0, 0.0]]))


def test_self_critical_advantages_are_relative_to_the_other_captions():
    loss = catalog.build("caption_loss", "self-critical", {"num_samples": 3})
    rewards = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    advantages = loss.advantages(rewards)
    torch.testing.assert_close(advantages, torch.tensor([[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]))
    log_probs = torch.zeros(6, 2, requires_grad=True)
    mask = torch.tensor([[1, 1]] * 2 + [[1, 0]] + [[1, 1]] * 3, dtype=torch.bool)
    loss(log_probs, mask, advantages.flatten()).backward()
    expected = torch.tensor([[3.0, 3.0], [1.5, 1.5], [-4.5, 0.0], [0, 0], [0, 0], [0, 0]]) / 11
    torch.testing.assert_close(log_probs.grad, expected)


def test_the_greedy_baseline_is_subtracted():
    loss = catalog.build("caption_loss", "self-critical", {"baseline": "greedy", "num_samples": 1})
    advantages = loss.advantages(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 0.5]))
    torch.testing.assert_close(advantages, torch.tensor([[-2.0], [1.5]]))


@pytest.mark.parametrize(
    "args",
    [
        {"num_samples": 1},
        {"source": "thin-air"},
        {"baseline": "median"},
        {"baseline": "greedy", "num_samples": 0},
        {"bleu_weight": -1},
    ],
)
def test_self_critical_rejects_invalid_arguments(args):
    with pytest.raises(ConfigError):
        catalog.build("caption_loss", "self-critical", args)


def test_log_probabilities_of_tokens():
    logits, targets, _ = batch()
    expected = logits.float().log_softmax(-1)
    log_probs = gather_log_probs(logits, targets)
    assert all(log_probs[c, p] == expected[c, p, targets[c, p]] for c in range(3) for p in range(4))


EOS = 3
REFERENCES = [[[2, 5, 6, 7, EOS], [2, 5, 8, EOS]], [[2, 9, 10, 11, 12, EOS]], [[2, 5, 12, 13, EOS]]]


def rewards_of(sampled, count_eos=True, bleu_weight=0.0):
    rewards = Rewards(REFERENCES, EOS, count_eos, bleu_weight)
    return rewards(torch.tensor([1]), sampled, generated_lengths(sampled, EOS))


def test_rewards_are_cider_d_of_the_tokens_up_to_the_first_eos():
    sampled = torch.tensor([[[9, 10, 11, 12, EOS, EOS], [5, EOS, 9, 10, EOS, EOS]]])
    with_eos, without = (rewards_of(sampled, count) for count in (True, False))
    assert with_eos.shape == (1, 2)
    assert with_eos[0, 0] == pytest.approx(10.0, abs=1e-5)
    assert without[0, 0] == pytest.approx(10.0, abs=1e-5)
    assert without[0, 1] == 0.0
    assert 0 <= with_eos[0, 1] < 0.2


def test_a_caption_without_eos_has_a_lower_reward():
    sampled = torch.tensor([[[9, 10, 11, 12], [9, 10, 11, EOS]]])
    rewards = rewards_of(sampled)
    complete = rewards_of(torch.tensor([[[9, 10, 11, 12, EOS]]]))
    assert rewards[0, 0] < complete[0, 0]


def test_bleu_is_added_with_its_weight():
    sampled = torch.tensor([[[9, 10, 11, 12, EOS]]])
    plain, both = (rewards_of(sampled, bleu_weight=w) for w in (0.0, 0.5))
    assert (both - plain).item() == pytest.approx(0.5, abs=1e-4)

"""The gradient of stochastic attention, against the enumeration of all paths of attended cells."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from xmodal_cli import catalog
from xmodal_cli.models.captioners import show_attend_tell
from xmodal_cli.types import CaptionerOutput, SampledCells

CELLS, LONGEST, VOCAB = 2, 3, 7
IMAGE_OF_CAPTION = torch.tensor([0, 0])
MASKS = {
    "lengths": torch.tensor([[True, True, True], [True, True, False]]),
    "prompt": torch.tensor([[False, False, True], [False, True, True]]),  # a prompt is attended to, but not scored
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"image_dim": 4, "image_kind": "grid", "vocab_size": VOCAB, "embed_dim": 6}
    args = {"attention": "stochastic", "attention_dim": 5, "dropout": 0.0}
    built = catalog.build("captioner", "show-attend-tell", args, **sizes).train()
    for parameter in built.parameters():
        parameter.data.mul_(3.0)  # cells and words differ clearly
    built.expected_prob = 0.0
    return built


def build_loss(**args):
    return catalog.build("caption_loss", "variational-bound", args)


def run(model) -> tuple[CaptionerOutput, Tensor]:
    """The output for two captions of an image, and their targets."""
    generator = torch.Generator().manual_seed(4)
    images = 2 * torch.randn(1, CELLS, 4, generator=generator)
    tokens = torch.randint(0, VOCAB, (2, LONGEST + 1), generator=generator)
    return model(images, IMAGE_OF_CAPTION, tokens[:, :-1]), tokens[:, 1:]


def all_paths(model, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CaptionerOutput, Tensor]]:
    """The output on each path: one cell for each word of both captions."""
    for path in product(range(CELLS), repeat=2 * LONGEST):
        steps = iter(torch.tensor(path).view(LONGEST, 2, 1))
        monkeypatch.setattr(torch, "multinomial", lambda weights, num, steps=steps: next(steps))
        yield run(model)


def word_log_probs(output: CaptionerOutput, targets: Tensor, mask: Tensor) -> Tensor:
    return output.logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1) * mask


def gradient(model, value: Tensor) -> Tensor:
    return torch.cat([grad.flatten() for grad in torch.autograd.grad(value, list(model.parameters()))])


def expected_gradient(model, monkeypatch, mask: Tensor, baseline: float, **args) -> Tensor:
    """The mean of the gradient of the loss over all paths, with their probabilities."""
    total: Tensor | float = 0.0
    for output, targets in all_paths(model, monkeypatch):
        loss = build_loss(**args)
        loss.baseline.fill_(baseline)
        path_prob = output.sampled_cells.log_probs.sum().exp().item()
        total = total + path_prob * gradient(model, loss(output, targets, mask))
    assert isinstance(total, Tensor)
    return total


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(("baseline", "per_caption"), [(0.0, False), (-7.0, True)])
def test_the_expected_gradient_is_that_of_the_bound(model, monkeypatch, mask, baseline, per_caption):
    """The bound is the sum over all paths s of p(s) log p(y | s); no baseline changes its expected gradient."""
    bound: Tensor | float = 0.0
    for output, targets in all_paths(model, monkeypatch):
        path_prob = output.sampled_cells.log_probs.sum().exp()
        bound = bound + path_prob * word_log_probs(output, targets, mask).sum()
    exact = -gradient(model, bound) / (len(mask) if per_caption else mask.sum())
    actual = expected_gradient(model, monkeypatch, mask, baseline, entropy=0.0, per_caption=per_caption)
    torch.testing.assert_close(actual, exact, atol=1e-5, rtol=1e-4)
    without = expected_gradient(model, monkeypatch, mask, baseline, entropy=0.0, reinforce=0.0, per_caption=per_caption)
    assert (without - exact).abs().max() > 100 * (actual - exact).abs().max()


def test_the_weights_of_the_terms(model, monkeypatch):
    """Each term by itself: 0.3 times REINFORCE and 0.2 times the entropy of the cells of both captions."""
    mask, baseline = MASKS["lengths"], -2.0
    exact: Tensor | float = 0.0
    for output, targets in all_paths(model, monkeypatch):
        cells = output.sampled_cells
        rewards = word_log_probs(output, targets, mask).sum(1)
        path_prob = cells.log_probs.sum().exp().item()
        alpha = output.attention
        entropy = -(alpha * alpha.log()).sum(-1)
        chosen = ((rewards.detach() - baseline) * (cells.log_probs * mask).sum(1)).sum()
        terms = rewards.sum() + 0.3 * chosen + 0.2 * (entropy * mask).sum()
        exact = exact + path_prob * gradient(model, -terms / mask.sum())
    actual = expected_gradient(model, monkeypatch, mask, baseline, entropy=0.2, reinforce=0.3)
    torch.testing.assert_close(actual, exact, atol=1e-5, rtol=1e-4)


def test_the_reward_per_word(model, monkeypatch):
    mask = MASKS["lengths"]
    exact: Tensor | float = 0.0
    for output, targets in all_paths(model, monkeypatch):
        rewards = word_log_probs(output, targets, mask).sum(1)
        per_word = rewards.detach() / torch.tensor([3.0, 2.0])
        log_probs = output.sampled_cells.log_probs
        terms = rewards.sum() + (per_word * (log_probs * mask).sum(1)).sum()
        exact = exact + log_probs.sum().exp().item() * gradient(model, -terms / mask.sum())
    actual = expected_gradient(model, monkeypatch, mask, 0.0, entropy=0.0, reward="word")
    torch.testing.assert_close(actual, exact, atol=1e-5, rtol=1e-4)


def test_the_value_is_the_cross_entropy(model):
    """REINFORCE has a gradient and no value, so the log shows the bound."""
    output, targets = run(model)
    loss = build_loss(label_smoothing=0.1, doubly_stochastic=0.7, entropy=0.0)
    loss.baseline.fill_(-3.0)
    plain = catalog.build("caption_loss", "cross-entropy", {"label_smoothing": 0.1, "doubly_stochastic": 0.7})
    mask = MASKS["lengths"]
    assert loss(output, targets, mask).item() == pytest.approx(plain(output, targets, mask).item(), rel=1e-6)


def test_images_with_the_expected_weights_have_the_gradient_of_soft_attention(model):
    model.expected_prob = 1.0
    output, targets = run(model)
    loss, mask = build_loss(entropy=0.0), MASKS["lengths"]
    actual = gradient(model, loss(output, targets, mask))
    assert not output.sampled_cells.is_sampled.any()
    assert loss.baseline.isnan()  # the baseline is that of sampled captions
    model.attention = "soft"
    output, targets = run(model)
    plain = catalog.build("caption_loss", "cross-entropy", {})
    torch.testing.assert_close(actual, gradient(model, plain(output, targets, mask)), atol=1e-6, rtol=1e-5)


def test_half_of_the_images_are_sampled(model, monkeypatch):
    """The captions of an image are sampled together; the cells follow the attention weights."""
    model.expected_prob = show_attend_tell.EXPECTED_PROB
    torch.manual_seed(1)
    images = 2 * torch.randn(1, CELLS, 4).expand(2000, -1, -1)
    image_of_caption = torch.arange(2000).repeat(2)
    output = model(images, image_of_caption, torch.full((4000, 1), 3))
    cells: SampledCells = output.sampled_cells
    first, second = cells.is_sampled.view(2, 2000)
    assert torch.equal(first, second)
    assert first.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(cells.log_probs[~cells.is_sampled], torch.zeros(4000, 1)[~cells.is_sampled])
    alpha = output.attention[0, 0]
    shares = [(cells.log_probs[cells.is_sampled] - a.log()).abs().lt(1e-5).float().mean().item() for a in alpha]
    assert shares == pytest.approx(alpha.tolist(), abs=0.05)


def test_the_baseline_is_a_moving_average():
    """It starts from the first batch, and a batch is compared with the average before it."""
    loss = build_loss(reinforce=1.0, entropy=0.0)
    mask, targets = torch.tensor([[True], [True]]), torch.zeros(2, 1, dtype=torch.int64)
    sampled = torch.tensor([True, True])
    expected = None
    for value in (-1.0, -2.0, -4.0):
        logits = torch.tensor([value, (1 - torch.tensor(value).exp()).log().item()]).expand(2, 1, 2)
        log_probs = torch.tensor([[-0.5], [-0.7]], requires_grad=True)
        output = CaptionerOutput(logits, None, SampledCells(log_probs, torch.zeros(2, 1), sampled))
        loss(output, targets, mask).backward()
        before = value if expected is None else expected
        assert log_probs.grad.flatten().tolist() == pytest.approx([-(value - before) / 2] * 2, abs=1e-6)
        expected = 0.9 * before + 0.1 * value
        assert loss.baseline.item() == pytest.approx(expected)
    assert set(loss.state_dict()) == {"baseline"}


def test_a_captioner_that_samples_nothing_is_refused(model):
    with pytest.raises(ValueError, match="does not sample"):
        build_loss()(run(model.eval())[0], run(model)[1], MASKS["lengths"])


@pytest.mark.parametrize(("name", "value"), [("reinforce", -1.0), ("entropy", -0.1), ("reward", "sentence")])
def test_invalid_arguments_raise(name, value):
    with pytest.raises(Exception, match=f"{name} must be"):
        build_loss(**{name: value})

"""Self-critical training against a loop over hypotheses: only what was generated is rewarded and has a gradient."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.table_captioner import BOS, EOS, PAD, SPECIAL, TableCaptioner
from torch import nn

from xmodal_cli import catalog
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.device import Compute
from xmodal_cli.metrics.cider_scorer import CiderScorer
from xmodal_cli.trainers.self_critical import generate_captions, self_critical_loss
from xmodal_cli.training.batches import Batch
from xmodal_cli.types import CaptionerOutput, Decoding, SpecialTokens

REFERENCES = {"one": [[BOS, 3, 4, 5, EOS], [BOS, 4, 4, 6, 3, EOS]], "two": [[BOS, 5, 6, EOS], [BOS, 3, 3, 5, EOS]]}
FEATURES = torch.tensor([[0.0], [1.0]])


class Trained(TableCaptioner):
    """The logits of each caption are recorded, with a gradient."""

    def __call__(self, image_features, image_of_caption, tokens):
        output = super().__call__(image_features, image_of_caption, tokens)
        self.fed, self.logits = tokens, output.logits.clone().requires_grad_()
        return CaptionerOutput(self.logits)


def job(max_length):
    examples = [SimpleNamespace(captions=(name,)) for name in REFERENCES]
    return SimpleNamespace(
        tokenizer=SimpleNamespace(special_tokens=SPECIAL, encode_captions=lambda names: REFERENCES[names[0]]),
        train=SimpleNamespace(images=SimpleNamespace(dataset=SimpleNamespace(examples=examples))),
        config=SimpleNamespace(decoding=Decoding(max_length=max_length)),
        compute=Compute("cpu", "fp32"),
    )


def batch_of(features):
    empty = torch.zeros(0)
    return Batch(features, empty, empty, empty, images=torch.arange(len(features)))


def build(**args):
    return catalog.build("caption_loss", "self-critical", args)


def score(image, tokens, count_eos):
    """CIDEr-D of one caption by a scorer of its own."""
    end = None if count_eos else -1
    scorer = CiderScorer([[row[1:end] for row in rows] for rows in REFERENCES.values()])
    return scorer.scores(np.array([image]), [list(tokens)])[0]


def expected_loss(captioner, hypotheses, count_eos):
    """The loss by a loop: (images) lists of hypotheses -> the scalar, and the number of tokens with a gradient."""
    total, count = 0.0, 0
    for image, n_best in enumerate(hypotheses):
        written = [(*h.tokens, EOS) if h.ended else h.tokens for h in n_best]
        rewards = [score(image, w if count_eos else h.tokens, count_eos) for w, h in zip(written, n_best, strict=True)]
        for n, tokens in enumerate(written):
            others = rewards[:n] + rewards[n + 1 :]
            advantage = rewards[n] - sum(others) / len(others) if others else 0.0
            for step, token in enumerate(tokens):
                total -= advantage * captioner.look_up(image, (BOS, *tokens[:step]))[0][token]
            count += len(tokens)
    return total / count, count


@pytest.mark.parametrize("count_eos", [True, False])
@pytest.mark.parametrize(("max_length", "eos_bonus"), [(2, -1.0), (3, -3.0), (5, 0.0)])
def test_the_loss_of_a_beam_is_that_of_a_loop_over_its_hypotheses(count_eos, max_length, eos_bonus):
    captioner = Trained(eos_bonus=eos_bonus)
    loss = build(num_samples=4, count_eos=count_eos)
    settings = Decoding(beam=4, num=4, max_length=max_length, length_penalty=0.0)
    hypotheses = decode(captioner, FEATURES, SPECIAL, settings)
    value = self_critical_loss(nn.Linear(1, 1), captioner, loss, job(max_length))(batch_of(FEATURES))
    expected, count = expected_loss(captioner, hypotheses, count_eos)
    assert value.item() == pytest.approx(expected, abs=1e-5)
    if max_length < 5:
        assert any(not h.ended for n_best in hypotheses for h in n_best)  # some were cut
    value.backward()
    assert int((captioner.logits.grad.abs().sum(-1) > 0).sum()) <= count


def test_a_cut_caption_has_no_gradient_at_an_eos_that_was_not_generated():
    captioner = Trained(eos_bonus=-50.0)  # EOS is never generated: all captions are cut
    loss = build(num_samples=3)
    generated = generate_captions(captioner, FEATURES, SPECIAL, loss, 3)
    assert generated.lengths.tolist() == [[3, 3, 3], [3, 3, 3]]
    self_critical_loss(nn.Linear(1, 1), captioner, loss, job(3))(batch_of(FEATURES)).backward()
    assert not captioner.logits.grad[:, 3:].any()
    assert captioner.logits.grad[:, :3].any()


def test_captions_that_a_beam_does_not_find_are_not_empty_captions():
    captioner = Trained(vocab_size=4, eos_bonus=-50.0)  # one word besides BOS, EOS and padding
    loss = build(num_samples=5)
    generated = generate_captions(captioner, FEATURES[:1], SPECIAL, loss, 2)
    found = generated.lengths[0] > 0
    assert 0 < int(found.sum()) < 5
    hypotheses = decode(captioner, FEATURES[:1], SPECIAL, Decoding(beam=5, num=5, max_length=2, length_penalty=0.0))
    assert int(found.sum()) == len(hypotheses[0])
    value = self_critical_loss(nn.Linear(1, 1), captioner, loss, job(2))(batch_of(FEATURES[:1]))
    assert value.item() == pytest.approx(expected_loss(captioner, hypotheses, True)[0], abs=1e-5)
    value.backward()
    assert not captioner.logits.grad[~found].any()


def test_the_lengths_of_samples_count_a_generated_eos_and_stop_at_the_cut():
    torch.manual_seed(0)
    loss = build(num_samples=6, source="drawn")
    generated = generate_captions(Trained(eos_bonus=1.0), FEATURES, SPECIAL, loss, 3)
    for rows, lengths in zip(generated.tokens.tolist(), generated.lengths.tolist(), strict=True):
        for tokens, length in zip(rows, lengths, strict=True):
            assert length == (tokens.index(EOS) + 1 if EOS in tokens else 3)
    assert {3} < set(generated.lengths.flatten().tolist())


def test_eos_is_the_padding_of_a_vocabulary_with_one_special_token_too():
    special = SpecialTokens(EOS, EOS, (PAD,))
    generated = generate_captions(Trained(eos_bonus=-50.0), FEATURES, special, build(num_samples=2), 3)
    assert generated.lengths.tolist() == [[3, 3], [3, 3]]

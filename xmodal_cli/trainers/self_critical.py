"""The loss of self-critical training: captions that the model generates, weighted by their rewards.

Only generated tokens are rewarded and have a gradient: a caption that is cut at the maximum length has no EOS, and a
beam search that finds fewer captions than requested does not add empty ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.token_sampling import sample_tokens
from xmodal_cli.losses.captions.self_critical import SelfCritical, gather_log_probs
from xmodal_cli.trainers.job import Job
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.rewards import Rewards, generated_lengths
from xmodal_cli.training.task import BatchLoss
from xmodal_cli.types import Captioner, Decoding, SpecialTokens


@dataclass(frozen=True)
class GeneratedCaptions:
    """``tokens`` (images, num, longest) int64, padded with EOS, and ``lengths`` (images, num) int64.

    A length counts the generated tokens, EOS among them if the model generated it; 0: there is no caption.
    """

    tokens: Tensor
    lengths: Tensor


def self_critical_loss(model: torch.nn.Module, captioner: Captioner, loss: SelfCritical, job: Job) -> BatchLoss:
    """The loss of a batch: captions of its images are generated, rewarded, and their log-probabilities weighted.

    ``model`` is the module of ``captioner``.
    """
    special_tokens = job.tokenizer.special_tokens
    examples = job.train.images.dataset.examples
    references = [job.tokenizer.encode_captions(example.captions) for example in examples]
    rewards = Rewards(references, special_tokens.eos, loss.count_eos, loss.bleu_weight)
    max_length = job.config.decoding.max_length

    def batch_loss(batch: Batch) -> Tensor:
        features, images = batch.image_features, batch.images
        assert images is not None
        model.eval()  # no dropout: captions are sampled from the same policy whose gradient is computed
        generated = generate_captions(captioner, features, special_tokens, loss, max_length)
        if batch.is_stand_in:
            generated = replace(generated, lengths=torch.zeros_like(generated.lengths))
        reward = rewards(images, generated.tokens, generated.lengths).to(features.device)
        baseline = None
        if loss.baseline == "greedy":
            greedy = sample_tokens(captioner, features, special_tokens, 1, max_length, greedy=True)
            lengths = generated_lengths(greedy, special_tokens.eos)
            baseline = rewards(images, greedy, lengths)[:, 0].to(features.device)
        advantages = loss.advantages(reward, baseline, generated.lengths > 0)
        captions, lengths = generated.tokens.flatten(0, 1), generated.lengths.flatten()
        image_of_caption = torch.arange(len(images), device=features.device).repeat_interleave(loss.num_samples)
        bos = captions.new_full((len(captions), 1), special_tokens.bos)
        logits = captioner(features, image_of_caption, torch.cat((bos, captions[:, :-1]), dim=1)).logits
        mask = torch.arange(captions.shape[1], device=features.device)[None] < lengths[:, None]
        with job.compute.autocast(enabled=False):
            return loss(gather_log_probs(logits, captions), mask, advantages.flatten())

    return batch_loss


def generate_captions(
    captioner: Captioner, image_features: Tensor, special_tokens: SpecialTokens, loss: SelfCritical, max_length: int
) -> GeneratedCaptions:
    """``loss.num_samples`` captions per image by ``loss.source``, of at most ``max_length`` words."""
    if loss.source == "beam":
        return _beam_search(captioner, image_features, special_tokens, loss.num_samples, max_length)
    tokens = sample_tokens(captioner, image_features, special_tokens, loss.num_samples, max_length)
    return GeneratedCaptions(tokens, generated_lengths(tokens, special_tokens.eos))


@torch.no_grad()
def _beam_search(
    captioner: Captioner, image_features: Tensor, special_tokens: SpecialTokens, num: int, max_length: int
) -> GeneratedCaptions:
    """The captions of a beam of size ``num``; an image may have fewer."""
    settings = Decoding(beam=num, num=num, max_length=max_length, length_penalty=0.0)
    tokens = torch.full((len(image_features), num, max_length + 1), special_tokens.eos)
    lengths = torch.zeros(tokens.shape[:2], dtype=torch.int64)
    for image, n_best in enumerate(decode(captioner, image_features, special_tokens, settings)):
        for row, hypothesis in enumerate(n_best):
            tokens[image, row, : len(hypothesis.tokens)] = torch.tensor(hypothesis.tokens)
            lengths[image, row] = len(hypothesis.tokens) + hypothesis.ended
    return GeneratedCaptions(tokens.to(image_features.device), lengths.to(image_features.device))

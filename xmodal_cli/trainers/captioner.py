"""The objective of a captioner: teacher forcing or self-critical training, validated by CIDEr.

Shapes: tokens, targets and masks are (captions, longest); ``image_of_caption`` (captions,) are rows of a batch's
images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn, optim

from xmodal_cli import catalog
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.sampling import sample_tokens
from xmodal_cli.config import Config
from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.inference.captioners import write_captions
from xmodal_cli.losses.captions.self_critical import SelfCritical, gather_log_probs
from xmodal_cli.models.assembly import build_captioner, describe_captioner
from xmodal_cli.models.model_file import write_model
from xmodal_cli.models.towers import trainable_state_dict
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.trainers.initialization import initialize
from xmodal_cli.trainers.job import Job, build_average, build_batches, check_training, trial_sizes
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.optimizer import build_optimizer, group_parameters
from xmodal_cli.training.rewards import Rewards
from xmodal_cli.training.task import BatchLoss, Task
from xmodal_cli.types import Captioner, CaptionLoss, Decoding, SpecialTokens

SCORE = "cider"
BATCH = 64  # images captioned at once on val


class TrainableCaptioner(nn.Module):
    """Everything that is trained: the captioner, and losses that have a state of their own."""

    def __init__(self, captioner: nn.Module, loss: CaptionLoss | SelfCritical) -> None:
        super().__init__()
        self.model, self.loss = captioner, loss

    @property
    def captioner(self) -> Captioner:
        """The captioner itself."""
        return cast(Captioner, self.model)


class CaptionerObjective:
    """See ``trainers.objective.Objective``."""

    def check(self, config: Config) -> None:
        """Build all parts with small sizes. Raises ConfigError, UnknownName."""
        width = config.model.embed_dim or 16
        model = build_captioner(describe_captioner(replace(config.model, embed_dim=width), trial_sizes(config, 16)))
        _check_loss(config, model, _build_loss(config))
        check_training(config)
        if config.optimizer.image_tower_lr_scale and not config.features.tuned_blocks:
            hint = "set features.tuned_blocks to the number of last blocks to train, for example 3"
            raise ConfigError("a captioner's image tower is trained above a cached trunk, not from pixels", hint)
        if config.warmup.epochs:
            raise ConfigError("a captioner has no warm-up by another loss", "set warmup.epochs=0")

    def build_model(self, job: Job) -> TrainableCaptioner:
        """The captioner on its tower, with the weights of the pretrained language model if there is one."""
        model: Any = build_captioner(job.header.architecture, job.towers)
        if job.language_model is not None:
            getattr(model, "captioner", model).language_model.load_state_dict(job.language_model)
        return TrainableCaptioner(model, _build_loss(job.config))

    def build_optimizer(self, config: Config, model: nn.Module) -> optim.Adam | optim.AdamW:
        """The optimizer over everything that is not frozen; pretrained parts have a learning-rate multiplier."""
        settings, pretrained = config.optimizer, bool(config.captioning.language_model)

        def lr_scale(name: str) -> float:
            if ".tower." in name:
                return settings.image_tower_lr_scale
            return settings.text_tower_lr_scale if pretrained and ".language_model." in name else 1.0

        groups = group_parameters(model, lr_scale, settings.weight_decay)
        return build_optimizer(groups, settings.name, settings.lr, settings.weight_decay)

    def build_task(self, job: Job, state: LoopState) -> Task:
        """Scheduled sampling depends on the epoch of ``state``."""
        model = self.build_model(job)
        initialize(model.model, job)
        model.to(job.compute.device)
        average = build_average(model, job.config.training.ema)
        evaluated = model if average is None else cast(TrainableCaptioner, average.module)

        def evaluate() -> dict[str, float]:
            return _evaluate(evaluated.captioner, job)

        def save_best(metrics: dict[str, float]) -> None:
            header = replace(job.header, metrics=metrics)
            write_model(job.run / MODEL_FILE, header, trainable_state_dict(evaluated.model))

        if isinstance(model.loss, SelfCritical):
            batch_loss = _self_critical(model, model.loss, job)
        else:
            batch_loss = _teacher_forcing(model.captioner, model.loss, job, state)
        return Task(model, build_batches(job), batch_loss, evaluate, SCORE, save_best, average, digits=3)


def _evaluate(captioner: Captioner, job: Job) -> dict[str, float]:
    """The metrics of greedy captions of the val split."""
    images = job.val.images
    assert images.features is not None
    settings = replace(job.config.decoding, beam=1, num=1, num_beam_groups=1, sample=False)
    batches = iter(torch.split(images.features, BATCH))
    candidates = write_captions(captioner, job.tokenizer, batches, settings, job.compute)
    references = [example.captions for example in images.dataset.examples]
    scores = score_captions(candidates, references, names=("bleu", "cider", "diversity"))
    return {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}


def _teacher_forcing(captioner: Captioner, loss: CaptionLoss, job: Job, state: LoopState) -> BatchLoss:
    """The loss of the next token, tags excluded; with scheduled sampling from the second epoch on."""
    epochs, last_prob = job.config.training.epochs, job.config.captioning.scheduled_sampling
    prompt_lengths = job.train.prompt_lengths
    max_tags = 0 if prompt_lengths is None else int(prompt_lengths.max())
    max_length = job.config.decoding.max_length + 2 + max_tags  # longer captions are truncated, for less padding

    def batch_loss(batch: Batch) -> Tensor:
        tokens, targets = batch.tokens[:, : max_length - 1], batch.tokens[:, 1:max_length]
        tokens = tokens[:, : targets.shape[1]]
        positions = torch.arange(targets.shape[1], device=targets.device)[None]
        mask = positions < batch.lengths[:, None] - 1
        if max_tags and prompt_lengths is not None and batch.captions is not None:
            mask &= positions >= prompt_lengths[batch.captions].to(mask.device)[:, None]
        image_of_caption = batch.positives.int().argmax(0)
        prob = last_prob * state.epoch / max(1, epochs - 1)
        if prob:
            tokens = _scheduled_sampling(captioner, batch.image_features, image_of_caption, tokens, prob)
        output = captioner(batch.image_features, image_of_caption, tokens)
        with job.compute.autocast(enabled=False):
            return loss(output, targets, mask)

    return batch_loss


@torch.no_grad()
def _scheduled_sampling(
    captioner: Captioner, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor, prob: float
) -> Tensor:
    """Scheduled sampling in two passes (Mihaylova and Martins, arXiv 1906.07651).

    Each token after the first is replaced, with probability ``prob``, by a sample of the model's distribution at its
    position.
    """
    logits = captioner(image_features, image_of_caption, tokens).logits.float()
    sampled = torch.distributions.Categorical(logits=logits[:, :-1]).sample()  # type: ignore[no-untyped-call]
    replaced = torch.rand(sampled.shape, device=sampled.device) < prob
    return torch.cat((tokens[:, :1], torch.where(replaced, sampled, tokens[:, 1:])), dim=1)


def _self_critical(model: TrainableCaptioner, loss: SelfCritical, job: Job) -> BatchLoss:
    """The loss of captions that the model generates, weighted by their rewards."""
    captioner, special_tokens = model.captioner, job.tokenizer.special_tokens
    examples = job.train.images.dataset.examples
    references = [job.tokenizer.encode_captions(example.captions) for example in examples]
    rewards = Rewards(references, special_tokens.eos, loss.count_eos, loss.bleu_weight)
    max_length = job.config.decoding.max_length

    def batch_loss(batch: Batch) -> Tensor:
        features, images = batch.image_features, batch.images
        assert images is not None
        model.model.eval()  # no dropout: captions are sampled from the same policy whose gradient is computed
        if loss.source == "beam":
            sampled = _beam_search(captioner, features, special_tokens, loss.num_samples, max_length)
        else:
            sampled = sample_tokens(captioner, features, special_tokens, loss.num_samples, max_length)
        baseline = None
        if loss.baseline == "greedy":
            greedy = sample_tokens(captioner, features, special_tokens, 1, max_length, greedy=True)
            baseline = rewards(images, greedy)[:, 0].to(features.device)
        advantages = loss.advantages(rewards(images, sampled).to(features.device), baseline)
        captions = sampled.flatten(0, 1)
        image_of_caption = torch.arange(len(images), device=features.device).repeat_interleave(loss.num_samples)
        bos = captions.new_full((len(captions), 1), special_tokens.bos)
        logits = captioner(features, image_of_caption, torch.cat((bos, captions[:, :-1]), dim=1)).logits
        is_eos = captions == special_tokens.eos
        mask = (is_eos.cumsum(1) - is_eos.long()) == 0  # the first EOS is a choice of the model too
        with job.compute.autocast(enabled=False):
            return loss(gather_log_probs(logits, captions), mask, advantages.flatten())

    return batch_loss


@torch.no_grad()
def _beam_search(
    captioner: Captioner, image_features: Tensor, special_tokens: SpecialTokens, num: int, max_length: int
) -> Tensor:
    """(images, num, max_length + 1) int64: the captions of a beam of size ``num``, padded with EOS."""
    settings = Decoding(beam=num, num=num, max_length=max_length, length_penalty=0.0)
    tokens = torch.full((len(image_features), num, max_length + 1), special_tokens.eos)
    for image, n_best in enumerate(decode(captioner, image_features, special_tokens, settings)):
        for row, hypothesis in enumerate(n_best):
            tokens[image, row, : len(hypothesis.tokens)] = torch.tensor(hypothesis.tokens)
    return tokens.to(image_features.device)


def _build_loss(config: Config) -> CaptionLoss | SelfCritical:
    loss: CaptionLoss | SelfCritical = catalog.build("caption_loss", config.loss.name, config.loss.args)
    return loss


def _check_loss(config: Config, model: nn.Module, loss: CaptionLoss | SelfCritical) -> None:
    """Raise ConfigError where cells are sampled and the loss has no gradient for them, or the other way round."""
    model_samples, loss_samples = (getattr(part, "samples_cells", False) for part in (model, loss))
    if isinstance(loss, SelfCritical) or model_samples == loss_samples:
        return
    if model_samples:
        hint = "add --set loss.name=variational-bound, or set model.args.attention to soft or gumbel"
        raise ConfigError(f"the loss {config.loss.name} does not train stochastic attention", hint)
    hint = "for show-attend-tell, add --set model.args.attention=stochastic; or set loss.name=cross-entropy"
    raise ConfigError(f"the loss {config.loss.name} needs a captioner with stochastic attention", hint)

"""What the training of a captioner optimises: teacher forcing, or rewards for captions of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn, optim

from xmodal_cli import catalog
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.sampling import sample_tokens
from xmodal_cli.config import Config
from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.inference.captioners import write_captions
from xmodal_cli.losses.captions.self_critical import SelfCritical, log_probs_of
from xmodal_cli.models.assembly import build_captioner, describe_captioner
from xmodal_cli.models.model_file import write_model
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.models.towers import trainable_state_dict
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.trainers.job import Job, build_batches, check_pace, moving_average, small_sizes
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.loop import Task
from xmodal_cli.training.optimizer import build_optimizer, group_parameters
from xmodal_cli.training.rewards import Rewards
from xmodal_cli.types import CaptionLoss, Decoding, SpecialTokens

SCORE = "cider"
BATCH = 64  # images captioned at once on val


class TrainableCaptioner(nn.Module):
    """All that the optimiser may move."""

    def __init__(self, captioner: nn.Module) -> None:
        super().__init__()
        self.model: Any = captioner


def check_parts(config: Config) -> None:
    """Build everything once, small, so that a misspelt name is told before the features are extracted."""
    sizes = small_sizes(config, 16)
    width = config.model.embed_dim or 16
    build_captioner(describe_captioner(replace(config.model, embed_dim=width), sizes))
    _loss(config)
    check_pace(config)
    if config.optimizer.image_tower and not config.features.tuned_blocks:
        hint = "set features.tuned_blocks to the number of last blocks to train, for example 3"
        raise ConfigError("a captioner's image tower is trained above a cached trunk, not from pixels", hint)
    if config.warmup.epochs:
        raise ConfigError("a captioner has no warm-up by another loss", "set warmup.epochs=0")


def build_learner(job: Job) -> TrainableCaptioner:
    """The captioner with fresh weights but for its tower and a pretrained language model."""
    model: Any = build_captioner(job.header.architecture, job.towers)
    if job.language is not None:
        getattr(model, "captioner", model).language_model.load_state_dict(job.language)
    return TrainableCaptioner(model)


def optimizer_of(config: Config, learner: nn.Module) -> optim.Adam | optim.AdamW:
    """The optimiser over everything, what is pretrained at its share of the learning rate."""
    settings = config.optimizer

    def share(name: str) -> float:
        if ".tower." in name:
            return settings.image_tower
        return settings.text_tower if config.captioning.language_model and ".language_model." in name else 1.0

    groups = group_parameters(learner, share, settings.weight_decay)
    return build_optimizer(groups, settings.name, settings.lr, settings.weight_decay)


def build_task(job: Job, learner: TrainableCaptioner, state: LoopState) -> Task:
    """What the loop needs; ``state`` tells the epoch, on which scheduled sampling depends."""
    training = job.config.training
    tokenizer = Tokenizer.from_json(job.header.tokenizer)
    average = moving_average(learner, training.ema)
    loss = _loss(job.config)
    if isinstance(loss, SelfCritical):
        batch_loss = _self_critical(job, learner, loss, tokenizer)
    else:
        batch_loss = _teacher_forced(job, learner, loss, state)

    def kept() -> Any:
        return learner.model if average is None else average.module.model

    def evaluate() -> dict[str, float]:
        settings = replace(job.config.decoding, beam=1, num=1, groups=1, sample=False)
        sentences = write_captions(kept(), tokenizer, _val_batches(job), settings, job.compute)
        references = [example.captions for example in job.val.pictures.dataset.examples]
        scores = score_captions(sentences, references, names=("bleu", "cider", "diversity"))
        return {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}

    def save_best(metrics: dict[str, float]) -> None:
        write_model(job.run / MODEL_FILE, replace(job.header, metrics=metrics), trainable_state_dict(kept()))

    return Task(learner, build_batches(job), batch_loss, evaluate, SCORE, save_best, average, digits=3)


def _teacher_forced(job: Job, learner: TrainableCaptioner, loss: CaptionLoss, state: LoopState) -> Any:
    epochs, most = job.config.training.epochs, job.config.captioning.scheduled_sampling
    prompts = job.train.prompts
    most_tags = 0 if prompts is None else int(prompts.max())
    longest = job.config.decoding.max_length + 2 + most_tags  # of longer ones the beginning is learnt: less padding

    def batch_loss(batch: Batch) -> Tensor:
        tokens, targets = batch.tokens[:, : longest - 1], batch.tokens[:, 1:longest]
        tokens = tokens[:, : targets.shape[1]]
        places = torch.arange(targets.shape[1], device=targets.device)[None]
        held = places < batch.lengths[:, None] - 1
        if most_tags and prompts is not None and batch.captions is not None:
            held &= places >= prompts[batch.captions].to(held.device)[:, None]  # tags are given, not learnt
        owner = batch.positives.int().argmax(0)
        share = most * state.epoch / max(1, epochs - 1)
        if share:
            tokens = _with_own_words(learner.model, batch.image_features, owner, tokens, share)
        teaching = learner.model(batch.image_features, owner, tokens)
        with job.compute.autocast(enabled=False):
            return loss(teaching, targets, held)

    return batch_loss


@torch.no_grad()
def _with_own_words(model: Any, image_features: Tensor, owner: Tensor, tokens: Tensor, share: float) -> Tensor:
    """Scheduled sampling in two passes (Mihaylova and Martins, arXiv 1906.07651): what the model would have said.

    A word is replaced, with probability ``share``, by one drawn from the model's distribution at its place.
    """
    logits = model(image_features, owner, tokens).logits.float()
    drawn = torch.distributions.Categorical(logits=logits[:, :-1]).sample()  # type: ignore[no-untyped-call]
    replaced = torch.rand(drawn.shape, device=drawn.device) < share
    return torch.cat((tokens[:, :1], torch.where(replaced, drawn, tokens[:, 1:])), dim=1)


def _self_critical(job: Job, learner: TrainableCaptioner, loss: SelfCritical, tokenizer: Tokenizer) -> Any:
    special_tokens = tokenizer.special_tokens
    examples = job.train.pictures.dataset.examples
    references = [tokenizer.encode_captions(example.captions) for example in examples]
    rewards = Rewards(references, special_tokens.eos, loss.count_end, loss.bleu_weight)
    longest = job.config.decoding.max_length

    def batch_loss(batch: Batch) -> Tensor:
        model, features, images = learner.model, batch.image_features, batch.images
        assert images is not None
        model.eval()  # captions are found, and their gradient taken, without dropout: one policy
        if loss.source == "beam":
            drawn = _beams(model, features, special_tokens, loss.num_samples, longest)
        else:
            drawn = sample_tokens(model, features, special_tokens, loss.num_samples, longest)
        greedy = None
        if loss.baseline == "greedy":
            usual = sample_tokens(model, features, special_tokens, 1, longest, greedy=True)
            greedy = rewards(images, usual)[:, 0].to(features.device)
        advantages = loss.advantages(rewards(images, drawn).to(features.device), greedy)
        captions = drawn.flatten(0, 1)
        owner = torch.arange(len(images), device=features.device).repeat_interleave(loss.num_samples)
        starts = captions.new_full((len(captions), 1), special_tokens.bos)
        logits = model(features, owner, torch.cat((starts, captions[:, :-1]), dim=1)).logits
        ended = (captions == special_tokens.eos).cumsum(1)
        held = (ended - (captions == special_tokens.eos).long()) == 0  # the first end is a choice too
        with job.compute.autocast(enabled=False):
            return loss(log_probs_of(logits, captions), held, advantages.flatten())

    return batch_loss


@torch.no_grad()
def _beams(model: Any, image_features: Tensor, special_tokens: SpecialTokens, num: int, longest: int) -> Tensor:
    """(images, num, longest) int64: the beam's captions, padded with the end mark."""
    settings = Decoding(beam=num, num=num, max_length=longest, length_penalty=0.0)
    tokens = torch.full((len(image_features), num, longest + 1), special_tokens.eos)
    for image, n_best in enumerate(decode(model, image_features, special_tokens, settings)):
        for row, hypothesis in enumerate(n_best):
            tokens[image, row, : len(hypothesis.tokens)] = torch.tensor(hypothesis.tokens)
    return tokens.to(image_features.device)


def _val_batches(job: Job) -> Iterator[Tensor]:
    features = job.val.pictures.features
    assert features is not None
    return iter(torch.split(features, BATCH))


def _loss(config: Config) -> Any:
    return catalog.build("caption_loss", config.loss.name, config.loss.args)

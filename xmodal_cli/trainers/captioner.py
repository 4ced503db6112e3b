"""The objective of a captioner: teacher forcing or self-critical training, validated by CIDEr or another metric.

Shapes: tokens, targets and masks are (captions, longest); ``image_of_caption`` (captions,) are rows of a batch's
images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn, optim

from xmodal_cli import catalog
from xmodal_cli.captioning.decoding import check_decoding
from xmodal_cli.config import Config
from xmodal_cli.errors import ConfigError, Unavailable
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.inference.captioners import write_captions
from xmodal_cli.inference.reranking import check_reranker
from xmodal_cli.losses.captions.self_critical import SelfCritical
from xmodal_cli.models.assembly import build_captioner, describe_captioner
from xmodal_cli.models.model_file import write_model
from xmodal_cli.models.towers import trainable_state_dict
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.trainers.initialization import initialize
from xmodal_cli.trainers.job import Job, build_average, build_batches, check_training, recompute_towers, trial_sizes
from xmodal_cli.trainers.predicted_tags import check_tags
from xmodal_cli.trainers.scheduled_sampling import replace_tokens
from xmodal_cli.trainers.self_critical import self_critical_loss
from xmodal_cli.trainers.val_metric import CAPTION_METRICS, ValMetric, caption_metric
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.optimizer import build_optimizer, group_parameters
from xmodal_cli.training.task import BatchLoss, Task
from xmodal_cli.types import Captioner, CaptionLoss

NO_METRIC = "set another training.metric, for example cider"
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
        check_decoding(config.decoding)
        check_reranker(config.decoding)
        check_tags(config)
        caption_metric(config.training.metric)
        if config.loss.name == "self-critical" and config.captioning.scheduled_sampling:
            raise ConfigError(
                "self-critical training has no scheduled sampling: it feeds the words that the model generates",
                "set captioning.scheduled_sampling=0",
            )
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
        average = build_average(model, job.effective_config.training.ema)
        recompute_towers(job)
        evaluated = model if average is None else cast(TrainableCaptioner, average.module)

        metric = caption_metric(job.config.training.metric)

        def evaluate() -> dict[str, float]:
            return _evaluate(evaluated.captioner, job, metric)

        def save_best(metrics: dict[str, float]) -> None:
            header = replace(job.header, metrics=metrics)
            write_model(job.run / MODEL_FILE, header, trainable_state_dict(evaluated.model))

        if isinstance(model.loss, SelfCritical):
            batch_loss = self_critical_loss(model.model, model.captioner, model.loss, job)
        else:
            batch_loss = _teacher_forcing(model.captioner, model.loss, job, state)
        batch_loss = job.group.parallel_loss(model, batch_loss)
        batches, lower = build_batches(job), metric.lower_is_better
        return Task(model, batches, batch_loss, evaluate, metric.name, save_best, average, 3, lower)


def _evaluate(captioner: Captioner, job: Job, metric: ValMetric) -> dict[str, float]:
    """The metrics of greedy captions of the val split; each process generates those of some batches."""
    group, num_images = job.group, len(job.val.images.dataset.examples)
    rows = group.blocks(num_images, BATCH)
    candidates = group.merge(rows, _write_captions(captioner, job, rows))
    scores = _score(candidates, job, metric) if group.is_main else None
    return cast(dict[str, float], group.broadcast(scores))


def _write_captions(captioner: Captioner, job: Job, rows: Sequence[int]) -> list[str]:
    """Greedy captions of some val images, with the tags of ``captioning.tagger`` if there is one."""
    settings = replace(job.config.decoding, beam=1, num=1, num_beam_groups=1, sample=False)
    prompts = [job.val.prompts[row] for row in rows] if job.val.prompts else ()
    batches = job.val.images.batches(BATCH, rows)
    return write_captions(captioner, job.tokenizer, batches, settings, job.compute, prompts)


def _score(candidates: Sequence[str], job: Job, metric: ValMetric) -> dict[str, float]:
    references = [example.captions for example in job.val.images.dataset.examples]
    names = tuple(dict.fromkeys((*CAPTION_METRICS, metric.component)))
    scores = score_captions(candidates, references, names=names)
    if scores.scores.get(metric.name) is None:
        raise Unavailable(f"{metric.name} is not available: {scores.unavailable.get(metric.name)}", NO_METRIC)
    return {name: float(value) for name, value in scores.scores.items() if value is not None}


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
        prompts = None
        if max_tags and prompt_lengths is not None and batch.captions is not None:
            prompts = prompt_lengths[batch.captions].to(mask.device)
            mask &= positions >= prompts[:, None]
        image_of_caption = batch.image_of_caption
        prob = last_prob * state.epoch / max(1, epochs - 1)
        if prob:
            tokens = replace_tokens(captioner, batch.image_features, image_of_caption, tokens, prob, prompts)
        output = captioner(batch.image_features, image_of_caption, tokens)
        with job.compute.autocast(enabled=False):
            return loss(output, targets, mask)

    return batch_loss


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

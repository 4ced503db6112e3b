"""The weights that training starts from: those of another model, or of a file of word vectors."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.models import find_model
from xmodal_cli.models.model_file import read_tensors
from xmodal_cli.models.towers import CaptionerOnTower, load_trainable_state_dict
from xmodal_cli.models.word_vectors import initialize_from_word_vectors
from xmodal_cli.trainers.job import Job


def initialize(model: nn.Module, job: Job) -> None:
    """Load the weights of ``job.init_from``, or else the word vectors of the settings. Raises ConfigError, BadModel."""
    if job.init_from is not None:
        _load_weights(model, job.init_from)
    elif job.config.text.word_vectors:
        initialize_from_word_vectors(model, job.tokenizer, Path(job.config.text.word_vectors), job.reporter)


def _load_weights(model: nn.Module, name: str) -> None:
    tensors = read_tensors(find_model(name))
    if isinstance(model, CaptionerOnTower) and not any(key.startswith("captioner.") for key in tensors):
        model = model.captioner  # a captioner trained on features continues on top of the tower that computes them
    try:
        load_trainable_state_dict(model, tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{name} does not fit this preset: {reason}", "use the preset it was trained with") from error

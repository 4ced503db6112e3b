"""The weights that training starts from: those of another model, or of a file of word vectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from torch import nn

from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.models import ModelInfo, describe_model, find_model
from xmodal_cli.models.model_file import read_tensors, tensor_shapes
from xmodal_cli.models.towers import CaptionerOnTower, load_trainable_state_dict, trainable_state_dict
from xmodal_cli.models.word_vectors import initialize_from_word_vectors
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.trainers.job import Job


def initialize(model: nn.Module, job: Job) -> None:
    """Load the weights of ``job.init_from``, or else the word vectors of the settings. Raises ConfigError, BadModel."""
    if job.init_from is not None:
        _load_weights(model, job.init_from)
    elif job.config.text.word_vectors:
        initialize_from_word_vectors(model, job.tokenizer, Path(job.config.text.word_vectors), job.reporter)


def check_initial_weights(model: nn.Module, name: str) -> None:
    """Raise ConfigError unless the model ``name`` has weights of the names and shapes of ``model``.

    ``model`` may have been built without memory.
    """
    info = describe_model(name)
    stored = tensor_shapes(info.path)
    expected = {key: tuple(value.shape) for key, value in trainable_state_dict(_part_of(model, stored)).items()}
    for key in sorted(expected.keys() | stored.keys()):
        if stored.get(key) != expected.get(key):
            message = f"{name} does not fit this preset: {key} has the shape {_text(stored.get(key))} in it, and "
            raise ConfigError(f"{message}{_text(expected.get(key))} here", _hint(info))


def _part_of(model: nn.Module, stored: Iterable[str]) -> nn.Module:
    """The part of ``model`` that the stored weights are of.

    A captioner trained on features continues on top of the tower that computes them.
    """
    if isinstance(model, CaptionerOnTower) and not any(key.startswith("captioner.") for key in stored):
        return cast(nn.Module, model.captioner)
    return model


def _text(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " x ".join(map(str, shape)) or "1"


def _hint(info: ModelInfo) -> str:
    return f"use its settings, which are shown by: {xmodal_command('models', 'info', info.word, '--json')}"


def _load_weights(model: nn.Module, name: str) -> None:
    check_initial_weights(model, name)
    tensors = read_tensors(find_model(name))
    load_trainable_state_dict(_part_of(model, tensors), tensors)

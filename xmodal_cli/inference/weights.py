"""Loading the network, the tokenizer and the weights of a model file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from xmodal_cli.errors import BadModel
from xmodal_cli.models.header_check import check_parameters, header_errors
from xmodal_cli.models.model_file import num_elements, read_tensors

if TYPE_CHECKING:
    from torch import nn

    from xmodal_cli.inference.models import ModelInfo
    from xmodal_cli.models.tokenizer import Tokenizer


def build_network(info: ModelInfo, build: Callable[[], nn.Module], has_towers: bool) -> nn.Module:
    """The network of a model file with new weights, from ``build``. Raises BadModel for an invalid header.

    Without pretrained towers it is first built without memory, so that damaged sizes cannot exhaust it.
    """
    with header_errors(info.path):
        if not has_towers:
            with without_memory():
                num_built = sum(parameter.numel() for parameter in build().parameters())
            check_parameters(num_built, num_elements(info.path))
        return build()


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Build networks of any size without memory and without initial weights."""
    import torch

    with torch.device("meta"), _without_initialization():
        yield


def _without_initialization() -> AbstractContextManager[object]:
    """Skip the functions of ``torch.nn.init``: without memory they compute nothing, and torch imports sympy for it."""
    from torch.overrides import TorchFunctionMode

    class SkipInitialization(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__module__", "") == "torch.nn.init":
                return args[0] if args else (kwargs or {})["tensor"]
            return func(*args, **(kwargs or {}))

    return SkipInitialization()


def read_tokenizer(info: ModelInfo) -> Tokenizer:
    """The tokenizer of a model file. Raises BadModel, also for a vocabulary of more words than the model has."""
    from xmodal_cli.models.tokenizer import Tokenizer

    with header_errors(info.path):
        tokenizer, size = Tokenizer.from_json(info.header.tokenizer), info.header.architecture["vocab_size"]
        if tokenizer.is_word_level and tokenizer.vocab_size > size:
            raise ValueError(f"its tokenizer has {tokenizer.vocab_size} words, and the model has {size}")
        return tokenizer


def load_weights(model: nn.Module, info: ModelInfo) -> None:
    """Load the weights of ``info`` into ``model``. Raises MissingData, BadModel."""
    from xmodal_cli.models.towers import load_trainable_state_dict

    try:
        load_trainable_state_dict(model, read_tensors(info.path, info.fingerprint))
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise BadModel(f"the weights in {info.path} do not match its header", str(error)[:200]) from error

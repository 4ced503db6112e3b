"""Activations that are recomputed in the backward pass, so that they are not all in memory at once.

A batch is encoded in chunks as GradCache does (Gao et al., arXiv 2101.06983): first without activations, then, with the
gradients of the embeddings, each chunk again with them. Chen et al. (arXiv 1604.06174) recompute each block of a
network. The second pass has the random numbers of the first, and does not change the running statistics of norms.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from xmodal_cli.backbones.splitting import find_blocks
from xmodal_cli.errors import ConfigError
from xmodal_cli.training.synchronized_norms import recomputed_norms


def in_chunks(encode: Callable[..., Tensor], size: int, *inputs: Tensor) -> Tensor:
    """``encode(*inputs)``, (items, ...) -> (items, dim), ``size`` items at a time; 0: all of them.

    One chunk has its activations in memory. The result does not depend on ``size`` but for dropout, and needs an
    ``encode`` without batch normalization.
    """
    if not size or len(inputs[0]) <= size:
        return encode(*inputs)
    chunks = zip(*(torch.split(values, size) for values in inputs), strict=True)
    return torch.cat([recomputed(encode, *chunk) for chunk in chunks])


def recomputed(function: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
    """``function(*inputs)``, whose activations are recomputed in the backward pass."""
    if not torch.is_grad_enabled():
        return function(*inputs, **settings)
    return checkpoint(function, *inputs, use_reentrant=False, context_fn=_contexts, **settings)


def recompute_blocks(network: nn.Module) -> None:
    """From now on, the blocks of ``network`` that are trained are recomputed in the backward pass."""
    for block in find_blocks(network):
        if any(parameter.requires_grad for parameter in block.parameters()):
            cast(Any, block).forward = partial(recomputed, block.forward)


def check_chunks(model: nn.Module, chunk_size: int) -> None:
    """Raise ConfigError for chunks of a model with batch normalization that is trained."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if chunk_size and any(parameter.requires_grad for norm in norms for parameter in norm.parameters()):
        raise ConfigError(
            "training.chunk_size changes the batch normalization of the image backbone, which uses the whole batch",
            "set it to 0, or train a backbone without batch normalization, such as a ViT",
        )


def _contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[object]]:
    return contextlib.nullcontext(), recomputed_norms()

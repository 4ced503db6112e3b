"""Scores and gradients of order similarity in torch: compiled for CPU float32, otherwise in blocks."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from xmodal_cli.models.order_kernel import order_gradients, order_scores

BLOCK_ELEMENTS = 2**24  # size of the largest (images, texts, dim) difference without the compiled kernel


def order_similarity(images: Tensor, texts: Tensor) -> Tensor:
    """(images, dim), (texts, dim) -> (images, texts), with gradients."""
    on_cpu = images.device.type == "cpu" and images.dtype == texts.dtype == torch.float32
    function = _CompiledScores if on_cpu else _BlockedScores
    return cast(Tensor, function.apply(images, texts))


class _CompiledScores(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor) -> Tensor:
        ctx.save_for_backward(images, texts)
        return torch.from_numpy(order_scores(images.detach().numpy(), texts.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        images, texts = (t.detach().contiguous().numpy() for t in ctx.saved_tensors)
        image_gradient, text_gradient = order_gradients(images, texts, upstream[0].contiguous().numpy())
        return torch.from_numpy(image_gradient), torch.from_numpy(text_gradient)


class _BlockedScores(Function):
    """The same scores in blocks of images; differences are recomputed in the backward pass."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor) -> Tensor:
        ctx.save_for_backward(images, texts)
        blocks = [-_violations(part, texts).square().sum(-1) for part in torch.split(images, _block_size(texts))]
        return torch.cat(blocks)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        images, texts = ctx.saved_tensors
        image_gradient, text_gradient = torch.zeros_like(images), torch.zeros_like(texts)
        for start in range(0, len(images), _block_size(texts)):
            rows = slice(start, start + _block_size(texts))
            weighted = 2 * upstream[0][rows, :, None] * _violations(images[rows], texts)
            image_gradient[rows] = weighted.sum(1)
            text_gradient -= weighted.sum(0)
        return image_gradient, text_gradient


def _violations(images: Tensor, texts: Tensor) -> Tensor:
    return (texts[None, :, :] - images[:, None, :]).clamp_(min=0)  # (images, texts, dim)


def _block_size(texts: Tensor) -> int:
    return max(1, BLOCK_ELEMENTS // max(1, texts.numel()))

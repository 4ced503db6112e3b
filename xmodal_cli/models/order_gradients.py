"""Scores and gradients of order similarity in torch: compiled on the CPU, in blocks elsewhere."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from xmodal_cli.models.order_kernel import order_gradients, order_scores

CELLS = 2**24  # differences held at once on devices that have no compiled kernel


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
        of_images, of_texts = order_gradients(images, texts, upstream[0].contiguous().numpy())
        return torch.from_numpy(of_images), torch.from_numpy(of_texts)


class _BlockedScores(Function):
    """The same in whole-array operations, a few images at a time; differences are made again going back."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor) -> Tensor:
        ctx.save_for_backward(images, texts)
        blocks = [-_violations(part, texts).square().sum(-1) for part in torch.split(images, _rows(texts))]
        return torch.cat(blocks)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        images, texts = ctx.saved_tensors
        of_images, of_texts = torch.zeros_like(images), torch.zeros_like(texts)
        for start in range(0, len(images), _rows(texts)):
            rows = slice(start, start + _rows(texts))
            weighted = 2 * upstream[0][rows, :, None] * _violations(images[rows], texts)
            of_images[rows] = weighted.sum(1)
            of_texts -= weighted.sum(0)
        return of_images, of_texts


def _violations(images: Tensor, texts: Tensor) -> Tensor:
    return (texts[None, :, :] - images[:, None, :]).clamp_(min=0)  # (images, texts, dim)


def _rows(texts: Tensor) -> int:
    return max(1, CELLS // max(1, texts.numel()))

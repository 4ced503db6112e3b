"""Splits a network into a frozen trunk and its last blocks, which are trained on the cached output of the trunk.

It works for any network whose output depends on the images only through the input of the first trained block. The
blocks are called by the forward pass of the network itself, so no architecture is written down here: the trunk stops
before that block, and ``LastBlocks`` replaces the input of that block.
"""

from __future__ import annotations

import threading
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from xmodal_cli.backbones.network import sample_view
from xmodal_cli.errors import ConfigError

CONTAINERS = (nn.Sequential, nn.ModuleList)
_replacement = threading.local()  # ``states``: the input of the first trained block in this thread


class _Reached(Exception):
    """The forward pass has reached the first trained block, whose input is ``states``."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def find_blocks(network: nn.Module) -> list[nn.Module]:
    """The residual or transformer blocks in order: the innermost compound modules in sequences.

    Of a network without them, the convolutions.
    """
    return _blocks_in(network) or [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def _blocks_in(module: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in module.children():
        inner = _blocks_in(child)
        if not inner and isinstance(module, CONTAINERS) and _is_compound(child):
            inner = [child]
        found += inner
    return found


def _is_compound(module: nn.Module) -> bool:
    """Whether it has several layers with weights, and is not a sequence, as the shortcut of a residual block is."""
    with_weights = [m for m in module.modules() if any(True for _ in m.parameters(recurse=False))]
    return len(with_weights) > 1 and not isinstance(module, CONTAINERS)


class Trunk(nn.Module):
    """Normalized images -> (images, cells, depth): the input of the block before which ``network`` is split."""

    def __init__(self, network: nn.Module, num_blocks: int, name: str) -> None:
        super().__init__()
        self.network = network
        _first_block(network, num_blocks, name).register_forward_pre_hook(_stop)

    def forward(self, images: Tensor) -> Tensor:
        return _pack(_states(self.network, images))


class LastBlocks(nn.Module):
    """The last ``num_blocks`` and all later layers of ``network``: (images, views * cells, depth) -> its features.

    In training, one of the views of each image (the image and its mirror image) is sampled per forward pass. Layers
    before these blocks are frozen; they run on one blank image of side ``size``, and their output is not used. Raises
    ConfigError for a network that cannot be split there.
    """

    def __init__(self, network: nn.Module, num_blocks: int, kind: str, size: int, name: str) -> None:
        super().__init__()
        self.network, self.kind = network.eval(), kind
        self.register_buffer("blank", torch.zeros(1, 3, size, size), persistent=False)
        block = _first_block(network, num_blocks, name)
        states, expected = _reference(network, block, size)
        block.register_forward_pre_hook(_replace)
        if not self._is_exact(states, expected):
            hint = "set features.tuned_blocks to another number, or to 0 to train all of it from pixels"
            raise ConfigError(f"{name} cannot be split before its last {num_blocks} blocks", hint)
        self.shape, self.num_cells = states.shape[1:], _pack(states).shape[1]
        self._freeze_lower_layers(states)

    def forward(self, cells: Tensor) -> Tensor:
        views = sample_view(cells, self.num_cells, self.training)
        output = self._run(_unpack(views.flatten(0, 1), self.shape))
        if output.ndim == 2:  # the mean over the views
            return output.view(cells.shape[0], -1, output.shape[-1]).mean(1)
        return output.reshape(cells.shape[0], -1, output.shape[-1])

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.network.modules():
            parameters = list(module.parameters(recurse=False))
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.training = False  # the running means of a frozen norm stay the same
        return self

    def _run(self, states: Tensor) -> Tensor:
        _replacement.states = states
        try:
            return cast(Tensor, self.network(self.blank))
        finally:
            _replacement.states = None

    @torch.no_grad()
    def _is_exact(self, states: Tensor, expected: Tensor) -> bool:
        """Whether the output depends on the images only through ``states``."""
        try:
            actual = self._run(states)
        except RuntimeError:  # shapes that do not fit together
            return False
        tolerance = 1e-4 * expected.abs().max().item()
        is_same = actual.shape == expected.shape and torch.allclose(actual, expected, rtol=1e-4, atol=tolerance)
        return is_same and states.ndim in (3, 4)

    def _freeze_lower_layers(self, states: Tensor) -> None:
        with torch.enable_grad():
            self._run(states).square().sum().backward()  # type: ignore[no-untyped-call]
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None


def _first_block(network: nn.Module, num_blocks: int, name: str) -> nn.Module:
    blocks = find_blocks(network)
    if not 1 <= num_blocks <= len(blocks):
        raise ConfigError(
            f"cannot fine-tune {num_blocks} blocks of {name}, which has {len(blocks)}", f"use 1 to {len(blocks)} blocks"
        )
    return blocks[-num_blocks]


def _stop(block: nn.Module, inputs: tuple[Any, ...]) -> None:
    raise _Reached(inputs[0])


def _replace(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    states = getattr(_replacement, "states", None)
    return None if states is None else (states, *inputs[1:])


def _states(network: nn.Module, images: Tensor) -> Tensor:
    """The input of the block with the hook ``_stop``."""
    try:
        network(images)
    except _Reached as reached:
        return reached.states
    raise RuntimeError("the forward pass does not reach the block")


def _reference(network: nn.Module, block: nn.Module, size: int) -> tuple[Tensor, Tensor]:
    """The input of ``block`` for two random images, and the output of ``network``."""
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        hook = block.register_forward_pre_hook(_stop)
        try:
            return _states(network, images), expected
        finally:
            hook.remove()


def _pack(states: Tensor) -> Tensor:
    """(images, tokens, depth) as it is; (images, depth, height, width) -> (images, height * width, depth)."""
    return states if states.ndim == 3 else states.flatten(2).transpose(1, 2)


def _unpack(cells: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of ``_pack``: (images, cells, depth) -> (images, *shape)."""
    # not len(cells), which an export to ONNX takes for a constant
    return cells if len(shape) == 2 else cells.transpose(1, 2).reshape(cells.shape[0], *shape)

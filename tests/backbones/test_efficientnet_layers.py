"""The layers of EfficientNet-Lite2 equal those of timm, by name and by output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xmodal_cli.backbones.efficientnet_layers import build_layers


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Module, nn.Module]:
    import timm

    torch.manual_seed(0)
    published = timm.create_model("tf_efficientnet_lite2").eval()
    for name, buffer in published.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    blocks = [block for stage in published.blocks for block in stage]
    expected = nn.Sequential(published.conv_stem, published.bn1, *blocks, published.conv_head, published.bn2)
    ours = nn.Sequential(*build_layers()).eval()
    assert list(ours.state_dict()) == list(expected.state_dict())
    ours.load_state_dict(expected.state_dict())
    return ours, expected


@pytest.mark.parametrize("size", [260, 224, 97])
def test_the_layers_equal_those_of_timm(networks, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    with torch.inference_mode():
        ours, expected = (network(images) for network in networks)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)

"""Networks cut in two, a part that is run once and a part that is trained: together they are the whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from xmodal_cli.backbones.image_backbones import build_backbone, build_network, build_upper, check_request
from xmodal_cli.backbones.network import UpperBlocks
from xmodal_cli.backbones.text_backbones import build_text_backbone
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.features.extraction import encode_files
from xmodal_cli.models.tokenizer import Tokenizer, pad

NAME = "efficientnet-lite2"
SENTENCES = ["a dog runs", "two children in the water laugh at a very wet brown dog", "", "snow"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two picture files, and then their mirror images."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    images = [Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((260, 260)) for _ in range(2)]
    for n, image in enumerate([*images, *map(ImageOps.mirror, images)]):
        image.save(folder / f"{n}.png")
    return sorted(folder.iterdir())


def features(files, backbone):
    """(pictures, ...) float32."""

    def opener(file):
        return Image.open(file).convert("RGB")

    return np.stack([found for _, found in encode_files(files, backbone, opener, Compute("cpu", "fp32"))])


@pytest.fixture(scope="module")
def whole(pictures):
    """(4, 81, 1280): what the uncut network gives."""
    return features(pictures, build_backbone(NAME, "grid"))


@pytest.fixture(scope="module")
def trunk(pictures):
    """(2, 2 * 81, depth): both views of the two pictures before the last block."""
    return torch.from_numpy(features(pictures[:2], build_backbone(NAME, "trunk-1", 2)))


@pytest.mark.parametrize(("num_blocks", "num_cells"), [(1, 81), (5, 81), (6, 289), (13, 289)])
def test_trunk_and_blocks_together_are_the_network(pictures, whole, num_blocks, num_cells):
    backbone = build_backbone(NAME, f"trunk-{num_blocks}")
    cells = features(pictures[:2], backbone)
    assert cells.shape == (2, num_cells, backbone.meta.dim)
    assert (backbone.meta.kind, backbone.meta.backbone) == (f"trunk-{num_blocks}", NAME)
    upper = build_upper(NAME, "grid", num_blocks)[0].eval()
    with torch.no_grad():
        found = upper(torch.from_numpy(cells))
        mean = UpperBlocks(upper.blocks, "global", num_cells)(torch.from_numpy(cells))
    np.testing.assert_allclose(found, whole[:2], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(mean, whole[:2].mean(1), atol=1e-4, rtol=1e-4)


def test_two_crops_are_the_picture_and_then_its_mirror_image(pictures, whole, trunk):
    upper = build_upper(NAME, "grid", 1)[0].eval()
    with torch.no_grad():
        found = upper(trunk).numpy()
    assert trunk.shape[1] == 162 and found.shape == (2, 162, 1280)
    np.testing.assert_allclose(found[:, :81], whole[:2], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found[:, 81:], whole[2:], atol=1e-4, rtol=1e-4)
    assert np.abs(whole[:2] - whole[2:]).max() > 0.1


def test_the_vector_of_two_crops_is_their_mean(pictures, whole, trunk):
    both = (whole[:2].mean(1) + whole[2:].mean(1)) / 2
    backbone = build_backbone(NAME, "global", 2)
    assert backbone.meta.crops == 2
    np.testing.assert_allclose(features(pictures[:2], backbone), both, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(build_upper(NAME, "global", 1)[0].eval()(trunk), both, atol=1e-4, rtol=1e-4)


def test_training_draws_one_view_of_each_picture():
    upper = UpperBlocks(torch.nn.Identity(), "grid", 4).train()
    views = torch.arange(20.0)[:, None, None, None] + torch.tensor([0.0, 0.5])[:, None, None]
    cells = views.expand(20, 2, 4, 3).reshape(20, 8, 3)
    torch.manual_seed(0)
    first = upper(cells)
    assert first.shape == (20, 4, 3)
    mirrored = first[:, 0, 0] - torch.arange(20.0)
    assert set(mirrored.tolist()) == {0.0, 0.5}  # each picture's own draw
    assert torch.equal(first, (torch.arange(20.0) + mirrored)[:, None, None].expand(20, 4, 3))
    assert not torch.equal(upper(cells), first)
    torch.manual_seed(0)
    assert torch.equal(upper(cells), first)
    assert torch.equal(upper.eval()(cells), cells)
    assert torch.equal(upper.train()(cells[:, :4]), cells[:, :4])  # one view: there is nothing to draw


def test_cells_of_half_precision_give_gradients(trunk):
    upper = build_upper(NAME, "global", 1)[0].train()
    upper(trunk.half()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in upper.parameters())


@pytest.mark.parametrize(
    ("kind", "crops", "sentence", "hint"),
    [
        ("trunk-0", 1, "0 blocks of efficientnet-lite2 cannot be trained on a cached trunk", "1 to 13"),
        ("trunk-14", 1, "14 blocks", "1 to 13"),
        ("trunk-x", 1, "x blocks", "1 to 13"),
        ("trunk-1", 10, "one or two views of a picture, not 10", "crops to 1 or 2"),
        ("trunk-1", 3, "one or two views of a picture, not 3", "crops to 1 or 2"),
        ("pixels", 2, "pixels are trained on one view of a picture, not 2", "crops to 1"),
        ("grid", 2, "the cells of several crops", "crops 1"),
        ("global", 3, "crops is 1, 2 or 10, not 3", "mirror image"),
    ],
)
def test_requests_that_cannot_be_met(kind, crops, sentence, hint):
    with pytest.raises(ConfigError, match=sentence) as caught:
        check_request(NAME, kind, crops)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["vgg19", "timm/resnet18", "faster-rcnn-resnet50", "open_clip/ViT-B-32/openai"])
def test_networks_without_blocks(name):
    with pytest.raises(ConfigError, match="cannot be cut into blocks") as caught:
        build_upper(name, "global", 1)
    assert "efficientnet-lite2" in caught.value.hint


def test_what_is_no_single_network_cannot_be_trained():
    with pytest.raises(UnknownName):
        build_network("efficientnet-lite")
    with pytest.raises(ConfigError):
        build_network("bottom-up")


# ---------------------------------------------------------------------------- sentences


def batch(tokenizer):
    """Ids of sentences of several lengths, and those lengths."""
    return tuple(torch.from_numpy(a) for a in pad(Tokenizer.from_json(tokenizer).encode(SENTENCES)))


@pytest.fixture(scope="module")
def minilm():
    return build_text_backbone("minilm")


@pytest.mark.parametrize("num_layers", [1, 2, 5])
def test_lower_and_upper_layers_together_are_the_encoder(minilm, num_layers):
    tokens, lengths = batch(minilm.tokenizer)
    assert lengths.tolist() != sorted(lengths.tolist()) and lengths.min() < lengths.max()
    cut = build_text_backbone("minilm", num_layers)
    assert cut.upper is not None and minilm.upper is None
    assert cut.meta == minilm.meta and cut.tokenizer == minilm.tokenizer
    with torch.inference_mode():
        expected = minilm.network(tokens, lengths)
        lower = cut.network.eval()(tokens, lengths)
        found = cut.upper.eval()(lower, lengths)
        lower[torch.arange(lower.shape[1])[None] >= lengths[:, None]] = 100  # what stands in the padding
        padded = cut.upper(lower, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row, :length], expected[row, :length], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(padded[row, :length], expected[row, :length], atol=1e-4, rtol=1e-4)
    count = sum(1 for name, _ in cut.upper.named_parameters() if name.endswith("query.weight"))
    assert count == num_layers


@pytest.mark.parametrize("num_layers", [6, 7, -1])
def test_a_number_of_layers_that_it_does_not_have(num_layers):
    with pytest.raises(ConfigError, match=f"minilm has 6 layers; {num_layers} cannot") as caught:
        build_text_backbone("minilm", num_layers)
    assert caught.value.hint == "give 1 to 5"


def test_the_table_of_words_is_never_trained(minilm):
    frozen = {name for name, value in minilm.network.named_parameters() if not value.requires_grad}
    assert frozen and all("embeddings" in name for name in frozen)
    assert "network.embeddings.word_embeddings.weight" in frozen
    assert any(value.requires_grad for value in minilm.network.parameters())


def test_an_encoder_that_is_not_like_bert_is_not_cut(tmp_path):
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models
    from transformers import MPNetConfig, MPNetModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 16}
    network = MPNetModel(MPNetConfig(num_hidden_layers=2, num_attention_heads=2, **sizes))
    assert len(network.encoder.layer) == 2  # like BERT's, but they share what they know of places
    network.save_pretrained(tmp_path)
    RustTokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="cannot be cut into layers") as caught:
        build_text_backbone(str(tmp_path), 1)
    assert "tuned_layers to 0" in caught.value.hint


def test_clips_text_tower_is_not_cut(tiny_clip):
    name, network = tiny_clip("uncut")
    with pytest.raises(ConfigError, match="cannot be cut into layers"):
        build_text_backbone(name, 1)
    found = build_text_backbone(name)
    assert (found.meta.kind, found.meta.dim, found.upper) == ("sentence", 24, None)
    tokens, lengths = batch(found.tokenizer)
    with torch.inference_mode():
        states = found.network(tokens, lengths)
        assert states.shape == (len(SENTENCES), 1, 24)
        width = network.context_length - tokens.shape[1]
        whole = network.encode_text(torch.nn.functional.pad(tokens, (0, width)))
    torch.testing.assert_close(states[:, 0], whole, atol=1e-5, rtol=1e-5)

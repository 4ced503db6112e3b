"""Networks split into a frozen lower part and a trainable upper part: together they equal the whole network."""

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
def image_files(tmp_path_factory):
    """Two image files, then their mirror images."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("images")
    images = [Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((260, 260)) for _ in range(2)]
    for n, image in enumerate([*images, *map(ImageOps.mirror, images)]):
        image.save(folder / f"{n}.png")
    return sorted(folder.iterdir())


def features(files, backbone):
    """(images, ...) float32."""

    def opener(file):
        return Image.open(file).convert("RGB")

    return np.stack([vectors for _, vectors in encode_files(files, backbone, opener, Compute("cpu", "fp32"))])


@pytest.fixture(scope="module")
def whole(image_files):
    """(4, 81, 1280): the output of the whole network."""
    return features(image_files, build_backbone(NAME, "grid"))


@pytest.fixture(scope="module")
def trunk(image_files):
    """(2, 2 * 81, depth): the feature maps of both views of two images before the last block."""
    return torch.from_numpy(features(image_files[:2], build_backbone(NAME, "trunk-1", 2)))


@pytest.mark.parametrize(("num_blocks", "num_cells"), [(1, 81), (5, 81), (6, 289), (13, 289)])
def test_trunk_and_blocks_together_equal_the_network(image_files, whole, num_blocks, num_cells):
    backbone = build_backbone(NAME, f"trunk-{num_blocks}")
    cells = features(image_files[:2], backbone)
    assert cells.shape == (2, num_cells, backbone.meta.dim)
    assert (backbone.meta.kind, backbone.meta.backbone) == (f"trunk-{num_blocks}", NAME)
    upper = build_upper(NAME, "grid", num_blocks)[0].eval()
    with torch.no_grad():
        actual = upper(torch.from_numpy(cells))
        mean = UpperBlocks(upper.blocks, "global", num_cells)(torch.from_numpy(cells))
    np.testing.assert_allclose(actual, whole[:2], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(mean, whole[:2].mean(1), atol=1e-4, rtol=1e-4)


def test_two_crops_are_the_image_and_then_its_mirror_image(image_files, whole, trunk):
    upper = build_upper(NAME, "grid", 1)[0].eval()
    with torch.no_grad():
        actual = upper(trunk).numpy()
    assert trunk.shape[1] == 162 and actual.shape == (2, 162, 1280)
    np.testing.assert_allclose(actual[:, :81], whole[:2], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(actual[:, 81:], whole[2:], atol=1e-4, rtol=1e-4)
    assert np.abs(whole[:2] - whole[2:]).max() > 0.1


def test_the_vector_of_two_crops_is_their_mean(image_files, whole, trunk):
    mean = (whole[:2].mean(1) + whole[2:].mean(1)) / 2
    backbone = build_backbone(NAME, "global", 2)
    assert backbone.meta.crops == 2
    np.testing.assert_allclose(features(image_files[:2], backbone), mean, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(build_upper(NAME, "global", 1)[0].eval()(trunk), mean, atol=1e-4, rtol=1e-4)


def test_training_samples_one_view_per_image():
    upper = UpperBlocks(torch.nn.Identity(), "grid", 4).train()
    views = torch.arange(20.0)[:, None, None, None] + torch.tensor([0.0, 0.5])[:, None, None]
    cells = views.expand(20, 2, 4, 3).reshape(20, 8, 3)
    torch.manual_seed(0)
    first = upper(cells)
    assert first.shape == (20, 4, 3)
    mirrored = first[:, 0, 0] - torch.arange(20.0)
    assert set(mirrored.tolist()) == {0.0, 0.5}  # sampled per image
    assert torch.equal(first, (torch.arange(20.0) + mirrored)[:, None, None].expand(20, 4, 3))
    assert not torch.equal(upper(cells), first)
    torch.manual_seed(0)
    assert torch.equal(upper(cells), first)
    assert torch.equal(upper.eval()(cells), cells)
    assert torch.equal(upper.train()(cells[:, :4]), cells[:, :4])  # a single view is not sampled


def test_float16_cells_give_gradients(trunk):
    upper = build_upper(NAME, "global", 1)[0].train()
    upper(trunk.half()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in upper.parameters())


@pytest.mark.parametrize(
    ("kind", "crops", "message", "hint"),
    [
        ("trunk-0", 1, "cannot fine-tune 0 blocks of efficientnet-lite2", "1 to 13"),
        ("trunk-14", 1, "cannot fine-tune 14 blocks", "1 to 13"),
        ("trunk-x", 1, "cannot fine-tune x blocks", "1 to 13"),
        ("trunk-1", 10, "needs crops=1 or crops=2, not 10", "crops to 1 or 2"),
        ("trunk-1", 3, "needs crops=1 or crops=2, not 3", "crops to 1 or 2"),
        ("pixels", 2, "pixels need crops=1, not 2", "crops to 1"),
        ("grid", 2, "the cells of several crops", "crops 1"),
        ("global", 3, "crops must be 1, 2 or 10, not 3", "mirror image"),
    ],
)
def test_invalid_requests_raise(kind, crops, message, hint):
    with pytest.raises(ConfigError, match=message) as caught:
        check_request(NAME, kind, crops)
    assert hint in caught.value.hint


def test_an_unknown_name_and_region_files_cannot_be_trained():
    with pytest.raises(UnknownName):
        build_network("efficientnet-lite")
    with pytest.raises(ConfigError):
        build_network("bottom-up")


# ---------------------------------------------------------------------------- sentences


def batch(tokenizer):
    """Token ids of sentences of several lengths, and the lengths."""
    return tuple(torch.from_numpy(a) for a in pad(Tokenizer.from_json(tokenizer).encode(SENTENCES)))


@pytest.fixture(scope="module")
def minilm():
    return build_text_backbone("minilm")


@pytest.mark.parametrize("num_layers", [1, 2, 5])
def test_lower_and_upper_layers_together_equal_the_encoder(minilm, num_layers):
    tokens, lengths = batch(minilm.tokenizer)
    assert lengths.tolist() != sorted(lengths.tolist()) and lengths.min() < lengths.max()
    split = build_text_backbone("minilm", num_layers)
    assert split.upper is not None and minilm.upper is None
    assert split.meta == minilm.meta and split.tokenizer == minilm.tokenizer
    with torch.inference_mode():
        expected = minilm.network(tokens, lengths)
        lower = split.network.eval()(tokens, lengths)
        actual = split.upper.eval()(lower, lengths)
        lower[torch.arange(lower.shape[1])[None] >= lengths[:, None]] = 100  # padding
        padded = split.upper(lower, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(actual[row, :length], expected[row, :length], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(padded[row, :length], expected[row, :length], atol=1e-4, rtol=1e-4)
    count = sum(1 for name, _ in split.upper.named_parameters() if name.endswith("query.weight"))
    assert count == num_layers


@pytest.mark.parametrize("num_layers", [6, 7, -1])
def test_an_invalid_number_of_layers_raises(num_layers):
    with pytest.raises(ConfigError, match=f"minilm has 6 layers; text.tuned_layers cannot be {num_layers}") as caught:
        build_text_backbone("minilm", num_layers)
    assert caught.value.hint == "set it from 1 to 5"


def test_word_embeddings_are_frozen(minilm):
    frozen = {name for name, value in minilm.network.named_parameters() if not value.requires_grad}
    assert frozen and all("embeddings" in name for name in frozen)
    assert "network.embeddings.word_embeddings.weight" in frozen
    assert any(value.requires_grad for value in minilm.network.parameters())


def test_an_encoder_that_is_not_like_bert_cannot_be_split(tmp_path):
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models
    from transformers import MPNetConfig, MPNetModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 16}
    network = MPNetModel(MPNetConfig(num_hidden_layers=2, num_attention_heads=2, **sizes))
    assert len(network.encoder.layer) == 2  # like BERT, but the layers share relative position biases
    network.save_pretrained(tmp_path)
    RustTokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match=r"does not support text\.tuned_layers") as caught:
        build_text_backbone(str(tmp_path), 1)
    assert "tuned_layers to 0" in caught.value.hint


def test_the_text_tower_of_clip_cannot_be_split(tiny_clip):
    name, network = tiny_clip("split")
    with pytest.raises(ConfigError, match=r"does not support text\.tuned_layers"):
        build_text_backbone(name, 1)
    actual = build_text_backbone(name)
    assert (actual.meta.kind, actual.meta.dim, actual.upper) == ("sentence", 24, None)
    tokens, lengths = batch(actual.tokenizer)
    with torch.inference_mode():
        states = actual.network(tokens, lengths)
        assert states.shape == (len(SENTENCES), 1, 24)
        width = network.context_length - tokens.shape[1]
        expected = network.encode_text(torch.nn.functional.pad(tokens, (0, width)))
    torch.testing.assert_close(states[:, 0], expected, atol=1e-5, rtol=1e-5)

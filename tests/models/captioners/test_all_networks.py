"""Each captioner against a plain implementation of its formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.captioners._caption_rows import group_by_image
from xmodal_cli.models.sequences import grid_geometry
from xmodal_cli.regions import REGION_COLUMNS


def build(name: str, embed_dim: int, **args):
    torch.manual_seed(0)
    sizes = {"image_dim": 6, "image_kind": "grid", "vocab_size": 11, "embed_dim": embed_dim}
    return catalog.build("captioner", name, args, **sizes).eval()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def scaled(cells: np.ndarray) -> np.ndarray:
    return cells / np.sqrt((cells**2).mean())


def naive_show_attend_tell(
    model, image: np.ndarray, tokens: list[int], path: list[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One caption of one image, one cell and one word at a time: (words, vocab) logits, (words, cells) attention.

    ``path`` is the only cell attended to at each word.
    """
    w = {name: value.detach().double().numpy() for name, value in model.named_parameters()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0)

    cells = [np.maximum(0, linear("project", cell)) for cell in scaled(image)]
    h, c = np.split(np.tanh(linear("first", np.mean(cells, axis=0))), 2)
    logits, attention = [], []
    for i, token in enumerate(tokens):
        scores = [linear("score", np.tanh(linear("keys", a) + linear("query", h)))[0] for a in cells]
        alpha = np.exp(scores) / np.exp(scores).sum()
        applied = alpha if path is None else np.eye(len(cells))[path[i]]
        z = sigmoid(linear("gate", h)) * sum(a * cell for a, cell in zip(applied, cells, strict=True))
        word = w["words.weight"][token]
        u, f, o, g = np.split(linear("inputs", np.concatenate((word, z))) + linear("recurrent", h), 4)
        c = sigmoid(f + 1) * c + sigmoid(u) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits.append(linear("to_words", np.tanh(word + linear("deep_hidden", h) + linear("deep_seen", z))))
        attention.append(alpha)
    return np.array(logits), np.array(attention)


def test_show_attend_tell_equals_its_formulas():
    model = build("show-attend-tell", 8, attention_dim=5)
    images, tokens = torch.randn(2, 4, 6), torch.randint(0, 11, (3, 5))
    output = model(images, torch.tensor([1, 0, 1]), tokens)
    for caption, image in enumerate((1, 0, 1)):
        logits, attention = naive_show_attend_tell(model, images[image].double().numpy(), tokens[caption].tolist())
        np.testing.assert_allclose(output.logits[caption].detach(), logits, atol=1e-5)
        np.testing.assert_allclose(output.attention[caption].detach(), attention, atol=1e-5)


def test_stochastic_attention_equals_its_formulas(monkeypatch):
    """On a path of cells: the logits, and log-probability and entropy of the distribution that each is sampled from."""
    model = build("show-attend-tell", 8, attention="stochastic", dropout=0.0).train()
    model.expected_prob = 0.0
    images, tokens, paths = torch.randn(2, 4, 6), torch.randint(0, 11, (2, 5)), torch.randint(0, 4, (2, 5))
    steps = iter(paths.T[..., None])
    monkeypatch.setattr(torch, "multinomial", lambda weights, num: next(steps))
    output = model(images, torch.arange(2), tokens)
    for i in range(2):
        logits, alpha = naive_show_attend_tell(model, images[i].double().numpy(), tokens[i].tolist(), paths[i].tolist())
        np.testing.assert_allclose(output.logits[i].detach(), logits, atol=1e-5)
        np.testing.assert_allclose(output.attention[i].detach(), alpha, atol=1e-5)
        cells = output.sampled_cells
        np.testing.assert_allclose(cells.log_probs[i].detach(), np.log(alpha[range(5), paths[i]]), atol=1e-5)
        np.testing.assert_allclose(cells.entropy[i].detach(), -(alpha * np.log(alpha)).sum(1), atol=1e-5)


@pytest.mark.parametrize("decode_attention", ["expected", "argmax"])
def test_stochastic_attention_generates_captions_without_sampling(decode_attention):
    model = build("show-attend-tell", 8, attention="stochastic", decode_attention=decode_attention)
    soft = build("show-attend-tell", 8, decode_attention=decode_attention)
    images, tokens = torch.randn(2, 4, 6), torch.randint(0, 11, (2, 5))
    output, expected = (m(images, torch.arange(2), tokens) for m in (model, soft))
    assert output.sampled_cells is None
    assert torch.equal(output.logits, expected.logits)
    is_one_cell = torch.equal(output.attention.max(-1).values, torch.ones(2, 5))
    assert is_one_cell == (decode_attention == "argmax")


def test_padded_regions_are_never_sampled():
    sizes = {"image_dim": 6 + len(REGION_COLUMNS), "image_kind": "regions", "vocab_size": 11, "embed_dim": 8}
    model = catalog.build("captioner", "show-attend-tell", {"attention": "stochastic"}, **sizes).train()
    model.expected_prob = 0.0
    regions = torch.rand(1, 4, sizes["image_dim"])
    regions[:, 2:, 6 + REGION_COLUMNS.index("area")] = 0.0  # padding
    cells = model(regions, torch.zeros(50, dtype=torch.int64), torch.zeros(50, 3, dtype=torch.int64)).sampled_cells
    assert cells.log_probs.min() > -20
    assert cells.entropy.isfinite().all()


def test_gumbel_attention_selects_one_cell():
    model = build("show-attend-tell", 8, attention="gumbel")
    images, tokens = torch.randn(2, 4, 6), torch.randint(0, 11, (2, 5))
    soft = build("show-attend-tell", 8)
    hard_weights = model(images, torch.arange(2), tokens[:, :1]).attention
    expected = soft(images, torch.arange(2), tokens[:, :1]).attention
    assert torch.equal(hard_weights.argmax(-1), expected.argmax(-1))
    sampled = model.train()(images, torch.arange(2), tokens).attention
    assert torch.equal(sampled.sort(-1).values, torch.eye(4)[3].expand(2, 5, -1))


def test_an_invalid_attention_raises():
    with pytest.raises(ConfigError, match="soft, stochastic or gumbel"):
        build("show-attend-tell", 8, attention="middling")
    with pytest.raises(ConfigError, match="decode_attention must be auto, expected or argmax"):
        build("show-attend-tell", 8, decode_attention="soft")


def test_the_transformer_equals_the_decoder_of_torch():
    model = build("transformer", 128, num_layers=2)
    reference_layer = nn.TransformerDecoderLayer(128, 2, 512, 0.0, "gelu", batch_first=True, norm_first=True)
    reference = nn.TransformerDecoder(reference_layer, 2).eval()
    for layer, other in zip(model.layers, reference.layers, strict=True):
        other.self_attn.in_proj_weight.data, other.self_attn.in_proj_bias.data = (
            layer.words_in.weight,
            layer.words_in.bias,
        )
        other.self_attn.out_proj.load_state_dict(layer.words_out.state_dict())
        other.multihead_attn.in_proj_weight.data = torch.cat((layer.query.weight, layer.keys_values.weight))
        other.multihead_attn.in_proj_bias.data = torch.cat((layer.query.bias, layer.keys_values.bias))
        other.multihead_attn.out_proj.load_state_dict(layer.cells_out.state_dict())
        other.linear1.load_state_dict(layer.wide[0].state_dict())
        other.linear2.load_state_dict(layer.wide[2].state_dict())
        for reference_norm, norm in ((other.norm1, layer.norm_words), (other.norm2, layer.norm_cells)):
            reference_norm.load_state_dict(norm.state_dict())
        other.norm3.load_state_dict(layer.norm_wide.state_dict())
    images, tokens = torch.randn(2, 4, 6), torch.randint(0, 11, (2, 5))
    cells = torch.stack([torch.from_numpy(scaled(p.numpy())) for p in images])
    cells = model.norm_cells(model.project(torch.cat((cells, grid_geometry(4).expand(2, -1, -1)), dim=-1)))
    words = model.words(tokens) * 128**0.5 + model.places[:5]
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    expected = model.norm(reference(words, cells, tgt_mask=mask)) @ model.words.weight.T + model.bias
    torch.testing.assert_close(model(images, torch.arange(2), tokens).logits, expected, atol=1e-4, rtol=0)


def test_captions_longer_than_max_length_are_accepted():
    model = build("transformer", 64, max_length=4)
    state = model.start(torch.randn(1, 4, 6))
    tokens = torch.randint(0, 11, (1, 9))
    expected = model(torch.randn(1, 4, 6), torch.zeros(1, dtype=torch.int64), tokens).logits
    assert expected.shape == (1, 9, 11)
    for i in range(9):
        log_probs, state = model.step(state, tokens[:, i : i + 1])
        assert torch.isfinite(log_probs).all()


def test_captions_are_grouped_by_image():
    image_of_caption = torch.tensor([2, 0, 2, 2, 1, 0])
    table, positions = group_by_image(image_of_caption, 4)
    assert table.shape == (4, 3)
    assert [table.flatten()[p].item() for p in positions] == [0, 1, 2, 3, 4, 5]
    assert [p.item() // 3 for p in positions] == image_of_caption.tolist()

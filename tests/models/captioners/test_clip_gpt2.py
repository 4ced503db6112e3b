"""The prefix captioner: GPT-2 equals that of transformers, and cached steps equal the full forward pass."""

from __future__ import annotations

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.backbones.language._gpt2_folder import rename_weights
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.captioners import clip_gpt2
from xmodal_cli.models.captioners._gpt2 import CONTEXT_LENGTH, GPT2
from xmodal_cli.regions import REGION_COLUMNS

VOCAB, WIDTH, IMAGE_DIM, PREFIX = 30, 128, 12, 3
SHAPES = {"global": (IMAGE_DIM,), "grid": (9, IMAGE_DIM), "regions": (5, IMAGE_DIM + len(REGION_COLUMNS))}
KINDS = [(kind, layers) for kind in SHAPES for layers in (0, 1)]


def captioner(kind="grid", mapping_layers=0, **changes):
    torch.manual_seed(0)
    image_dim = SHAPES[kind][-1]
    sizes = {"vocab_size": VOCAB, "embed_dim": WIDTH, "num_prefix": PREFIX, "num_layers": 2, **changes}
    model = clip_gpt2.build(image_dim, image_kind=kind, mapping_layers=mapping_layers, **sizes).eval()
    for parameter in model.parameters():  # new weights give nearly the same captions for all images
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def image_features(kind="grid", count=3):
    torch.manual_seed(1)
    features = torch.randn(count, *SHAPES[kind])
    if kind == "regions":
        features[..., IMAGE_DIM:] = features[..., IMAGE_DIM:].abs()
    return features


def reference_and_ours():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=WIDTH, n_layer=3, n_head=2, n_positions=CONTEXT_LENGTH, bos_token_id=1, eos_token_id=2
    )
    reference = GPT2LMHeadModel(config).eval()
    for parameter in reference.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    ours = GPT2(VOCAB, WIDTH, 3).eval()
    ours.load_state_dict(rename_weights("weights", dict(reference.state_dict()), 3))
    return reference, ours


# ---------------------------------------------------------------------------- GPT-2


def test_logits_equal_transformers():
    reference, ours = reference_and_ours()
    tokens = torch.randint(VOCAB, (4, 17))
    with torch.inference_mode():
        expected = reference(input_ids=tokens).logits
        actual = ours.logits(ours(ours.words(tokens), 0)[0])
    assert expected.std() > 1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_logits_after_a_prefix_equal_transformers():
    reference, ours = reference_and_ours()
    prefix, tokens = torch.randn(2, 5, WIDTH), torch.randint(VOCAB, (2, 6))
    with torch.inference_mode():
        embedded = torch.cat((prefix, reference.transformer.wte(tokens)), dim=1)
        expected = reference(inputs_embeds=embedded).logits[:, 5:]
        past = ours(prefix, 0)[1]
        actual = ours.logits(ours(ours.words(tokens), 5, past)[0])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_gradients_equal_transformers():
    reference, ours = reference_and_ours()
    tokens = torch.randint(VOCAB, (2, 6))
    reference(input_ids=tokens).logits.logsumexp(-1).sum().backward()
    ours.logits(ours(ours.words(tokens), 0)[0]).logsumexp(-1).sum().backward()
    expected = rename_weights("weights", {name: value.grad for name, value in reference.named_parameters()}, 3)
    for name, value in ours.named_parameters():
        torch.testing.assert_close(value.grad, expected[name], rtol=1e-3, atol=1e-3)


def test_weights_are_initialized_as_in_gpt2():
    torch.manual_seed(0)
    model = GPT2(1000, 256, 8)
    assert model.words.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[0].network.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[0].network_out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert not model.blocks[0].attention.bias.any()


# ---------------------------------------------------------------------------- the captioner


@pytest.mark.parametrize(("kind", "layers"), KINDS)
def test_steps_equal_the_full_forward_pass(kind, layers):
    model, features = captioner(kind, layers), image_features(kind)
    image_of_caption, tokens = torch.tensor([0, 1, 2]), torch.randint(VOCAB, (3, 7))
    with torch.inference_mode():
        expected = model(features, image_of_caption, tokens).logits.log_softmax(-1)
        state = model.start(features)
        for i in range(tokens.shape[1]):
            log_probs, state = model.step(state, tokens[:, i : i + 1])
            assert log_probs.dtype == torch.float32
            torch.testing.assert_close(log_probs[:, 0], expected[:, i], rtol=1e-4, atol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # the output depends on images and words


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_reordered_beams_equal_the_full_forward_pass(mode):
    model, features = captioner(), image_features()
    torch.manual_seed(3)
    rows = torch.zeros(3, 1, 0, dtype=torch.int64)
    with mode():
        state = model.start(features)
        for num_rows in (1, 4, 4, 2, 5, 5):
            parents = torch.randint(rows.shape[1], (3, num_rows))
            tokens = torch.randint(VOCAB, (3, num_rows))
            rows = rows.gather(1, parents[..., None].expand(-1, -1, rows.shape[2]))
            rows = torch.cat((rows, tokens[..., None]), dim=2)
            log_probs, state = model.step(state.select(parents), tokens)
            image_of_caption = torch.arange(3).repeat_interleave(num_rows)
            expected = model(features, image_of_caption, rows.flatten(0, 1)).logits[:, -1].log_softmax(-1)
            torch.testing.assert_close(log_probs.flatten(0, 1), expected, rtol=1e-4, atol=1e-4)


def test_a_state_can_be_continued_twice():
    model, features = captioner(), image_features()
    first, left, right = torch.tensor([[1]] * 3), torch.tensor([[2]] * 3), torch.tensor([[3]] * 3)
    with torch.inference_mode():
        _, state = model.step(model.start(features), first)
        _, left_state = model.step(state, left)
        _, right_state = model.step(state, right)
        actual, _ = model.step(left_state, first)
        _, expected_state = model.step(model.step(model.start(features), first)[1], left)
        expected, _ = model.step(expected_state, first)
        assert not torch.equal(actual, model.step(right_state, first)[0])
    torch.testing.assert_close(actual, expected)


def test_selecting_rows_copies_no_keys():
    model = captioner()
    with torch.inference_mode():
        _, state = model.step(model.start(image_features()), torch.ones(3, 1, dtype=torch.int64))
        selected = state.select(torch.zeros(3, 5, dtype=torch.int64))
    assert selected.caches is state.caches
    assert selected.beam_mask.mask.shape == (3, 5, PREFIX + 1)
    assert state.beam_mask.mask.shape == (3, 1, PREFIX + 1)


@pytest.mark.parametrize(("kind", "layers"), KINDS)
def test_padding_other_images_and_order_change_nothing(kind, layers):
    model, features = captioner(kind, layers), image_features(kind)
    tokens = torch.randint(VOCAB, (4, 6))
    image_of_caption = torch.tensor([2, 0, 2, 1])
    with torch.inference_mode():
        actual = model(features, image_of_caption, tokens).logits
        for caption, image in enumerate(image_of_caption):
            alone = model(features[image][None], torch.tensor([0]), tokens[caption][None, :4]).logits[0]
            torch.testing.assert_close(actual[caption, :4], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [0, 1])
def test_regions_without_area_are_ignored(layers):
    model, features = captioner("regions", layers), image_features("regions")
    features[:, 3:] = 0.0
    padded = torch.cat((features, torch.zeros_like(features)), dim=1)
    padded[:, 5:, :IMAGE_DIM] = 7.0
    tokens, image_of_caption = torch.randint(VOCAB, (3, 4)), torch.arange(3)
    with torch.inference_mode():
        expected, actual = (
            model(features, image_of_caption, tokens).logits,
            model(padded, image_of_caption, tokens).logits,
        )
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_the_scale_of_features_changes_nothing():
    model, features = captioner(), image_features("grid", 1)[:, :1]
    tokens, image_of_caption = torch.randint(VOCAB, (1, 4)), torch.tensor([0])
    with torch.inference_mode():
        torch.testing.assert_close(
            model(features, image_of_caption, tokens).logits, model(9 * features, image_of_caption, tokens).logits
        )


@pytest.mark.parametrize(("kind", "layers"), KINDS)
def test_all_parameters_get_gradients(kind, layers):
    model = captioner(kind, layers).train()
    output = model(image_features(kind), torch.tensor([0, 0, 1, 2]), torch.randint(VOCAB, (4, 5)))
    assert output.attention is None
    output.logits.square().mean().backward()
    for name, value in model.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), name
    assert any(value.grad.any() for value in model.mapping.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_bfloat16_is_close_to_float32(dtype):
    model, features = captioner(), image_features()
    tokens = torch.randint(VOCAB, (3, 1))
    with torch.inference_mode():
        expected = model.step(model.start(features), tokens)[0]
        with torch.autocast("cpu", dtype):
            actual = model.step(model.start(features), tokens)[0]
            model(features, torch.arange(3), tokens)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.1)


def test_captions_longer_than_the_context_are_accepted():
    model, features = captioner(), image_features(count=1)
    tokens = torch.randint(VOCAB, (1, CONTEXT_LENGTH))
    with torch.inference_mode():
        expected = model(features, torch.tensor([0]), tokens).logits.log_softmax(-1)
        state = model.start(features)
        for i in range(CONTEXT_LENGTH):
            log_probs, state = model.step(state, tokens[:, i : i + 1])
        torch.testing.assert_close(log_probs[:, 0], expected[:, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "args", [{"embed_dim": 100}, {"num_prefix": 0}, {"num_prefix": 100}, {"num_layers": 0}, {"mapping_layers": -1}]
)
def test_invalid_sizes_raise_config_error(args):
    sizes = {"image_dim": 8, "image_kind": "grid", "vocab_size": 10} | (
        {} if "embed_dim" in args else {"embed_dim": 64}
    )
    with pytest.raises(ConfigError, match="cannot be built"):
        catalog.build("captioner", "clip-gpt2", args, **sizes)

"""Decoding with networks: ensembles against means computed by hand, and batches against single images."""

from __future__ import annotations

import pytest
import torch
from helpers.table_captioner import SPECIAL, TableCaptioner, image_features
from torch import nn

from xmodal_cli import catalog
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.ensemble import Ensemble
from xmodal_cli.captioning.token_sampling import sample_tokens
from xmodal_cli.types import Decoding

SEARCHES = [
    Decoding(beam=1),
    Decoding(beam=4, num=4),
    Decoding(beam=4, num=2, num_beam_groups=2),
    Decoding(num=3, sample=True, top_p=0.9),
]


def build_network(name: str, seed: int = 0, vocab_size: int = 30, image_dim: int = 12) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"image_dim": image_dim, "image_kind": "grid", "vocab_size": vocab_size, "embed_dim": 64}
    model = catalog.build("captioner", name, {}, **sizes).eval()
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn_like(
            parameter
        )  # at initialization all words have nearly the same probability
    return model


def random_images(num: int, dim: int = 12, seed: int = 1) -> torch.Tensor:
    return torch.randn(num, 9, dim, generator=torch.Generator().manual_seed(seed))


def tokens_of(results) -> list[list[tuple[int, ...]]]:
    return [[caption.tokens for caption in captions] for captions in results]


@pytest.mark.parametrize("name", ["show-attend-tell", "transformer"])
@pytest.mark.parametrize("settings", SEARCHES)
def test_a_batch_equals_single_images(name, settings):
    model, images = build_network(name), random_images(7)
    batched = decode(model, images, SPECIAL, settings, attention=True)
    assert len({captions[0].tokens for captions in batched}) > 1
    for index, image in enumerate(images):
        (single,) = decode(model, image[None], SPECIAL, settings, attention=True, first=index)
        assert tokens_of([single]) == tokens_of([batched[index]])
        for one, other in zip(single, batched[index], strict=True):
            assert one.score == pytest.approx(other.score, rel=1e-4)
            assert one.attention.shape == (len(one.tokens), 9)
            torch.testing.assert_close(one.attention, other.attention, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["show-attend-tell", "transformer"])
def test_log_probs_equal_teacher_forcing(name):
    model, images = build_network(name), random_images(5)
    for index, captions in enumerate(
        decode(model, images, SPECIAL, Decoding(beam=4, num=4, max_length=9), prompt=(7, 8))
    ):
        for caption in captions:
            tokens = torch.tensor([[SPECIAL.bos, 7, 8, *caption.tokens, *[SPECIAL.eos] * caption.ended]])
            with torch.no_grad():
                logits = model(images, torch.tensor([index]), tokens[:, :-1]).logits
            log_probs = logits.float().log_softmax(-1).gather(-1, tokens[:, 1:, None])[0, 2:]
            assert caption.log_prob == pytest.approx(float(log_probs.sum()), rel=1e-4)


def test_sampled_tokens_can_be_used_for_training():
    model = build_network("show-attend-tell")
    tokens = sample_tokens(model, random_images(3), SPECIAL, 2, 6, torch.Generator().manual_seed(0))
    bos = torch.full((6, 1), SPECIAL.bos)
    inputs = torch.cat((bos, tokens.flatten(0, 1)[:, :-1]), dim=1)
    model(random_images(3), torch.tensor([0, 0, 1, 1, 2, 2]), inputs).logits.sum().backward()
    assert model.words.weight.grad is not None


# ---------------------------------------------------------------------------- ensembles


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
def test_probabilities_are_the_mean_of_the_members(mean):
    members = [TableCaptioner(seed=seed) for seed in range(3)]
    ensemble = Ensemble(members, mean)
    state = ensemble.start(image_features(0, 1)).select(torch.zeros(2, 2, dtype=torch.int64))
    tokens = torch.tensor([[0, 4], [5, 3]])
    log_probs, new_state = ensemble.step(state, tokens)
    for image in range(2):
        for row in range(2):
            log_probs_of_members = [torch.tensor(m.look_up(image, (int(tokens[image, row]),))[0]) for m in members]
            if mean == "probabilities":
                expected = sum(member.exp() for member in log_probs_of_members) / 3
            else:
                expected = torch.stack([member.exp() for member in log_probs_of_members]).prod(0) ** (1 / 3)
            torch.testing.assert_close(log_probs[image, row].exp(), expected / expected.sum())
            attention = sum(m.look_up(image, (int(tokens[image, row]),))[1] for m in members) / 3
            torch.testing.assert_close(new_state.attention[image, row], torch.from_numpy(attention))


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
@pytest.mark.parametrize("settings", SEARCHES)
def test_an_ensemble_of_one_model_twice_is_that_model(mean, settings):
    model, images = build_network("transformer"), random_images(5)
    single = decode(model, images, SPECIAL, settings, attention=True)
    double = decode(Ensemble([model, model], mean), images, SPECIAL, settings, attention=True)
    assert tokens_of(single) == tokens_of(double)
    for captions, expected in zip(double, single, strict=True):
        for caption, other in zip(captions, expected, strict=True):
            assert caption.score == pytest.approx(other.score, rel=1e-4)
            torch.testing.assert_close(caption.attention, other.attention)


def test_members_of_different_architectures_read_their_own_features():
    members = [build_network("show-attend-tell", 1), build_network("transformer", 2, image_dim=20)]
    features = (random_images(4), random_images(4, dim=20))
    ensemble = Ensemble(members)
    results = decode(ensemble, features, SPECIAL, Decoding(beam=3), attention=True)
    assert len(results) == 4
    assert tokens_of(decode(ensemble, tuple(f[2:] for f in features), SPECIAL, Decoding(beam=3))) == tokens_of(
        results[2:]
    )
    caption = results[0][0]
    tokens = torch.tensor([[SPECIAL.bos, *caption.tokens, *[SPECIAL.eos] * caption.ended]])
    with torch.no_grad():
        output = ensemble(features, torch.tensor([0]), tokens[:, :-1])
    log_probs = output.logits.gather(-1, tokens[:, 1:, None])
    assert caption.log_prob == pytest.approx(float(log_probs.sum()), rel=1e-4)


def test_attention_is_none_if_the_members_attend_to_different_cells():
    model = build_network("show-attend-tell")
    features = (random_images(2), random_images(2)[:, :5])
    assert decode(Ensemble([model, model]), features, SPECIAL, Decoding(), attention=True)[0][0].attention is None


def test_invalid_ensembles():
    with pytest.raises(ValueError, match="one vocabulary size, not \\[7, 8\\]"):
        Ensemble([TableCaptioner(7), TableCaptioner(8)])
    with pytest.raises(ValueError, match="not none"):
        Ensemble([])
    with pytest.raises(ValueError, match="not 'median'"):
        Ensemble([TableCaptioner()], "median")
    with pytest.raises(ValueError, match=r"zip\(\)"):
        Ensemble([TableCaptioner(), TableCaptioner()]).start((image_features(0),))

"""Decoding with networks: ensembles against means worked out by hand, and batches against images one by one."""

from __future__ import annotations

import pytest
import torch
from helpers.table_captioner import MARKS, TableCaptioner, numbers
from torch import nn

from xmodal_cli import catalog
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.ensemble import Ensemble
from xmodal_cli.captioning.sampling import sample_tokens
from xmodal_cli.types import Decoding

SEARCHES = [
    Decoding(beam=1),
    Decoding(beam=4, num=4),
    Decoding(beam=4, num=2, num_beam_groups=2),
    Decoding(num=3, sample=True, top_p=0.9),
]


def network(name: str, seed: int = 0, vocab_size: int = 30, image_dim: int = 12) -> nn.Module:
    torch.manual_seed(seed)
    given = {"image_dim": image_dim, "image_kind": "grid", "vocab_size": vocab_size, "embed_dim": 64}
    model = catalog.build("captioner", name, {}, **given).eval()
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn_like(parameter)  # as they come, all words are much alike
    return model


def pictures(num: int, dim: int = 12, seed: int = 1) -> torch.Tensor:
    return torch.randn(num, 9, dim, generator=torch.Generator().manual_seed(seed))


def words(found) -> list[list[tuple[int, ...]]]:
    return [[caption.tokens for caption in captions] for captions in found]


@pytest.mark.parametrize("name", ["show-attend-tell", "transformer"])
@pytest.mark.parametrize("settings", SEARCHES)
def test_images_together_and_one_by_one(name, settings):
    model, images = network(name), pictures(7)
    together = decode(model, images, MARKS, settings, attention=True)
    assert len({captions[0].tokens for captions in together}) > 1
    for place, image in enumerate(images):
        (alone,) = decode(model, image[None], MARKS, settings, attention=True, first=place)
        assert words([alone]) == words([together[place]])
        for one, other in zip(alone, together[place], strict=True):
            assert one.score == pytest.approx(other.score, rel=1e-4)
            assert one.attention.shape == (len(one.tokens), 9)
            torch.testing.assert_close(one.attention, other.attention, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["show-attend-tell", "transformer"])
def test_scores_are_those_of_teacher_forcing(name):
    model, images = network(name), pictures(5)
    for place, captions in enumerate(
        decode(model, images, MARKS, Decoding(beam=4, num=4, max_length=9), prompt=(7, 8))
    ):
        for caption in captions:
            tokens = torch.tensor([[MARKS.start, 7, 8, *caption.tokens, *[MARKS.end] * caption.ended]])
            with torch.no_grad():
                logits = model(images, torch.tensor([place]), tokens[:, :-1]).logits
            gained = logits.float().log_softmax(-1).gather(-1, tokens[:, 1:, None])[0, 2:]
            assert caption.log_prob == pytest.approx(float(gained.sum()), rel=1e-4)


def test_no_gradients_and_tokens_that_training_may_use():
    model = network("show-attend-tell")
    tokens = sample_tokens(model, pictures(3), MARKS, 2, 6, torch.Generator().manual_seed(0))
    start = torch.full((6, 1), MARKS.start)
    inputs = torch.cat((start, tokens.flatten(0, 1)[:, :-1]), dim=1)
    model(pictures(3), torch.tensor([0, 0, 1, 1, 2, 2]), inputs).logits.sum().backward()
    assert model.words.weight.grad is not None


# ---------------------------------------------------------------------------- ensembles


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
def test_chances_are_the_mean_of_the_members(mean):
    members = [TableCaptioner(seed=seed) for seed in range(3)]
    both = Ensemble(members, mean)
    state = both.start(numbers(0, 1)).select(torch.zeros(2, 2, dtype=torch.int64))
    tokens = torch.tensor([[0, 4], [5, 3]])
    log_probs, after = both.step(state, tokens)
    for image in range(2):
        for row in range(2):
            known = [torch.tensor(m.look_up(image, (int(tokens[image, row]),))[0]) for m in members]
            if mean == "probabilities":
                chances = sum(each.exp() for each in known) / 3
            else:
                chances = torch.stack([each.exp() for each in known]).prod(0) ** (1 / 3)
            torch.testing.assert_close(log_probs[image, row].exp(), chances / chances.sum())
            looked = sum(m.look_up(image, (int(tokens[image, row]),))[1] for m in members) / 3
            torch.testing.assert_close(after.attention[image, row], torch.from_numpy(looked))


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
@pytest.mark.parametrize("settings", SEARCHES)
def test_a_model_twice_is_that_model(mean, settings):
    model, images = network("transformer"), pictures(5)
    once = decode(model, images, MARKS, settings, attention=True)
    twice = decode(Ensemble([model, model], mean), images, MARKS, settings, attention=True)
    assert words(once) == words(twice)
    for one, other in zip(once, twice, strict=True):
        for alone, both in zip(one, other, strict=True):
            assert alone.score == pytest.approx(both.score, rel=1e-4)
            torch.testing.assert_close(alone.attention, both.attention)


def test_members_of_different_kinds_read_their_own_features():
    members = [network("show-attend-tell", 1), network("transformer", 2, image_dim=20)]
    features = (pictures(4), pictures(4, dim=20))
    both = Ensemble(members)
    found = decode(both, features, MARKS, Decoding(beam=3), attention=True)
    assert len(found) == 4
    assert words(decode(both, tuple(f[2:] for f in features), MARKS, Decoding(beam=3))) == words(found[2:])
    caption = found[0][0]
    tokens = torch.tensor([[MARKS.start, *caption.tokens, *[MARKS.end] * caption.ended]])
    with torch.no_grad():
        taught = both(features, torch.tensor([0]), tokens[:, :-1])
    gained = taught.logits.gather(-1, tokens[:, 1:, None]).sum()
    assert caption.log_prob == pytest.approx(float(gained), rel=1e-4)


def test_attention_over_different_cells_is_none():
    model = network("show-attend-tell")
    features = (pictures(2), pictures(2)[:, :5])
    assert decode(Ensemble([model, model]), features, MARKS, Decoding(), attention=True)[0][0].attention is None


def test_what_makes_no_ensemble():
    with pytest.raises(ValueError, match="one vocabulary, not of \\[7, 8\\]"):
        Ensemble([TableCaptioner(7), TableCaptioner(8)])
    with pytest.raises(ValueError, match="not of none"):
        Ensemble([])
    with pytest.raises(ValueError, match="not 'median'"):
        Ensemble([TableCaptioner()], "median")
    with pytest.raises(ValueError, match=r"zip\(\)"):
        Ensemble([TableCaptioner(), TableCaptioner()]).start((numbers(0),))

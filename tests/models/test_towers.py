"""Encoders on top of pretrained networks: frozen weights do not change and are not saved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from xmodal_cli import catalog
from xmodal_cli.config import Component, ModelConfig
from xmodal_cli.models.assembly import Sizes, build_matcher, describe
from xmodal_cli.models.towers import EncoderOnTower, load_trainable_state_dict, trainable_state_dict

VOCAB, DIM, EMBED_DIM = 15, 6, 8
TOKENS = torch.tensor([[2, 5, 6, 3], [2, 3, 0, 0], [2, 9, 3, 0]])
LENGTHS = torch.tensor([4, 2, 3])


class Tower(nn.Module):
    """A text tower that differs in training mode: dropout, and batch normalization with running means."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm, self.dropout = nn.Embedding(VOCAB, DIM), nn.BatchNorm1d(DIM), nn.Dropout(0.5)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.dropout(self.norm(self.words(tokens).transpose(1, 2)).transpose(1, 2))


class Upper(nn.Module):
    """Layers on top of ``Tower``: states to states."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(DIM, DIM)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        return torch.tanh(self.layer(states))


def encoder_on_tower(tuned: bool, name: str = "pooled", **args) -> EncoderOnTower:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "embed_dim": EMBED_DIM, "text_dim": DIM}
    return EncoderOnTower(Tower(), catalog.build("text_encoder", name, args, **sizes), tuned)


def matcher(*tuned: bool, seed: int = 0) -> nn.Module:
    """A matcher with one or two networks in front of the text encoder, input first."""
    torch.manual_seed(seed)
    stack = list(zip((Tower(), Upper()), tuned, strict=False))
    config = ModelConfig(embed_dim=EMBED_DIM, text_encoder=Component("pooled"))
    return build_matcher(describe(config, Sizes(5, "global", VOCAB, DIM)), {"text": stack})


def test_a_frozen_tower_gets_no_gradients_and_stays_in_evaluation_mode():
    model = encoder_on_tower(tuned=False).train()
    assert model.training and model.encoder.training
    assert not any(module.training for module in model.tower.modules())
    before = {name: value.clone() for name, value in model.tower.state_dict().items()}
    first, second = model(TOKENS, LENGTHS), model(TOKENS, LENGTHS)
    assert torch.equal(first, second)  # no dropout
    first.square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in model.tower.parameters())
    assert all(p.grad is not None for p in model.encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.tower.state_dict().items())


def test_a_tuned_tower_is_trained():
    model = encoder_on_tower(tuned=True).train()
    assert all(module.training for module in model.modules())
    assert not torch.equal(model(TOKENS, LENGTHS), model(TOKENS, LENGTHS))
    model(TOKENS, LENGTHS).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not any(module.training for module in model.eval().modules())
    assert torch.equal(model(TOKENS, LENGTHS), model(TOKENS, LENGTHS))


def test_precomputed_output_of_a_frozen_tower_gives_the_same_vectors():
    model = encoder_on_tower(tuned=False).eval()
    with torch.inference_mode():
        precomputed = model.tower(TOKENS, LENGTHS)
        precomputed[torch.arange(4)[None] >= LENGTHS[:, None]] = 0  # as it is stored
        torch.testing.assert_close(model(precomputed, LENGTHS), model(TOKENS, LENGTHS))
        torch.testing.assert_close(model(precomputed.half(), LENGTHS), model(TOKENS, LENGTHS), rtol=1e-2, atol=1e-2)


def test_the_lower_of_two_towers_is_precomputed_and_the_upper_is_trained():
    model = matcher(False, True).train()
    outer = model.text_encoder
    assert not outer.tower.training and outer.encoder.tower.training
    with torch.no_grad():
        precomputed = outer.tower(TOKENS, LENGTHS)
    torch.testing.assert_close(model.encode_text(precomputed, LENGTHS), model.encode_text(TOKENS, LENGTHS))
    model.encode_text(precomputed, LENGTHS)[:, 0].sum().backward()
    assert all(p.grad is not None for p in outer.encoder.tower.parameters())
    assert not any(p.requires_grad for p in outer.tower.parameters())


@pytest.mark.parametrize("name", ["bow", "gru", "identity", "transformer"])
def test_states_and_sizes_are_those_of_the_encoder(name):
    model = encoder_on_tower(tuned=False, name=name).eval()
    assert model.state_dim == model.encoder.state_dim
    assert model.out_dim == getattr(model.encoder, "out_dim", None)
    with torch.inference_mode():
        states, mask = model.states(TOKENS, LENGTHS)
        expected, _ = model.encoder.states(model.tower(TOKENS, LENGTHS), LENGTHS)
    assert states.shape == (3, 4, model.state_dim)
    assert mask.sum(1).tolist() == LENGTHS.tolist()
    torch.testing.assert_close(states, expected)


@pytest.mark.parametrize("tuned", [(False,), (True,), (False, True), (False, False), (True, True)])
def test_trained_weights_are_saved_and_restored(tuned):
    model, fresh = matcher(*tuned), matcher(*tuned)
    with torch.no_grad():
        torch._foreach_add_([value for value in model.parameters() if value.requires_grad], 1.0)
    saved = trainable_state_dict(model)
    assert {name for name, p in model.named_parameters() if p.requires_grad} <= set(saved)
    assert not {name for name, p in model.named_parameters() if not p.requires_grad} & set(saved)
    assert {name for name, _ in model.named_buffers()} <= set(saved)
    assert ("text_encoder.tower.words.weight" in saved) == tuned[0]
    load_trainable_state_dict(fresh, saved)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in fresh.state_dict().items())


def test_loading_does_not_change_frozen_weights():
    other = matcher(False, seed=1)
    words = other.text_encoder.tower.words.weight.clone()
    load_trainable_state_dict(other, trainable_state_dict(matcher(False)))
    assert torch.equal(other.text_encoder.tower.words.weight, words)


def test_mismatched_tensors_raise():
    model = matcher(False)
    saved = trainable_state_dict(model)
    name = "text_encoder.encoder.project.linear.weight"
    with pytest.raises(RuntimeError, match=rf"missing: \['{name}'\]"):
        load_trainable_state_dict(model, {k: v for k, v in saved.items() if k != name})
    with pytest.raises(RuntimeError, match=r"unexpected: \['extra'\]"):
        load_trainable_state_dict(model, {**saved, "extra": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_trainable_state_dict(model, {**saved, name: torch.zeros(2, 2)})
    words = "text_encoder.tower.words.weight"
    with pytest.raises(RuntimeError, match=rf"unexpected: \['{words}'\]"):  # frozen in this model
        load_trainable_state_dict(model, {**saved, words: torch.zeros(VOCAB, DIM)})

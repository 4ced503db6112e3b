"""Text encoders: padding changes nothing, the last state is the sentence's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xmodal_cli import catalog
from xmodal_cli.models.storage.tokenizer import pad
from xmodal_cli.models.text_encoders._words import last_state, word_embedding

VOCAB, DIM = 30, 12
SENTENCES = [[2, 5, 6, 7, 8, 9, 10, 11, 3], [2, 3], [2, 20, 3], [2, 29, 28, 27, 3], [2, 5, 6, 3]]


def encoder(name: str, **args) -> nn.Module:
    torch.manual_seed(0)
    return catalog.build("text_encoder", name, {"word_dim": 7, **args}, vocab_size=VOCAB, embed_dim=DIM).eval()


def encode(model: nn.Module, sentences: list[list[int]]) -> torch.Tensor:
    tokens, lengths = (torch.from_numpy(a) for a in pad(sentences))
    with torch.inference_mode():
        return model(tokens, lengths)


@pytest.mark.parametrize("name", catalog.names("text_encoder"))
def test_padding_changes_nothing(name):
    model = encoder(name)
    together = encode(model, SENTENCES)
    assert together.shape == (len(SENTENCES), DIM)
    for sentence, vector in zip(SENTENCES, together, strict=True):
        torch.testing.assert_close(encode(model, [sentence])[0], vector, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", catalog.names("text_encoder"))
def test_the_order_of_the_batch_is_kept(name):
    model = encoder(name)
    torch.testing.assert_close(encode(model, SENTENCES[::-1]), encode(model, SENTENCES).flip(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", catalog.names("text_encoder"))
def test_padding_gets_no_gradient_and_every_word_gets_some(name):
    model = encoder(name)
    tokens, lengths = (torch.from_numpy(a) for a in pad(SENTENCES))
    model(tokens, lengths).square().sum().backward()
    gradient = model.words.weight.grad
    used = sorted({token for sentence in SENTENCES for token in sentence})
    assert (gradient[used].abs().sum(1) > 0).all()
    unused = [n for n in range(VOCAB) if n not in used]
    assert (gradient[unused] == 0).all()
    assert 0 in unused


@pytest.mark.parametrize("name", catalog.names("text_encoder"))
def test_dropout_acts_in_training_only(name):
    model = encoder(name, dropout=0.5)
    assert (encode(model, SENTENCES) == encode(model, SENTENCES)).all()
    model.train()
    assert not (encode(model, SENTENCES) == encode(model, SENTENCES)).all()


@pytest.mark.parametrize("name", catalog.names("text_encoder"))
def test_every_text_encoder_is_documented(name):
    module = catalog.load("text_encoder", name)
    assert module.__doc__
    assert module.build.__doc__


@pytest.mark.parametrize(("name", "network"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_recurrent_encoders_are_torchs_own_on_the_unpadded_sentence(name, network, num_layers):
    model = encoder(name, num_layers=num_layers)
    alone = network(7, DIM, num_layers, batch_first=True)
    alone.load_state_dict(model.recurrence.state_dict())
    for sentence, vector in zip(SENTENCES, encode(model, SENTENCES), strict=True):
        with torch.inference_mode():
            states, _ = alone(model.words(torch.tensor([sentence])))
        torch.testing.assert_close(vector, states[0, -1], rtol=1e-5, atol=1e-6)


def test_a_bag_of_words_is_the_mean_of_its_words_and_forgets_their_order():
    model = encoder("bow")
    vectors = encode(model, [[2, 5, 9, 3], [2, 9, 5, 3], [2, 9, 9, 3]])
    with torch.inference_mode():
        expected = model.project(model.words(torch.tensor([2, 5, 9, 3])).mean(0))
    torch.testing.assert_close(vectors[0], expected)
    torch.testing.assert_close(vectors[1], expected)
    assert not torch.allclose(vectors[2], expected)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_recurrent_encoders_know_the_order_of_words(name):
    vectors = encode(encoder(name), [[2, 5, 9, 3], [2, 9, 5, 3]])
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-3)


def test_the_state_at_each_length_is_picked():
    states = torch.arange(24.0).view(2, 4, 3)
    picked = last_state(states, torch.tensor([4, 1]))
    assert picked.tolist() == [[9, 10, 11], [12, 13, 14]]


def test_the_word_table_starts_as_in_vse():
    table = word_embedding(1000, 50).weight
    assert (table[0] == 0).all()
    assert table.abs().max() <= 0.1
    assert table[1:].std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)

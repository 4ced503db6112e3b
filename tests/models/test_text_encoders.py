"""Text encoders, on token ids and on states of a pretrained encoder: padding and batches change nothing."""

from __future__ import annotations

import pytest
import torch
from helpers.naive_networks import naive_positional_encoding, randomize_zeros, transformer
from helpers.text_batches import DIM, SENTENCES, STATES, VOCAB, captions, with_garbage
from torch import Tensor, nn

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.length_mask import length_mask
from xmodal_cli.models.word_embeddings import build_word_embeddings

NAMES = catalog.names("text_encoder")
CASES = [(name, kind) for name in NAMES for kind in ("ids", "states") if (name, kind) != ("identity", "ids")]
ON_IDS = [name for name, kind in CASES if kind == "ids"]
POOLED = [name for name in NAMES if name != "identity"]


def encoder(name: str, kind: str = "ids", **args) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "embed_dim": DIM, "text_dim": DIM if kind == "states" else 0}
    defaults = {} if name == "identity" else {"word_dim": 7}
    model: nn.Module = catalog.build("text_encoder", name, defaults | args, **sizes)
    return randomize_zeros(model.eval())


def encode(model: nn.Module, sentences: list[list[int]], kind: str = "ids") -> Tensor:
    with torch.inference_mode():
        return model(*captions(sentences, kind))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_padding_changes_nothing(name, kind):
    model = encoder(name, kind)
    tokens, lengths = captions(SENTENCES, kind)
    with torch.inference_mode():
        actual = model(with_garbage(tokens, lengths), lengths)
    assert actual.shape == (len(SENTENCES), DIM)
    for sentence, vector in zip(SENTENCES, actual, strict=True):
        torch.testing.assert_close(encode(model, [sentence], kind)[0], vector, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", catalog.names("pooling"))
@pytest.mark.parametrize("name", POOLED)
def test_padding_changes_nothing_with_any_pooling(name, pooling):
    model = encoder(name, pooling=pooling)
    tokens, lengths = captions(SENTENCES)
    with torch.inference_mode():
        actual = model(with_garbage(tokens, lengths), lengths)
    torch.testing.assert_close(actual, torch.cat([encode(model, [s]) for s in SENTENCES]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_training_mode_without_dropout_equals_evaluation_mode(name, kind):
    """PyTorch has different code paths for transformers with and without gradients."""
    model = encoder(name, kind, dropout=0.0)
    expected = encode(model, SENTENCES, kind)
    torch.testing.assert_close(model.train()(*captions(SENTENCES, kind)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_captions_of_a_batch_are_independent(name, kind):
    model = encoder(name, kind)
    others = [[2, 13, 14, 3], [2, 15, 3], SENTENCES[2], [2, 16, 17, 18, 19, 20, 21, 22, 23, 24, 3]]
    expected = encode(model, SENTENCES, kind)[2]
    torch.testing.assert_close(encode(model, others, kind)[2], expected, rtol=1e-5, atol=1e-6)
    reversed_vectors = encode(model, SENTENCES[::-1], kind).flip(0)
    torch.testing.assert_close(reversed_vectors, encode(model, SENTENCES, kind), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ON_IDS)
def test_only_words_of_the_batch_get_a_gradient(name):
    model = encoder(name)
    model(*captions(SENTENCES)).square().sum().backward()
    gradient = model.words.table.weight.grad
    used = sorted({token for sentence in SENTENCES for token in sentence})
    assert (gradient[used].abs().sum(1) > 0).all()
    unused = [n for n in range(VOCAB) if n not in used]
    assert (gradient[unused] == 0).all()
    assert 0 in unused


@pytest.mark.parametrize("name", NAMES)
def test_only_states_inside_a_caption_get_a_gradient(name):
    model = encoder(name, "states")
    tokens, lengths = captions(SENTENCES, "states")
    tokens = with_garbage(tokens, lengths).requires_grad_()
    model(tokens, lengths).square().sum().backward()
    mask = length_mask(lengths, tokens.shape[1])
    assert (tokens.grad[~mask] == 0).all()
    assert (tokens.grad[mask].abs().sum(1) > 0).all()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_dropout_acts_in_training_only(name, kind):
    model = encoder(name, kind, dropout=0.5)
    assert (encode(model, SENTENCES, kind) == encode(model, SENTENCES, kind)).all()
    model.train()
    assert not (encode(model, SENTENCES, kind) == encode(model, SENTENCES, kind)).all()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_words_are_dropped_in_training_only(name, kind):
    complete, dropping = encoder(name, kind, dropout=0.0), encoder(name, kind, dropout=0.0, word_dropout=0.5)
    assert (encode(dropping, SENTENCES, kind) == encode(complete, SENTENCES, kind)).all()
    sampled = [encode(dropping.train(), SENTENCES, kind) for _ in range(5)]
    assert not all((vectors == sampled[0]).all() for vectors in sampled)
    assert all(vectors.isfinite().all() for vectors in sampled)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_bfloat16_is_close_to_float32(name, kind):
    model = encoder(name, kind)
    tokens, lengths = captions(SENTENCES, kind)
    expected = encode(model, SENTENCES, kind)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        actual = model(tokens.half() if kind == "states" else tokens, lengths)
    torch.testing.assert_close(actual.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_states_are_the_input_of_the_pooling(name):
    """TERN uses ``states``: one per token, with padding outside the mask."""
    model = encoder(name, "states")
    if not hasattr(model, "states"):
        pytest.skip("this encoder has no states")
    tokens, lengths = captions(SENTENCES, "states")
    with torch.inference_mode():
        states, mask = model.states(tokens, lengths)
        pooled = model.pool(states, mask)
        expected = model.project(pooled) if hasattr(model, "project") else pooled
        torch.testing.assert_close(model(tokens, lengths), expected)
    assert states.shape == (*tokens.shape[:2], model.state_dim)
    assert mask.sum(1).tolist() == lengths.tolist()


# ---------------------------------------------------------------------------- each encoder against its definition


@pytest.mark.parametrize(("name", "network"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_recurrent_encoders_equal_torch_on_the_unpadded_sentence(name, network, num_layers):
    model = encoder(name, num_layers=num_layers)
    reference = network(7, DIM, num_layers, batch_first=True)
    reference.load_state_dict(model.recurrence.state_dict())
    for sentence, vector in zip(SENTENCES, encode(model, SENTENCES), strict=True):
        with torch.inference_mode():
            states, _ = reference(model.words.table(torch.tensor([sentence])))
        torch.testing.assert_close(vector, states[0, -1], rtol=1e-5, atol=1e-6)


def test_a_bag_of_words_is_the_mean_of_its_words_in_any_order():
    model = encoder("bow")
    vectors = encode(model, [[2, 5, 9, 3], [2, 9, 5, 3], [2, 9, 9, 3]])
    with torch.inference_mode():
        expected = model.project(model.words.table(torch.tensor([2, 5, 9, 3])).mean(0))
    torch.testing.assert_close(vectors[0], expected)
    torch.testing.assert_close(vectors[1], expected)
    assert not torch.allclose(vectors[2], expected)


@pytest.mark.parametrize("kind", ["ids", "states"])
def test_the_transformer_equals_the_naive_one_per_sentence(kind):
    model = encoder("transformer", kind)
    with torch.inference_mode():
        actual = model(*captions(SENTENCES, kind))
        for sentence, vector in zip(SENTENCES, actual, strict=True):
            words = model.words.table(torch.tensor(sentence)) if kind == "ids" else STATES[sentence]
            states = model.widen(words).double()
            if kind == "ids":  # states of a pretrained encoder include positions
                states += naive_positional_encoding(len(sentence), DIM)
            expected = model.double().project(transformer(model.layers, states).mean(0))
            model.float()
            torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-5)


def test_an_odd_width_is_accepted():
    model = catalog.build("text_encoder", "transformer", {}, vocab_size=VOCAB, embed_dim=9)
    assert model(*captions(SENTENCES)).shape == (len(SENTENCES), 9)


def test_an_invalid_width_raises():
    with pytest.raises(ConfigError, match="a multiple of 64, not 100"):
        catalog.build("text_encoder", "transformer", {}, vocab_size=VOCAB, embed_dim=100)


def test_the_identity_is_the_mean_of_the_states():
    actual = encode(encoder("identity", "states"), SENTENCES, "states")
    expected = torch.stack([STATES[sentence].mean(0) for sentence in SENTENCES])
    torch.testing.assert_close(actual, expected)


def test_the_identity_needs_a_pretrained_encoder():
    with pytest.raises(ConfigError, match=r"text\.backbone"):
        encoder("identity")


@pytest.mark.parametrize("name", ["gru", "lstm", "transformer"])
def test_encoders_with_positions_depend_on_word_order(name):
    vectors = encode(encoder(name), [[2, 5, 9, 3], [2, 9, 5, 3]])
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-3)


@pytest.mark.parametrize(("name", "kind"), [("bow", "ids"), ("pooled", "ids"), ("transformer", "states")])
def test_encoders_without_positions_do_not_depend_on_word_order(name, kind):
    vectors = encode(encoder(name, kind), [[2, 5, 9, 3], [2, 9, 5, 3]], kind)
    torch.testing.assert_close(vectors[0], vectors[1])


def test_word_embeddings_are_initialized_as_in_vse():
    table = build_word_embeddings(1000, 50, 0, 0.0, 0.0).table.weight
    assert (table[0] == 0).all()
    assert table.abs().max() <= 0.1
    assert table[1:].std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_there_is_no_table_for_states():
    words = build_word_embeddings(1000, 50, 8, 0.0, 0.0)
    assert (words.table, words.dim) == (None, 8)
    assert not list(words.parameters())

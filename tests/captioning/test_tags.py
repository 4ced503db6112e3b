"""Tags before captions: what they become in each vocabulary, which words are taken, where the loss begins."""

from __future__ import annotations

from random import Random

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, pre_tokenizers

from xmodal_cli.captioning.tags import pick_tags, tag_prompt, with_tags
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.tokenizer import Tokenizer

CAPTIONS = ["A dog chases two balls on the grass .", "the snow", "A man's dog barks"]


@pytest.fixture
def words():
    return Tokenizer.from_captions(CAPTIONS)


@pytest.fixture
def bytes_():
    """Bytes for tokens, and GPT-2's one mark."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rust = RustTokenizer(models.BPE({token: n for n, token in enumerate([*alphabet, "<|endoftext|>"])}, []))
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    rust.add_special_tokens(["<|endoftext|>"])
    return Tokenizer(rust)


def test_tags_of_a_vocabulary_of_words_stand_between_start_marks(words):
    start = words.special_tokens.bos
    ids = words.word_ids()
    assert tag_prompt(words, ["Dog", "balls"]) == [ids["dog"], ids["balls"], start]
    assert tag_prompt(words, [" dog ", ""]) == [ids["dog"], start]
    assert tag_prompt(words, []) == tag_prompt(words, [""]) == []


def test_tags_of_running_text_stand_in_brackets(bytes_):
    assert bytes_.special_tokens.bos == bytes_.special_tokens.eos
    prompt = tag_prompt(bytes_, ["dog", "bark"])
    assert bytes_.decode([*prompt, *bytes_.encode_captions(["a dog"])[0][1:-1]]) == "[dog] [bark] a dog"


def test_a_tag_that_the_model_does_not_know_is_told(words):
    with pytest.raises(ConfigError, match="does not know the word 'dogg'") as caught:
        tag_prompt(words, ["snow", "dogg"])
    assert caught.value.hint == "did you mean 'dog'?"
    with pytest.raises(ConfigError) as caught:
        tag_prompt(words, ["xylophone"])
    assert "plain words" in caught.value.hint


def test_tags_are_telling_words_of_the_caption():
    random = Random(0)
    drawn = [pick_tags(["a", "dog", "chases", "two", "balls", "on", "the", "grass"], random) for _ in range(300)]
    assert {len(tags) for tags in drawn} == {1, 2}
    assert {word for tags in drawn for word in tags} == {"dog", "chases", "balls", "grass"}
    assert all(len(set(tags)) == len(tags) for tags in drawn)
    assert pick_tags(["on", "the", "two"], random) == []


@pytest.mark.parametrize("kind", ["words", "bytes_"])
def test_a_share_of_captions_gets_tags_and_the_rest_stays(kind, request):
    tokenizer = request.getfixturevalue(kind)
    captions = tokenizer.encode_captions(CAPTIONS * 100)
    tagged, lengths = with_tags(tokenizer, captions, 0.5, seed=3)
    assert (tagged, lengths) == with_tags(tokenizer, captions, 0.5, seed=3)
    assert (tagged, lengths) != with_tags(tokenizer, captions, 0.5, seed=4)
    assert 0.4 < sum(length > 0 for length in lengths) / len(captions) < 0.6
    for caption, row, length in zip(captions, tagged, lengths, strict=True):
        assert row[0] == caption[0]
        assert row[1 + length :] == caption[1:]
        if length:
            said = tokenizer.decode([token for token in row[1 : 1 + length] if token != tokenizer.special_tokens.bos])
            tags = said.replace("[", "").replace("]", "").split()
            assert set(tags) <= {"dog", "chases", "balls", "grass", "snow", "man's", "barks"}
            assert row[1 : 1 + length] == tag_prompt(tokenizer, tags)


def test_no_share_is_no_tags(words):
    captions = words.encode_captions(CAPTIONS)
    assert with_tags(words, captions, 0.0, seed=0) == (captions, [0, 0, 0])

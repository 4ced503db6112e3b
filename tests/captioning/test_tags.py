"""Tags in front of captions: prompts per vocabulary, the choice of words, and where the loss starts."""

from __future__ import annotations

from random import Random

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, pre_tokenizers

from xmodal_cli.captioning.tags import add_tags, known_tags, pick_tags, tag_prompt
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.tokenizer import Tokenizer

CAPTIONS = ["A dog chases two balls on the grass .", "the snow", "A man's dog barks"]


@pytest.fixture
def words():
    return Tokenizer.from_captions(CAPTIONS)


@pytest.fixture
def bytes_():
    """Bytes as tokens, and one token for BOS and EOS as in GPT-2."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rust = RustTokenizer(models.BPE({token: n for n, token in enumerate([*alphabet, "<|endoftext|>"])}, []))
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    rust.add_special_tokens(["<|endoftext|>"])
    return Tokenizer(rust)


def test_tags_of_a_word_vocabulary_are_between_two_bos(words):
    bos = words.special_tokens.bos
    ids = words.word_ids()
    assert tag_prompt(words, ["Dog", "balls"]) == [ids["dog"], ids["balls"], bos]
    assert tag_prompt(words, [" dog ", ""]) == [ids["dog"], bos]
    assert tag_prompt(words, []) == tag_prompt(words, [""]) == []


def test_tags_of_a_gpt2_vocabulary_are_in_brackets(bytes_):
    assert bytes_.special_tokens.bos == bytes_.special_tokens.eos
    prompt = tag_prompt(bytes_, ["dog", "bark"])
    assert bytes_.decode([*prompt, *bytes_.encode_captions(["a dog"])[0][1:-1]]) == "[dog] [bark] a dog"


def test_an_out_of_vocabulary_tag_is_an_error(words):
    with pytest.raises(ConfigError, match="'dogg' is not in the captioner's vocabulary") as error:
        tag_prompt(words, ["snow", "dogg"])
    assert error.value.hint == "did you mean 'dog'?"
    with pytest.raises(ConfigError) as error:
        tag_prompt(words, ["xylophone"])
    assert "common words" in error.value.hint


def test_tags_are_content_words_of_the_caption():
    random = Random(0)
    samples = [pick_tags(["a", "dog", "chases", "two", "balls", "on", "the", "grass"], random) for _ in range(300)]
    assert {len(tags) for tags in samples} == {1, 2}
    assert {word for tags in samples for word in tags} == {"dog", "chases", "balls", "grass"}
    assert all(len(set(tags)) == len(tags) for tags in samples)
    assert pick_tags(["on", "the", "two"], random) == []


@pytest.mark.parametrize("kind", ["words", "bytes_"])
def test_tags_are_added_with_the_given_probability(kind, request):
    tokenizer = request.getfixturevalue(kind)
    captions = tokenizer.encode_captions(CAPTIONS * 100)
    tagged, lengths = add_tags(tokenizer, captions, 0.5, random=Random(3))
    assert (tagged, lengths) == add_tags(tokenizer, captions, 0.5, random=Random(3))
    assert (tagged, lengths) != add_tags(tokenizer, captions, 0.5, random=Random(4))
    assert 0.4 < sum(length > 0 for length in lengths) / len(captions) < 0.6
    for caption, row, length in zip(captions, tagged, lengths, strict=True):
        assert row[0] == caption[0]
        assert row[1 + length :] == caption[1:]
        if length:
            prompt = tokenizer.decode([token for token in row[1 : 1 + length] if token != tokenizer.special_tokens.bos])
            tags = prompt.replace("[", "").replace("]", "").split()
            assert set(tags) <= {"dog", "chases", "balls", "grass", "snow", "man's", "barks"}
            assert row[1 : 1 + length] == tag_prompt(tokenizer, tags)


def test_probability_zero_adds_no_tags(words):
    captions = words.encode_captions(CAPTIONS)
    assert add_tags(words, captions, 0.0, random=Random(0)) == (captions, [0, 0, 0])


def test_given_tags_replace_words_of_the_caption(words):
    captions = words.encode_captions(CAPTIONS)
    tagged, lengths = add_tags(words, captions, 1.0, random=Random(0), given=[["snow", "dog"], [], ["grass"]])
    assert lengths == [3, 0, 2]
    assert tagged[0] == [captions[0][0], *tag_prompt(words, ["snow", "dog"]), *captions[0][1:]]
    assert tagged[1] == captions[1]


def test_known_tags_are_those_in_the_vocabulary(words, bytes_):
    assert known_tags(words, ["snow", "zebra", "dog"]) == ["snow", "dog"]
    assert known_tags(bytes_, ["snow", "zebra"]) == ["snow", "zebra"]

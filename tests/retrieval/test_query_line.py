"""Splitting a query line into terms."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodal_cli.errors import ConfigError
from xmodal_cli.retrieval.query_line import split_line


@pytest.mark.parametrize(
    ("line", "terms"),
    [
        ("", ()),
        ("  \t ", ()),
        ("dog", ("dog",)),
        ("two dogs running", ("two dogs running",)),
        ("  two   dogs ", ("two dogs",)),
        ("dog +snow -person", ("dog", "+snow", "-person")),
        ("two dogs -person on the beach", ("two dogs", "-person", "on the beach")),
        ('"two dogs" "a cat"', ("two dogs", "a cat")),
        ("'two dogs' cat", ("two dogs", "cat")),
        ('dog -"a person" run', ("dog", "-a person", "run")),
        ("+'deep snow'", ("+deep snow",)),
        ('"a red ball"^0.5 dog', ("a red ball^0.5", "dog")),
        ("a red ball^0.5 dog", ("a red ball^0.5", "dog")),
        ("-ball^2", ("-ball^2",)),
        ("holiday.jpg at night", ("holiday.jpg", "at night")),
        ("at night like holiday.JPG^0.5", ("at night like", "holiday.JPG^0.5")),
        ("a^2.jpg dog", ("a^2.jpg", "dog")),
        (r"my\ dog.jpg snow", ("my dog.jpg", "snow")),
        ('"my dog.jpg" snow', ("my dog.jpg", "snow")),
        ("the dog's ball", ("the dog's ball",)),
        ("the dogs' ball isn't 'red'", ("the dogs' ball isn't", "red")),
        ("rock 'n roll", ("rock 'n roll",)),
        ('"+-5 degrees"', ("+-5 degrees",)),
        (r'"sign \"hello\""', ('sign "hello"',)),
        (r"C:\dogs\new.jpg run", (r"C:\dogs\new.jpg", "run")),
        ("t-shirt well-known", ("t-shirt well-known",)),
        ("+ snow", ("+", "snow")),
        ('""', ("",)),
        ("\N{SNOWMAN} dog", ("\N{SNOWMAN} dog",)),
    ],
)
def test_lines(line, terms):
    assert split_line(line) == terms


def test_the_path_of_a_file_is_a_term(tmp_path):
    (tmp_path / "photo").write_bytes(b"x")
    assert split_line(f"like {tmp_path}/photo at night") == ("like", f"{tmp_path}/photo", "at night")
    assert split_line("black/white dog") == ("black/white dog",)


@pytest.mark.parametrize("word", ["./no/dog.jpg", "~/dog", "https://a.b/c.jpg", "C:/dog.jpg", "scan.jp2", "sub/dog"])
def test_a_word_that_looks_like_a_path_is_a_term(word, tmp_path, monkeypatch):
    """So that it is an error and not a part of a sentence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    assert split_line(f"like {word} at night") == ("like", word, "at night")


def test_captions_as_datasets_write_them_are_one_sentence():
    for line in ("a dog runs .", "a man / woman walks ..", "~ 5 dogs", "two dogs , and a cat ."):
        assert split_line(line) == (line,)


@pytest.mark.parametrize("line", ['"two dogs', 'dog -"cat', '"'])
def test_an_unclosed_quotation_mark(line):
    with pytest.raises(ConfigError, match="not closed"):
        split_line(line)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\\\"'^/"), min_size=1)))
def test_double_quotes_split_as_in_a_shell(words):
    line = " ".join(f'"{word}"' for word in words)
    assert list(split_line(line)) == shlex.split(line) == words


@given(st.text())
def test_any_line_gives_terms_or_an_error(line):
    try:
        terms = split_line(line)
    except ConfigError:
        return
    assert all(isinstance(term, str) for term in terms)
    assert bool(terms) == bool(line.strip())

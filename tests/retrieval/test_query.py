"""Parsing of search terms."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodal_cli.errors import BadData, ConfigError, MissingData, XmodalError
from xmodal_cli.retrieval.query import Term, looks_like_path, parse_term, parse_terms


@pytest.mark.parametrize(
    ("word", "text", "weight"),
    [
        ("two dogs running", "two dogs running", 1.0),
        ("+snow", "snow", 1.0),
        ("-person", "person", -1.0),
        ("beach^0.5", "beach", 0.5),
        ("-a red ball^2", "a red ball", -2.0),
        ("a^b^3", "a^b", 3.0),
        ("+-5 degrees", "-5 degrees", 1.0),
        ("- person ", "person", -1.0),
        ("dog^1e-2", "dog", 0.01),
        ("what is this: a dog.", "what is this: a dog.", 1.0),
        ("a file called dog.jpg", "a file called dog.jpg", 1.0),
        ("^_^ smiling", "^_^ smiling", 1.0),
        ("straße 犬", "straße 犬", 1.0),
    ],
)
def test_sentences(word: str, text: str, weight: float) -> None:
    assert parse_term(word) == Term(text, weight)


@pytest.mark.parametrize("word", ["", " ", "+", "-", "^2", "-^2", "- ^1"])
def test_empty_terms(word: str) -> None:
    with pytest.raises(ConfigError, match="is empty") as error:
        parse_term(word)
    assert "xmodal search" in error.value.hint


@pytest.mark.parametrize("word", ["dog^0", "dog^-1", "dog^many", "dog^", "dog^nan", "dog^inf", "dog^1001"])
def test_invalid_weights(word: str) -> None:
    with pytest.raises(ConfigError, match="the weight in"):
        parse_term(word)


def test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b^2.png", "-c.webp", "dog", "plain"):
        Path(name).write_bytes(b"x")
    assert parse_term("a.jpg") == Term("a.jpg", 1.0, Path("a.jpg"))
    assert parse_term("-a.jpg^0.5") == Term("a.jpg", -0.5, Path("a.jpg"))
    assert parse_term("b^2.png").image == Path("b^2.png")
    assert parse_term("--c.webp") == Term("-c.webp", -1.0, Path("-c.webp"))
    assert parse_term("dog").image is None  # a word, although a file has this name
    assert parse_term("./plain").image == Path("plain")
    assert parse_term(str(tmp_path / "a.jpg")).image == tmp_path / "a.jpg"


def test_a_misspelled_image_is_not_a_sentence() -> None:
    with pytest.raises(MissingData, match=r"the image beahc\.jpg does not exist"):
        parse_term("beahc.jpg")


def test_no_terms() -> None:
    with pytest.raises(ConfigError, match="nothing to search for"):
        parse_terms([])


@given(st.text(max_size=40))
def test_any_text_is_a_term_or_an_error(word: str) -> None:
    try:
        term = parse_term(word)
    except XmodalError as error:
        assert error.message
        assert error.hint
    else:
        assert term.text.strip()
        assert (term.weight < 0) == word.startswith("-")


def test_terms_that_cannot_be_file_names() -> None:
    assert parse_term("a/" * 3000 + "b").image is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("./no such/my dog.jpg", "does not exist"),
        ("no such/my dog.jpg", "does not exist"),
        ("-/home/nobody/a photo^0.5", "does not exist"),
        ("~/no such photo", "does not exist"),
        ("~nobody123/a.jpg", "does not exist"),
        ("../photo", "does not exist"),
        (r"C:\photos\dog.jpg", "does not exist"),
        ("scan.jp2", "does not exist"),
        ("raw.CR2", "does not exist"),
        ("*.jpg", "does not exist"),
        ("folder/nothing", "does not exist"),
        ("nowhere/queries.txt", "does not exist"),
        ("./folder", "is a folder"),
        ("folder/", "is a folder"),
        (".", "is a folder"),
        ("..", "is a folder"),
        ("./socket", "is a device, not a file"),
        ("https://example.com/dog.jpg", "is a URL"),
        ("file:///tmp/dog.jpg", "is a URL"),
    ],
)
def test_a_term_that_looks_like_a_path(
    word: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("socket").symlink_to("/dev/null")
    with pytest.raises((MissingData, ConfigError), match=message) as error:
        parse_term(word)
    assert error.value.hint


@pytest.mark.parametrize("name", ["scan.jp2", "notes.md", "my scan.jp2", "sub/plain"])
def test_an_existing_file_is_an_image_whatever_its_suffix(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path(name).write_bytes(b"x")
    assert parse_term(name).image == Path(name)


@pytest.mark.parametrize(
    "word",
    ["-k=1", "-n", "-t", "-k", "-k5", "-n10", "--json", "--top-k=5", "--limit", "-size=3", "-json", "-index", "-n^2"],
)
def test_a_term_that_looks_like_an_option(word: str) -> None:
    with pytest.raises(ConfigError, match="search has no option") as error:
        parse_term(word)
    _, _, suggestion = error.value.hint.partition('write "')
    assert parse_term(suggestion.removesuffix('"')).weight < 0  # following the hint works
    assert ("-k " in error.value.hint.partition(";")[0]) == (word in ("-k=1", "-k5"))


@pytest.mark.parametrize(
    "word",
    [
        *(
            "-person",
            "-犬",
            "-a red ball",
            "+n",
            "- n",
            "-t-shirt",
            "-5 degrees",
            "black/white dog",
            "black/white",
            "and/or",
        ),
        *("24/7", "w/o glasses", "dog.", "a photo... of a dog", "U.S.A", "what is 3.5", "folder", "v2.0", "node.js"),
    ],
)
def test_sentences_that_are_neither(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    term = parse_term(word)
    assert (term.image, term.weight < 0) == (None, word.startswith("-"))


@pytest.mark.parametrize("word", ["caf\udce9", "a/b\0c", "d\0o\0g", "dog\x1b[A", "\x9b dog"])
def test_text_that_is_not_valid(word: str) -> None:
    with pytest.raises(BadData, match="the query '") as error:
        parse_term(word)
    assert error.value.message.isascii() and error.value.message.isprintable()


def test_an_image_whose_name_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        Path("caf\udce9.jpg").write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert parse_term("caf\udce9.jpg").image == Path("caf\udce9.jpg")


@pytest.mark.parametrize("suffix", ["JPG", "jxl", "svg", "nef", "mp4", "pdf", "xcf"])
def test_a_word_with_the_suffix_of_a_file_is_a_path(suffix: str) -> None:
    assert looks_like_path(f"beach.{suffix}")


@pytest.mark.parametrize("word", ["open.ai", "st.john", "e.g", "a red car.jpg", "photo"])
def test_other_words_are_not_paths(word: str) -> None:
    assert not looks_like_path(word)


@pytest.mark.parametrize("word", ["\u2013k5", "\u2014json", "\u2212dog", "\uff0dk=3", "\u2014index=family"])
def test_a_term_with_the_dash_of_a_word_processor(word: str) -> None:
    with pytest.raises(ConfigError, match="which is not a hyphen") as error:
        parse_term(word)
    assert '"-"' in error.value.hint
    assert parse_term(f"{word[0]} a dash before a sentence").text

"""Words in captions: which captions they match, and the parts that are highlighted."""

from __future__ import annotations

import pytest

from xmodal_cli.errors import ConfigError
from xmodal_cli.serve.caption_words import MAX_QUERY, CaptionWords, read_words

CAPTIONS = ("Two Dogs run on grass .", "A man eats a hotdog", "Ein Mädchen läuft über die STRASSE", "犬が公園を走る")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", True),
        ("  ", True),
        ("dog", True),
        ("DOGS two", True),
        ("grass dogs", True),
        ("dog man", False),  # in different captions
        ("hotdog man", True),
        ("ass", False),
        ("mädchen ÜBER", True),
        ("公園", True),
        ("cat", False),
        (".*", False),
        ("(", False),
        (".", True),
    ],
)
def test_captions_with_all_words(query: str, found: bool) -> None:
    assert CaptionWords(query).matches(CAPTIONS) == found


def test_no_captions() -> None:
    assert CaptionWords("").matches(()) and not CaptionWords("a").matches(())


def test_parts_of_a_caption() -> None:
    assert CaptionWords("dog two").split("Two dogs") == [("Two", True), (" ", False), ("dog", True), ("s", False)]
    assert CaptionWords("do dogs").split("dogs") == [("dogs", True)]
    assert CaptionWords("<b>").split("a <b>bold</b>") == [("a ", False), ("<b>", True), ("bold</b>", False)]
    assert CaptionWords("").split("dog") == [("dog", False)]
    assert CaptionWords("dog").split("") == []


def test_a_query_has_a_limit() -> None:
    assert read_words("a" * MAX_QUERY).matches(["a" * MAX_QUERY])
    with pytest.raises(ConfigError, match="201 characters"):
        read_words("a" * (MAX_QUERY + 1))

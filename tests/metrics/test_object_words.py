"""The table of objects: each word is in one class, and is the singular that is looked up."""

from __future__ import annotations

from collections import Counter

from xmodal_cli.metrics.english_words import singular
from xmodal_cli.metrics.object_words import TABLE, mentioned_objects, named_in


def words_of_classes():
    return [line.partition("|")[0].split() for line in TABLE.strip().splitlines()]


def test_a_word_is_in_one_class_and_names_it():
    words = [word for line in words_of_classes() for word in line]
    assert [word for word, number in Counter(words).items() if number > 1] == []
    for first, *others in words_of_classes():
        for word in (first, *others):
            assert mentioned_objects([word]) == [(0, first)], word
            assert first in named_in([[word]])


def test_the_table_has_singular_forms():
    words = {word for line in words_of_classes() for word in line}
    assert {word for word in words if singular(word) != word} == set()


def test_positions_are_those_of_the_words():
    assert mentioned_objects(["two", "men", "and", "a", "group", "of", "puppies"]) == [(1, "person"), (6, "dog")]

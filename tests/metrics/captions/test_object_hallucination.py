"""Objects that no reference names: counted by hand, synonyms, words that imply objects, other languages."""

from __future__ import annotations

import pytest

from xmodal_cli import catalog
from xmodal_cli.errors import Unavailable


def score(captions, references):
    words = [[text.split() for text in texts] for texts in references]
    return catalog.build("caption_metric", "object-hallucination", {})([text.split() for text in captions], words)


def test_scores_counted_by_hand():
    captions = ["a dog with a frisbee on the beach", "a man and a woman", "", "a dog catches a frisbee in the snow"]
    references = [
        ["a puppy runs on the sand", "the dog is at the shore"],
        ["two people"],
        ["a cat"],
        ["a dog in the snow"],
    ]
    scores = score(captions, references)
    assert scores.per_candidate["object_hallucination"].tolist() == [1, 0, 0, 1]
    assert scores.total["object_hallucination"] == 0.5
    assert scores.total["hallucinated_objects"] == 2 / 7  # frisbee twice; dog, beach, person, dog, snow are named
    assert scores.per_candidate["hallucinated_objects"].tolist() == [1 / 3, 0, 0, 1 / 3]


@pytest.mark.parametrize(
    ("caption", "reference", "wrong"),
    [
        ("puppies in the pools", "a dog in a pool", 0),
        ("an animal in water", "a dog in the ocean", 0),  # kinds name the general class, not the reverse
        ("a dog in the ocean", "an animal in the water", 1),
        ("a person on a skateboard", "the boy is skateboarding", 0),
        ("a group of dogs", "the dogs run", 0),  # not a group of persons
        ("a hot dog", "a man on the street", 0),
        ("a zorb on the xylophone", "a man on the street", 0),  # not in the table
        ("the sunglasses and the glasses", "a man with glasses", 1),
        ("dog.", "a man and his dog", 0),  # not tokenized: not a word of the table
    ],
)
def test_words_of_an_object(caption, reference, wrong):
    assert score([caption], [[reference]]).total["object_hallucination"] == wrong


@pytest.mark.parametrize("name", ["object-hallucination", "repetition", "bad-endings", "wrong-counts", "wrong-genders"])
@pytest.mark.parametrize(
    "reference",
    [
        "ein hund läuft in der wiese mit einem ball im maul an einem zaun entlang",
        "un perro corre en la playa con una pelota y un niño lo mira",
        "un chien court sur la plage avec une balle et un garçon le regarde",
        "egy barna kutya fut a parton és labdát visz",
    ],
)
def test_other_languages_are_not_scored(name, reference):
    with pytest.raises(Unavailable, match="do not look like English"):
        catalog.build("caption_metric", name, {})([["a", "dog"]], [[reference.split()]])


@pytest.mark.parametrize("name", ["object-hallucination", "repetition", "bad-endings", "wrong-counts", "wrong-genders"])
def test_captions_and_references_must_match(name):
    metric = catalog.build("caption_metric", name, {})
    for candidates, references in (([], []), ([["a"]], [])):
        with pytest.raises(ValueError, match="one candidate per image"):
            metric(candidates, references)

"""Sentences like those that people search photos with, from one word to a description; to measure recall."""

from __future__ import annotations

import random

_WHO = (
    *("a dog", "two dogs", "a cat", "a brown horse", "a bird", "some cows", "a man", "an old man", "a woman"),
    *("a young woman", "a couple", "a family", "a girl", "a boy", "two children", "a group of people", "a crowd"),
    *("a baby", "a cyclist", "a football player", "a climber", "a musician", "a cook", "a bride", "friends"),
    *("a person in a red jacket", "a man with a hat", "a woman with sunglasses", "a child in a costume"),
)
_WHAT = (
    *("running", "jumping", "sleeping", "sitting on a bench", "walking", "playing with a ball", "eating", "drinking"),
    *("reading", "laughing", "dancing", "swimming", "riding a bicycle", "climbing", "taking a photo", "waiting"),
    *("holding an umbrella", "cooking", "singing", "working", "pointing at something", "smiling"),
    *("carrying a bag", "throwing a stick", "catching a frisbee", "hugging", "blowing out candles"),
)
_WHERE = (
    *("on a beach", "in the snow", "in a park", "in the city at night", "on a mountain", "in a kitchen", "by a lake"),
    *("in a garden", "on a street", "in front of a building", "in the rain", "in a forest", "on a boat", "at a table"),
    *("at sunset", "on a stage", "in a stadium", "at a market", "on grass", "in the water", "under a bridge"),
    *("in an office", "at the airport", "in a desert", "next to a car", "on a sofa", "at a wedding", "in autumn"),
)
_THINGS = (
    *("sunset", "snow", "flowers", "an old car", "birthday cake", "a wooden boat", "a red house", "fireworks", "food"),
    *("a cup of coffee", "a church", "a train", "an airplane", "a waterfall", "clouds", "a map", "a document"),
    *("a screenshot", "a football match", "a concert", "mountains with fog", "a bridge over a river", "a painting"),
    *("a christmas tree", "a pile of books", "a bicycle", "a black and white portrait", "a street with shops"),
)
_FORMS = ("{who} {what} {where}", "{who} {where}", "{who} {what}", "{thing}", "{thing} {where}", "{who} and {thing}")


def sample_sentences(num: int) -> list[str]:
    """``num`` different sentences, always the same ones."""
    rng, sentences = random.Random(0), dict[str, None]()
    while len(sentences) < num:
        words = {"who": rng.choice(_WHO), "what": rng.choice(_WHAT)}
        words |= {"where": rng.choice(_WHERE), "thing": rng.choice(_THINGS)}
        sentences[rng.choice(_FORMS).format(**words)] = None
    return list(sentences)

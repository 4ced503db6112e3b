"""Words, caption templates and split sizes of the planted dataset."""

from __future__ import annotations

THINGS = ("dog", "cat", "bird", "horse", "car", "boat", "tree", "house", "ball", "man", "woman", "child")
FORMS = ("a {} next to a {}", "there is a {} and a {} in the photo", "the {} is beside the {}")
SIZES = {"train": 160, "dev": 40, "test": 45}

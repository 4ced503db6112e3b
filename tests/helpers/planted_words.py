"""What the planted captions are made of, and how many images there are."""

from __future__ import annotations

THINGS = ("dog", "cat", "bird", "horse", "car", "boat", "tree", "house", "ball", "man", "woman", "child")
FORMS = ("a {} next to a {}", "there is a {} and a {} in the picture", "the {} is beside the {}")
SIZES = {"train": 160, "dev": 40, "test": 45}

"""A small dataset for the tests of the server: markup in captions and names, missing, damaged and empty files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from helpers.served_photos import paint

NUM_IMAGES = 60
MARKUP = "<script>document.title='bad'</script> \"&amp;' <b>bold</b> dog"
MARKED_NAME = "<script>document.title='bad'<b>.jpg"  # a slash cannot be in a name
MISSING, DAMAGED, EMPTY_CAPTION, NO_CAPTIONS, MARKED = 5, 7, 4, 6, 3


def write_tricky(folder: Path) -> Path:
    """60 images (train 15, val 45), 2 of them without a readable file; empty, repeated and no captions; a bad row."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for n in range(NUM_IMAGES):
        name = MARKED_NAME if n == MARKED else f"{n:02}.jpg"
        if n != MISSING:
            paint(folder / "images" / name, n, (60, 40))
        captions = [f"a Dog number {n}", MARKUP, "Ein Mädchen läuft", "שלום עולם"]
        captions = ["a dog", "", " a  dog"] if n == EMPTY_CAPTION else [] if n == NO_CAPTIONS else captions
        rows.append({"image": f"images/{name}", "captions": captions, "split": "val" if n % 4 else "train"})
    (folder / "images" / f"{DAMAGED:02}.jpg").write_text("not an image")
    (folder / "data.jsonl").write_text("\n".join([*map(json.dumps, rows), "no JSON"]), encoding="utf-8")
    return folder


def write_features(folder: Path) -> Path:
    """The precomputed format of VSE++: ten images with five captions each, and no image file."""
    folder.mkdir()
    np.save(folder / "train_ims.npy", np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32))
    (folder / "train_caps.txt").write_text("".join(f"caption {n} of a dog\n" for n in range(50)))
    return folder

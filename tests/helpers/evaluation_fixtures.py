"""A small dataset with images, captions with special characters, and random embeddings of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.evaluation.scoring import Embeddings

WORDS = ("a", "dog", "cat", "runs", "sits", "on", "the", "red", "<b>bold</b>", "grass", "snow", "it's", "café", "&")
NUM_IMAGES = 14


@dataclass(frozen=True)
class EvaluationSet:
    """A dataset file, its ids and captions, and two embeddings files."""

    data: Path
    ids: list[str]
    captions: list[str]
    image_of_caption: np.ndarray
    files: tuple[Path, Path]


def random_vectors(
    seed: int, image_of_caption: np.ndarray, num_images: int, dim: int, similarity: str = "cosine"
) -> Embeddings:
    """L2-normalized vectors, captions close to their images; non-negative for the order similarity."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(num_images, dim))
    texts = images[image_of_caption] + 1.5 * rng.normal(size=(len(image_of_caption), dim))
    if similarity == "order":
        images, texts = np.abs(images), np.abs(texts)
    images, texts = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (images, texts))
    return Embeddings(images.astype(np.float32), texts.astype(np.float32), image_of_caption, similarity)


@pytest.fixture
def vectors() -> Callable[..., Embeddings]:
    """``vectors(seed, image_of_caption, num_images, dim, similarity)``."""
    return random_vectors


@pytest.fixture(scope="session")
def eval_set(tmp_path_factory: pytest.TempPathFactory) -> EvaluationSet:
    """14 images with one to four captions each; the file of the last image is missing."""
    folder = tmp_path_factory.mktemp("images") / "odd"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    ids, captions, image_of_caption, lines = [], [], [], []
    for index in range(NUM_IMAGES):
        name = f"images/{index:02d}.png"
        if index < NUM_IMAGES - 1:
            Image.new("RGB", (40, 30), tuple(rng.integers(0, 256, 3).tolist())).save(folder / name)
        image_captions = [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(rng.integers(1, 5))]
        lines.append(json.dumps({"image": name, "captions": image_captions, "split": "test"}))
        ids.append(name)
        captions += image_captions
        image_of_caption += [index] * len(image_captions)
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = tuple(folder / f"{name}.npz" for name in ("one", "two"))
    for seed, file in enumerate(files):
        vectors = random_vectors(seed, np.array(image_of_caption), NUM_IMAGES, 6)
        np.savez(file, images=vectors.images, texts=vectors.texts, image_of_caption=vectors.image_of_caption)
    return EvaluationSet(folder / "data.jsonl", ids, captions, np.array(image_of_caption), files)

"""A toy matcher of color names for tests of ``xmodal index`` and ``xmodal search``; its photos are text files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xmodal_cli.device import Compute
from xmodal_cli.errors import MissingData
from xmodal_cli.inference import encoding, index_models, matchers, models, runtime
from xmodal_cli.types import FeatureMeta, Unreadable

COLORS = ("red", "green", "blue", "white")


def color_vector(text: str) -> np.ndarray:
    """(5,) float32: the normalized counts of the color names, and a constant."""
    vector = np.array([*(text.count(c) for c in COLORS), 0.1], np.float32)
    return vector / np.linalg.norm(vector)


class ToyTokenizer:
    def unknown_words(self, sentence: str) -> list[str]:
        return [word for word in sentence.split() if word == "mauve"]


@dataclass
class ToyMatcher:
    """A LoadedMatcher for index and search; the images are text files with color names."""

    fingerprint: str = "1" * 64
    similarity: str = "cosine"
    name: str = "toy"
    embed_dim: int = 5
    path: Path = Path("/models/toy.safetensors")
    source: str = "/models/toy.safetensors"
    kind: str = "matcher"
    meta: FeatureMeta = field(default_factory=lambda: FeatureMeta("eyes", "e" * 64, "global", 5))
    loads: int = 0
    tokenizer: ToyTokenizer = field(default_factory=ToyTokenizer)
    gone: bool = False
    compute: Compute = Compute("cpu", "fp32", "torch")
    header: Any = field(default_factory=lambda: SimpleNamespace(features_from=None, dataset={}))

    @property
    def info(self) -> ToyMatcher:
        return self

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        return np.stack([color_vector(s) for s in sentences])

    def embed_images(self, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        for path in files:
            content = path.read_bytes()
            yield path, Unreadable(path, "it is not an image") if b"bad" in content else color_vector(content.decode())


def install(monkeypatch: pytest.MonkeyPatch) -> ToyMatcher:
    """Replace all models by a toy matcher, which runs as with torch."""
    matcher = ToyMatcher()

    def load(what: Any, compute: Any) -> ToyMatcher:
        describe(what)
        matcher.loads += 1
        return matcher

    def describe(what: str) -> ToyMatcher:
        if matcher.gone:
            raise MissingData(f"there is no model file {what}", "see xmodal models list")
        return dataclasses.replace(matcher)

    monkeypatch.setattr(matchers, "load_matcher", load)
    monkeypatch.setattr(models, "describe_model", describe)
    monkeypatch.setattr(index_models, "default_model", lambda kind: str(matcher.path))
    monkeypatch.setattr(encoding, "image_vectors", lambda loaded, reader=None: loaded.embed_images)
    monkeypatch.setattr(runtime, "choose_runtime", lambda compute, num_images: "torch")
    return matcher


def write_photos(folder: Path) -> Path:
    """Six photos with the names of their colors, in the folder ``colors``."""
    photos = folder / "colors"
    photos.mkdir()
    for name in ("red", "green", "blue", "red green", "red red green", "white"):
        (photos / f"{name}.jpg").write_text(name)
    return photos


def found(outcome: Any) -> list[str]:
    """The names of the hits, without suffix."""
    assert outcome.code == 0, outcome.err
    return [Path(hit["path"]).stem for hit in outcome.json["hits"]]

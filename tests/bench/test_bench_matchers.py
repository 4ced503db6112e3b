"""TERN fuses late: once its vectors are made, adding and searching them costs what any dual encoder's cost, and the
layers over cells and words are a small part of making them."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.config import load_config
from xmodal_cli.inference.encoding import image_vectors
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.inference.torch_backbones import backbone_of
from xmodal_cli.inference.towers import text_side
from xmodal_cli.models.assembly import Sizes, build_matcher, describe
from xmodal_cli.models.model_file import ModelHeader, write_model
from xmodal_cli.models.towers import trainable_state_dict
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.search import TermVector, top_hits
from xmodal_cli.retrieval.segments import Segment, write_segment
from xmodal_cli.retrieval.vectors import Layout

SETTINGS = ["model.embed_dim=256", "features.kind=grid"]
NUM_PHOTOS, NUM_VECTORS, ROUNDS = 64, 50_000, 5
SEARCH_RATIO, PHOTO_RATIO = 1.3, 2.0

pytestmark = [pytest.mark.bench, pytest.mark.slow]


def model_file(preset: str, folder: Path) -> Path:
    """The preset with fresh weights: timings do not depend on what they are."""
    from xmodal_cli.backbones.image_backbones import build_backbone

    config = load_config(preset, SETTINGS)
    side = text_side(config)
    assert side is not None
    meta = build_backbone(config.features.backbone, "grid").meta
    sizes = Sizes(meta.dim, "grid", 30_522, side.backbone.meta.dim)
    architecture = describe(config.model, sizes, {"text": side.facts()})
    model = build_matcher(architecture, {"text": side.stack()})
    header = ModelHeader("matcher", architecture, side.backbone.tokenizer, asdict(meta), "cosine", {}, {})
    write_model(folder / f"{preset}.safetensors", header, trainable_state_dict(model))
    return folder / f"{preset}.safetensors"


@pytest.fixture(scope="module")
def matchers(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("matchers")
    torch.manual_seed(0)
    return {preset: load_matcher(str(model_file(preset, folder))) for preset in ("two-heads", "tern-grid")}


def test_a_photo_costs_its_backbone_and_little_more(matchers, report, seconds, tmp_path):
    rng = np.random.default_rng(0)
    photos = [tmp_path / f"{n}.png" for n in range(NUM_PHOTOS)]
    for photo in photos:
        Image.fromarray(rng.integers(0, 255, (260, 260, 3), dtype=np.uint8)).save(photo)
    times: dict[str, list[float]] = {name: [] for name in matchers}
    embedders = {name: image_vectors(loaded) for name, loaded in matchers.items()}
    for _ in range(ROUNDS):
        for name, embed in embedders.items():
            times[name].append(seconds(lambda e=embed: list(e(photos))))
    plain, tern = (np.median(times[name]) / NUM_PHOTOS * 1000 for name in ("two-heads", "tern-grid"))
    report("a photo to its vector", f"tern {tern:.0f} ms, two linear heads {plain:.0f} ms: {tern / plain:.2f} times")
    assert backbone_of("tern-grid", matchers["tern-grid"].meta).meta.dim == 1280
    assert tern / plain <= PHOTO_RATIO


def test_vectors_are_indexed_and_searched_alike(matchers, report, seconds, tmp_path):
    """The queries are sentences through each matcher's text side, in a store of as many vectors."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((NUM_VECTORS, 256), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sentences = [
        f"{count} dogs run over {ground}" for count in ("two", "three") for ground in ("grass", "sand", "snow")
    ]
    written: dict[str, list[float]] = {name: [] for name in matchers}
    searched: dict[str, list[float]] = {name: [] for name in matchers}
    for _ in range(ROUNDS):
        for name, loaded in matchers.items():
            found: list[Segment] = []
            layout = Layout("fp16", *rows.shape)
            write = partial(write_segment, tmp_path, layout, rows.__getitem__)
            written[name].append(seconds(lambda f=found, w=write: f.append(w().segment)))
            stored = IndexVectors(tmp_path, found, rows.shape[1])
            queries = [[TermVector(vector, 1.0, True)] for vector in loaded.embed_texts(sentences)]
            searched[name].append(
                seconds(lambda s=stored, q=queries: [top_hits(s, terms, "cosine", 10) for terms in q])
            )
    for what, times, count in (("indexed", written, NUM_VECTORS), ("searched, a query", searched, len(sentences))):
        plain, tern = (np.median(times[name]) / count * 1e6 for name in ("two-heads", "tern-grid"))
        report(f"a vector {what}", f"tern {tern:,.1f} us, two linear heads {plain:,.1f} us: {tern / plain:.2f} times")
        assert tern / plain <= SEARCH_RATIO

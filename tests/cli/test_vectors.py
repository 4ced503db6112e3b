"""``xmodal vectors import`` and ``export``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.index_fixtures import sort_small_segments
from PIL import Image

from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.registry import find_index
from xmodal_cli.retrieval.writer import IndexWriter

Run = Callable[..., Any]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder as clip-retrieval writes it, with vectors of the size of the bundled matcher."""
    folder = tmp_path / "clip"
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    vectors = np.random.default_rng(0).standard_normal((40, 1024)).astype(np.float32)
    np.save(folder / "img_emb" / "img_emb_0.npy", vectors)
    rows = [json.dumps({"image_path": f"/far/{n:02}.jpg", "caption": f"photo {n}"}) for n in range(40)]
    (folder / "metadata" / "metadata_0.jsonl").write_text("\n".join(rows))
    return folder


def test_vectors_are_imported_searched_and_exported(xmodal: Run, source: Path, tmp_path: Path) -> None:
    found = xmodal("vectors", "import", source, "--index", "far", "--model", "starter", "--json").json
    assert (found["index"], found["vectors"], found["photos"], found["model"]) == ("far", 40, 40, "starter")
    hits = xmodal("search", "two dogs", "--index", "far", "--json", "-k", 40).json["hits"]
    assert sorted(hit["path"] for hit in hits) == [f"/far/{n:02}.jpg" for n in range(40)]
    out = tmp_path / "far.jsonl"
    assert xmodal("vectors", "export", out, "--index", "far", "--json").json["photos"] == 40
    assert len(out.read_text().splitlines()) == 40
    assert "40 photos" in xmodal("index", "--list").out
    failed = xmodal("index", "--index", "far")
    assert (failed.code, "has no folders of photos" in failed.err) == (1, True)


def test_errors(xmodal: Run, source: Path, tmp_path: Path) -> None:
    cases = [
        ((tmp_path / "none",), "does not exist"),
        ((source, "--model", "no such model"), "no such model"),
        ((source / "metadata",), "no .npy or .safetensors files"),
    ]
    for args, message in cases:
        outcome = xmodal("vectors", "import", *args)
        assert (outcome.code, message in outcome.err) == (1, True), outcome.err
    np.save(source / "img_emb" / "img_emb_0.npy", np.ones((3, 7), np.float32))
    outcome = xmodal("vectors", "import", source, "--model", "starter")
    assert "have size 7, those of starter 1024" in outcome.err


def test_recall_and_exact_search(xmodal: Run, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments are sorted here, so that this index is searched like a large one."""
    sort_small_segments(monkeypatch)
    args = ("vectors", "import", source, "--index", "far", "--model", "starter", "--recall")
    assert xmodal(*args, "0.5").code == 0
    (entry,) = xmodal("index", "--list", "--json").json
    found = entry["calibration"]
    assert (entry["recall"], found["queries"], found["num_queries"]) == (0.5, "sentences", 256)
    assert 0.5 <= found["recall_at_10"] <= 1.0
    assert "approximate search: recall@10 " in xmodal("index", "--list").out
    hits = xmodal("search", "two dogs", "--index", "far", "--json", "-k", 40, "--exact").json["hits"]
    assert len(hits) == 40
    outcome = xmodal(*args, "1.5", "--rebuild")
    assert (outcome.code, "--recall must be above 0 and at most 1" in outcome.err) == (1, True)


def test_parts_of_a_collection_are_committed_into_one_index(
    xmodal: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        folder = tmp_path / "photos" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 30), 20 + 20 * number).convert("RGB").save(folder / f"{number}.png")
    roots = (tmp_path / "photos" / "0", tmp_path / "photos" / "1")
    for index, paths in (("./parts/0", roots[:1]), ("one", roots[1:]), ("whole", roots)):
        assert xmodal("index", *paths, "--index", index).code == 0
    words = ("vectors", "commit", "parts/0", "one", "--index", "joined")
    assert xmodal(*words).out == "index joined: 6 photos (6 added), model starter\n"
    found = xmodal(*words, "--json").json
    assert (found["added"], found["unchanged"], found["vectors"], found["photos"]) == (0, 6, 0, 6)
    assert found["roots"] == [str(root) for root in roots]
    whole, joined = (xmodal("search", "noise", "--index", name, "--json").json for name in ("whole", "joined"))
    assert joined["hits"] == whole["hits"] and len(whole["hits"]) == 6
    again = xmodal("index", "--index", "joined", "--json").json
    assert (again["unchanged"], again["computed"]) == (6, 0)
    assert xmodal("search", "noise", "--json").json["index"] == "joined"  # the default now


def test_errors_of_commits(xmodal: Run, source: Path, tmp_path: Path) -> None:
    assert xmodal("vectors", "commit", "parts/0").code == 2
    outcome = xmodal("vectors", "commit", "nothing", "--index", "joined")
    assert outcome.code == 1 and "nothing" in outcome.err
    xmodal("vectors", "import", source, "--index", "far", "--model", "starter")
    outcome = xmodal("vectors", "commit", "far", "--index", "joined")
    assert outcome.code == 1 and "has imported vectors" in outcome.err
    assert "joined" not in xmodal("index", "--list").out


def test_the_model_of_committed_indexes_on_another_machine(
    xmodal: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photos" / "0.png"
    path.parent.mkdir()
    Image.effect_noise((40, 30), 20).convert("RGB").save(path)
    assert xmodal("index", path.parent, "--index", "part").code == 0
    folder = find_index("part")
    with open_index(folder) as index:
        metadata = index.metadata
    with IndexWriter(folder, folder / ITEMS, metadata) as writer:
        writer.set_metadata(replace(metadata, model=replace(metadata.model, source="/far/model.safetensors")))
    outcome = xmodal("vectors", "commit", "part", "--index", "joined")
    assert outcome.code == 0 and "is not on this machine (/far/model.safetensors)" in outcome.err
    outcome = xmodal("vectors", "commit", "part", "--index", "joined", "--model", "starter")
    assert (outcome.code, "is not on this machine" in outcome.err) == (0, False)
    assert len(xmodal("search", path, "--index", "joined", "--json").json["hits"]) == 1

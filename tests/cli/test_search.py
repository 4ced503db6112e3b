"""``xmodal search`` with a toy matcher that embeds color names: hits, tables, and which index is searched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.index_fixtures import HALF
from helpers.toy_matcher import ToyMatcher, color_vector, found, install, write_photos

from xmodal_cli import paths
from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import Category
from xmodal_cli.inference import encoding
from xmodal_cli.types import Defect

Run = Callable[..., Any]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyMatcher:
    return install(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_photos(tmp_path)


def test_index_then_search(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    report = xmodal("index", photos, "--json").json
    assert (report["index"], report["model"], report["items"], report["added"]) == ("colors", "toy", 6, 6)
    outcome = xmodal("search", "a red thing", "-k", 3, "--json")
    assert outcome.json["index"] == "colors"
    assert outcome.json["query"] == ["a red thing"]
    first = outcome.json["hits"][0]
    assert first == {"rank": 1, "path": str(photos / "red.jpg"), "score": pytest.approx(1.0, abs=HALF), "duplicates": 0}
    assert found(outcome) == ["red", "red red green", "red green"]
    assert [h["rank"] for h in outcome.json["hits"]] == [1, 2, 3]


def test_plus_and_minus_terms_on_the_command_line(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    assert found(xmodal("search", "red", "-green", "--json"))[0] == "red"
    assert found(xmodal("search", "-green", "red", "-k2", "--json")) == ["red", "red red green"]
    assert found(xmodal("search", "-k", 1, "red", "+green", "--json")) == ["red green"]
    assert found(xmodal("search", "-k", 1, "--json", "red", "green^0.5"))[0] == "red red green"
    assert xmodal("search", "-hat that is red", "--json").json["query"] == ["-hat that is red"]  # not -h for help
    assert xmodal("search", "-kite", "--json").json["query"] == ["-kite"]  # not -k ite
    assert xmodal("search", "--json", "--", "-k", "--blue").json["query"] == ["- k", "- -blue"]
    assert xmodal("search", "-k", 3, "--json", "--", "-k", "--preview", "a").json["query"] == ["- k", "- -preview", "a"]
    assert xmodal("search", "-h").code == 0
    for wrong in (("--jsn",), ("red", "--index"), ("red", "-k", "many"), ()):
        assert xmodal("search", *wrong).code == 2


def test_negative_weights(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    hits = xmodal("search", "red", "-green^0.5", "--json").json["hits"]
    for hit in hits:
        image = color_vector(Path(hit["path"]).stem)
        expected = (image @ color_vector("red") - 0.5 * image @ color_vector("green")) / 1.5
        assert hit["score"] == pytest.approx(expected, abs=HALF)


def test_order_similarity_end_to_end(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    toy.similarity = "order"
    assert xmodal("index", photos, "--json").json["similarity"] == "order"
    hits = xmodal("search", "red", "--json").json["hits"]
    scores = {
        p.stem: -float((np.maximum(color_vector("red") - color_vector(p.stem), 0) ** 2).sum()) for p in photos.iterdir()
    }
    assert {Path(h["path"]).stem: h["score"] for h in hits} == pytest.approx(scores, abs=2 * HALF)
    assert hits[0]["path"] == str(photos / "red.jpg")


def test_photos_in_the_index_need_no_model(xmodal: Run, toy: ToyMatcher, photos: Path, tmp_path: Path) -> None:
    xmodal("index", photos)
    loads = toy.loads
    copy = tmp_path / "elsewhere.png"
    copy.write_text("blue")  # the same bytes under another name
    toy.gone = True
    assert found(xmodal("search", copy, "-k", 1, "--json")) == ["blue"]
    assert found(xmodal("search", f"-{photos / 'red.jpg'}", copy, "-k", 1, "--json")) == ["blue"]
    assert toy.loads == loads
    toy.gone = False
    copy.write_text("white white blue")
    assert found(xmodal("search", copy, "-k", 1, "--json")) == ["white"]
    copy.write_text("bad")
    assert "it is not an image" in xmodal("search", copy).err


def test_a_damaged_photo_as_a_query_gives_a_warning(
    xmodal: Run, toy: ToyMatcher, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def image_vectors(loaded: ToyMatcher, reader: ImageReader) -> Any:
        reader.defects += [Defect(tmp_path / "query.jpg", "the file is truncated", Category.DAMAGED)] * 2
        return loaded.embed_images

    xmodal("index", photos)
    (tmp_path / "query.jpg").write_text("red red")
    monkeypatch.setattr(encoding, "image_vectors", image_vectors)
    outcome = xmodal("search", tmp_path / "query.jpg", "--json")
    assert outcome.err.count("query.jpg: the file is truncated") == 1
    assert outcome.json["hits"]


def test_an_open_searcher_detects_an_update_of_its_index(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    from xmodal_cli.recipes.search import open_searcher

    xmodal("index", photos)
    with open_searcher("colors") as searcher:
        assert searcher.is_current()
        xmodal("index", photos)
        assert searcher.is_current()  # nothing was new
        (photos / "red blue.jpg").write_text("red blue")
        xmodal("index", photos)
        assert not searcher.is_current()
        assert len(searcher) == len(searcher.search(["red"]).hits) == 6
        shutil.rmtree(searcher.folder)
        assert searcher.is_current()  # there is no newer index


def test_the_table(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    (photos / "a[bold]\x1b[31m\nb.jpg").write_text("red")
    xmodal("index", photos)
    outcome = xmodal("search", "red", "-k", 2, "--all")
    assert outcome.code == 0
    assert "model toy (cosine)" in outcome.out
    assert r"a[bold]\x1b[31m\nb.jpg" in outcome.out  # neither markup nor control characters
    assert "\x1b" not in outcome.out  # no links off a terminal
    assert "colors/red.jpg" in outcome.out
    assert "1.0000" in outcome.out


def test_links_on_a_terminal(toy: ToyMatcher, tmp_path: Path) -> None:
    from xmodal_cli.cli.hits import format_link

    text = format_link(str(tmp_path / os.fsdecode(b"caf\xe9 1.jpg")))
    assert "\x1b]8;" in text
    assert f"file://{tmp_path}/caf%E9%201.jpg" in text


def test_names_that_are_not_utf8_in_json(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (photos / name).write_text("blue blue white")
    assert xmodal("index", photos, "--json").code == 0
    outcome = xmodal("search", "blue blue white", "-k", 1, "--json")
    outcome.out.encode("utf-8")  # the output is valid text...
    assert os.fsencode(outcome.json["hits"][0]["path"]).endswith(
        b"/caf\xe9.jpg"
    )  # ...from which the path can be restored
    assert r"caf\udce9.jpg" in xmodal("search", "blue blue white", "-k", 1).out


def test_vanished_files_are_skipped_and_reported(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    (photos / "red.jpg").unlink()
    outcome = xmodal("search", "red", "-k", 2, "--json")
    assert found(outcome) == ["red red green", "red green"]
    assert [h["rank"] for h in outcome.json["hits"]] == [1, 2]
    assert outcome.json["vanished"] == 1
    assert "xmodal index --index colors" in outcome.err


def test_out_of_vocabulary_words(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    outcome = xmodal("search", "mauve red", "-mauve", "--json")
    assert outcome.json["unknown_words"] == ["mauve"]
    assert "out-of-vocabulary words for model toy: mauve" in outcome.err
    assert "out-of-vocabulary" not in xmodal("search", "red").err


def test_k(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    assert len(found(xmodal("search", "red", "-k", 1000, "--json"))) == 6
    for k in (0, -1):
        outcome = xmodal("search", "red", "-k", k)
        assert (outcome.code, "-k must be at least 1" in outcome.err) == (1, True)


@pytest.mark.parametrize("words", [("",), ("+",), ("red", "-"), ("red^0",)])
def test_empty_queries(xmodal: Run, toy: ToyMatcher, photos: Path, words: tuple[str, ...]) -> None:
    xmodal("index", photos)
    outcome = xmodal("search", *words)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 2
    assert "hint: for example: xmodal search" in outcome.err


def test_which_index(xmodal: Run, toy: ToyMatcher, photos: Path, tmp_path: Path) -> None:
    assert "there is no index yet" in xmodal("search", "red").err
    other = tmp_path / "more" / "colors"
    other.mkdir(parents=True)
    (other / "x.jpg").write_text("white")
    xmodal("index", photos)
    assert xmodal("index", other, "--json").json["index"] == "colors-2"  # another folder of the same name
    assert xmodal("search", "red", "--json").json["index"] == "colors-2"  # the one built last
    assert xmodal("index", photos / "red.jpg", "--json").json["index"] == "colors"  # inside the first one's folder
    assert xmodal("search", "red", "--json").json["index"] == "colors"
    outcome = xmodal("search", "red", "--index", "colrs")
    assert (outcome.code, "did you mean 'colors'?" in outcome.err) == (1, True)
    folder = tmp_path / "here" / "idx"
    assert xmodal("index", photos, "--index", folder, "--json").json["folder"] == str(folder)
    assert found(xmodal("search", "green", "-k", 1, "--index", folder, "--json")) == ["green"]
    assert "no index at" in xmodal("search", "green", "--index", tmp_path / "none").err
    assert "cannot be the name" in xmodal("index", photos, "--index", ".x").err
    assert xmodal("index").code == 1
    assert xmodal("index", "--index", "nothing").code == 1


def test_an_unreadable_default_index(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos, "--index", "one")
    xmodal("index", photos, "--index", "two")
    (paths.indexes_dir() / ".last.json").write_text("[")
    assert "--index: one, two" in xmodal("search", "red").err

"""``xmodal index`` and ``xmodal search`` with a toy matcher that embeds color names."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.index_fixtures import HALF

from xmodal_cli import paths
from xmodal_cli.data.images import ImageReader
from xmodal_cli.device import Compute
from xmodal_cli.errors import Category, MissingData
from xmodal_cli.inference import encoding, index_models, matchers, models, photo_vectors
from xmodal_cli.types import Defect, FeatureMeta, Unreadable

COLORS = ("red", "green", "blue", "white")


def _vector(text: str) -> np.ndarray:
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
        return np.stack([_vector(s) for s in sentences])

    def embed_images(self, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        for path in files:
            content = path.read_bytes()
            yield path, Unreadable(path, "it is not an image") if b"bad" in content else _vector(content.decode())


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyMatcher:
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
    monkeypatch.setattr(photo_vectors, "choose_runtime", lambda compute, num_images: "torch")
    return matcher


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "colors"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("red", "green", "blue", "red green", "red red green", "white"):
        (folder / f"{name}.jpg").write_text(name)
    return folder


Run = Callable[..., Any]


def _found(outcome: Any) -> list[str]:
    assert outcome.code == 0, outcome.err
    return [Path(hit["path"]).stem for hit in outcome.json["hits"]]


def test_index_then_search(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    report = xmodal("index", photos, "--json").json
    assert (report["index"], report["model"], report["items"], report["added"]) == ("colors", "toy", 6, 6)
    outcome = xmodal("search", "a red thing", "-k", 3, "--json")
    assert outcome.json["index"] == "colors"
    assert outcome.json["query"] == ["a red thing"]
    first = outcome.json["hits"][0]
    assert first == {"rank": 1, "path": str(photos / "red.jpg"), "score": pytest.approx(1.0, abs=HALF), "duplicates": 0}
    assert _found(outcome) == ["red", "red red green", "red green"]
    assert [h["rank"] for h in outcome.json["hits"]] == [1, 2, 3]


def test_plus_and_minus_terms_on_the_command_line(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    assert _found(xmodal("search", "red", "-green", "--json"))[0] == "red"
    assert _found(xmodal("search", "-green", "red", "-k2", "--json")) == ["red", "red red green"]
    assert _found(xmodal("search", "-k", 1, "red", "+green", "--json")) == ["red green"]
    assert _found(xmodal("search", "-k", 1, "--json", "red", "green^0.5"))[0] == "red red green"
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
        image = _vector(Path(hit["path"]).stem)
        assert hit["score"] == pytest.approx((image @ _vector("red") - 0.5 * image @ _vector("green")) / 1.5, abs=HALF)


def test_order_similarity_end_to_end(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    toy.similarity = "order"
    assert xmodal("index", photos, "--json").json["similarity"] == "order"
    hits = xmodal("search", "red", "--json").json["hits"]
    scores = {p.stem: -float((np.maximum(_vector("red") - _vector(p.stem), 0) ** 2).sum()) for p in photos.iterdir()}
    assert {Path(h["path"]).stem: h["score"] for h in hits} == pytest.approx(scores, abs=2 * HALF)
    assert hits[0]["path"] == str(photos / "red.jpg")


def test_photos_in_the_index_need_no_model(xmodal: Run, toy: ToyMatcher, photos: Path, tmp_path: Path) -> None:
    xmodal("index", photos)
    loads = toy.loads
    copy = tmp_path / "elsewhere.png"
    copy.write_text("blue")  # the same bytes under another name
    toy.gone = True
    assert _found(xmodal("search", copy, "-k", 1, "--json")) == ["blue"]
    assert _found(xmodal("search", f"-{photos / 'red.jpg'}", copy, "-k", 1, "--json")) == ["blue"]
    assert toy.loads == loads
    toy.gone = False
    copy.write_text("white white blue")
    assert _found(xmodal("search", copy, "-k", 1, "--json")) == ["white"]
    copy.write_text("bad")
    assert "it is not an image" in xmodal("search", copy).err


def test_running_index_again_loads_no_model(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    again = xmodal("index", photos, "--json").json
    assert (again["unchanged"], again["computed"], toy.loads) == (6, 0, 1)
    (photos / "red.jpg").unlink()
    assert xmodal("index", "--index", "colors", "--json").json["removed"] == 1  # without PATH: the folders of the index


def test_unreadable_files_are_counted_and_listed(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    (photos / "no.jpg").write_text("bad")
    outcome = xmodal("index", photos)
    assert "left out: 1 file (1 damaged)" in outcome.out
    assert "no.jpg: it is not an image" in outcome.out
    assert "model toy" in outcome.out
    result = xmodal("index", photos, "--json").json
    assert result["unreadable"] == [{"path": str(photos / "no.jpg"), "reason": "it is not an image"}]
    assert (result["left_out"]["total"], result["left_out"]["counts"]) == (1, {"damaged": 1})


def test_damaged_photos_that_are_used_are_listed(
    xmodal: Run, toy: ToyMatcher, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def image_vectors(loaded: ToyMatcher, reader: ImageReader) -> Any:
        reader.defects.append(Defect(photos / "red.jpg", "the file is truncated", Category.DAMAGED))
        return loaded.embed_images

    monkeypatch.setattr(encoding, "image_vectors", image_vectors)
    outcome = xmodal("index", photos)
    assert "used with defects: 1 file (1 damaged)" in outcome.out
    assert "red.jpg: the file is truncated" in outcome.out
    found = xmodal("index", photos, "--rebuild", "--json").json["defects"]
    assert (found["total"], found["counts"], found["files"][0]["path"]) == (1, {"damaged": 1}, str(photos / "red.jpg"))


def test_an_index_of_an_earlier_version_of_decoding(
    xmodal: Run, toy: ToyMatcher, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmodal_cli.retrieval import vector_versions

    num_red = sum("red" in path.name for path in photos.rglob("*.jpg"))
    monkeypatch.setattr(vector_versions, "compare_decoding", lambda path, version: "red" not in path.name)
    path = paths.indexes_dir() / "colors" / "items.sqlite"

    def make_old() -> None:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE meta SET value = '\"rgb-1\"' WHERE key = 'decoding'")
            database.execute("UPDATE items SET decoding = 'rgb-1'")

    report = xmodal("index", photos, "--json").json
    reason = "since version srgb-2 of decoding, color profiles are converted to sRGB"
    assert (report["decoding"], report["recomputed"]) == ("srgb-2", {"photos": 0, "reason": None, "not_compared": 0})
    before = xmodal("search", "red", "--json").json["hits"]
    make_old()
    assert xmodal("search", "red", "--json").json["hits"] == before
    assert f"embedded again: {num_red} photos; {reason}" in xmodal("index", photos).out
    make_old()
    report = xmodal("index", photos, "--json").json
    assert report["recomputed"] == {"photos": num_red, "reason": reason, "not_compared": 0}
    assert report["computed"] == num_red
    assert "embedded again" not in xmodal("index", photos).out
    (photos.parent / "white.jpg").write_text("white white")
    xmodal("index", photos, photos.parent / "white.jpg", "--index", "colors")
    make_old()
    outcome = xmodal("index", photos, "--index", "colors")
    assert "not compared: 1 photos; their vectors are of an earlier version of decoding" in outcome.out


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
    assert _found(outcome) == ["red red green", "red green"]
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
    assert len(_found(xmodal("search", "red", "-k", 1000, "--json"))) == 6
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
    assert _found(xmodal("search", "green", "-k", 1, "--index", folder, "--json")) == ["green"]
    assert "no index at" in xmodal("search", "green", "--index", tmp_path / "none").err
    assert "cannot be the name" in xmodal("index", photos, "--index", ".x").err
    assert xmodal("index").code == 1
    assert xmodal("index", "--index", "nothing").code == 1


def test_an_unreadable_default_index(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos, "--index", "one")
    xmodal("index", photos, "--index", "two")
    (paths.indexes_dir() / ".last.json").write_text("[")
    assert "--index: one, two" in xmodal("search", "red").err


def test_changed_and_missing_models(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    toy.fingerprint = "2" * 64  # the run was trained again
    outcome = xmodal("search", "red")
    assert outcome.code == 1
    assert "another version of toy (11111111; " in outcome.err
    assert "--rebuild" in outcome.err
    outcome = xmodal("index", photos)
    assert "not by toy (22222222)" in outcome.err
    assert xmodal("index", photos, "--rebuild").code == 0
    assert xmodal("search", "red").code == 0
    toy.gone = True
    outcome = xmodal("search", "red")
    assert "the model toy of the index 'colors' does not exist at /models/toy.safetensors" in outcome.err
    assert xmodal("index", photos).code == 0  # nothing to compute
    (photos / "new.jpg").write_text("green white")
    assert "no model file" in xmodal("index", photos).err


def test_models_that_are_not_matchers(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    toy.kind = "captioner"
    assert "is a captioner, not a matcher" in xmodal("index", photos, "--model", "x").err


@pytest.mark.parametrize(
    ("make", "reason"), [("", "no files at all"), ("a.txt", "only 1 files of other kinds"), (None, "no such file")]
)
def test_folders_without_photos(xmodal: Run, tmp_path: Path, make: str | None, reason: str) -> None:
    folder = tmp_path / "f"
    if make is not None:
        folder.mkdir()
    if make:
        (folder / make).write_text("x")
    outcome = xmodal("index", folder)
    assert outcome.code == 1
    assert reason in outcome.err
    assert "\nhint: " in outcome.err


def test_a_second_run_imports_no_torch(xmodal: Run, toy: ToyMatcher, photos: Path, home: Path) -> None:
    xmodal("index", photos)
    code = (
        "import sys, types; from xmodal_cli.__main__ import main\n"
        "from xmodal_cli.inference import models; from xmodal_cli.errors import MissingData\n"
        "def gone(what): raise MissingData('gone')\n"
        "models.describe_model = gone\n"
        f"assert main(['index', {str(photos)!r}, '--json']) == 0\n"
        f"assert main(['search', {str(photos / 'red.jpg')!r}, '--json']) == 0\n"
        "assert not {'torch', 'transformers', 'open_clip', 'timm'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout[: done.stdout.index("}\n{") + 1])["unchanged"] == 6

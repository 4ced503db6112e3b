"""``xmodal caption --nearest``: captions of the training set, with a matcher of colors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.toy_captioner import COLORS, paint
from PIL import Image

from xmodal_cli import paths
from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.device import Compute
from xmodal_cli.inference import nearest, training_vectors
from xmodal_cli.types import Unreadable

Run = Callable[..., Any]
NAMES = list(COLORS)


def image_vector(path: Path) -> np.ndarray:
    """(4,): 3 times the fraction of each color, since image vectors need not have unit length."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    return np.array([3 * (abs(pixels - COLORS[name]).sum(1) < 100).mean() for name in NAMES], np.float32)


def text_vector(text: str) -> np.ndarray:
    vector = np.array([float(text.split().count(name)) for name in NAMES], np.float32) + 1e-3
    return vector / np.linalg.norm(vector)


@dataclass
class ToyMatcher:
    """The part of a LoadedMatcher that --nearest uses; ``embedded`` has the number of training images per call."""

    similarity: str = "cosine"
    name: str = "colors"
    fingerprint: str = "1" * 64
    dataset: dict[str, Any] = field(default_factory=dict)
    compute: Compute = Compute("cpu", "fp32", "onnx")
    embedded: list[int] = field(default_factory=list)
    num_texts: list[int] = field(default_factory=list)

    @property
    def info(self) -> Any:
        header = SimpleNamespace(dataset=self.dataset, features_from=None)
        return SimpleNamespace(header=header, fingerprint=self.fingerprint, similarity=self.similarity)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.num_texts.append(len(texts))
        return np.stack([text_vector(text) for text in texts])

    def embed_files(self, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        for path in files:
            try:
                yield path, image_vector(path)
            except OSError:
                yield path, Unreadable(path, "not an image")


@pytest.fixture
def toy(tmp_path: Path, xmodal: Run, monkeypatch: pytest.MonkeyPatch) -> ToyMatcher:
    """A matcher that was trained on the dataset ``halves``; its test image must never be used."""
    monkeypatch.chdir(tmp_path)
    for left in NAMES:
        for right in NAMES:
            photo = paint(tmp_path / "halves" / "train" / f"{left}-{right}.png", left, right)
            photo.with_suffix(".txt").write_text(f"{left} beside {right}\na {left} {left} {right} flag\n")
    paint(tmp_path / "halves" / "test" / "x.png", "red").with_suffix(".txt").write_text("a red test\n")
    assert xmodal("data", "add", "halves", tmp_path / "halves").code == 0
    matcher = ToyMatcher()
    matcher.dataset = {"name": "halves", "splits": ["train"], "fingerprint": fingerprint(load_dataset("halves"))}

    def embed_images(loaded: Any, part: Any, reporter: Any) -> Any:
        loaded.embedded.append(len(part.examples))
        readable = tuple(e for e in part.examples if e.image_id != "train/blue-blue.png")
        return replace(part, examples=readable), np.stack([image_vector(e.path) for e in readable])

    monkeypatch.setattr(nearest, "describe_as", lambda kind, name, hint: matcher.info)
    monkeypatch.setattr(nearest, "open_matcher", lambda *_: matcher)
    monkeypatch.setattr(nearest, "image_vectors", lambda loaded, reader=None: loaded.embed_files)
    monkeypatch.setattr(training_vectors, "embed_images", embed_images)
    monkeypatch.setattr(nearest, "default_model", lambda kind: f"/runs/{kind}")
    return matcher


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ((), "32 captions of halves"),
        (("--set", "nearest.images=10"), "the captions of the nearest 10 of 15 images of halves"),
    ],
)
def test_the_best_captions_come_first(
    xmodal: Run, toy: ToyMatcher, tmp_path: Path, options: tuple[Any, ...], source: str
) -> None:
    paint(tmp_path / "a.png", "white", "green")
    outcome = xmodal("caption", "a.png", "--nearest", *options, "--num", 3, "--json")
    assert outcome.code == 0
    assert f"captions by colors, from {source}" in outcome.err
    captions = outcome.json[0]["captions"]
    assert {c["text"] for c in captions[:2]} == {"white beside green", "green beside white"}
    expected = [float(image_vector(tmp_path / "a.png") @ text_vector(c["text"])) for c in captions]
    assert [c["score"] for c in captions] == pytest.approx(expected, abs=1e-5)
    assert expected == sorted(expected, reverse=True)


@pytest.mark.parametrize("similarity", ["cosine", "order"])
@pytest.mark.parametrize("num_images", [None, 1, 10])
def test_captions_equal_an_exhaustive_search(
    xmodal: Run, toy: ToyMatcher, tmp_path: Path, similarity: str, num_images: int | None
) -> None:
    toy.similarity = similarity
    option = () if num_images is None else ("--set", f"nearest.images={num_images}")
    photos = [paint(tmp_path / "p" / f"{n}.png", *pair) for n, pair in enumerate([("red", "blue"), ("green", "green")])]
    for num in (1, 4, 100):
        results = xmodal("caption", "p", "--nearest", *option, "--num", num, "--json").json
        for photo, entry in zip(photos, results, strict=True):
            vector, train = image_vector(photo), sorted((tmp_path / "halves/train").glob("*.png"))
            if num_images is not None:
                readable = [file for file in train if file.stem != "blue-blue"]
                near = [float(vector @ v / np.linalg.norm(v)) for v in map(image_vector, readable)]
                train = [readable[n] for n in np.argsort(-np.array(near), kind="stable")[:num_images]]
            texts = list(dict.fromkeys(t for file in train for t in file.with_suffix(".txt").read_text().splitlines()))
            ranked = sorted(texts, key=lambda text: -score(similarity, vector, text_vector(text)))
            scores = [score(similarity, vector, text_vector(text)) for text in ranked]
            assert [c["score"] for c in entry["captions"]] == pytest.approx(scores[:num], abs=1e-5)
            assert {c["text"] for c in entry["captions"]} <= set(texts)


def test_a_better_caption_of_an_image_that_is_not_near_is_found(xmodal: Run, toy: ToyMatcher, tmp_path: Path) -> None:
    """The nearest images are red and have a caption of another color; the best caption belongs to a blue image."""
    for name, caption in (("red-red", "a green flag"), ("blue-blue", "red red red")):
        (tmp_path / "halves" / "train" / f"{name}.txt").write_text(f"{caption}\n")
    for left, right in ((a, b) for a in NAMES for b in NAMES):
        if left != right:
            (tmp_path / "halves" / "train" / f"{left}-{right}.txt").write_text("a green flag\n")
    paint(tmp_path / "a.png", "red")
    assert xmodal("caption", "a.png", "--nearest").out == "a.png\tred red red\n"
    assert xmodal("caption", "a.png", "--nearest", "--set", "nearest.images=3").out == "a.png\ta green flag\n"


def test_captions_that_occur_twice_are_returned_once(xmodal: Run, toy: ToyMatcher, tmp_path: Path) -> None:
    for file in (tmp_path / "halves" / "train").glob("*.txt"):
        file.write_text("a red flag\na blue flag\n")
    paint(tmp_path / "a.png", "red")
    captions = xmodal("caption", "a.png", "--nearest", "--num", 5, "--json").json[0]["captions"]
    assert [c["text"] for c in captions] == ["a red flag", "a blue flag"]


def score(similarity: str, image: np.ndarray, text: np.ndarray) -> float:
    return float(image @ text) if similarity == "cosine" else -float((np.maximum(0, text - image) ** 2).sum())


@pytest.mark.parametrize("option", [(), ("--set", "nearest.images=10")])
def test_the_training_set_is_encoded_once(xmodal: Run, toy: ToyMatcher, tmp_path: Path, option: Any) -> None:
    paint(tmp_path / "a.png", "white", "green")

    def encoded() -> int:
        """How often the images, or all captions, were encoded."""
        return len(toy.embedded) if option else toy.num_texts.count(32)

    first = xmodal("caption", "a.png", "--nearest", *option).out
    assert xmodal("caption", "a.png", "--nearest", *option).out == first
    assert encoded() == 1
    (cached,) = (paths.cache_dir() / "nearest").iterdir()
    cached.write_bytes(cached.read_bytes()[:100])
    assert xmodal("caption", "a.png", "--nearest", *option).out == first  # a damaged cache is computed again
    toy.fingerprint = "2" * 64
    assert xmodal("caption", "a.png", "--nearest", *option).out == first
    assert encoded() == 3


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ("nearest.images=0", 1, "nearest.images must be a number of images, not '0'"),
        ("nearest.images=ten", 1, "nearest.images must be a number of images, not 'ten'"),
        ("decoding.beam=3", 2, "not allowed with --nearest, except nearest.images=N"),
    ],
)
def test_invalid_settings_are_errors(
    xmodal: Run, toy: ToyMatcher, tmp_path: Path, setting: str, code: int, message: str
) -> None:
    photo = paint(tmp_path / "a.png", "red")
    outcome = xmodal("caption", photo, "--nearest", "--set", setting)
    assert (outcome.code, message in outcome.err) == (code, True)
    assert xmodal("caption", photo, "--set", "nearest.images=3").code == 1


def test_unreadable_files_are_skipped_with_a_warning(xmodal: Run, toy: ToyMatcher, tmp_path: Path) -> None:
    paint(tmp_path / "p" / "a.png", "red")
    (tmp_path / "p" / "b.png").write_text("text")
    outcome = xmodal("caption", "p", "--nearest", "--write", "txt")
    assert outcome.code == 0
    assert outcome.out.count("\n") == 1
    assert "warning: p/b.png: not an image" in outcome.err
    assert (tmp_path / "p" / "a.txt").is_file()


def test_missing_changed_and_unknown_datasets(xmodal: Run, toy: ToyMatcher, tmp_path: Path) -> None:
    paint(tmp_path / "a.png", "red")
    toy.dataset["fingerprint"] = "0"
    assert "has changed since colors was trained" in xmodal("caption", "a.png", "--nearest").err
    toy.dataset["name"] = "halvs"
    outcome = xmodal("caption", "a.png", "--nearest")
    assert outcome.code == 1
    assert "colors was trained on halvs, which is not available" in outcome.err
    assert "hint: register it: xmodal data add halvs PATH" in outcome.err
    toy.dataset["name"] = "my halves"  # a folder, which no registered name can have
    assert "hint: run this command in the folder that contains my halves" in xmodal("caption", "a.png", "--nearest").err
    toy.dataset.clear()
    assert "the training dataset of colors is unknown" in xmodal("caption", "a.png", "--nearest").err


def test_two_matchers_are_an_error(xmodal: Run, toy: ToyMatcher, tmp_path: Path) -> None:
    paint(tmp_path / "a.png", "red")
    outcome = xmodal("caption", "a.png", "--nearest", "--model", "a", "--model", "b")
    assert (outcome.code, "accepts exactly one matcher" in outcome.err) == (1, True)


def test_the_bundled_matcher_needs_its_dataset(xmodal: Run, tmp_path: Path) -> None:
    photo = paint(tmp_path / "a.png", "red")
    outcome = xmodal("caption", photo, "--nearest")
    assert outcome.code == 1
    assert "error: starter was trained on f8k, which is not available" in outcome.err
    assert "hint: register it: xmodal data add f8k PATH" in outcome.err

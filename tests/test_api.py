"""The Python API: its names, what importing it loads, its arrays, and the examples of ``docs/python.md``."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xmodal_cli as xmodal
from xmodal_cli import api, errors
from xmodal_cli.argument_types import check_arguments
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.evaluation.scoring import RetrievalResult

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


def test_the_package_has_the_names_of_the_api() -> None:
    assert xmodal.__all__ == sorted(xmodal.__all__)
    for name in xmodal.__all__:
        assert getattr(xmodal, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xmodal.nothing  # noqa: B018


def test_every_error_is_exported() -> None:
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.XmodalError)
    }
    assert kinds <= set(xmodal.__all__)


def test_every_name_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {name for name in xmodal.__all__ if name not in text} <= {"__version__"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, json, xmodal_cli as xmodal; names = dir(xmodal)\n"
        "heavy = [m for m in ('torch', 'numpy', 'typer', 'PIL', 'xmodal_cli.api') if m in sys.modules]\n"
        "xmodal.load; later = [m for m in ('torch', 'typer', 'faiss', 'transformers') if m in sys.modules]\n"
        "print(json.dumps([heavy, later, 'load' in names]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], [], True]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three images, one of which has to be turned."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number, size in enumerate([(80, 60), (50, 90), (64, 64)]):
        image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).resize(size)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 1 else 1
        image.save(folder / f"{number}.png", exif=exif)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module", params=["torch", "onnx"])
def matcher(request: pytest.FixtureRequest) -> xmodal.MatcherModel:
    model = xmodal.load("starter", device="cpu", precision="fp32", runtime=request.param)
    assert isinstance(model, xmodal.MatcherModel)
    return model


def test_paths_and_images_in_memory_have_the_same_vectors(matcher: xmodal.MatcherModel, photos: list[Path]) -> None:
    vectors = matcher.encode_image([str(photos[0]), *photos[1:]])
    assert vectors.shape == (3, matcher.embed_dim) and vectors.dtype == np.float32
    for photo, vector in zip(photos, vectors, strict=True):
        with Image.open(photo) as image:
            np.testing.assert_allclose(matcher.encode_image(image)[0], vector, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


def test_similarity_is_that_of_the_model(matcher: xmodal.MatcherModel, photos: list[Path]) -> None:
    images, texts = matcher.encode_image(photos), matcher.encode_text(["two dogs", "a red car", "snow"])
    scores = matcher.similarity(images, texts[:2])
    assert scores.shape == (3, 2)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (images, texts[:2])]
    np.testing.assert_allclose(scores, unit[0] @ unit[1].T, atol=1e-5)
    np.testing.assert_allclose(matcher.encode_text("snow"), texts[2:], atol=1e-5)


def test_a_damaged_image_gives_a_warning(matcher: xmodal.MatcherModel, photos: list[Path], tmp_path: Path) -> None:
    with Image.open(photos[0]) as image:
        image.save(tmp_path / "plain.png")
        image.save(tmp_path / "damaged.png", icc_profile=b"not a profile")
    with pytest.warns(UserWarning, match=r"damaged\.png: its color profile is ignored") as warned:
        vectors = matcher.encode_image([tmp_path / "plain.png", tmp_path / "damaged.png"])
    assert len(warned) == 1
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_unreadable_images_raise_or_are_left_out(
    matcher: xmodal.MatcherModel, photos: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not an image")
    with pytest.raises(xmodal.BadData, match=r"bad\.jpg"):
        matcher.encode_image([photos[0], bad])
    with pytest.warns(UserWarning, match=r"bad\.jpg"):
        kept = matcher.encode_image([photos[0], bad, photos[2]], on_error="skip")
    np.testing.assert_array_equal(kept, matcher.encode_image([photos[0], photos[2]]))
    with pytest.warns(UserWarning, match=r"bad\.jpg"):
        assert matcher.encode_image([bad], on_error="skip").shape == (0, matcher.embed_dim)
    assert matcher.encode_image([]).shape == (0, matcher.embed_dim)
    with pytest.raises(xmodal.ConfigError, match="on_error"):
        matcher.encode_image(photos, on_error="ignore")
    with pytest.raises(xmodal.ConfigError, match="images must be a path"):
        matcher.encode_image([3])  # type: ignore[list-item]
    with pytest.raises(xmodal.ConfigError, match="images must be paths or PIL images, not int"):
        matcher.encode_image(iter([3]))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [3, None, b"photos", "a\0b", 1.5])
def test_what_is_not_a_path_is_an_error(home: Path, path: Any) -> None:
    for call in (lambda: xmodal.index([path]), lambda: xmodal.train("vse", "shapes", check_photos=path or "a\0b")):
        with pytest.raises(xmodal.ConfigError, match=r"^(folders|check_photos) must be a path \(str or pathlib.Path\)"):
            call()


FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *(api.load, api.load_dataset, api.extract_features, api.train, api.evaluate, api.index, api.search, api.open_index),
    *(api.caption, api.PhotoIndex.search, api.MatcherModel.encode_text, api.MatcherModel.encode_image),
    *(api.MatcherModel.similarity, api.CaptionerModel.caption, api.TaggerModel.tag),
)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_an_argument_of_another_type_is_an_error_with_its_name(home: Path, function: Callable[..., Any]) -> None:
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    fine = {"folders": [], "terms": "a", "images": "a.jpg", "sentences": "a", "models": "a", "model": "a", "data": "a"}
    fine |= {"name": "a", "image_vectors": np.zeros(1), "text_vectors": np.zeros(1)}
    required = {n for n, p in inspect.signature(function).parameters.items() if p.default is p.empty and n != "self"}
    for name in names:
        given = {other: fine[other] for other in required} | {name: object()}
        own = (None,) if "self" in inspect.signature(function).parameters else ()
        with pytest.raises(xmodal.ConfigError, match=rf"^{name} must be .*, not <object") as error:
            function(*own, **given)
        assert function.__qualname__ in error.value.hint


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: xmodal.load_dataset(None), "data must be a path (str or pathlib.Path), not None"),  # type: ignore[arg-type]
        (lambda: xmodal.load_dataset("a\0b"), "data must be a path (str or pathlib.Path), not 'a\\x00b'"),
        (lambda: xmodal.load_dataset("shapes", 3), "split must be a str or None, not 3"),  # type: ignore[arg-type]
        (lambda: xmodal.search("dog", k="5"), "k must be a whole number, not '5'"),  # type: ignore[arg-type]
        (lambda: xmodal.index("a", exclude="b"), "exclude must be a list of str, not 'b'"),
        (lambda: xmodal.evaluate("a", folds=True, top_k=[1.5]), "folds must be a whole number, not True"),  # type: ignore[list-item]
        (lambda: xmodal.train("vse", settings={1: 2}), "settings must be a dict with str keys or None"),  # type: ignore[dict-item]
        (
            lambda: xmodal.caption(None),
            "images must be a path (str or pathlib.Path), a PIL image or a list",
        ),  # type: ignore[arg-type]
    ],
)
def test_the_message_names_the_expected_type(home: Path, call: Callable[[], Any], message: str) -> None:
    with pytest.raises(xmodal.ConfigError) as error:
        call()
    assert error.value.message.startswith(message)


def test_numbers_of_numpy_and_iterators_are_accepted() -> None:
    given = {
        "terms": (word for word in ("a", "b")),
        "k": np.int64(3),
        "fold": np.bool_(True),
        "threshold": np.float32(0),
    }
    check_arguments(api.PhotoIndex.search, given)
    assert list(given["terms"]) == ["a", "b"]  # type: ignore[call-overload]


def test_an_empty_path_is_not_the_current_folder(home: Path) -> None:
    for call in (
        lambda: xmodal.index([""]),
        lambda: xmodal.train("vse", "shapes", out=""),
        lambda: xmodal.load(""),
        lambda: xmodal.load("starter").encode_image([""]),
    ):
        with pytest.raises(xmodal.XmodalError, match="is empty"):
            call()


def test_both_runtimes_give_the_same_vectors(photos: list[Path]) -> None:
    models = [xmodal.load("starter", device="cpu", precision="fp32", runtime=runtime) for runtime in ("torch", "onnx")]
    for one, other in ([m.encode_image(photos) for m in models], [m.encode_text("two dogs") for m in models]):
        assert ((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).min() > 0.9999


def test_a_model_that_needs_torch_is_an_error_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    from helpers.tag_fixtures import write_tagger

    from xmodal_cli.inference.models import describe_model

    monkeypatch.setattr("xmodal_cli.inference.runtime.has_torch", lambda: False)
    tagger = write_tagger(tmp_path / "words.safetensors", describe_model("starter-captioner").meta, ("dog", "cat"))
    with pytest.raises(xmodal.Unavailable, match="torch") as error:
        xmodal.load(tagger)
    assert "docs/install.md" in error.value.hint
    with pytest.raises(xmodal.Unavailable, match="torch"):
        xmodal.load("starter", device="cuda")
    assert isinstance(xmodal.load("starter-captioner"), xmodal.CaptionerModel)


def test_an_index_by_either_runtime_has_the_same_scores(photos: list[Path], home: Path) -> None:
    scores = []
    for runtime in ("torch", "onnx"):
        xmodal.index(photos[0].parent, runtime, device="cpu", precision="fp32", runtime=runtime)
        with xmodal.open_index(runtime, runtime=runtime) as index:
            scores.append({hit.path: hit.score for hit in index.search("colorful noise").hits})
    assert scores[0] == pytest.approx(scores[1], abs=1e-3) and len(scores[0]) == len(photos)
    with pytest.raises(xmodal.UnknownName, match="onxx"):
        xmodal.index(photos[0].parent, "other", runtime="onxx")


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_captions_are_those_of_the_command(photos: list[Path], xmodal_command, runtime: str) -> None:
    captioner = xmodal.load("starter-captioner", device="cpu", precision="fp32", runtime=runtime)
    assert isinstance(captioner, xmodal.CaptionerModel)
    with Image.open(photos[1]) as image:
        results = captioner.caption([photos[0], image], beam=3, num=2)
    assert [result.path for result in results] == [str(photos[0]), "<image 1>"]
    printed = xmodal_command(
        "caption", *photos[:2], "--beam", 3, "--num", 2, "--device", "cpu", "--precision", "fp32", "--json"
    ).json
    for result, entry in zip(results, printed, strict=True):
        assert result.text == entry["captions"][0]["text"]
        assert [c.text for c in result.captions] == [c["text"] for c in entry["captions"]]
        assert [c.score for c in result.captions] == pytest.approx([c["score"] for c in entry["captions"]], abs=1e-4)
    assert xmodal.to_json(results[0]).keys() == printed[0].keys()
    with pytest.raises(xmodal.ConfigError, match="beam"):
        captioner.caption(photos[:1], beam=0)


@pytest.fixture
def xmodal_command(request: pytest.FixtureRequest):
    """The fixture ``xmodal`` of the command line, whose name is the package's here."""
    return request.getfixturevalue("xmodal")


@pytest.mark.parametrize("value", [True, 3, 0.5, "gru", ["train", "restval"], {"word_dim": 24, "dropout": 0.1}])
def test_settings_are_read_as_they_were_given(value: object) -> None:
    from xmodal_cli.config.loading import _parse_value

    assert _parse_value(api._toml(value)) == value


def test_options_of_evaluate(trained: Path, planted: Path, tmp_path: Path) -> None:
    result = xmodal.evaluate(trained, planted, top_k=[20, 1], device="cpu", precision="fp32")
    assert isinstance(result, RetrievalResult)
    recalls = [name for name in result.text_to_image if name.startswith("R@")]
    assert recalls == ["R@20", "R@1"]
    assert result.text_to_image["R@20"] > result.text_to_image["R@1"]
    for cut_offs in ([0], [], [1.5], ["5"]):
        with pytest.raises(errors.ConfigError, match=r"cut-offs|top_k must be a list of whole numbers"):
            xmodal.evaluate(trained, planted, top_k=cut_offs)  # type: ignore[arg-type]
    with pytest.raises(errors.ConfigError, match="decoding applies only to captioners"):
        xmodal.evaluate(trained, planted, decoding={"beam": 2})
    file = tmp_path / "captions.json"
    file.write_text("[]")
    with pytest.raises(errors.ConfigError, match="--top-k applies only to matchers"):
        xmodal.evaluate(file, planted, top_k=[1])


@pytest.mark.slow
def test_the_examples_on_the_page_run(tmp_path: Path, photos: list[Path]) -> None:
    """All Python blocks of the page, in order, in one process, with a small dataset called f8k."""
    make_shapes(tmp_path / "f8k", 0, 40, 10, 10)
    (tmp_path / "photos").mkdir()
    for name, photo in zip(("beach", "dogs"), photos, strict=False):
        for folder in (tmp_path, tmp_path / "photos"):
            Image.open(photo).convert("RGB").save(folder / f"{name}.jpg")
    environment = {**os.environ, "XMODAL_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": "ignore::UserWarning"}
    add = [sys.executable, "-m", "xmodal_cli", "data", "add", "f8k", str(tmp_path / "f8k")]
    subprocess.run(add, check=True, env=environment, capture_output=True)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) >= 8
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "did you mean 'starter'?" in done.stdout
    assert "(2, 2) 1024" in done.stdout


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("starter", {"beam": 3}, "--beam applies only to captioners"),
        ("starter-captioner", {"folds": 2}, "--folds applies only to matchers"),
    ],
)
def test_options_of_other_models_are_refused(home, model, options, message):
    with pytest.raises(xmodal.ConfigError, match=message):
        xmodal.evaluate(model, "f8k", **options)


def test_training_checks_photos_only_against_a_declared_backbone(tmp_path):
    with pytest.raises(xmodal.ConfigError, match="needs a declared backbone"):
        xmodal.train("demo", "shapes", out=tmp_path / "run", check_photos=tmp_path)

"""Re-ranking of captions by a matcher, compared with the scores of both models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.error_checks import check_error

import xmodal_cli as xmodal
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.caption_types import Caption, override_decoding
from xmodal_cli.inference.captioners import load_captioner
from xmodal_cli.inference.dataset_captions import caption_dataset
from xmodal_cli.inference.hf_captioner import generate_arguments
from xmodal_cli.inference.reranking import Reranker
from xmodal_cli.reporter import SILENT
from xmodal_cli.types import Decoding

SETTINGS = {"rerank": "starter", "rerank_weight": 2.0}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=2, num_val=2, num_test=5)


@pytest.fixture(scope="module")
def images(shapes: Path) -> list[Path]:
    part = select_captioned(load_dataset(str(shapes)), "test")
    return [example.path for example in part.examples if example.path is not None]


def expected_captions(images: list[Path], **options: Any) -> list[list[tuple[str, float]]]:
    """All captions of the beam, sorted by score + 2 x cosine."""
    captioner, matcher = xmodal.load("starter-captioner", **options), xmodal.load("starter", **options)
    assert isinstance(captioner, xmodal.CaptionerModel) and isinstance(matcher, xmodal.MatcherModel)
    results = []
    for image, found in zip(images, captioner.caption(images, beam=4, num=4), strict=True):
        texts = [caption.text for caption in found.captions]
        (cosines,) = matcher.encode_image(image) @ matcher.encode_text(texts).T
        scored = [(c.text, c.score + 2 * float(cosine)) for c, cosine in zip(found.captions, cosines, strict=True)]
        results.append(sorted(scored, key=lambda pair: -pair[1]))
    return results


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_score_is_that_of_the_search_plus_the_weighted_similarity(images: list[Path], runtime: str) -> None:
    expected = expected_captions(images, runtime=runtime, device="cpu", precision="fp32")
    captioner = xmodal.load("starter-captioner", runtime=runtime, device="cpu", precision="fp32")
    assert isinstance(captioner, xmodal.CaptionerModel)
    actual = captioner.caption(images, beam=4, num=2, decoding=SETTINGS)
    for found, wanted in zip(actual, expected, strict=True):
        assert [caption.text for caption in found.captions] == [text for text, _ in wanted[:2]]
        np.testing.assert_allclose([c.score for c in found.captions], [score for _, score in wanted[:2]], atol=1e-4)
    plain = captioner.caption(images, beam=4)
    assert [found.text for found in plain] != [found.text for found in actual]


def test_captions_of_a_dataset_are_those_of_its_images(shapes: Path, images: list[Path]) -> None:
    captioner = load_captioner("starter-captioner", Compute("cpu", "fp32"))
    settings = override_decoding(
        captioner.decoding, ["decoding.beam=4", *(f"decoding.{k}={v}" for k, v in SETTINGS.items())]
    )
    part = select_captioned(load_dataset(str(shapes)), "test")
    _, captions, _ = caption_dataset([captioner], part, settings, SILENT)
    expected = expected_captions(images, runtime="torch", device="cpu", precision="fp32")
    assert captions == [n_best[0][0] for n_best in expected]


class OneHotMatcher:
    """A matcher whose vector of a caption has a 1 at the digit that the caption is."""

    info = SimpleNamespace(similarity="cosine")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        assert len({*texts}) == len(texts)
        return np.eye(4, dtype=np.float32)[[int(text) for text in texts]]


def test_ties_keep_their_order_and_num_captions_are_left() -> None:
    captions = [
        [Caption(text, score, [text]) for text, score in zip("0120", (-1.0, -2.0, -3.0, -4.0), strict=True)]
    ] * 2
    vectors = np.array([[0, 0, 0, 1], [0, 0.5, 1, 0]], np.float32)
    matcher: Any = OneHotMatcher()
    first, second = Reranker(matcher, 2.0, 3).rerank(captions, vectors)
    assert [(c.text, c.score) for c in first] == [("0", -1.0), ("1", -2.0), ("2", -3.0)]
    assert [(c.text, c.score) for c in second] == [("0", -1.0), ("1", -1.0), ("2", -1.0)]


def test_errors_are_reported_before_a_model_is_loaded(
    xmodal: Callable[..., Any], images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmodal_cli.recipes.caption._load_generator", None)
    caption = ("caption", images[0], "--set")
    assert "did you mean 'starter'" in check_error(xmodal(*caption, "decoding.rerank=startre"), "startre")
    check_error(
        xmodal(*caption, "decoding.rerank=starter-captioner"), "starter-captioner is a captioner, not a matcher"
    )
    check_error(xmodal(*caption, "decoding.rerank_weight=-1"), "decoding.rerank_weight")
    train = ("train", "--model", "transformer", "--data", "shapes", "--set")
    check_error(xmodal(*train, "decoding.rerank=startre"), "startre")


def test_hugging_face_models_are_not_re_ranked() -> None:
    with pytest.raises(ConfigError, match="not supported for Hugging Face"):
        generate_arguments(Decoding(rerank="starter"))


def test_names_keep_their_case(images: list[Path]) -> None:
    captioner = xmodal.load("starter-captioner", runtime="onnx")
    assert isinstance(captioner, xmodal.CaptionerModel)
    with pytest.raises(xmodal.UnknownName, match="My-Matcher"):
        captioner.caption(images[0], decoding={"rerank": "My-Matcher"})

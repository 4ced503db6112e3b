"""The rules by which results become JSON, and that every command follows them."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from xmodal_cli.evaluation.caption_scores import CaptionResult
from xmodal_cli.evaluation.scoring import ConfidenceIntervals, RetrievalResult
from xmodal_cli.inference.loaded_models import ImageCaptions, ScoredCaption
from xmodal_cli.result_json import INLINE, OPTIONAL, to_json
from xmodal_cli.retrieval.search_result import Hit, SearchResult

PACKAGE = Path(__file__).resolve().parents[1] / "xmodal_cli"


@dataclass(frozen=True)
class Part:
    path: Path
    score: float | None


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    named: dict[str, Part]
    absent: str | None
    left_out: str | None = field(default=None, metadata=OPTIONAL)
    empty: tuple[str, ...] = field(default=(), metadata=OPTIONAL)
    zero: int | None = field(default=0, metadata=OPTIONAL)
    scores: dict[str, float | None] = field(default_factory=dict, metadata=INLINE)


def test_the_three_rules():
    part = Part(Path("a") / "b.jpg", None)
    found = to_json([Whole((part,), {"x": part}, None, scores={"bleu_1": 0.5, "spice": None})])
    path = str(Path("a") / "b.jpg")
    expected = {"path": path, "score": None}
    assert found == [
        {"parts": [expected], "named": {"x": expected}, "absent": None, "zero": 0, "bleu_1": 0.5, "spice": None}
    ]
    assert to_json(Whole((), {}, "x", "y", ("z",)))["empty"] == ["z"]
    assert to_json({"a": (1, None)}) == {"a": [1, None]}


def test_without_marked_fields_and_paths_it_is_asdict():
    result = SearchResult("i", "m", "cosine", ("a dog",), (Hit(1, "a.jpg", 0.5),), 2, 0, ("xyzzy",))
    assert to_json(result) == json.loads(json.dumps(asdict(result)))


def test_the_json_of_the_design():
    sides = {"R@1": 30.3, "median_rank": 4}
    metrics = RetrievalResult(
        model="m", data=None, images=2, captions=4, protocol="2", image_to_text=sides, text_to_image=sides, rsum=1.0
    )
    keys = ["model", "data", "split", "images", "captions", "protocol", "image_to_text", "text_to_image", "rsum"]
    assert list(to_json(metrics)) == keys
    assert to_json(metrics)["data"] is None
    intervals = ConfidenceIntervals({"R@1": (1.0, 2.0)}, {"R@1": (1.0, 2.0)}, (3.0, 4.0))
    assert to_json(intervals) == {"image_to_text": {"R@1": [1, 2]}, "text_to_image": {"R@1": [1, 2]}, "rsum": [3, 4]}
    scores = CaptionResult(
        model="m",
        data="d",
        split="test",
        images=1,
        scores={"bleu_4": 0.2, "spice": None},
        signature="s",
        unavailable={},
    )
    keys = ["model", "data", "split", "images", "bleu_4", "spice", "signature", "unavailable"]
    assert list(to_json(scores)) == keys
    assert to_json(ImageCaptions("a.jpg", (ScoredCaption("a dog", -0.7),))) == {
        "path": "a.jpg",
        "captions": [{"text": "a dog", "score": -0.7}],
    }
    assert to_json(ImageCaptions("a.jpg", error="e", hint="h")) == {"path": "a.jpg", "error": "e", "hint": "h"}


@pytest.mark.parametrize("folder", ["recipes", "evaluation"])
def test_no_public_function_returns_a_dictionary_of_anything(folder):
    """Results are dataclasses: ``dict[str, Any]`` has unknown keys."""
    loose = [
        f"{file.name}: {node.name}"
        for file in sorted((PACKAGE / folder).glob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.returns is not None and "Any" in ast.unparse(node.returns)
        if not node.name.startswith("_")
    ]
    assert loose == []

"""Names in the results of an evaluation: short, and different for different models and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmodal_cli.inference.distinct_names import distinct_names, with_distinct_names
from xmodal_cli.inference.models import ModelInfo


def info(path: Path, name: str) -> ModelInfo:
    return ModelInfo(name, path, str(path), None)  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    names = ("a/x/results.json", "a/y/results.json", "b/x/results.json", "other.json")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return {name: str(tmp_path / name) for name in names}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a/x/results.json", "other.json"], ["results.json", "other.json"]),
        (["a/x/results.json", "a/y/results.json", "other.json"], ["x/results.json", "y/results.json", "other.json"]),
        (["a/x/results.json", "b/x/results.json"], ["a/x/results.json", "b/x/results.json"]),
        (["a/x/results.json", "a/x/results.json"], ["results.json", "results.json"]),
    ],
)
def test_files(files: dict[str, str], given: list[str], expected: list[str]) -> None:
    assert distinct_names([files[name] for name in given]) == expected


def test_a_relative_path_is_the_same_file(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "a" / "x")
    assert distinct_names(["results.json", files["a/x/results.json"]]) == ["results.json", "results.json"]
    assert distinct_names(["results.json", "../y/results.json"]) == ["x/results.json", "y/results.json"]


def test_models_and_names() -> None:
    runs = [info(Path(f"/{top}/run/model.safetensors"), "run") for top in ("a", "b")]
    renamed = with_distinct_names([*runs, "open_clip/ViT-B-32/openai", "open_clip/ViT-B-32/openai"])
    names = [item.name if isinstance(item, ModelInfo) else item for item in renamed]
    assert names == ["a/run", "b/run", "open_clip/ViT-B-32/openai", "open_clip/ViT-B-32/openai"]
    assert with_distinct_names(runs[:1]) == runs[:1]
    assert [one.path for one in renamed[:2] if isinstance(one, ModelInfo)] == [run.path for run in runs]

"""The examples run and do what their docstrings describe."""

from __future__ import annotations

import importlib.util
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from xmodal_cli import starter
from xmodal_cli.inference.graph_weights import read_facts
from xmodal_cli.models.model_file import read_header

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {"build_starter", "judgments", "notebook", "unified"}


@pytest.mark.slow
def test_the_notebook_from_images_to_search(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    monkeypatch.setenv("NUM_IMAGES", "80")
    load("notebook")
    out = capsys.readouterr().out
    assert "val rsum" in out and "test R@1" in out
    hits = [line for line in out.splitlines() if line.endswith(".png")]
    assert [line.split()[0] for line in hits] == ["1", "2", "3"]


@pytest.mark.slow
@pytest.mark.realdata
def test_metrics_agree_with_people_as_published(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taus = load("judgments").main(str(real_data / "f8k"), "bleu", "rouge-l", "cider")
    rounded = {name: round(tau, 1) for name, tau in taus.items()}
    assert rounded | {"bleu_1": 32.3, "bleu_4": 30.8, "rouge_l": 32.3, "cider": 43.9} == rounded
    assert "5,664 captions" in capsys.readouterr().out


def test_tau_counts_pairs() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    scores, grades = rng.integers(0, 6, 60), rng.integers(1, 5, 60)
    surplus = sum(np.sign((scores[i] - scores[j]) * (grades[i] - grades[j])) for i in range(60) for j in range(i))
    assert load("judgments").kendall_tau_c(scores, grades) == pytest.approx(2 * 4 * surplus / (60**2 * 3))


@pytest.fixture
def unified(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Build the example's loss by its name, as if its file stood among the losses."""
    from xmodal_cli import catalog

    file, real = catalog.PACKAGE / "losses/unified.py", catalog.path
    monkeypatch.setitem(sys.modules, "xmodal_cli.losses.unified", load("unified"))
    monkeypatch.setattr(catalog, "path", lambda kind, name: file if name == "unified" else real(kind, name))
    return lambda **args: catalog.build("loss", "unified", args)


def scores_of_nine_captions() -> tuple[Any, Any]:
    """Random scores and positives; five images, one with three captions, two with two."""
    import torch

    owner = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 4])
    scores = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return scores, owner[None, :] == torch.arange(5)[:, None]


def test_a_loss_of_ones_own_is_found_and_is_that_of_the_formula(unified: Callable[..., Any]) -> None:
    scores, positives = scores_of_nine_captions()
    total = 0.0
    for i, c in positives.nonzero().tolist():
        for negatives in (scores[i][~positives[i]], scores[:, c][~positives[:, c]]):
            total += math.log(1 + sum(math.exp(4 * (0.3 - float(scores[i, c]) + n)) for n in negatives.tolist())) / 4
    assert unified(margin=0.3, scale=4.0)(scores, positives).item() == pytest.approx(total / 9, rel=1e-9)


def test_the_loss_of_ones_own_lies_between_two_that_are_built_in(unified: Callable[..., Any]) -> None:
    from xmodal_cli import catalog

    scores, positives = scores_of_nine_captions()
    hardest = catalog.build("loss", "triplet", {"margin": 0.2, "hardest_negative": True})(scores, positives)
    assert unified(scale=1e6)(scores, positives).item() == pytest.approx(hardest.item() / 9, rel=1e-5)
    infonce = catalog.build("loss", "infonce", {"temperature": 0.1})(scores, positives)
    assert 10 * unified(margin=0.0, scale=10.0)(scores, positives).item() == pytest.approx(2 * infonce.item(), rel=1e-6)


def test_the_page_on_extending_shows_the_example() -> None:
    """The loss on the page is the example's code."""
    page = (EXAMPLES.parent / "docs" / "extending.md").read_text(encoding="utf-8")
    code = (EXAMPLES / "unified.py").read_text(encoding="utf-8")
    assert code[code.index("from __future__") :].strip() in page.replace("```", "")


def test_the_starter_pair_is_made_as_it_is_shipped(tmp_path: Path) -> None:
    """Halved weights stay as they are: the bundled pair gives itself, with settings under their present names."""
    build = load("build_starter")
    matcher, captioner = (starter.file_of(name) for name in (starter.MATCHER, starter.CAPTIONER))
    build.ship_matcher(matcher, tmp_path / matcher.name)
    _assert_same_model(tmp_path / matcher.name, matcher)
    shutil.copy(matcher, tmp_path / matcher.name)  # the captioner's header has the checksum of this file
    build.ship_captioner(captioner, tmp_path / captioner.name)
    _assert_same_model(tmp_path / captioner.name, captioner)


@pytest.mark.slow
def test_the_graphs_are_those_of_the_models_that_were_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = starter.folder()
    for name in (f"{starter.MATCHER}.safetensors", f"{starter.CAPTIONER}.safetensors", starter.SUMS):
        shutil.copy(bundled / name, tmp_path / name)
    monkeypatch.setattr(starter, "folder", starter.folder)  # restored at the end
    load("build_starter").write_graphs(tmp_path)
    written, shipped = ({f.name: read_facts(f) for f in (d / "graphs").iterdir()} for d in (tmp_path, bundled))
    assert written == shipped


def _assert_same_model(built: Path, bundled: Path) -> None:
    assert read_header(built) == read_header(bundled)
    tensors, expected = load_file(built), load_file(bundled)
    assert tensors.keys() == expected.keys()
    for name, value in tensors.items():
        assert value.dtype == expected[name].dtype and np.array_equal(value, expected[name])

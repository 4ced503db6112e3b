"""The examples run, and do what their first lines say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {"python_api", "infonce"}


@pytest.mark.slow
def test_the_python_api_from_pictures_to_search(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    load("python_api").main(80)
    out = capsys.readouterr().out
    assert "val rsum" in out and "test R@1" in out
    hits = [line for line in out.splitlines() if line.endswith(".png")]
    assert [line.split()[0] for line in hits] == ["1", "2", "3"]


def test_a_loss_of_ones_own_is_found_and_agrees_with_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from xmodal_cli import catalog

    monkeypatch.setitem(sys.modules, "xmodal_cli.losses.infonce", load("infonce"))
    real = catalog.path
    monkeypatch.setattr(
        catalog,
        "path",
        lambda kind, name: catalog.PACKAGE / "losses/infonce.py" if name == "infonce" else real(kind, name),
    )
    loss = catalog.build("loss", "infonce", {"temperature": 0.5})
    scores = torch.randn(5, 5, dtype=torch.float64)
    right = torch.arange(5)
    expected = torch.nn.functional.cross_entropy(scores / 0.5, right)
    expected = expected + torch.nn.functional.cross_entropy(scores.T / 0.5, right)
    assert torch.allclose(loss(scores, torch.eye(5, dtype=torch.bool)), expected)


def test_the_page_on_extending_shows_the_example() -> None:
    """The loss on the page is the example's code."""
    page = (EXAMPLES.parent / "docs" / "extending.md").read_text(encoding="utf-8")
    code = (EXAMPLES / "infonce.py").read_text(encoding="utf-8")
    assert code[code.index("class InfoNCE") :].strip() in page.replace("```", "")

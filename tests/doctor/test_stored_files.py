from __future__ import annotations

from pathlib import Path

import pytest
from helpers.files_of_data import make_summary
from helpers.files_of_models import make_export, make_matcher, make_state
from helpers.index_fixtures import PhotoIndexFixture

from xmodal_cli import paths
from xmodal_cli.doctor import stored_files
from xmodal_cli.doctor.finding import Finding

CHECKS = ("models", "checkpoints", "features", "exports", "indexes")


@pytest.fixture
def stored(home: Path) -> dict[str, Path]:
    """One file of each kind in the home."""
    folders = {
        "models": paths.models_dir(),
        "features": paths.cache_dir() / "features" / "set",
        "exports": paths.cache_dir() / "text-encoders" / "abc",
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    index = PhotoIndexFixture(home)
    index.fill(3)
    index.update()
    paths.runs_dir().mkdir(exist_ok=True)
    return {
        "models": make_matcher(folders["models"]),
        "checkpoints": make_state(paths.runs_dir()),
        "features": make_summary(folders["features"]).parent / "features-00000.safetensors",
        "exports": make_export(folders["exports"]).parent / "encoder.onnx",
        "indexes": index.segments()[0],
    }


def run(check: str) -> list[Finding]:
    return list(getattr(stored_files, check)())


@pytest.mark.parametrize("check", CHECKS)
def test_undamaged_files(stored: dict[str, Path], check: str) -> None:
    (finding,) = run(check)
    assert (finding.status, finding.what) == ("ok", check)
    assert finding.found.startswith("1 without damage, ")


@pytest.mark.parametrize("check", CHECKS)
def test_a_damaged_file(stored: dict[str, Path], check: str) -> None:
    content = bytearray(stored[check].read_bytes())
    content[-1] ^= 1
    stored[check].write_bytes(content)
    failed, rest = run(check)
    assert failed.status == "fail"
    assert str(stored[check].parent) in failed.found
    assert failed.remedy
    assert rest.found == "none"


@pytest.mark.parametrize("check", CHECKS)
def test_an_empty_home(home: Path, check: str) -> None:
    (finding,) = run(check)
    assert (finding.status, finding.found) == ("ok", "none")

"""Mutated files of every kind that is read: an error that names the file, or none; in time; nothing else is written.

2,000 inputs here; ``python -m helpers.fuzzing --count 300000`` in ``tests`` reads any number of others. The folder
``corpus`` has inputs that once failed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.damage import check
from helpers.fuzzing import KINDS, PEAK_MB, Fuzzer, fuzz, peak_mb, time_limit

from xmodal_cli.paths import home

SLOW = ("state",)  # writing the valid file, or reading one, takes seconds
CORPUS = Path(__file__).parent / "corpus"
PER_KIND = 2000 // len(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_mutated_files(name: str, tmp_path: Path) -> None:
    files = set(home().rglob("*"))
    tally = fuzz(range(PER_KIND // 4 if name in SLOW else PER_KIND), tmp_path, [name])[name]
    assert tally.failures == []
    assert tally.num_inputs > 0
    assert peak_mb() < 4 * PEAK_MB  # of the whole process, which has run other tests
    assert {path for path in set(home().rglob("*")) - files if path.name.endswith((".jpg", ".py"))} == set()


@pytest.mark.parametrize("file", sorted(CORPUS.rglob("*.bin")), ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_inputs_that_once_failed(file: Path, tmp_path: Path) -> None:
    (name,) = (name for name in KINDS if Fuzzer.folder_name(name) == file.parent.name)
    target = KINDS[name].make(tmp_path)
    target.write_bytes(file.read_bytes())
    with time_limit():
        check(KINDS[name], target)

"""Mutated files of every kind that is read: an error that names the file, or none; in time; nothing else is written.

2,000 inputs here; ``python -m helpers.fuzzing --count 300000`` in ``tests`` reads any number of others.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.damage import Kind
from helpers.fuzzing import KINDS, PEAK_MB, fuzz, peak_mb

SLOW = ("state",)  # writing the valid file, or reading one, takes seconds
PER_KIND = 2000 // len(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_mutated_files(name: str, tmp_path: Path) -> None:
    before = peak_mb()  # of other tests in this process
    tally = fuzz(range(PER_KIND // 4 if name in SLOW else PER_KIND), tmp_path, [name])[name]
    assert tally.failures == []
    assert tally.num_inputs > 0
    assert peak_mb() - before < PEAK_MB


@pytest.mark.parametrize("outside", [False, True])
def test_a_planted_fault_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: bool) -> None:
    """A reader that fails with another error for changed content, or writes a file beside its folder."""
    good = b"a file without structure"

    def make(folder: Path) -> Path:
        (folder / "toy").write_bytes(good)
        return folder / "toy"

    def read(file: Path) -> None:
        if file.read_bytes() != good:
            if not outside:
                raise ValueError("not caught")
            (file.parents[1] / "other").touch()

    monkeypatch.setitem(KINDS, "toy", Kind(make, read))
    failures = fuzz(range(10), tmp_path, ["toy"])["toy"].failures
    assert len(failures) >= (1 if outside else 9)
    assert ("wrote" if outside else "ValueError") in failures[0]

"""Files that are mapped, or read where they cannot be."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.retrieval import mapped_file
from xmodal_cli.retrieval.mapped_file import MappedFile


def test_content_is_the_same_after_a_release(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8)
    (tmp_path / "a").write_bytes(content.tobytes())
    file = MappedFile(tmp_path / "a")
    for _ in range(2):
        np.testing.assert_array_equal(file.content, content)
        file.release()
    (tmp_path / "a").unlink()
    np.testing.assert_array_equal(file.content, content)


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOMEM])
def test_a_file_system_that_cannot_map_files(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    def failing(*args: object, **options: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(mapped_file.mmap, "mmap", failing)
    if number == errno.ENOMEM:
        with pytest.raises(OSError, match="no"):
            MappedFile(tmp_path / "a")
        return
    file = MappedFile(tmp_path / "a")
    file.release()
    assert file.content.tobytes() == b"abc"

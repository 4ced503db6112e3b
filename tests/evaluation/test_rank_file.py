"""Whether an existing file may be overwritten with ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmodal_cli.errors import StorageError
from xmodal_cli.evaluation.rank_file import check_rank_file


@pytest.mark.parametrize("content", ["[" * 90_000, "null\n", '{"a": 1}\n', "a,b\n", "\0"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_another_file_is_kept(tmp_path: Path, content: str, suffix: str) -> None:
    file = tmp_path / f"mine{suffix}"
    file.write_text(content)
    with pytest.raises(StorageError, match="mine"):
        check_rank_file(file)
    assert file.read_text() == content

"""Text files with one sentence per line."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.file_identity import read_regular


def read_sentences(text: Path) -> list[str]:
    """The lines that are not empty, without spaces around them. Raises MissingData, BadData."""
    try:
        lines = read_regular(text).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise MissingData(
            f"{text} cannot be read: {error.strerror}", "give a text file with one sentence per line"
        ) from error
    except UnicodeDecodeError as error:
        raise BadData(f"{text} is not UTF-8 text", "save it as UTF-8, with one sentence per line") from error
    sentences = [line.strip() for line in lines if line.strip()]
    if not sentences:
        raise BadData(f"{text} contains no sentences", "write one sentence per line")
    return sentences

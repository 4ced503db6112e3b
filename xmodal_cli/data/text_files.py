"""Reads text and JSON files, also gzipped ones; errors have the file and the line."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from io import BufferedReader
from pathlib import Path
from typing import Any

from xmodal_cli.errors import BadData
from xmodal_cli.file_identity import open_regular

_MAX_BYTES = 1 << 33  # of a decompressed file; a small file can decompress to any size
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_text(file: Path) -> str:
    r"""The text of a UTF-8 or UTF-16 file with ``\n`` line ends. Raises BadData with the first line that is not."""
    content = _read_bytes(file)
    try:
        return _decode(content, "strict")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if error.encoding.startswith("utf-8") else "UTF-16"
        raise BadData(f"{file}, line {line} is not {name} text", "save it as UTF-8, or fetch it again") from error


def read_lines(file: Path) -> list[str]:
    """The lines of a text file. Raises BadData.

    Only newlines end a line: captions and JSON may have other characters at which ``str.splitlines`` splits.
    """
    return _split_lines(read_text(file))


def read_rows(file: Path) -> list[str]:
    """Like ``read_lines``, but bytes that are not text become surrogates, so that they cost one row. Raises BadData.

    ``is_text`` finds such rows.
    """
    return _split_lines(_decode(_read_bytes(file), "surrogateescape"))


def is_text(row: str) -> bool:
    """Whether a row of ``read_rows`` was decoded completely."""
    return row.isascii() or not any("\udc80" <= character <= "\udcff" for character in row)


def read_start(file: Path, size: int = 1 << 16) -> str:
    """The first ``size`` bytes of a text file, also a gzipped one; "" if it cannot be read."""
    try:
        with open_regular(file) as raw, gzip.open(raw) if _is_gzipped(raw) else raw as stream:
            content = stream.read(size)
        return _decode(content, "replace")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return ""


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises BadData."""
    return parse_json(read_text(file), str(file))


def parse_json(text: str, where: str) -> Any:
    """The content of JSON text; ``where`` is its source in errors. Raises BadData."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadData(f"{where} is not valid JSON: {error}", "fix the file, or fetch it again if truncated") from error


def field(entry: Any, key: str, *kinds: type) -> Any:
    """``entry[key]``. Raises ValueError if it is missing, or not of one of the types ``kinds`` (default: str)."""
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"has no {key!r}")
    value = entry[key]
    if not isinstance(value, kinds or str):
        raise ValueError(f"has {str(value)[:40]!r} as {key!r}")
    return value


def _split_lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def _is_gzipped(file: BufferedReader) -> bool:
    """Whether the content is gzipped, whatever the name: downloads may be decompressed under the same name."""
    return file.peek(2)[:2] == b"\x1f\x8b"


def _read_bytes(file: Path) -> bytes:
    try:
        with open_regular(file) as raw:
            if not _is_gzipped(raw):
                return raw.read()
            with gzip.open(raw) as stream:
                content = stream.read(_MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadData(f"{file} is not a complete gzip file: {error}", "fetch it again") from error
    except OSError as error:
        raise BadData(f"{file} cannot be read: {error.strerror}", "check the file and its permissions") from error
    if len(content) > _MAX_BYTES:
        raise BadData(f"{file} decompresses to more than {_MAX_BYTES:,} bytes", "decompress it")
    return content


def _decode(content: bytes, errors: str) -> str:
    mark = next((mark for mark in _BOMS if content.startswith(mark)), b"")
    encoding = _BOMS.get(mark) or _guess_encoding(content[:4096])
    if errors == "surrogateescape" and encoding != "utf-8":
        errors = "replace"  # UTF-16 has no surrogate escapes
    text = content[len(mark) :].decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _guess_encoding(start: bytes) -> str:
    """UTF-16 without a byte order mark has a zero in most pairs of bytes; UTF-8 text has none."""
    pairs = len(start) // 2
    if pairs >= 8 and start[1::2].count(0) > 0.7 * pairs:
        return "utf-16-le"
    return "utf-16-be" if pairs >= 8 and start[0::2].count(0) > 0.7 * pairs else "utf-8"

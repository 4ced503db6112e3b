"""Lines of tab-separated files that are too large for memory: found once, then read by seeking.

The csv module is not needed: base64 and JSON hold no tabs, and fields of a megabyte would need its limit raised.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.data.region_records import bad

LONGEST = 1 << 26  # bytes in a line; 100 regions of 2,054 numbers are about a million
LONGEST_NAME = 4096


@dataclass(frozen=True, slots=True)
class Line:
    """Where a line stands; ``number`` counts from 1."""

    file: Path
    number: int
    offset: int
    length: int

    @property
    def where(self) -> str:
        """File and line for messages."""
        return f"{self.file} line {self.number}"


def index_lines(file: Path) -> dict[str, Line]:
    """First field -> where its line stands; the last line of a name counts. Raises BadData, OSError."""
    found: dict[str, Line] = {}
    with open(file, "rb") as stream:
        offset, number = 0, 0
        while text := stream.readline(LONGEST):
            number += 1
            line = Line(file, number, offset, len(text))
            offset += len(text)
            if len(text) == LONGEST:
                raise bad(line.where, "it is longer than regions can be")
            if text.strip():
                found[_name(line, text)] = line
    return found


def read_fields(line: Line) -> list[bytes]:
    """The fields of a line. Raises OSError."""
    with open(line.file, "rb") as stream:
        stream.seek(line.offset)
        return stream.read(line.length).rstrip(b"\r\n").split(b"\t")


def first_fields(file: Path) -> list[bytes]:
    """The fields of a file's first line; none where it cannot be read or is too long."""
    try:
        with open(file, "rb") as stream:
            text = stream.readline(LONGEST)
    except OSError:
        return []
    return text.rstrip(b"\r\n").split(b"\t") if len(text) < LONGEST else []


def decode(where: str, what: str, field: bytes | str, count: int, dtype: str = "<f4") -> np.ndarray:
    """base64 of numbers -> (count, columns). Raises BadData for a wrong length."""
    text = field.encode() if isinstance(field, str) else field
    if text[:2] in (b"b'", b'b"'):  # bytes that Python 3 wrote by their repr
        text = text[2:-1]
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise bad(where, f"its {what} are not base64") from error
    size = np.dtype(dtype).itemsize
    if count < 1:
        raise bad(where, "it has no regions")
    if not raw or len(raw) % (count * size):
        raise bad(where, f"{len(raw)} bytes of {what} are not {count} rows of {np.dtype(dtype).name}")
    return np.frombuffer(raw, dtype=dtype).reshape(count, -1)


def whole_number(where: str, what: str, field: bytes) -> int:
    """A field that is a whole number. Raises BadData."""
    try:
        return int(field)
    except ValueError as error:
        raise bad(where, f"{what} is {field[:20]!r}, not a whole number") from error


def _name(line: Line, text: bytes) -> str:
    end = text.find(b"\t", 0, LONGEST_NAME)
    if end < 0:
        raise bad(line.where, "it has no tab after an image's name")
    try:
        return text[:end].decode().strip()
    except UnicodeDecodeError as error:
        raise bad(line.where, "the image's name is not UTF-8") from error

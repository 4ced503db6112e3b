"""Random access to the lines of large tab-separated files: indexed once, then read by seeking.

The csv module is not needed: base64 and JSON have no tabs, and its field size limit is below a megabyte.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.data.region_records import region_error

MAX_LINE_BYTES = 1 << 26  # 100 regions with 2,054 values are about one megabyte
MAX_NAME_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Line:
    """Position of a line in a file: ``number`` from 1, ``offset`` and ``length`` in bytes."""

    file: Path
    number: int
    offset: int
    length: int

    @property
    def where(self) -> str:
        """File and line number for messages."""
        return f"{self.file} line {self.number}"


def index_lines(file: Path) -> dict[str, Line]:
    """First field -> position of its line; the last one if a name is repeated. Raises BadData, OSError."""
    lines: dict[str, Line] = {}
    with open(file, "rb") as stream:
        offset, number = 0, 0
        while text := stream.readline(MAX_LINE_BYTES):
            number += 1
            line = Line(file, number, offset, len(text))
            offset += len(text)
            if len(text) == MAX_LINE_BYTES:
                raise region_error(line.where, f"it is longer than {MAX_LINE_BYTES:,} bytes")
            if text.strip():
                lines[_parse_name(line, text)] = line
    return lines


def read_fields(line: Line) -> list[bytes]:
    """The fields of a line. Raises OSError."""
    with open(line.file, "rb") as stream:
        stream.seek(line.offset)
        return stream.read(line.length).rstrip(b"\r\n").split(b"\t")


def read_first_fields(file: Path) -> list[bytes]:
    """The fields of a file's first line; [] if it cannot be read or is too long."""
    try:
        with open(file, "rb") as stream:
            text = stream.readline(MAX_LINE_BYTES)
    except OSError:
        return []
    return text.rstrip(b"\r\n").split(b"\t") if len(text) < MAX_LINE_BYTES else []


def decode_base64(where: str, name: str, field: bytes | str, count: int, dtype: str = "<f4") -> np.ndarray:
    """A base64 field as (count, columns) of ``dtype``. Raises BadData for invalid base64 or a wrong length."""
    text = field.encode() if isinstance(field, str) else field
    if text[:2] in (b"b'", b'b"'):  # written as the repr of bytes in Python 3
        text = text[2:-1]
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise region_error(where, f"its {name} are not base64") from error
    size = np.dtype(dtype).itemsize
    if count < 1:
        raise region_error(where, "it has no regions")
    if not raw or len(raw) % (count * size):
        raise region_error(where, f"{len(raw)} bytes of {name} are not {count} rows of {np.dtype(dtype).name}")
    return np.frombuffer(raw, dtype=dtype).reshape(count, -1)


def parse_int(where: str, name: str, field: bytes) -> int:
    """An integer field. Raises BadData."""
    try:
        return int(field)
    except ValueError as error:
        raise region_error(where, f"{name} is {field[:20]!r}, not an integer") from error


def _parse_name(line: Line, text: bytes) -> str:
    """The image name, the first field of a line. Raises BadData."""
    end = text.find(b"\t", 0, MAX_NAME_BYTES)
    if end < 0:
        raise region_error(line.where, "it has no tab after the image name")
    try:
        return text[:end].decode().strip()
    except UnicodeDecodeError as error:
        raise region_error(line.where, "the image name is not UTF-8") from error

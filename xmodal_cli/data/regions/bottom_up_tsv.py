"""The tab-separated files of bottom-up attention (Anderson et al. 2018), with 36 or 10 to 100 regions per image.

The six columns of its ``tools/generate_tsv.py``: image_id, image_w, image_h, num_boxes, boxes (pixels), features; boxes
and features are base64 of float32. Or the ten of LXMERT: img_id, img_h, img_w, objects_id, objects_conf, attrs_id,
attrs_conf, num_boxes, boxes, features; ``objects_id`` (int64) is the class, ``objects_conf`` the score. PATH is one
file, or a folder of ``*.tsv`` and ``*.tsv.N`` files.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.region_records import Regions, region_error
from xmodal_cli.data.regions._lines import Line, decode_base64, index_lines, parse_int, read_fields, read_first_fields

PRIORITY = 20
COLUMNS = {
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
    10: (
        *("img_id", "img_h", "img_w", "objects_id", "objects_conf"),
        *("attrs_id", "attrs_conf", "num_boxes", "boxes", "features"),
    ),
}
HEADERS = ("image_id", "img_id")


def matches(path: Path) -> bool:
    """A file whose first line has six or ten fields, or a folder with such a file."""
    return any(len(read_first_fields(file)) in COLUMNS for file in files(path))


def files(path: Path) -> list[Path]:
    """The file, or all ``*.tsv`` and ``*.tsv.N`` in the folder."""
    if path.is_file():
        return [path]
    candidates = (*path.glob("*.tsv"), *path.glob("*.tsv.[0-9]*"))
    return sorted(file for file in candidates if file.is_file() and not file.name.startswith("."))


def locations(path: Path) -> dict[str, Line]:
    """Image id -> its line; header lines are skipped."""
    lines: dict[str, Line] = {}
    for file in files(path):
        lines |= index_lines(file)
    return {name: line for name, line in lines.items() if name not in HEADERS}


def read(location: Line) -> Regions:
    """The regions of one line."""
    fields = read_fields(location)
    if len(fields) not in COLUMNS:
        raise region_error(location.where, f"it has {len(fields)} columns, not 6 or 10; it may be truncated")
    row = dict(zip(COLUMNS[len(fields)], fields, strict=True))
    width, height = (parse_int(location.where, *_size_field(row, side)) for side in ("w", "h"))
    count = parse_int(location.where, "num_boxes", row["num_boxes"])
    scores = classes = None
    if "objects_id" in row:
        classes = decode_base64(location.where, "objects_id", row["objects_id"], count, "<i8")
        scores = decode_base64(location.where, "objects_conf", row["objects_conf"], count)
    boxes = decode_base64(location.where, "boxes", row["boxes"], count)
    features = decode_base64(location.where, "features", row["features"], count)
    return Regions(location.where, features, boxes, (width, height), scores, classes)


def _size_field(row: dict[str, bytes], side: str) -> tuple[str, bytes]:
    """Name and value of ``image_w`` or ``img_w``; for ``side`` h those of the height."""
    name = f"image_{side}" if f"image_{side}" in row else f"img_{side}"
    return name, row[name]

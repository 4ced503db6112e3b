"""The tab-separated files of bottom-up attention (Anderson et al. 2018), with 36 or 10 to 100 regions an image.

Six columns as its ``tools/generate_tsv.py`` writes them: image_id, image_w, image_h, num_boxes, boxes, features;
boxes in pixels and features as base64 of float32. Or the ten of LXMERT: img_id, img_h, img_w, objects_id,
objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features, where ``objects_id`` (int64) and ``objects_conf``
become class and score. PATH is one file, or a folder whose ``*.tsv`` (and ``*.tsv.0`` and on) belong together.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.region_records import Regions, bad
from xmodal_cli.data.regions._lines import Line, decode, first_fields, index_lines, read_fields, whole_number

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
    """A file, or a folder with one, whose first line has six or ten fields."""
    return any(len(first_fields(file)) in COLUMNS for file in files(path))


def files(path: Path) -> list[Path]:
    """The file itself, or every ``*.tsv`` and ``*.tsv.N`` of the folder."""
    if path.is_file():
        return [path]
    found = (*path.glob("*.tsv"), *path.glob("*.tsv.[0-9]*"))
    return sorted(file for file in found if file.is_file() and not file.name.startswith("."))


def places(path: Path) -> dict[str, Line]:
    """Image id -> its line; a line with the columns' names is passed over."""
    found: dict[str, Line] = {}
    for file in files(path):
        found |= index_lines(file)
    return {name: line for name, line in found.items() if name not in HEADERS}


def read(place: Line) -> Regions:
    """The regions of one line."""
    fields = read_fields(place)
    if len(fields) not in COLUMNS:
        raise bad(place.where, f"it has {len(fields)} columns, not 6 or 10; is it cut short?")
    row = dict(zip(COLUMNS[len(fields)], fields, strict=True))
    width, height = (whole_number(place.where, *_first(row, name)) for name in ("w", "h"))
    count = whole_number(place.where, "num_boxes", row["num_boxes"])
    scores = classes = None
    if "objects_id" in row:
        classes = decode(place.where, "objects_id", row["objects_id"], count, "<i8")
        scores = decode(place.where, "objects_conf", row["objects_conf"], count)
    boxes = decode(place.where, "boxes", row["boxes"], count)
    features = decode(place.where, "features", row["features"], count)
    return Regions(place.where, features, boxes, (width, height), scores, classes)


def _first(row: dict[str, bytes], side: str) -> tuple[str, bytes]:
    """``image_w`` or ``img_w``, and its field."""
    name = f"image_{side}" if f"image_{side}" in row else f"img_{side}"
    return name, row[name]

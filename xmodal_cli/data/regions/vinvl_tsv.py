"""The tab-separated files of Oscar and VinVL (Zhang et al. 2021): one line per image, its name and its regions.

A line of ``features.tsv`` is a name and JSON ``{"num_boxes": n, "features": base64}``; or, in the pre-training files, a
name, n and base64; or, in ``predictions.tsv`` of scene_graph_benchmark, a name and JSON
``{"objects": [{"feature": base64, "rect": ..., "conf": ...}]}``. Values are float32. Rows of 2,054 are 2,048 features
and x1, y1, x2, y2, width, height as fractions, from which the box is taken. A label file (``labels.tsv`` or
``predictions.tsv`` for ``features.tsv``, ``train.label.tsv`` for ``train.feature.tsv``) has scores, and boxes for rows
without them. Its classes are names, not integers, and are ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.data.region_records import UNIT_SIZE, Regions, region_error
from xmodal_cli.data.regions._lines import Line, decode_base64, index_lines, parse_int, read_fields, read_first_fields

PRIORITY = 30
NUM_GEOMETRY = 6  # x1, y1, x2, y2, width, height
LABELS = ("label", "predictions")
TOLERANCE = 2e-3  # between a side and the difference of its corners


@dataclass(frozen=True, slots=True)
class TsvLocation:
    """The line of an image's features, and the line of its labels if there is one."""

    features: Line
    labels: Line | None


def matches(path: Path) -> bool:
    """A file whose first line is a name and JSON, or a name, an integer and base64; or a folder with such a file."""
    return any(_is_feature_line(read_first_fields(file)) for file in _feature_files(path))


def files(path: Path) -> list[Path]:
    """Feature files and their label files."""
    features = _feature_files(path)
    return [*features, *(label for label in map(_label_file, features) if label is not None)]


def locations(path: Path) -> dict[str, TsvLocation]:
    """Image name -> its lines."""
    lines: dict[str, TsvLocation] = {}
    for file in _feature_files(path):
        label_file = _label_file(file)
        labels = index_lines(label_file) if label_file else {}
        lines |= {name: TsvLocation(line, labels.get(name)) for name, line in index_lines(file).items()}
    return lines


def read(location: TsvLocation) -> Regions:
    """The regions of one image."""
    where, fields = location.features.where, read_fields(location.features)
    labels = _read_labels(location.labels) if location.labels else {}
    if len(fields) == 3:
        rows = decode_base64(where, "features", fields[2], parse_int(where, "the number of boxes", fields[1]))
    else:
        entry = _parse_json(location.features, fields)
        rows = _parse_features(where, entry)
        labels = {**labels, **_parse_labels(where, entry)}
    boxes, size = labels.get("boxes"), labels.get("size")
    if _has_geometry(rows):
        rows, boxes, size = rows[:, :-NUM_GEOMETRY], rows[:, -NUM_GEOMETRY:-2], UNIT_SIZE
    return Regions(where, rows, boxes, size, labels.get("scores"))


def _feature_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.glob("*.tsv") if file.is_file() and not file.name.startswith("."))
    features = [file for file in files if "feature" in file.name]
    return features or [file for file in files if "predictions" in file.name]


def _label_file(features: Path) -> Path | None:
    names = {features.name.replace("feature", label) for label in LABELS}
    names |= {features.name.replace("features", label) for label in LABELS}
    candidates = (features.with_name(name) for name in sorted(names - {features.name}))
    return next((file for file in candidates if file.is_file()), None)


def _is_feature_line(fields: list[bytes]) -> bool:
    if len(fields) == 2:
        return fields[1][:1] in (b"{", b"[") and b'"feature' in fields[1]
    return len(fields) == 3 and fields[1].strip().isdigit()


def _parse_json(line: Line, fields: list[bytes]) -> Any:
    if len(fields) != 2:
        raise region_error(line.where, f"it has {len(fields)} columns, not 2 or 3; it may be truncated")
    try:
        return json.loads(fields[1])
    except (ValueError, RecursionError) as error:
        raise region_error(line.where, "its second column is not JSON; it may be truncated") from error


def _parse_features(where: str, entry: Any) -> np.ndarray:
    """(regions, columns) float32 from either JSON layout."""
    try:
        if isinstance(entry, dict) and "features" in entry:
            return decode_base64(where, "features", entry["features"], int(entry["num_boxes"]))
        rows = [decode_base64(where, "feature", region["feature"], 1) for region in _objects(entry)]
        return np.concatenate(rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise region_error(where, f"its JSON has no valid features: {error}") from error


def _objects(entry: Any) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = entry["objects"] if isinstance(entry, dict) else entry
    return objects


def _read_labels(line: Line) -> dict[str, Any]:
    return _parse_labels(line.where, _parse_json(line, read_fields(line)))


def _parse_labels(where: str, entry: Any) -> dict[str, Any]:
    """The ``size`` of the image, and ``boxes`` and ``scores`` if the entry has them for all regions."""
    labels: dict[str, Any] = {}
    try:
        if isinstance(entry, dict) and {"image_w", "image_h"} <= set(entry):
            labels["size"] = (float(entry["image_w"]), float(entry["image_h"]))
        objects = [] if isinstance(entry, dict) and "objects" not in entry else _objects(entry)
        for key, name in (("rect", "boxes"), ("conf", "scores")):
            values = [region[key] for region in objects if key in region]
            if values and len(values) == len(objects):
                labels[name] = np.array(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise region_error(where, f"its JSON has no valid boxes and scores: {error}") from error
    return labels


def _has_geometry(rows: np.ndarray) -> bool:
    """Whether each row ends with a box as fractions and its width and height, in either order."""
    if rows.shape[1] <= NUM_GEOMETRY:
        return False
    geometry = rows[:, -NUM_GEOMETRY:]
    with np.errstate(invalid="ignore", over="ignore"):
        sides = geometry[:, 2:4] - geometry[:, :2]
        orders = (geometry[:, 4:], geometry[:, :3:-1])
        matches_sides = any(np.allclose(sides, order, rtol=0, atol=TOLERANCE) for order in orders)
        low, high = -0.02 - TOLERANCE, 1.02 + TOLERANCE
        return matches_sides and bool((geometry > low).all() and (geometry < high).all())

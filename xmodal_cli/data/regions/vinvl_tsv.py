"""The tab-separated files of Oscar and VinVL (Zhang et al. 2021): an image's name, then its regions.

A line of ``features.tsv`` is a name and JSON ``{"num_boxes": n, "features": base64}``, or a name, n and base64 as
in their pre-training; or a name and JSON ``{"objects": [{"feature": base64, "rect": ..., "conf": ...}]}`` as the
scene graph benchmark's ``predictions.tsv`` has it. Numbers are float32. Rows of 2,054 are 2,048 features and x1,
y1, x2, y2, width, height as shares: such a tail becomes the box. A label file beside (``features.tsv`` and
``labels.tsv`` or ``predictions.tsv``, ``train.feature.tsv`` and ``train.label.tsv``) gives scores, and boxes where
rows have no such tail. Its classes are names, not numbers, and are not kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.data.region_records import WHOLE, Regions, bad
from xmodal_cli.data.regions._lines import Line, decode, first_fields, index_lines, read_fields, whole_number

PRIORITY = 30
GEOMETRY = 6
LABELS = ("label", "predictions")
NEAR = 2e-3  # between a side and the difference of its corners


@dataclass(frozen=True, slots=True)
class TsvLocation:
    """An image's line of features, and of labels where there is one."""

    features: Line
    labels: Line | None


def matches(path: Path) -> bool:
    """A file, or a folder with one, whose first line is a name and JSON, or a name, a number and base64."""
    return any(_looks_right(first_fields(file)) for file in _feature_files(path))


def files(path: Path) -> list[Path]:
    """Feature files, and the label files that belong to them."""
    features = _feature_files(path)
    return [*features, *(label for label in map(_label_file, features) if label is not None)]


def places(path: Path) -> dict[str, TsvLocation]:
    """Image name -> its lines."""
    found: dict[str, TsvLocation] = {}
    for file in _feature_files(path):
        label_file = _label_file(file)
        labels = index_lines(label_file) if label_file else {}
        found |= {name: TsvLocation(line, labels.get(name)) for name, line in index_lines(file).items()}
    return found


def read(place: TsvLocation) -> Regions:
    """The regions of one image."""
    where, fields = place.features.where, read_fields(place.features)
    labels = _labels(place.labels) if place.labels else {}
    if len(fields) == 3:
        rows = decode(where, "features", fields[2], whole_number(where, "the number of boxes", fields[1]))
    else:
        entry = _json(place.features, fields)
        rows = _rows(where, entry)
        labels = {**labels, **_facts(where, entry)}
    boxes, size = labels.get("boxes"), labels.get("size")
    if _has_geometry(rows):
        rows, boxes, size = rows[:, :-GEOMETRY], rows[:, -GEOMETRY:-2], WHOLE
    return Regions(where, rows, boxes, size, labels.get("scores"))


def _feature_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob("*.tsv") if file.is_file() and not file.name.startswith("."))
    features = [file for file in found if "feature" in file.name]
    return features or [file for file in found if "predictions" in file.name]


def _label_file(features: Path) -> Path | None:
    names = {features.name.replace("feature", label) for label in LABELS}
    names |= {features.name.replace("features", label) for label in LABELS}
    found = (features.with_name(name) for name in sorted(names - {features.name}))
    return next((file for file in found if file.is_file()), None)


def _looks_right(fields: list[bytes]) -> bool:
    if len(fields) == 2:
        return fields[1][:1] in (b"{", b"[") and b'"feature' in fields[1]
    return len(fields) == 3 and fields[1].strip().isdigit()


def _json(line: Line, fields: list[bytes]) -> Any:
    if len(fields) != 2:
        raise bad(line.where, f"it has {len(fields)} columns, not 2 or 3; is it cut short?")
    try:
        return json.loads(fields[1])
    except (ValueError, RecursionError) as error:
        raise bad(line.where, "its second column is not JSON; is it cut short?") from error


def _rows(where: str, entry: Any) -> np.ndarray:
    """(regions, columns) float32 from either kind of JSON."""
    try:
        if isinstance(entry, dict) and "features" in entry:
            return decode(where, "features", entry["features"], int(entry["num_boxes"]))
        each = [decode(where, "feature", region["feature"], 1) for region in _objects(entry)]
        return np.concatenate(each)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise bad(where, f"its JSON does not hold features: {error}") from error


def _objects(entry: Any) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = entry["objects"] if isinstance(entry, dict) else entry
    return objects


def _labels(line: Line) -> dict[str, Any]:
    return _facts(line.where, _json(line, read_fields(line)))


def _facts(where: str, entry: Any) -> dict[str, Any]:
    """Boxes, scores and the picture's size, as far as an entry tells them for every region."""
    facts: dict[str, Any] = {}
    try:
        if isinstance(entry, dict) and {"image_w", "image_h"} <= set(entry):
            facts["size"] = (float(entry["image_w"]), float(entry["image_h"]))
        objects = [] if isinstance(entry, dict) and "objects" not in entry else _objects(entry)
        for key, name in (("rect", "boxes"), ("conf", "scores")):
            values = [region[key] for region in objects if key in region]
            if values and len(values) == len(objects):
                facts[name] = np.array(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise bad(where, f"its JSON does not hold boxes and scores: {error}") from error
    return facts


def _has_geometry(rows: np.ndarray) -> bool:
    """Whether each row ends in a box as shares and its two sides, in either order."""
    if rows.shape[1] <= GEOMETRY:
        return False
    tail = rows[:, -GEOMETRY:]
    with np.errstate(invalid="ignore", over="ignore"):
        sides = tail[:, 2:4] - tail[:, :2]
        given = (tail[:, 4:], tail[:, :3:-1])
        fits = any(np.allclose(sides, order, rtol=0, atol=NEAR) for order in given)
        return fits and bool((tail > -NEAR - 0.02).all() and (tail < 1.02 + NEAR).all())

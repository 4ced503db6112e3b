"""COCO's own ``captions_*.json``: one file, or a folder of them, with Karpathy's splits where his file is beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.formats._common import find_pictures, read_json
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 15
PATTERN = "captions_*.json"


def matches(path: Path) -> bool:
    """A caption file, or a folder that holds some, itself or in ``annotations/``."""
    return bool(_caption_files(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are COCO's numbers; the split is Karpathy's (``restval`` included), else the one in the file's name."""
    files = _caption_files(path)
    root = files[0].parent.parent if files[0].parent.name == "annotations" else files[0].parent
    splits = _karpathy_splits(root)
    return tuple(example for file in files for example in _read_file(file, root, splits))


def _read_file(file: Path, root: Path, splits: dict[str, str]) -> list[Example]:
    content = read_json(file)
    try:
        captions: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"].strip())
        own = file.stem.removeprefix("captions_").rstrip("0123456789")
        pictures = _pictures(root, file, content["images"])
        return [
            Example(str(i["id"]), pictures / i["file_name"], tuple(captions[i["id"]]), splits.get(str(i["id"]), own))
            for i in content["images"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        wanted = "images need id and file_name, annotations image_id and caption"
        raise BadData(f"{file} has an entry without or with an unknown {error}", wanted) from error


def _pictures(root: Path, file: Path, images: list[dict[str, Any]]) -> Path:
    own = file.stem.removeprefix("captions_")
    return find_pictures(root, images[0]["file_name"]) if images else root / own


def _karpathy_splits(root: Path) -> dict[str, str]:
    for file in (root / "dataset_coco.json", root / "annotations" / "dataset_coco.json"):
        if file.is_file():
            return {str(image["cocoid"]): image["split"] for image in read_json(file)["images"]}
    return {}


def _caption_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.match(PATTERN) else []
    return sorted(path.glob(PATTERN)) or sorted(path.glob(f"annotations/{PATTERN}"))

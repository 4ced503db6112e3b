"""Evaluate captions: COCO-style results files, and captioners, which write theirs first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.text_files import field, read_json
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.types import Example, ImageTextDataset

FORM = 'it must be a list of {"image_id": ..., "caption": ...}'
TRAINING = ("train", "restval")  # whose captions a caption may be a copy of


def is_results(what: str) -> bool:
    """Whether ``what`` is a results file by its name, ``.json``."""
    return Path(what).suffix == ".json"


def score_results(file: Path, data: str, split: str = "test") -> dict[str, Any]:
    """The figures of a results file, which must hold one caption for each captioned image of the split.

    Raises MissingData, BadData.
    """
    dataset = load_dataset(data)
    captions, examples = match_results(file, dataset, split)
    training = dataset.select(*(name for name in TRAINING if name != split)).captions
    scores = score_captions(captions, [e.captions for e in examples], training=training or None)
    return {"model": file.name, "data": data, "split": split, "images": len(examples), **scores}


def match_results(file: Path, dataset: ImageTextDataset, split: str) -> tuple[list[str], tuple[Example, ...]]:
    """A caption for each captioned image of the split, and those images. Raises MissingData, BadData."""
    from xmodal_cli.data.selection import select_captioned

    examples = select_captioned(dataset, split).examples
    known = {e.path.name: e for e in dataset.examples if e.path is not None} | {e.image_id: e for e in dataset.examples}
    captions: dict[str, str] = {}
    for image_id, caption in read_results(file):
        example = known.get(image_id)
        if example is None or example.split != split:
            place = f"is not an image of {dataset.name}" if example is None else f"belongs to {example.split}"
            hint = "image_id is the dataset's id or the file's name; --split names another split"
            raise BadData(f"{file}: {image_id} {place}, and {split} is evaluated", hint)
        if example.image_id in captions:
            raise BadData(f"{file} has two captions for {image_id}", "keep one caption for each image")
        captions[example.image_id] = caption
    missing = [e.image_id for e in examples if e.image_id not in captions]
    if missing:
        raise BadData(
            f"{file} lacks {len(missing):,} of the {len(examples):,} images of {split}, such as {missing[0]}",
            "figures of a part cannot be compared: caption every image of the split",
        )
    return [captions[e.image_id] for e in examples], examples


def read_results(file: Path) -> list[tuple[str, str]]:
    """(image id, caption) for each entry. Raises MissingData, BadData."""
    if not file.is_file():
        raise MissingData(f"there is no file {file}", "give a JSON file of captions")
    content = read_json(file)
    if not isinstance(content, list) or not content:
        raise BadData(f"{file} is not a list of captions", FORM)
    found = []
    for number, entry in enumerate(content, 1):
        try:
            found.append((str(field(entry, "image_id", int, str)), field(entry, "caption")))
        except ValueError as error:
            raise BadData(f"{file}, entry {number} {error}", FORM) from error
    return found

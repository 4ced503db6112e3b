"""Evaluates results files: captions in the format of the COCO caption challenge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.text_files import field, read_json
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.evaluation.caption_scores import CaptionResult, score_captions
from xmodal_cli.types import Example, ImageTextDataset

FORMAT_HINT = 'it must be a list of {"image_id": ..., "caption": ...}'
TRAINING_SPLITS = ("train", "restval")


def is_results(what: str) -> bool:
    """Whether ``what`` has the extension of a results file, ``.json``."""
    return Path(what).suffix == ".json"


def score_results(file: Path, data: str, split: str = "test") -> CaptionResult:
    """The scores of a results file, which must have one caption for each captioned image of the split.

    Raises MissingData, BadData.
    """
    dataset = load_dataset(data)
    captions, examples = match_results(file, dataset, split)
    training = dataset.select(*(name for name in TRAINING_SPLITS if name != split)).captions
    scores = score_captions(captions, [e.captions for e in examples], training=training or None)
    return replace(scores, model=file.name, data=data, split=split)


def match_results(file: Path, dataset: ImageTextDataset, split: str) -> tuple[list[str], tuple[Example, ...]]:
    """One caption per captioned image of the split, and the examples. Raises MissingData, BadData."""
    from xmodal_cli.data.selection import select_captioned

    examples = select_captioned(dataset, split).examples
    known = {e.path.name: e for e in dataset.examples if e.path is not None} | {e.image_id: e for e in dataset.examples}
    captions: dict[str, str] = {}
    for image_id, caption in read_results(file):
        example = known.get(image_id)
        if example is None or example.split != split:
            reason = f"is not an image of {dataset.name}" if example is None else f"is in the split {example.split}"
            hint = "image_id must be an id or file name of the dataset; choose the split with --split"
            raise BadData(f"{file}: {image_id} {reason}, but the split {split} is evaluated", hint)
        if example.image_id in captions:
            raise BadData(f"{file} has two captions for {image_id}", "keep one caption per image")
        captions[example.image_id] = caption
    missing = [e.image_id for e in examples if e.image_id not in captions]
    if missing:
        raise BadData(
            f"{file} has no caption for {len(missing):,} of the {len(examples):,} images of {split}: {missing[0]}, ...",
            "add a caption for every image of the split; scores of a subset are not comparable",
        )
    return [captions[e.image_id] for e in examples], examples


def read_results(file: Path) -> list[tuple[str, str]]:
    """The (image id, caption) of each entry. Raises MissingData, BadData."""
    if not file.exists():
        raise MissingData(f"{file} does not exist", "give a JSON file with captions")
    content = read_json(file)
    if not isinstance(content, list) or not content:
        raise BadData(f"{file} is not a list of captions", FORMAT_HINT)
    results = []
    for index, entry in enumerate(content, 1):
        try:
            results.append((str(field(entry, "image_id", int, str)), field(entry, "caption")))
        except ValueError as error:
            raise BadData(f"{file}, entry {index} {error}", FORMAT_HINT) from error
    return results

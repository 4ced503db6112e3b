"""Evaluates results files: captions in the format of the COCO caption challenge, or the same in JSON Lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmodal_cli.data.json_starts import is_json_lines
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.text_files import field, parse_json, read_lines, read_text
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.evaluation.caption_scores import ScoredCaptions, score_captions
from xmodal_cli.file_identity import reason_not_regular
from xmodal_cli.types import Example, ImageTextDataset

FORMAT_HINT = 'it must be a list of {"image_id": ..., "caption": ...}, or have one of them per line (.jsonl)'
TRAINING_SPLITS = ("train", "restval")


def is_results(what: str) -> bool:
    """Whether ``what`` has the extension of a results file: ``.json`` or ``.jsonl``, also with ``.gz``."""
    return what.lower().removesuffix(".gz").endswith((".json", ".jsonl"))


def score_results(file: Path, data: str, split: str = "test") -> ScoredCaptions:
    """The scores of a results file, which must have one caption for each captioned image of the split.

    Raises MissingData, BadData.
    """
    dataset = load_dataset(data)
    captions, examples = match_results(file, dataset, split)
    training = dataset.select(*(name for name in TRAINING_SPLITS if name != split)).captions
    scores = score_captions(captions, [e.captions for e in examples], training=training or None)
    return ScoredCaptions(replace(scores, model=file.name, data=data, split=split), captions, examples)


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
    if problem := reason_not_regular(file):
        raise MissingData(f"{file} {problem}", "give a JSON file with captions")
    entries = dict(_read_lines(file) if is_json_lines(file) else _read_list(file))
    if not entries or _is_one_object(list(entries.values())):
        raise BadData(f"{file} is not a list of captions", FORMAT_HINT)
    results = []
    for where, entry in entries.items():
        try:
            results.append((str(field(entry, "image_id", int, str)), field(entry, "caption")))
        except ValueError as error:
            raise BadData(f"{where} {error}", FORMAT_HINT) from error
    return results


def _is_one_object(entries: list[Any]) -> bool:
    """Whether a file has an object of another kind instead of a list."""
    return len(entries) == 1 and isinstance(entries[0], dict) and not {"image_id", "caption"} & entries[0].keys()


def _read_list(file: Path) -> Iterator[tuple[str, Any]]:
    """(file and number, entry) of a JSON list."""
    text = read_text(file)
    content = parse_json(text, str(file)) if text.strip() else []
    for number, entry in enumerate(content if isinstance(content, list) else [], 1):
        yield f"{file}, entry {number}", entry


def _read_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """(file and line, entry) of JSON Lines; empty lines are skipped."""
    for number, line in enumerate(read_lines(file), 1):
        if line.strip():
            yield f"{file}, line {number}", parse_json(line, f"{file}, line {number}")

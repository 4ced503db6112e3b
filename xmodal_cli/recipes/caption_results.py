"""Evaluate captions: COCO-style results files, and captioners, which write theirs first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.formats._common import field, read_json
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.recipes import zero_shot
from xmodal_cli.recipes.caption_scores import score_captions
from xmodal_cli.recipes.evaluate import is_embeddings
from xmodal_cli.types import Example, ImageTextDataset, Reporter, Silent

FORM = 'it must be a list of {"image_id": ..., "caption": ...}'
TRAINING = ("train", "restval")  # whose captions a caption may be a copy of


def about_captions(what: list[str]) -> bool:
    """Whether all of ``what`` is about captions, results files and captioners, or none of it is.

    Raises ConfigError for a mixture, and what reading a model's header raises.
    """
    ours = [item for item in what if is_results(item) or _is_captioner(item)]
    if ours and len(ours) < len(what):
        other = next(item for item in what if item not in ours)
        raise ConfigError(
            f"{ours[0]} is about captions and {other} is not: they have no figures in common",
            "evaluate captions and matchers in two calls",
        )
    return bool(ours)


def is_results(what: str) -> bool:
    """Whether ``what`` is a results file by its name, ``.json``."""
    return Path(what).suffix == ".json"


def _is_captioner(what: str) -> bool:
    if zero_shot.claims(what) or is_embeddings(what):
        return False
    from xmodal_cli.recipes.models import describe_model

    return describe_model(what).kind == "captioner"


def evaluate_captions(
    what: list[str],
    data: str | None,
    split: str = "test",
    decoding: dict[str, Any] | None = None,
    ensemble: bool = False,
    where: tuple[str, str] = ("auto", "auto"),
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """One dictionary per results file or captioner, in the order given, shaped as ``xmodal eval --json``.

    ``decoding`` changes how captioners decode, ``ensemble`` adds all of them as one at the end, ``where`` is device and
    precision. Raises XmodalError kinds for unknown models or data, and for files that cannot be scored.
    """
    if data is None:
        raise ConfigError("captions are scored against a dataset's", "add --data, for example --data f8k")
    captioners = [item for item in what if not is_results(item)]
    if ensemble and len(captioners) < 2:
        raise ConfigError("an ensemble needs two captioners", "name two or more, or leave --ensemble out")
    reporter = reporter or Silent()
    groups = [[item] for item in what] + ([captioners] if ensemble else [])
    return [_evaluate(group, data, split, decoding, where, reporter) for group in groups]


def _evaluate(
    group: list[str],
    data: str,
    split: str,
    decoding: dict[str, Any] | None,
    where: tuple[str, str],
    reporter: Reporter,
) -> dict[str, Any]:
    if is_results(group[0]):
        return score_results(Path(group[0]), data, split)
    from xmodal_cli.recipes.captioners import evaluate_captioner

    return evaluate_captioner(group, data, split, decoding, where, reporter)


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
    from xmodal_cli.recipes.splits import captioned

    examples = captioned(dataset, split).examples
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

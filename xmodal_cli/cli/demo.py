"""``xmodal demo``: train, search and caption on generated images in a few minutes, optionally also on own photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_captions, print_retrieval
from xmodal_cli.errors import MissingData
from xmodal_cli.file_identity import reason_not_folder
from xmodal_cli.paths import expand_home
from xmodal_cli.result_json import to_json

if TYPE_CHECKING:
    from xmodal_cli.demo.results import Captioned, CaptionerPart, MatcherPart, OwnPhotos, SearchExample


def command(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]", help="Folder of photos to index, search and caption as well. Only read, never changed."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Train, evaluate, search and caption on generated images, and optionally on your own photos.

    Needs no network and no data, and writes an HTML report. Finished steps are not repeated. At most 300 photos of
    FOLDER are used, and the default models are applied to them.

    Examples:

      xmodal demo

      xmodal demo ~/Pictures

      xmodal demo --json
    """
    if folder is not None and (problem := reason_not_folder(expand_home(folder))):  # before torch is imported
        raise MissingData(f"{folder} {problem}", "give a folder of photos: xmodal demo ~/Pictures")
    from xmodal_cli.demo.run import demo as run

    result = run(folder, output.TerminalReporter())
    if as_json:
        output.print_json(result.facts())
        return
    _print_matcher(result.matcher)
    _print_captioner(result.captioner)
    if result.photos is not None:
        _print_photos(result.photos)
    output.print_line()
    output.print_line(f"{sum(result.seconds.values()):.0f} s; report: {result.page}")
    output.print_line("next:")
    for command in result.next_commands:
        output.print_line(f"  {command}")


def _print_matcher(part: MatcherPart) -> None:
    title = f"test: {part.test.images} images, {part.test.captions} captions"
    print_retrieval(title, {part.run.name: to_json(part.test)})
    for example in part.searches:
        output.print_line(f'"{example.query}": {_describe_rank(example)}')


def _describe_rank(example: SearchExample) -> str:
    if example.rank is None:
        return f"the correct image is not among the top {len(example.hits)}"
    return f"the correct image has rank {example.rank}"


def _print_captioner(part: CaptionerPart) -> None:
    output.print_line()
    print_captions("", {part.run.name: {key: part.test.scores[key] for key in ("bleu_4", "cider")}})
    if part.truth is not None:
        truth = part.truth
        output.print_line(f"{truth.num_true} of {truth.num_captions} captions are true ({truth.percent:.1f}%)")
    _print_captions(part.captions)


def _print_captions(captions: Sequence[Captioned]) -> None:
    for caption in captions:
        output.print_line(f"{caption.photo.name}: {caption.text}")


def _print_photos(part: OwnPhotos) -> None:
    photos = f"{part.index.items} of {part.num_found} photos in {part.folder}"
    models = f"models {part.index.model} and {part.captioner}"
    output.print_line()
    output.print_line(f"{photos}, {models}")
    _print_captions(part.captions)
    for example in part.searches:
        first = Path(example.hits[0].path).name if example.hits else "no results"
        output.print_line(f'"{example.query}": {first}')

"""``xmodal demo``: the whole road on the sample set, in about a minute, and then on somebody's own photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_captions, print_retrieval

if TYPE_CHECKING:
    from xmodal_cli.demo.results import Captioned, CaptionerPart, MatcherPart, OwnPhotos, SearchExample


def command(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Your photos, to look at them too; they are only read.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Make pictures, train a matcher and a captioner on them, search them, caption them; then look at your photos.

    Needs no network and no data. Ends with a page to look at. What was finished is not done again. Of a large folder,
    300 photos are taken.

    Examples:

      xmodal demo

      xmodal demo ~/Pictures

      xmodal demo --json
    """
    from xmodal_cli.demo.run import demo as run

    result = run(folder, output.TerminalReporter())
    if as_json:
        output.print_json(result.facts())
        return
    _print_matcher(result.matcher)
    _print_captioner(result.captioner)
    if result.photos is not None:
        _print_photos(result.photos)
    output.print_line(f"\n{sum(result.seconds.values()):.0f} s; the page with all of it: {result.page}")
    output.print_line("next:")
    for command in result.next_commands:
        output.print_line(f"  {output.printable(command)}")


def _print_matcher(part: MatcherPart) -> None:
    print_retrieval(
        f"test: {part.test['images']} pictures, {part.test['captions']} captions", {part.run.name: part.test}
    )
    for found in part.searches:
        output.print_line(f'"{found.query}": {_place(found)}')


def _place(found: SearchExample) -> str:
    if found.rank is None:
        return "the right picture is not among the first"
    return f"the right picture is number {found.rank}"


def _print_captioner(part: CaptionerPart) -> None:
    output.print_line()
    print_captions("", {part.run.name: {key: part.test[key] for key in ("bleu_4", "cider")}})
    if part.truth is not None:
        truth = part.truth
        output.print_line(f"{truth.num_true} of {truth.num_captions} captions are true ({truth.percent:.1f}%)")
    _print_captions(part.captions)


def _print_captions(captions: Sequence[Captioned]) -> None:
    for caption in captions:
        output.print_line(f"{output.printable(caption.photo.name)}: {output.printable(caption.text)}")


def _print_photos(part: OwnPhotos) -> None:
    taken = f"{part.index['items']} of {part.num_found} photos in {part.folder}"
    output.print_line(f"\n{output.printable(taken)}, by {part.index['model']} and {part.captioner}")
    _print_captions(part.captions)
    for found in part.searches:
        first = Path(found.hits[0]["path"]).name if found.hits else "nothing"
        output.print_line(f'"{output.printable(found.query)}": {output.printable(first)}')

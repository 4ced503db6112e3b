"""``xmodal caption``: sentences for photos."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import options, output

if TYPE_CHECKING:
    from xmodal_cli.recipes.caption import CaptionedPhoto


class Sidecar(StrEnum):
    """Files that captions are written to beside their photos."""

    txt = "txt"


def command(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Picture files, folders (with all below them), patterns in quotes."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="M",
            help="Run, file or hf/NAME; default: starter-captioner. Several: an ensemble.",
        ),
    ] = None,
    beam: Annotated[int | None, typer.Option("--beam", metavar="N", help="Width of the beam; 1 is greedy.")] = None,
    num: Annotated[int | None, typer.Option("--num", metavar="N", help="Captions of each photo, best first.")] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw captions at random instead of the best.")] = False,
    tags: Annotated[
        str | None, typer.Option("--tags", metavar="A,B", help="Words to begin from, for models trained with tags.")
    ] = None,
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Captions of the nearest training images, by a matcher.")
    ] = False,
    attention: Annotated[
        Path | None, typer.Option("--attention", metavar="DIR", help="Draw what each word looked at.")
    ] = None,
    write: Annotated[
        Sidecar | None, typer.Option("--write", metavar="txt", help="Write photo.txt beside each photo.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --write and --attention write over files.")] = False,
    settings: options.Set = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    as_json: options.Json = False,
) -> None:
    """Write captions for photos. A file that is no picture costs one line, not the run.

    In a pipe, a line is PATH, a tab, CAPTION. Sentences are decoded as the model was evaluated in its training, unless
    --set decoding.KEY=VALUE says otherwise; KEY is beam, num, sample, length_penalty, min_length, max_length,
    no_repeat_ngram_size, num_beam_groups, diversity_penalty, temperature, top_k, top_p or seed.

    Examples:

      xmodal caption photo.jpg

      xmodal caption ~/Pictures "scans/*.png" --beam 5 --write txt

      xmodal caption photo.jpg --model one --model two --num 3 --json

      xmodal caption photo.jpg --sample --num 5 --set decoding.top_p=0.9

      xmodal caption photo.jpg --attention maps

      xmodal caption photo.jpg --nearest --model vsepp-f8k
    """
    from xmodal_cli.data.photo_files import find_photos
    from xmodal_cli.device import Compute
    from xmodal_cli.inference.caption_types import CaptionRequest
    from xmodal_cli.recipes.caption import caption as run
    from xmodal_cli.recipes.caption import raise_if_all_failed

    if nearest:
        _check_nearest(
            {"--beam": beam, "--sample": sample, "--tags": tags, "--attention": attention, "--set": settings}
        )
    flags = [f"decoding.beam={beam}"] if beam is not None else []
    flags += [f"decoding.num={num}"] if num is not None else []
    flags += ["decoding.sample=true"] if sample else []
    words = tuple(word.strip() for word in (tags or "").split(",") if word.strip())
    chosen = (*(settings or ()), *flags)
    compute = Compute(device, precision.value)
    request = CaptionRequest(
        tuple(model or ()),
        chosen,
        words,
        nearest,
        attention,
        write is not None,
        force,
        compute,
    )
    reporter, photos = output.TerminalReporter(), find_photos(images)
    teller = _CaptionPrinter(reporter, quiet=as_json, alone=len(photos) == 1)
    results = run(photos, request, reporter, teller)
    if as_json:
        output.print_json([done.facts() for done in results])
    raise_if_all_failed(results)
    if attention is not None:
        reporter.info(f"attention maps: {attention / 'index.html'}")


def _check_nearest(given: dict[str, object]) -> None:
    """Raise a usage error for options that only make sense where sentences are made."""
    for option, value in given.items():
        if value:
            raise typer.BadParameter("--nearest takes captions as they are; leave this out", param_hint=option)


class _CaptionPrinter:
    """Prints each photo's captions as they come, and warns of those that have none."""

    def __init__(self, reporter: output.TerminalReporter, quiet: bool, alone: bool) -> None:
        self._reporter, self._quiet, self._alone = reporter, quiet, alone
        self._on_terminal = output.is_terminal(sys.stdout)

    def __call__(self, done: CaptionedPhoto) -> None:
        if done.problem is not None and not self._alone:  # one that is alone ends the command as its error
            self._reporter.warn(output.printable(done.problem.message))
        for note in done.notes:
            self._reporter.warn(output.printable(note))
        if self._quiet or done.problem is not None:
            return
        path = output.printable(str(done.path))
        if not self._on_terminal:
            for found in done.captions:
                output.print_line(f"{path}\t{output.printable(found.text)}")
            return
        output.print_line(path)
        for found in done.captions:
            score = f"{found.score:8.3f}  " if len(done.captions) > 1 else ""
            output.print_line(f"  {score}{output.printable(found.text)}")

"""``xmodal caption``: generate captions for photos."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.errors import ConfigError
from xmodal_cli.paths import is_folder
from xmodal_cli.printable import escape_unprintable
from xmodal_cli.result_json import to_json

if TYPE_CHECKING:
    from xmodal_cli.inference.caption_types import CaptionRequest
    from xmodal_cli.inference.loaded_models import ImageCaptions


class Sidecar(StrEnum):
    """Formats of the caption files that are written next to the photos."""

    txt = "txt"


def command(
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IMAGE...]", help="Photo files, folders (read recursively) or quoted glob patterns."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="M",
            help="Run, model file or hf/NAME (default: the default captioner). Repeat for an ensemble.",
        ),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option("--beam", rich_help_panel=options.CAPTIONS, metavar="N", help="Beam size (1 = greedy)."),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option("--num", rich_help_panel=options.CAPTIONS, metavar="N", help="Number of captions per photo."),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", rich_help_panel=options.CAPTIONS, help="Sample instead of beam search.")
    ] = False,
    tags: Annotated[
        str | None,
        typer.Option(
            "--tags",
            rich_help_panel=options.CAPTIONS,
            metavar="A,B",
            help="Tags that condition the caption, for models trained with tags: words, auto (those of the default "
            "tagger), auto:TAGGER or none.",
        ),
    ] = None,
    nearest: Annotated[
        bool,
        typer.Option(
            "--nearest",
            rich_help_panel=options.CAPTIONS,
            help="Retrieve the best of all training captions instead; --model is a matcher.",
        ),
    ] = False,
    attention: Annotated[
        Path | None,
        typer.Option(
            "--attention", rich_help_panel=options.OUTPUT, metavar="DIR", help="Save per-word attention maps to DIR."
        ),
    ] = None,
    write: Annotated[
        Sidecar | None,
        typer.Option(
            "--write",
            rich_help_panel=options.OUTPUT,
            metavar="txt",
            help="Also write captions to a .txt file next to each photo.",
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option("--index", metavar="NAME", help="Caption the photos of an index, for searches by caption:WORDS."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", rich_help_panel=options.OUTPUT, help="Let --write and --attention overwrite existing files."
        ),
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            rich_help_panel=options.PHOTOS,
            metavar="PATTERN",
            help="Leave out, as in .gitignore. Can be repeated.",
        ),
    ] = None,
    settings: options.Set = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    runtime: options.RuntimeOption = options.Runtime.auto,
    engine: options.Engine = options.EngineName.local,
    address: options.Address = "",
    strict: options.Strict = False,
    as_json: options.Json = False,
) -> None:
    """Generate captions for photos. Unreadable files are reported and skipped.

    If stdout is not a terminal, each line has the form PATH, tab, CAPTION.

    Decoding settings default to those of the model's training run. Change them with --set decoding.KEY=VALUE; KEY is
    beam, num, sample, length_penalty, min_length, max_length, no_repeat_ngram_size, num_beam_groups, diversity_penalty,
    early_stopping, temperature, top_k, top_p, seed, rerank or rerank_weight.

    With --nearest, --set nearest.images=N scores only the captions of the N nearest training images.

    Examples:

      xmodal caption photo.jpg

      xmodal caption ~/Pictures "scans/*.png" --beam 5 --write txt

      xmodal caption ~/Pictures --exclude raw/ --exclude "*.gif"

      xmodal caption photo.jpg --model one --model two --num 3 --json

      xmodal caption photo.jpg --sample --num 5 --set decoding.top_p=0.9

      xmodal caption photo.jpg --beam 10 --set decoding.rerank=starter

      xmodal caption photo.jpg --model transformer-tags --tags auto

      xmodal caption photo.jpg --attention maps

      xmodal caption photo.jpg --nearest --num 5 --model vsepp-f8k

      xmodal caption --index family

      xmodal caption /mnt/photos --write txt --engine ray --address auto
    """
    from xmodal_cli.data import left_out
    from xmodal_cli.data.photo_files import find_photos
    from xmodal_cli.device import Compute
    from xmodal_cli.inference.caption_types import CaptionRequest
    from xmodal_cli.recipes.caption import caption as run
    from xmodal_cli.recipes.caption import check_request, left_out_of, raise_if_all_failed

    if nearest:
        _check_nearest({"--beam": beam, "--sample": sample, "--tags": tags, "--attention": attention})
    nearest_images, settings = _read_nearest_images(settings or []) if nearest else (None, settings)
    flags = [f"decoding.beam={beam}"] if beam is not None else []
    flags += [f"decoding.num={num}"] if num is not None else []
    flags += ["decoding.sample=true"] if sample else []
    tag_words = tuple(word.strip() for word in (tags or "").split(",") if word.strip())
    compute = Compute(device, precision.value, runtime.value, engine.value, address)
    request = CaptionRequest(
        tuple(model or ()),
        (*(settings or ()), *flags),
        tag_words,
        nearest,
        attention,
        write is not None,
        force,
        compute,
        nearest_images,
    )
    if index is not None:
        given = {"IMAGE": images, "--num": num, "--nearest": nearest, "--attention": attention, "--write": write}
        _caption_index(index, given, request, as_json)
        return
    if not images:
        raise typer.BadParameter("give photos, or an index with --index NAME", param_hint="IMAGE")
    if any(map(is_folder, images)):
        check_request(request)  # before a folder is listed, which may take long
    reporter, photos = output.TerminalReporter(), find_photos(images, exclude or ())
    printer = _CaptionPrinter(reporter, quiet=as_json, single=len(photos) == 1)
    results = run(photos, request, reporter, printer)
    if as_json:
        output.print_json(results)
    raise_if_all_failed(results)
    for line in left_out.to_lines(left_out.to_json(left_out_of(results)))[:1]:
        reporter.info(line)
    if attention is not None:
        reporter.info(f"attention maps: {attention / 'index.html'}")


def _caption_index(index: str, given: Mapping[str, object], request: CaptionRequest, as_json: bool) -> None:
    """Write captions to an index. Raises a usage error for options that apply only to photos."""
    for option, value in given.items():
        if value:
            raise typer.BadParameter("not allowed with --index, which has one caption per photo", param_hint=option)
    from xmodal_cli.data import left_out
    from xmodal_cli.inference.index_captions import caption_index
    from xmodal_cli.retrieval.registry import find_index

    reporter = output.TerminalReporter()
    result = caption_index(find_index(index), request, reporter)
    groups = left_out.to_json(result.left_out)
    if as_json:
        output.print_json({**to_json(result), "left_out": groups})
        return
    for line in left_out.to_lines(groups):
        reporter.info(line)
    output.print_line(
        f"index {result.index}: {result.photos - len(result.left_out)} of {result.photos} photos have captions"
        f" ({result.captioned} new), model {result.model}"
    )


def _check_nearest(given: dict[str, object]) -> None:
    """Raise a usage error for options that apply only to generated captions."""
    for option, value in given.items():
        if value:
            raise typer.BadParameter("not allowed with --nearest, which generates no captions", param_hint=option)


def _read_nearest_images(settings: list[str]) -> tuple[int | None, list[str]]:
    """The value of ``--set nearest.images=N``, the only setting that applies to --nearest, and no other settings."""
    number = None
    for setting in settings:
        name, _, value = (part.strip() for part in setting.partition("="))
        if name != "nearest.images":
            raise typer.BadParameter("not allowed with --nearest, except nearest.images=N", param_hint="--set")
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", value):
            raise ConfigError(f"nearest.images must be a number of images, not {value!r}", "--set nearest.images=10")
        number = int(value)
    return number, []


class _CaptionPrinter:
    """Prints the captions of each photo as they are ready, and a warning for a photo that failed."""

    def __init__(self, reporter: output.TerminalReporter, quiet: bool, single: bool) -> None:
        self._reporter, self._quiet, self._single = reporter, quiet, single
        self._on_terminal = output.is_terminal(sys.stdout)

    def __call__(self, photo: ImageCaptions) -> None:
        if photo.error is not None and not self._single:  # that of a single photo is the command's error
            self._reporter.warn(photo.error)
        for note in photo.notes:
            self._reporter.warn(note)
        if self._quiet or photo.error is not None:
            return
        path = escape_unprintable(photo.path)
        if not self._on_terminal:
            for caption in photo.captions:
                output.print_line(f"{path}\t{escape_unprintable(caption.text)}")
            return
        output.print_line(path)
        for caption in photo.captions:
            score = f"{caption.score:8.3f}  " if len(photo.captions) > 1 else ""
            output.print_line(f"  {score}{escape_unprintable(caption.text)}")

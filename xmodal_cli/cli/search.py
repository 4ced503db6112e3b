"""``xmodal search``: find photos by sentences and example photos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from xmodal_cli.cli import fast_path, output
from xmodal_cli.cli.hit_lines import PATHS, check_format
from xmodal_cli.cli.options import COMPUTATION, OUTPUT, PHOTOS, IndexName, Json, Runtime, RuntimeOption
from xmodal_cli.cli.search_outputs import SearchOutputs
from xmodal_cli.retrieval.search_options import SearchOptions

if TYPE_CHECKING:
    from xmodal_cli.recipes.search import Searcher
    from xmodal_cli.serve.client import RemoteSearcher

_MINUS = "\ue000"  # replaces the minus of a term while the options are parsed
_WITH_VALUE = (
    *("-k", "--index", "--html", "--sheet", "--runtime", "--in", "--after", "--before", "--threshold", "--format"),
    *("--open", "--copy-to", "--server"),
)


class CommandClass(TyperCommand):
    """A command whose arguments may start with a minus: of those with one dash, ``-k``, ``-0`` and ``-h`` are options.

    All others, such as ``-person``, are terms.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace the minus of terms before parsing; the command restores it."""
        hidden, value_follows, all_terms = [], False, False
        for arg in args:
            is_option = value_follows or fast_path.OPTION.fullmatch(arg) is not None
            is_negative = arg.startswith("-") and (all_terms or not is_option)
            term = fast_path.after_dashes(arg) if all_terms else arg
            hidden.append(_MINUS + term[1:] if is_negative else arg)
            value_follows = not value_follows and arg in _WITH_VALUE
            all_terms = all_terms or arg == "--"
        return super().parse_args(ctx, hidden)


def command(
    terms: Annotated[
        list[str] | None, typer.Argument(metavar="[TERMS...]", help="Sentences and photo files, see above.")
    ] = None,
    index: IndexName = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Number of photos to show.")] = 10,
    folders: Annotated[
        list[str] | None,
        typer.Option(
            "--in", rich_help_panel=PHOTOS, metavar="FOLDER", help="Only photos in this folder. Can be repeated."
        ),
    ] = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            rich_help_panel=PHOTOS,
            metavar="DATE",
            help="Only photos of this date (2024, 2024-06, ...) or later.",
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option("--before", rich_help_panel=PHOTOS, metavar="DATE", help="Only photos before this date."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", rich_help_panel=PHOTOS, metavar="S", help="Only photos with at least this score."),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", rich_help_panel=PHOTOS, help="Show every copy of a photo, instead of their number.")
    ] = False,
    paths: Annotated[
        bool, typer.Option("--paths", rich_help_panel=OUTPUT, help="Print only the paths, one per line.")
    ] = False,
    null: Annotated[
        bool, typer.Option("-0", rich_help_panel=OUTPUT, help="Print only the paths, each followed by a null byte.")
    ] = False,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", rich_help_panel=OUTPUT, metavar="TEXT", help="One line per photo, such as '{score:.3f} {path}'."
        ),
    ] = None,
    open_: Annotated[
        int | None,
        typer.Option(
            "--open", rich_help_panel=OUTPUT, metavar="N", min=1, help="Also open photo N with the system's viewer."
        ),
    ] = None,
    copy_to: Annotated[
        Path | None,
        typer.Option("--copy-to", rich_help_panel=OUTPUT, metavar="DIR", help="Also copy the photos to a folder."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", rich_help_panel=OUTPUT, metavar="FILE", help="Also write an HTML page with the photos and scores."
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet", rich_help_panel=OUTPUT, metavar="FILE", help="Also write a PNG with the photos in a grid."
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", rich_help_panel=COMPUTATION, help="Score every photo of a large index.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", rich_help_panel=OUTPUT, help="Show the photos in the terminal.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            rich_help_panel=COMPUTATION,
            metavar="URL",
            help="Search on a running `xmodal serve`, at this address.",
        ),
    ] = None,
    runtime: RuntimeOption = Runtime.auto,
    json: Json = False,
) -> None:
    """Find photos by sentences and example photos.

    Each argument is one term: a sentence or a photo file. +TERM (or TERM) ranks matching photos higher, -TERM lower;
    TERM^0.5 has half the weight. name:TEXT and caption:TEXT keep only photos with this text in their file name or
    caption, -name:TEXT only those without it.

    Without TERMS, a terminal starts an interactive prompt that keeps the index and the model loaded. If stdin is not a
    terminal, each of its lines is a query, and --json prints one line per query.

    Copies of a photo (the same bytes, or nearly the same image) are one hit; --all shows them all.

    Examples:

        xmodal search "two dogs running"

        xmodal search dog +snow -person "a red ball^0.5" -k 5

        xmodal search beach.jpg "at night" --index family --json

        xmodal search "a birthday cake" --in ~/Pictures/family --after 2023-06 --before 2024

        xmodal search "a red car" --sheet cars.png --html cars.html --preview

        xmodal search "blurred photo" --threshold 0.4 -k 500 -0 | xargs -r -0 ls -l

        xmodal search --json < sentences.txt

        xmodal search "two dogs" --server http://127.0.0.1:7878
    """
    options = SearchOptions(k, not all_, threshold, tuple(folders or ()), after, before, exact)
    template = _template(paths or null, format_, json)
    end = "\0" if null else "\n"
    outputs = SearchOutputs(json, template, end, html, sheet, preview, copy_to, open_)
    if terms:
        words = [t.replace(_MINUS, "-", 1) if t.startswith(_MINUS) else t for t in terms]
        with outputs.checked():
            if server is None:
                outputs.add(fast_path.search_once(words, index, options, runtime.value))
            else:
                outputs.add(_searcher(server, index, runtime.value).search(words, options))
    elif sys.stdin is None or not sys.stdin.isatty():
        from xmodal_cli.cli.search_lines import search_lines

        with outputs.checked():
            failed = search_lines(lambda: _searcher(server, index, runtime.value), options, outputs)
        if failed:
            raise typer.Exit(1)
    elif outputs != SearchOutputs(preview=preview) or not sys.stdout.isatty() or server is not None:
        raise typer.BadParameter("give at least one, or one query per line on stdin", param_hint="TERMS")
    else:
        from xmodal_cli.cli.prompt import run_prompt

        run_prompt(index, options, preview, runtime.value)


def _searcher(server: str | None, index: str | None, runtime: str) -> Searcher | RemoteSearcher:
    """What searches: an index of this machine, or a server."""
    if server is not None:
        from xmodal_cli.serve.client import RemoteSearcher

        return RemoteSearcher(server, index, output.TerminalReporter())
    from xmodal_cli.recipes.search import open_searcher

    return open_searcher(index, output.TerminalReporter(), runtime)


def _template(paths: bool, format_: str | None, json: bool) -> str | None:
    """The format of one line per photo; None for a table or JSON."""
    if json and (paths or format_ is not None):
        raise typer.BadParameter("it cannot be combined with --paths, -0 and --format", param_hint="--json")
    if format_ is not None:
        return check_format(format_)
    return PATHS if paths else None

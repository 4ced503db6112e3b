"""``xmodal search``: find photos by sentences and example photos."""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from xmodal_cli.cli import fast_path, hits, output
from xmodal_cli.cli.options import IndexName, Json, Runtime, RuntimeOption
from xmodal_cli.cli.printable import escape_unprintable
from xmodal_cli.errors import BadData, XmodalError, bug_message, error_lines, is_debugging

if TYPE_CHECKING:
    from xmodal_cli.retrieval.search_result import SearchResult

_MINUS = "\ue000"  # replaces the minus of a term while the options are parsed


class CommandClass(TyperCommand):
    """A command whose arguments may start with a minus: ``-person`` is a term; only ``-k`` and ``-h`` are options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace the minus of terms before parsing; the command restores it."""
        hidden, value_follows, all_terms = [], False, False
        for arg in args:
            is_option = value_follows or re.fullmatch(r"--.*|-h|-k\d*", arg) is not None
            is_negative = arg.startswith("-") and (all_terms or not is_option)
            term = fast_path.after_dashes(arg) if all_terms else arg
            hidden.append(_MINUS + term[1:] if is_negative else arg)
            value_follows = not value_follows and arg in ("-k", "--index", "--html", "--sheet", "--runtime")
            all_terms = all_terms or arg == "--"
        return super().parse_args(ctx, hidden)


def command(
    terms: Annotated[
        list[str] | None, typer.Argument(metavar="[TERMS...]", help="Sentences and photo files, see above.")
    ] = None,
    index: IndexName = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Number of photos to show.")] = 10,
    all_: Annotated[bool, typer.Option("--all", help="Show every copy of a photo, instead of their number.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write an HTML page with the photos and scores.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Also write a PNG with the photos in a grid.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every photo of a large index.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the photos in the terminal.")] = False,
    runtime: RuntimeOption = Runtime.auto,
    json: Json = False,
) -> None:
    """Find photos by sentences and example photos.

    Each argument is one term: a sentence or a photo file. +TERM (or TERM) ranks matching photos higher, -TERM lower;
    TERM^0.5 has half the weight.

    Without TERMS, a terminal starts an interactive prompt that keeps the index and the model loaded. If stdin is not a
    terminal, each of its lines is a query, and --json prints one line per query.

    Copies of a photo (the same bytes, or nearly the same image) are one hit; --all shows them all.

    Examples:

        xmodal search "two dogs running"

        xmodal search dog +snow -person "a red ball^0.5" -k 5

        xmodal search beach.jpg "at night" --index family --json

        xmodal search "a red car" --sheet cars.png --html cars.html --preview

        xmodal search --json < sentences.txt
    """
    if terms:
        words = [t.replace(_MINUS, "-", 1) if t.startswith(_MINUS) else t for t in terms]
        if not (html or sheet or preview):
            fast_path.search_once(words, index, k, json, not all_, runtime.value, exact)
            return
        with _images(html, sheet, preview and not json) as images:
            images.add(fast_path.search_once(words, index, k, json, not all_, runtime.value, exact))
    elif sys.stdin is None or not sys.stdin.isatty():
        with _images(html, sheet, preview and not json) as images:
            failed = _search_lines(index, k, json, not all_, images, runtime.value, exact)
        if failed:
            raise typer.Exit(1)
    elif json or html or sheet or not sys.stdout.isatty():
        raise typer.BadParameter("give at least one, or one query per line on stdin", param_hint="TERMS")
    else:
        from xmodal_cli.cli.prompt import run_prompt

        run_prompt(index, k, not all_, preview, runtime.value, exact)


@contextlib.contextmanager
def _images(html: Path | None, sheet: Path | None, preview: bool) -> Iterator[_ResultImages]:
    """Collects results, and writes the files at the end. Raises the errors of ``search_files`` before the search."""
    images = _ResultImages(preview, keep=html is not None or sheet is not None)
    if not images.keep:
        yield images
        return
    from xmodal_cli.reports import search_files

    if html is not None:
        search_files.check_page(html)
    if sheet is not None:
        search_files.check_sheet(sheet)
    yield images
    if html is not None and images.results:
        search_files.write_page(images.results, html)
        output.TerminalReporter().info(f"page: {html}")
    if sheet is not None and images.results:
        search_files.write_sheet(images.results, sheet)
        output.TerminalReporter().info(f"sheet: {sheet}")


@dataclass(frozen=True)
class _ResultImages:
    """``preview`` shows the photos of each result in the terminal; ``keep`` collects the results for the files."""

    preview: bool
    keep: bool
    results: list[SearchResult] = field(default_factory=list)

    def add(self, result: SearchResult) -> None:
        if self.keep:
            self.results.append(result)
        if self.preview:
            from xmodal_cli.cli.preview import print_preview

            print_preview(result)


def _search_lines(
    index: str | None, k: int, json: bool, fold: bool, images: _ResultImages, runtime: str, exact: bool
) -> bool:
    """Search for each line of stdin; returns whether a line failed. Its error is printed, the others are processed."""
    lines = _read_lines()
    first = next(lines, None)
    if first is None:
        message = 'give at least one, as in xmodal search "two dogs", or one query per line on stdin'
        raise typer.BadParameter(message, param_hint="TERMS")
    from xmodal_cli.recipes.search import open_searcher
    from xmodal_cli.retrieval.query_line import split_line

    failed = False
    with open_searcher(index, output.TerminalReporter(), runtime) as searcher:
        searcher.fold, searcher.exact = fold, exact
        for line in chain([first], lines):  # one at a time: a program may wait for each result
            try:
                result = searcher.search(split_line(line), k)
            except Exception as error:  # also a bug must not end the other queries
                failed = True
                _print_failure(line, error, json)
                continue
            if json:
                output.print_json_line(result)
            else:
                output.print_line(escape_unprintable(line))
                hits.print_hits(result)
                hits.print_warnings(result)
            images.add(result)
    return failed


def _read_lines() -> Iterator[str]:
    """The lines of stdin that are not empty, as they arrive. Raises BadData for text that cannot be decoded at all."""
    if sys.stdin is None:
        return
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # file names need not be valid UTF-8
    try:
        yield from (line for raw in sys.stdin if (line := raw.strip().strip("\ufeff").strip()))
    except UnicodeError as error:  # UTF-16 with an incomplete character
        raise BadData(f"stdin is not valid {sys.stdin.encoding}: {error}", "write the queries in UTF-8") from error
    except OSError:  # stdin cannot be read
        return


def _print_failure(line: str, error: Exception, json: bool) -> None:
    if not isinstance(error, XmodalError):
        if is_debugging():
            traceback.print_exc()
        error = XmodalError(*bug_message(error))
    if json:
        output.print_json_line({"query": [line], "error": error.message, "hint": error.hint})
    else:
        output.print_error(error_lines(f"{error.message} (in: {escape_unprintable(line)})", error.hint))

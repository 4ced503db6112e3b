"""``xmodal search``: find photos by sentences and pictures."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from xmodal_cli.cli import fast_path, hits, output
from xmodal_cli.cli.options import IndexName, Json
from xmodal_cli.errors import XmodalError

_MINUS = "\ue000"  # stands for the minus of a term while the options are read


class CommandClass(TyperCommand):
    """A command whose arguments may begin with one minus: ``-person`` is a term, only ``-k`` and ``-h`` are options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Hide the minus of terms from the parser; the command puts it back."""
        hidden, value_follows, all_terms = [], False, False
        for arg in args:
            is_option = value_follows or re.fullmatch(r"--.*|-h|-k\d*", arg) is not None
            is_negative = arg.startswith("-") and (all_terms or not is_option)
            hidden.append(_MINUS + arg[1:] if is_negative else arg)
            value_follows = not value_follows and arg in ("-k", "--index")
            all_terms = all_terms or arg == "--"
        return super().parse_args(ctx, hidden)


def command(
    terms: Annotated[
        list[str] | None, typer.Argument(metavar="[TERMS...]", help="Sentences and picture files, see above.")
    ] = None,
    index: IndexName = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many photos to show.")] = 10,
    json: Json = False,
) -> None:
    """Find photos by sentences and pictures, as one ranked list.

    A term in quotes is one sentence. +TERM asks for more of it, -TERM for less; TERM^0.5 gives it half the weight.
    A term that names a picture file searches by that picture.

    Without TERMS, a terminal gets a prompt that keeps everything loaded; else each line on standard input is a query,
    and --json answers each with one line.

    Examples:

        xmodal search "two dogs running"

        xmodal search dog +snow -person "a red ball^0.5" -k 5

        xmodal search beach.jpg "at night" --index family --json

        xmodal search --json < sentences.txt
    """
    if terms:
        fast_path.search_once([t.replace(_MINUS, "-", 1) if t.startswith(_MINUS) else t for t in terms], index, k, json)
    elif sys.stdin is None or not sys.stdin.isatty():
        _search_lines(index, k, json)
    elif json or not sys.stdout.isatty():
        raise typer.BadParameter("give some, or sentences on standard input, one a line", param_hint="TERMS")
    else:
        from xmodal_cli.cli.prompt import run_prompt

        run_prompt(index, k)


def _search_lines(index: str | None, k: int, json: bool) -> None:
    """Answer the lines of standard input; one that cannot be answered says why, and the others go on."""
    lines = _typed_lines()
    first = next(lines, None)
    if first is None:
        hint = 'give some, as in xmodal search "two dogs"; or sentences on standard input, one a line'
        raise typer.BadParameter(hint, param_hint="TERMS")
    from xmodal_cli.recipes.search import open_searcher
    from xmodal_cli.retrieval.query_line import split_line

    failed = False
    with open_searcher(index, output.TerminalReporter()) as searcher:
        for line in chain([first], lines):  # as they come: a program may wait for each answer
            try:
                result = searcher.search(split_line(line), k)
            except XmodalError as error:
                failed = True
                _print_failure(line, error, json)
                continue
            if json:
                output.print_json_line(hits.as_json(result))
            else:
                output.print_line(output.printable(line))
                hits.print_hits(result)
                hits.warn(result)
    if failed:
        raise typer.Exit(1)


def _typed_lines() -> Iterator[str]:
    """The lines of standard input that say something, as they come."""
    if sys.stdin is None:
        return
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # a file's name need not be text
    try:
        yield from (line.strip() for line in sys.stdin if line.strip())
    except OSError:  # nothing can be read from it
        return


def _print_failure(line: str, error: XmodalError, json: bool) -> None:
    if json:
        output.print_json_line({"query": [line], "error": error.message, "hint": error.hint})
    else:
        output.TerminalReporter().info(f"error: {error.message} (in: {output.printable(line)})\nhint: {error.hint}")

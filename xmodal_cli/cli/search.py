"""``xmodal search``: find photos by sentences and pictures."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from xmodal_cli.cli import output
from xmodal_cli.cli.options import IndexName, Json

if TYPE_CHECKING:
    from rich.text import Text

    from xmodal_cli.recipes.search import SearchResult

_MINUS = "\ue000"  # stands for the minus of a term while the options are read


class SearchCommand(TyperCommand):
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


def search(
    terms: Annotated[list[str], typer.Argument(metavar="TERMS...", help="Sentences and picture files, see above.")],
    index: IndexName = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many photos to show.")] = 10,
    json: Json = False,
) -> None:
    """Find photos by sentences and pictures, as one ranked list.

    A term in quotes is one sentence. +TERM asks for more of it, -TERM for less; TERM^0.5 gives it half the weight.
    A term that names a picture file searches by that picture.

    Examples:

        xmodal search "two dogs running"

        xmodal search dog +snow -person "a red ball^0.5" -k 5

        xmodal search beach.jpg "at night" --index family --json
    """
    from xmodal_cli.recipes.search import search as find

    result = find([t.replace(_MINUS, "-", 1) if t.startswith(_MINUS) else t for t in terms], index, k)
    if json:
        _print_json(result)
    else:
        _print_table(result)
    _warn(result)


def _print_json(result: SearchResult) -> None:
    hits = [asdict(hit) for hit in result.hits]
    head = {"index": result.index, "model": result.model, "query": list(result.query)}
    tail = {"vanished": result.num_vanished, "unknown_words": list(result.unknown_words)}
    output.print_json({**head, "hits": hits, **tail})


def _print_table(result: SearchResult) -> None:
    rows = [(_linked(hit.path), f"{hit.score:.4f}") for hit in result.hits]
    output.print_table("", ("photo", "score"), rows)
    where = f"{len(rows)} of {result.num_items} photos in the index {result.index}"
    output.print_line(output.printable(f"{where}, model {result.model} ({result.similarity})"))


def _linked(path: str) -> Text:
    """The path, shortened where it is below the current folder; on a terminal a link to the file."""
    from rich.text import Text

    here = str(Path.cwd()) + os.sep
    shown = output.printable(path.removeprefix(here))
    return Text(shown, style=f"link {Path(path).as_uri()}")


def _warn(result: SearchResult) -> None:
    if result.unknown_words:
        words = ", ".join(result.unknown_words)
        output.TerminalReporter().warn(f"the model {result.model} was not taught these words: {words}")
    if result.num_vanished:
        output.TerminalReporter().warn(
            f"{result.num_vanished} photos are not there any more and were left out; "
            f"`xmodal index --index {result.index}` brings the index up to date"
        )

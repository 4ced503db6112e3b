"""What a search found, as people and programs read it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from xmodal_cli.cli import output

if TYPE_CHECKING:
    from xmodal_cli.recipes.search import SearchResult


def as_json(result: SearchResult) -> dict[str, Any]:
    """The result for ``--json``."""
    hits = [asdict(hit) for hit in result.hits]
    head = {"index": result.index, "model": result.model, "query": list(result.query)}
    return {**head, "hits": hits, "vanished": result.num_vanished, "unknown_words": list(result.unknown_words)}


def print_hits(result: SearchResult, seconds: float | None = None) -> None:
    """A table of the hits, and a line that says where they are from, and in ``seconds`` how long it took.

    Written without rich, whose import takes longer than the search.
    """
    names = [_shown(hit.path) for hit in result.hits]
    width, places = max(map(len, (*names, "photo"))), len(str(len(names)))
    output.print_line(f"{'':{places}}   {'photo':{width}}     score")
    output.print_rule(places + width + 13)
    for hit, name in zip(result.hits, names, strict=True):
        photo = linked(hit.path) if output.is_terminal(sys.stdout) else name
        output.print_line(f"{hit.rank:>{places}}   {photo}{'':{width - len(name)}}   {hit.score:7.4f}")
    where = f"{len(names)} of {result.num_items} photos in the index {result.index}"
    took = "" if seconds is None else f", {1000 * seconds:.0f} ms"
    output.print_line(output.printable(f"{where}, model {result.model} ({result.similarity}){took}"))


def linked(path: str) -> str:
    """The path as it is shown, in the codes with which a terminal makes it a link to the file."""
    return f"\x1b]8;;file://{quote(os.fsencode(path))}\x1b\\{_shown(path)}\x1b]8;;\x1b\\"


def _shown(path: str) -> str:
    """Shortened where it is below the current folder."""
    return output.printable(path.removeprefix(os.getcwd() + os.sep))  # noqa: PTH109


def warn(result: SearchResult) -> None:
    """Say which words the model does not know and how many photos are gone, if any."""
    if result.unknown_words:
        words = ", ".join(result.unknown_words)
        output.TerminalReporter().warn(f"the model {result.model} was not taught these words: {words}")
    if result.num_vanished:
        output.TerminalReporter().warn(
            f"{result.num_vanished} photos are not there any more and were left out; "
            f"`xmodal index --index {result.index}` brings the index up to date"
        )

"""Search results as a table."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from xmodal_cli.cli import output
from xmodal_cli.printable import escape_unprintable

if TYPE_CHECKING:
    from xmodal_cli.retrieval.search_result import Hit, SearchResult


def print_hits(result: SearchResult, seconds: float | None = None) -> None:
    """Print a table of the hits and a line with the index, the model and, if given, the search time.

    Does not use rich, whose import takes longer than the search.
    """
    names = [_display_path(hit.path) for hit in result.hits]
    width, rank_width = max(map(len, (*names, "photo"))), len(str(len(names)))
    output.print_line(f"{'':{rank_width}}   {'photo':{width}}     score")
    output.print_rule(rank_width + width + 13)
    for hit, name in zip(result.hits, names, strict=True):
        photo = format_link(hit.path) if output.supports_escapes(sys.stdout) else name
        row = f"{hit.rank:>{rank_width}}   {photo}{'':{width - len(name)}}   {hit.score_text:>7}{_copies(hit)}"
        output.print_formatted(row)
    source = f"{len(names)} of {result.items} photos in the index {result.index}"
    took = "" if seconds is None else f", {1000 * seconds:.0f} ms"
    output.print_line(f"{source}, model {result.model} ({result.similarity}){took}")


def _copies(hit: Hit) -> str:
    return f"   +{hit.duplicates} {'copy' if hit.duplicates == 1 else 'copies'}" if hit.duplicates else ""


def format_link(path: str) -> str:
    """The displayed path with the escape codes (OSC 8) that make it a link to the file."""
    return f"\x1b]8;;file://{quote(os.fsencode(path))}\x1b\\{_display_path(path)}\x1b]8;;\x1b\\"


def _display_path(path: str) -> str:
    """The path, relative if it is below the current folder."""
    return escape_unprintable(path.removeprefix(os.getcwd() + os.sep))  # noqa: PTH109


def print_warnings(result: SearchResult) -> None:
    """Warn about out-of-vocabulary words and photos that no longer exist, if any."""
    if result.unknown_words:
        words = ", ".join(result.unknown_words)
        output.TerminalReporter().warn(f"out-of-vocabulary words for model {result.model}: {words}")
    if result.vanished:
        from xmodal_cli.retrieval.hints import update_command

        skipped = (
            "1 photo no longer exists and was"
            if result.vanished == 1
            else f"{result.vanished:,} photos no longer exist and were"
        )
        output.TerminalReporter().warn(
            f"{skipped} skipped; run `{update_command(Path(result.folder))}` to update the index"
        )

"""What a search found, as people and programs read it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.cli import output

if TYPE_CHECKING:
    from rich.text import Text

    from xmodal_cli.recipes.search import SearchResult


def as_json(result: SearchResult) -> dict[str, Any]:
    """The result for ``--json``."""
    hits = [asdict(hit) for hit in result.hits]
    head = {"index": result.index, "model": result.model, "query": list(result.query)}
    return {**head, "hits": hits, "vanished": result.num_vanished, "unknown_words": list(result.unknown_words)}


def print_hits(result: SearchResult, seconds: float | None = None) -> None:
    """A table of the hits, and a line that says where they are from, and in ``seconds`` how long it took."""
    rows = [(hit.rank, linked(hit.path), f"{hit.score:.4f}") for hit in result.hits]
    output.print_table("", ("", "photo", "score"), rows)
    where = f"{len(rows)} of {result.num_items} photos in the index {result.index}"
    took = "" if seconds is None else f", {1000 * seconds:.0f} ms"
    output.print_line(output.printable(f"{where}, model {result.model} ({result.similarity}){took}"))


def linked(path: str) -> Text:
    """The path, shortened where it is below the current folder; on a terminal a link to the file."""
    from rich.text import Text

    here = str(Path.cwd()) + os.sep
    shown = output.printable(path.removeprefix(here))
    return Text(shown, style=f"link {Path(path).as_uri()}")


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

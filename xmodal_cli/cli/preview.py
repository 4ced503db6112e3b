"""Shows the photos of search results in the terminal, as ``xmodal search --preview`` does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.cli import graphics_terminal, output

if TYPE_CHECKING:
    from xmodal_cli.retrieval.search_result import SearchResult

COLUMNS, ROWS, GAP = 18, 9, 2  # size of a photo, in characters; a character is about twice as high as wide


def print_preview(result: SearchResult) -> None:
    """Print the photos side by side, with rank and score below; nothing if stdout is not a terminal with colors."""
    protocol = graphics_terminal.find_protocol()
    if protocol is None or not result.hits:
        return
    from xmodal_cli.reports.photo_strips import draw_strip
    from xmodal_cli.reports.terminal_images import encode

    cell = graphics_terminal.cell_size()
    per_line = max(1, (shutil.get_terminal_size().columns - 1 + GAP) // (COLUMNS + GAP))
    for start in range(0, len(result.hits), per_line):
        hits = result.hits[start : start + per_line]
        strip = draw_strip([Path(hit.path) for hit in hits], (COLUMNS * cell[0], ROWS * cell[1]), GAP * cell[0])
        cells = (len(hits) * (COLUMNS + GAP) - GAP, ROWS)
        output.print_formatted(encode(strip, protocol, cells, cell))
        labels = [f"{hit.rank}  {hit.score_text}".ljust(COLUMNS + GAP) for hit in hits]
        output.print_line("".join(labels).rstrip())

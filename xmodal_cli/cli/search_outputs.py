"""What ``xmodal search`` makes of its results: lines or JSON, files with the photos, copies, an open viewer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.cli import hits, output
from xmodal_cli.paths import expand_home
from xmodal_cli.printable import escape_unprintable

if TYPE_CHECKING:
    from xmodal_cli.retrieval.search_result import SearchResult


@dataclass(frozen=True)
class SearchOutputs:
    """The outputs of a search, apart from warnings.

    ``template`` (see ``hit_lines``) prints one record per photo, followed by ``end``, instead of a table; ``html`` and
    ``sheet`` are files with all results, ``copy_to`` is a folder for the photos, ``open_rank`` the photo to be opened.
    """

    json: bool = False
    template: str | None = None
    end: str = "\n"
    html: Path | None = None
    sheet: Path | None = None
    preview: bool = False
    copy_to: Path | None = None
    open_rank: int | None = None
    results: list[SearchResult] = field(default_factory=list)

    @contextlib.contextmanager
    def checked(self) -> Iterator[SearchOutputs]:
        """Check files and folders before the search, and write the files after it. Raises StorageError, ConfigError."""
        from xmodal_cli.cli.hit_files import check_copy_folder

        if self.copy_to is not None:
            check_copy_folder(self.copy_to)
        if self.html is None and self.sheet is None:
            yield self
            return
        from xmodal_cli.reports import search_files

        if self.html is not None:
            search_files.check_page(self.html)
        if self.sheet is not None:
            search_files.check_sheet(self.sheet)
        yield self
        if self.html is not None and self.results:
            search_files.write_page(self.results, self.html)
            output.TerminalReporter().info(f"page: {self.html}")
        if self.sheet is not None and self.results:
            search_files.write_sheet(self.results, self.sheet)
            output.TerminalReporter().info(f"sheet: {self.sheet}")

    def add(self, result: SearchResult, line: str | None = None) -> None:
        """Print a result, and write the other requested outputs; ``line`` is the query of one of several."""
        self._print(result, line)
        hits.print_warnings(result)
        if self.html is not None or self.sheet is not None:
            self.results.append(result)
        if self.preview and not self.json:
            from xmodal_cli.cli.preview import print_preview

            print_preview(result)
        if self.copy_to is not None:
            from xmodal_cli.cli.hit_files import copy_photos

            num_copied = copy_photos(result, expand_home(self.copy_to), output.TerminalReporter())
            output.TerminalReporter().info(f"{num_copied} photos copied to {self.copy_to}")
        if self.open_rank is not None:
            from xmodal_cli.cli.hit_files import open_hit

            open_hit(result, self.open_rank)

    def _print(self, result: SearchResult, line: str | None) -> None:
        if self.template is not None:
            from xmodal_cli.cli.hit_lines import print_lines

            print_lines(result, self.template, self.end)
        elif not self.json:
            if line is not None:
                output.print_line(escape_unprintable(line))
            hits.print_hits(result)
        elif line is not None:
            output.print_json_line(result)
        else:
            output.print_json(result)

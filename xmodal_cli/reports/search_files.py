"""Search results as files: an HTML page and an image with the photos in a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xmodal_cli.errors import ConfigError
from xmodal_cli.output_files import check_output_file
from xmodal_cli.paths import write_bytes
from xmodal_cli.reports.contact_sheet import Row, draw_contact_sheet, is_contact_sheet
from xmodal_cli.reports.pages import is_page
from xmodal_cli.reports.search_page import draw_search_page
from xmodal_cli.retrieval.search_result import SearchResult

COLUMNS = 5  # of the sheet


def check_page(file: Path) -> None:
    """Raise ConfigError for another suffix than those of HTML, StorageError as ``check_output_file``."""
    _check(file, "--html", (".html", ".htm"), is_page)


def check_sheet(file: Path) -> None:
    """Raise ConfigError for another suffix than .png, StorageError as ``check_output_file``."""
    _check(file, "--sheet", (".png",), is_contact_sheet)


def _check(file: Path, option: str, suffixes: Sequence[str], is_own: Callable[[Path], bool]) -> None:
    if file.suffix.lower() not in suffixes:
        example = f"for example: {option} results{suffixes[0]}"
        raise ConfigError(f"{option} {file} does not end with {suffixes[0]}", example)
    check_output_file(file, option, is_own)


def write_page(results: Sequence[SearchResult], file: Path) -> None:
    """Write the HTML page. Raises StorageError."""
    write_bytes(file, draw_search_page(results))


def write_sheet(results: Sequence[SearchResult], file: Path) -> None:
    """Write the PNG: the photos of each query, best first, with rank and score below. Raises StorageError."""
    draw_contact_sheet([_row(result) for result in results], file, COLUMNS)


def _row(result: SearchResult) -> Row:
    photos = [Path(hit.path) for hit in result.hits]
    labels = [f"{hit.rank} · {hit.score_text}" for hit in result.hits]
    return Row(" ".join(result.query), photos, labels=labels)

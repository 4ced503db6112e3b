"""Queries on stdin: one per line; the result of each is printed before the next one is read."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import typer

from xmodal_cli.cli import output
from xmodal_cli.cli.search_outputs import SearchOutputs
from xmodal_cli.errors import BadData, XmodalError, bug_message, error_lines, is_debugging
from xmodal_cli.printable import escape_unprintable
from xmodal_cli.retrieval.search_options import SearchOptions

if TYPE_CHECKING:
    from xmodal_cli.recipes.search import Searcher
    from xmodal_cli.serve.client import RemoteSearcher


def search_lines(
    open_searcher: Callable[[], Searcher | RemoteSearcher], options: SearchOptions, outputs: SearchOutputs
) -> bool:
    """Search for each line of stdin; returns whether a line failed. Its error is printed, the others are processed."""
    lines = _read_lines()
    first = next(lines, None)
    if first is None:
        message = 'give at least one, as in xmodal search "two dogs", or one query per line on stdin'
        raise typer.BadParameter(message, param_hint="TERMS")
    from xmodal_cli.retrieval.query_line import split_line

    failed = False
    with open_searcher() as searcher:
        for line in chain([first], lines):  # one at a time: a program may wait for each result
            try:
                result = searcher.search(split_line(line), options)
            except Exception as error:  # also a bug must not end the other queries
                failed = True
                _print_failure(line, error, outputs.json)
                continue
            outputs.add(result, line)
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

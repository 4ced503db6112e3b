"""``xmodal search TERMS...`` without typer, whose import takes as long as the search itself.

Parses only plain queries. Help, wrong usage and everything else are handled by the command in ``search.py``, which
gives the same results for plain queries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xmodal_cli.cli import hits, output
from xmodal_cli.retrieval.search_options import SearchOptions

if TYPE_CHECKING:
    from xmodal_cli.retrieval.search_result import SearchResult

_FLAGS = {"--json": "json", "--all": "all", "--exact": "exact", "--paths": "paths", "-0": "null"}
_TEXTS = {"--index": "index", "--after": "after", "--before": "before"}
OPTION = re.compile(r"--.*|-h|-0|-k\d*")  # the others of a single dash are terms


@dataclass
class SearchArguments:
    """The arguments of ``xmodal search``."""

    terms: list[str] = field(default_factory=list)
    index: str | None = None
    k: int = 10
    json: bool = False
    all: bool = False
    exact: bool = False
    paths: bool = False
    null: bool = False
    folders: list[str] = field(default_factory=list)
    after: str | None = None
    before: str | None = None
    threshold: float | None = None

    @property
    def options(self) -> SearchOptions:
        """What photos are searched for."""
        folders = tuple(self.folders)
        return SearchOptions(self.k, not self.all, self.threshold, folders, self.after, self.before, self.exact)


def read_query(args: Sequence[str]) -> SearchArguments | None:
    """Parse the arguments; None if they are not a plain query."""
    query, rest = SearchArguments(), iter(args)
    for arg in rest:
        if arg == "--":
            query.terms += map(after_dashes, rest)
        elif OPTION.fullmatch(arg) is None:
            query.terms.append(arg)
        elif not _read_option(arg, rest, query):
            return None
    is_plain = query.terms and not (query.json and (query.paths or query.null))
    return query if is_plain else None


def after_dashes(term: str) -> str:
    """A term after ``--``: ``-k`` is ``- k``, the negative term ``k``, because ``-k`` would be an option."""
    return f"- {term[1:]}" if term.startswith("-") else term


def _read_option(option: str, rest: Iterator[str], query: SearchArguments) -> bool:
    """Set the option in ``query``; returns whether it is valid."""
    if option in _FLAGS:
        setattr(query, _FLAGS[option], True)
        return True
    value = option[2:] if re.fullmatch(r"-k\d+", option) else next(rest, None)
    if value is None:
        return False
    if option in _TEXTS:
        setattr(query, _TEXTS[option], value)
    elif option == "--in":
        query.folders.append(value)
    elif option == "--threshold" and re.fullmatch(r"-?\d{1,3}(\.\d{1,9})?", value):
        query.threshold = float(value)
    elif option.startswith("-k") and re.fullmatch(r"-?\d{1,9}", value):
        query.k = int(value)
    else:
        return False
    return True


def run_query(query: SearchArguments) -> None:
    """Search and print. Raises what ``recipes.search`` raises."""
    result = search_once(query.terms, query.index, query.options)
    if query.paths or query.null:
        from xmodal_cli.cli.hit_lines import print_lines

        print_lines(result, end="\0" if query.null else "\n")
    else:
        print_result(result, query.json)
    hits.print_warnings(result)


def search_once(terms: Sequence[str], index: str | None, options: SearchOptions, runtime: str = "auto") -> SearchResult:
    """Search. Raises what ``recipes.search`` raises."""
    from xmodal_cli.recipes.search import search

    return search(terms, index, options, output.TerminalReporter(), runtime)


def print_result(result: SearchResult, json: bool) -> None:
    """Print a result as a table or as JSON."""
    if json:
        output.print_json(result)
    else:
        hits.print_hits(result)

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

if TYPE_CHECKING:
    from xmodal_cli.retrieval.search_result import SearchResult


@dataclass
class Query:
    """The arguments of ``xmodal search``."""

    terms: list[str] = field(default_factory=list)
    index: str | None = None
    k: int = 10
    json: bool = False
    all: bool = False
    exact: bool = False


def read_query(args: Sequence[str]) -> Query | None:
    """Parse the arguments; None if they are not a plain query."""
    query, rest = Query(), iter(args)
    for arg in rest:
        if arg == "--":
            query.terms += map(after_dashes, rest)
        elif re.fullmatch(r"--.*|-h|-k\d*", arg) is None:
            query.terms.append(arg)
        elif not _read_option(arg, rest, query):
            return None
    return query if query.terms else None


def after_dashes(term: str) -> str:
    """A term after ``--``: ``-k`` is ``- k``, the negative term ``k``, because ``-k`` would be an option."""
    return f"- {term[1:]}" if term.startswith("-") else term


def _read_option(option: str, rest: Iterator[str], query: Query) -> bool:
    """Set the option in ``query``; returns whether it is valid."""
    if option == "--json":
        query.json = True
        return True
    if option in ("--all", "--exact"):
        setattr(query, option[2:], True)
        return True
    value = option[2:] if re.fullmatch(r"-k\d+", option) else next(rest, None)
    if value is None:
        return False
    if option == "--index":
        query.index = value
        return True
    if option.startswith("-k") and re.fullmatch(r"-?\d{1,9}", value):
        query.k = int(value)
        return True
    return False


def search_once(
    terms: Sequence[str],
    index: str | None,
    k: int,
    json: bool,
    fold: bool = True,
    runtime: str = "auto",
    exact: bool = False,
) -> SearchResult:
    """Search and print; returns the result. Raises what ``recipes.search`` raises."""
    from xmodal_cli.recipes.search import search

    result = search(terms, index, k, output.TerminalReporter(), fold, runtime, exact)
    if json:
        output.print_json(result)
    else:
        hits.print_hits(result)
    hits.print_warnings(result)
    return result

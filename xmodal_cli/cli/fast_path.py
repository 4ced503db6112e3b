"""``xmodal search TERMS...`` before typer is loaded, which takes as long as the search itself.

Only the plain forms are read here; help, mistakes and everything else are left to the command in ``search.py``, which
means the same by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from xmodal_cli.cli import hits, output


@dataclass
class Query:
    """What was typed after ``xmodal search``."""

    terms: list[str] = field(default_factory=list)
    index: str | None = None
    k: int = 10
    json: bool = False


def read_query(args: Sequence[str]) -> Query | None:
    """The query; None where it is not plain."""
    query, rest = Query(), iter(args)
    for arg in rest:
        if arg == "--":
            query.terms += rest
        elif re.fullmatch(r"--.*|-h|-k\d*", arg) is None:
            query.terms.append(arg)
        elif not _read_option(arg, rest, query):
            return None
    return query if query.terms else None


def _read_option(option: str, rest: Iterator[str], query: Query) -> bool:
    """Whether it was understood."""
    if option == "--json":
        query.json = True
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


def search_once(terms: Sequence[str], index: str | None, k: int, json: bool) -> None:
    """Search and print. Raises what ``recipes.search`` raises."""
    from xmodal_cli.recipes.search import search

    result = search(terms, index, k, output.TerminalReporter())
    if json:
        output.print_json(hits.as_json(result))
    else:
        hits.print_hits(result)
    hits.warn(result)

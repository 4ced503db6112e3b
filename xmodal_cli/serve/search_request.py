"""The parameters of a search: a line in the query grammar, photos, and filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.datastructures import QueryParams

from xmodal_cli.errors import ConfigError
from xmodal_cli.retrieval.query import Query, Term, parse_query
from xmodal_cli.retrieval.query_line import split_line
from xmodal_cli.retrieval.search_options import SearchOptions

MAX_HITS = 2000
MAX_LINE = 2000  # characters
DEFAULT_HITS = 60


@dataclass(frozen=True)
class SearchRequest:
    """``like`` and ``unlike`` are keys of indexed photos; ``offset`` hits are skipped."""

    line: str
    index: str | None
    options: SearchOptions
    offset: int = 0
    like: tuple[int, ...] = ()
    unlike: tuple[int, ...] = ()

    def query(self, photos: Sequence[Term]) -> Query:
        """The query; one without terms and filters is for all photos, the newest first. Raises ConfigError."""
        words = split_line(self.line, find_files=False)
        options = replace(self.options, num_hits=self.options.num_hits + self.offset)
        if not (words or photos or options.has_filters):
            return Query((), (), (), options)
        return parse_query(words, options, photos, find_files=False)


def read_request(params: QueryParams) -> SearchRequest:
    """Raises ConfigError for a parameter that is malformed or out of bounds."""
    line = params.get("q", "")
    if len(line) > MAX_LINE:
        raise ConfigError(f"the query has {len(line):,} characters", f"at most {MAX_LINE:,} are allowed")
    options = SearchOptions(
        num_hits=_number(params, "k", DEFAULT_HITS, 1, MAX_HITS),
        fold=params.get("all", "") not in ("1", "true"),
        threshold=_float(params, "threshold"),
        folders=tuple(params.getlist("in")),
        after=params.get("after") or None,
        before=params.get("before") or None,
        exact=params.get("exact", "") in ("1", "true"),
    )
    return SearchRequest(
        line,
        params.get("index") or None,
        options,
        _number(params, "offset", 0, 0, MAX_HITS),
        _keys(params, "like"),
        _keys(params, "unlike"),
    )


def _number(params: QueryParams, name: str, default: int, low: int, high: int) -> int:
    text = params.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise ConfigError(f"{name}={text} is not a number from {low} to {high:,}", f"the default is {default}")
    return int(text)


def _float(params: QueryParams, name: str) -> float | None:
    text = params.get(name)
    try:
        return float(text) if text else None
    except ValueError:
        raise ConfigError(f"{name}={text} is not a number", f"for example: {name}=0.3") from None


def _keys(params: QueryParams, name: str) -> tuple[int, ...]:
    values = params.getlist(name)
    if len(values) > 16 or not all(v.isascii() and v.isdigit() and len(v) < 18 for v in values):
        raise ConfigError(f"{name} takes the ids of at most 16 photos", f"for example: {name}=12")
    return tuple(map(int, values))

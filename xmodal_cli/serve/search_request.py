"""The parameters of a search: a line in the query grammar, photos, and filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from starlette.datastructures import QueryParams

from xmodal_cli.errors import ConfigError
from xmodal_cli.retrieval.query import Query, Term, check_sentence, parse_query
from xmodal_cli.retrieval.query_line import split_line
from xmodal_cli.retrieval.search_options import SearchOptions

MAX_HITS = 2000
MAX_LINE = 2000  # characters
DEFAULT_HITS = 60
MAX_WEIGHT = 1000
MAX_SENTENCES = 64


@dataclass(frozen=True)
class SearchRequest:
    """``like`` and ``unlike`` are keys of indexed photos; ``offset`` hits are skipped.

    ``terms`` follow those of ``line``. An uploaded photo has its position ``at`` among all terms, by default the last,
    and a weight, by default 1.
    """

    line: str
    index: str | None
    options: SearchOptions
    offset: int = 0
    like: tuple[int, ...] = ()
    unlike: tuple[int, ...] = ()
    terms: tuple[str, ...] = ()
    at: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def query(self, photos: Sequence[Term], uploads: Sequence[Term] = ()) -> Query:
        """The query; one without terms and filters is for all photos, the newest first. Raises ConfigError."""
        words = (*split_line(self.line, find_files=False), *self.terms)
        options = replace(self.options, num_hits=self.options.num_hits + self.offset)
        if not (words or photos or uploads or options.has_filters):
            return Query((), (), (), options)
        query = parse_query(words, options, [*photos, *uploads], find_files=False)
        terms = list(query.terms[: len(query.terms) - len(uploads)])
        for upload, at, weight in zip_longest(uploads, self.at[: len(uploads)], self.weights[: len(uploads)]):
            weighted = replace(upload, weight=1.0 if weight is None else weight)
            terms.insert(len(terms) if at is None else at, weighted)
        return replace(query, terms=tuple(terms))


def read_request(params: QueryParams) -> SearchRequest:
    """Raises ConfigError for a parameter that is malformed or out of bounds."""
    line, terms = params.get("q", ""), params.getlist("term")
    if (length := len(line) + sum(map(len, terms))) > MAX_LINE:
        raise ConfigError(f"the query has {length:,} characters", f"at most {MAX_LINE:,} are allowed")
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
        tuple(terms),
        _keys(params, "at"),
        _weights(params),
    )


def read_sentences(params: QueryParams) -> list[Term]:
    """The sentences ``q`` of a request. Raises ConfigError, BadData."""
    lines = params.getlist("q")
    if not lines or len(lines) > MAX_SENTENCES:
        raise ConfigError(f"give 1 to {MAX_SENTENCES} sentences", "for example: q=two+dogs&q=snow")
    if (length := sum(map(len, lines))) > MAX_LINE:
        raise ConfigError(f"the sentences have {length:,} characters", f"at most {MAX_LINE:,} are allowed")
    return [Term(check_sentence(line)) for line in lines]


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


def _weights(params: QueryParams) -> tuple[float, ...]:
    try:
        found = tuple(float(text) for text in params.getlist("weight"))
    except ValueError:
        found = (math.nan,)
    if not all(0.0 < abs(weight) <= MAX_WEIGHT for weight in found):
        raise ConfigError(f"weight takes numbers from -{MAX_WEIGHT} to {MAX_WEIGHT} except 0", "for example: weight=-1")
    return found


def _keys(params: QueryParams, name: str) -> tuple[int, ...]:
    values = params.getlist(name)
    if len(values) > 16 or not all(v.isascii() and v.isdigit() and len(v) < 18 for v in values):
        raise ConfigError(f"{name} takes at most 16 whole numbers", f"for example: {name}=12")
    return tuple(map(int, values))

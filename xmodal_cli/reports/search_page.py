"""An HTML page of search results, ``templates/search.html.jinja``: the queries, each with its photos and scores.

The page contains its thumbnails and needs no other file. A thumbnail links to the photo on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from xmodal_cli.reports.inline_images import InlineImage, inline_image
from xmodal_cli.reports.pages import render
from xmodal_cli.retrieval.search_result import Hit, SearchResult

THUMBNAIL = 320  # pixels of the longer side


@dataclass(frozen=True)
class FoundPhoto:
    """A photo at a rank; ``url`` is that of the file."""

    rank: int
    score_text: str
    image: InlineImage
    url: str


@dataclass(frozen=True)
class Found:
    """The photos of a query, best first, among ``items`` photos of an index."""

    query: str
    index: str
    model: str
    items: int
    photos: Sequence[FoundPhoto]


@dataclass(frozen=True)
class SearchPage:
    """Everything that the template shows."""

    queries: Sequence[Found]


def draw_search_page(results: Sequence[SearchResult]) -> bytes:
    """The page in UTF-8, one section per result. A photo that cannot be read is shown by its name."""
    return render("search", {"page": SearchPage([_found(result) for result in results])}).encode("utf-8")


def _found(result: SearchResult) -> Found:
    query = " ".join(result.query)
    return Found(query, result.index, result.model, result.items, [_photo(hit) for hit in result.hits])


def _photo(hit: Hit) -> FoundPhoto:
    path = Path(hit.path)
    url = f"file://{quote(os.fsencode(path.as_posix()))}"
    return FoundPhoto(hit.rank, hit.score_text, inline_image(path, path.name, THUMBNAIL), url)

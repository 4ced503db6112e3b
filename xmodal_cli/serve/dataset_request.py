"""The parameters of the dataset browser: a split, words in captions, which images, and a page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams

from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.serve.caption_words import CaptionWords, read_words

MAX_PAGE = 10**6


class Shown(StrEnum):
    """Which images are shown."""

    ALL = "all"
    MISSING = "missing"  # those without a readable file
    EMPTY_OR_REPEATED = "empty-or-repeated"  # those with such captions, or without captions


@dataclass(frozen=True)
class BrowseRequest:
    """The images of a split (``""``: of all) whose captions have ``words``; pages are counted from 1."""

    split: str
    words: CaptionWords
    shown: Shown = Shown.ALL
    page: int = 1


def read_browse_request(params: QueryParams) -> BrowseRequest:
    """Raises ConfigError, UnknownName for a parameter that is invalid."""
    shown, page = params.get("show") or Shown.ALL.value, params.get("page") or "1"
    if shown not in list(Shown):
        raise UnknownName.of("value of show", shown[:40], list(Shown))
    if not (page.isascii() and page.isdigit() and len(page) < 10 and 1 <= int(page) <= MAX_PAGE):
        raise ConfigError(f"page={page[:40]} is not a number from 1 to {MAX_PAGE:,}", "the default is 1")
    return BrowseRequest(params.get("split", ""), read_words(params.get("q", "").strip()), Shown(shown), int(page))


def dataset_address(name: str) -> str:
    """The path of the page of a dataset."""
    return f"/datasets/{quote(name, safe='', errors='replace')}"


def image_address(name: str, position: int) -> str:
    """The path of the page of an image."""
    return f"{dataset_address(name)}/images/{position}"


def browse_address(name: str, request: BrowseRequest) -> str:
    """The page of a request; without the values that are the default."""
    values = {"split": request.split, "q": request.words.query}
    values |= {"show": "" if request.shown is Shown.ALL else request.shown.value}
    values |= {"page": "" if request.page == 1 else str(request.page)}
    query = urlencode({name: value for name, value in values.items() if value}, errors="replace")
    return dataset_address(name) + (f"?{query}" if query else "")

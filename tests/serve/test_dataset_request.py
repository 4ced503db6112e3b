"""The parameters of the dataset browser, and the addresses of its pages."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from starlette.datastructures import QueryParams

from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.serve.caption_words import CaptionWords
from xmodal_cli.serve.dataset_request import BrowseRequest, Shown, browse_address, read_browse_request

REQUESTS = [
    BrowseRequest("", CaptionWords("")),
    BrowseRequest("val", CaptionWords("two dogs"), Shown.MISSING, 3),
    BrowseRequest("a&b=c", CaptionWords("50% <b> #1 +é"), Shown.EMPTY_OR_REPEATED, 2),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_an_address_is_read_as_its_request(request_: BrowseRequest) -> None:
    address = urlsplit(browse_address("f8k", request_))
    assert address.path == "/datasets/f8k"
    assert read_browse_request(QueryParams(address.query)) == request_


def test_addresses_are_short_and_names_are_quoted() -> None:
    assert browse_address("f8k", REQUESTS[0]) == "/datasets/f8k"
    assert browse_address("../a?b#c\ud800", REQUESTS[0]) == "/datasets/..%2Fa%3Fb%23c%3F"


INVALID = ["page=0", "page=-1", "page=x", "page=1e3", "page=1000001", "page=%D9%A3", "q=" + "a" * 201]


@pytest.mark.parametrize("query", INVALID)
def test_invalid_values(query: str) -> None:
    with pytest.raises(ConfigError):
        read_browse_request(QueryParams(query))


def test_unknown_kinds_of_images() -> None:
    with pytest.raises(UnknownName, match="missin"):
        read_browse_request(QueryParams("show=missin"))

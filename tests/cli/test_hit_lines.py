"""Records of search results for other programs, byte for byte."""

from __future__ import annotations

import os

import pytest

from xmodal_cli.cli.hit_lines import check_format, print_lines
from xmodal_cli.errors import ConfigError
from xmodal_cli.retrieval.search_result import Hit, SearchResult

UNDECODABLE = os.fsdecode(b"/p/\xff\xe9 1.jpg")


def result(*hits: Hit) -> SearchResult:
    return SearchResult("i", "m", "cosine", ("q",), hits, 9, 0, ())


def test_paths(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    hits = result(Hit(1, "/p/a b.jpg", 0.5), Hit(2, UNDECODABLE, 0.25), Hit(3, "/p/new\nline.jpg", 0.125))
    print_lines(hits)
    print_lines(hits, end="\0")
    names = [b"/p/a b.jpg", b"/p/\xff\xe9 1.jpg", b"/p/new\nline.jpg"]
    expected = b"".join(name + b"\n" for name in names) + b"".join(name + b"\0" for name in names)
    assert capfdbinary.readouterr().out == expected


def test_formats(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    template = check_format(r"{rank:>3}\t{score:.2f}\t{name}\t{folder}\t{duplicates}\\{{x}}")
    print_lines(result(Hit(1, "/p/a.jpg", 0.456, 2)), template)
    assert capfdbinary.readouterr().out == b"  1\t0.46\ta.jpg\t/p\t2\\{x}\n"


@pytest.mark.parametrize(
    "template",
    [
        "{paht}",
        "{}",
        "{0}",
        "{path",
        "path}",
        "{score:q}",
        "{path.x}",
        "{path[0]}",
        "{path!z}",
        "{rank:x.y}",
        "{path!r:>1000000000}",
        "{score:.2000f}",
        "{path:>{name}}",
    ],
)
def test_invalid_formats(template: str) -> None:
    with pytest.raises(ConfigError, match="--format"):
        check_format(template)

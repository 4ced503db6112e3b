"""Checks that hold for every HTML page: well formed, complete in one file, accessible, safe."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

NASTY = "<img src=x onerror='alert(1)'>\"&amp;</b>\u202e\u200f\x1b[31m\x00"
SHOWN = "<img src=x onerror='alert(1)'>\"&amp;</b>\\u202e\\u200f\\x1b[31m\\x00"  # NASTY in the text of a page
VOID = ("meta", "link", "input", "img", "br", "line", "circle", "polyline")
FORBIDDEN = {"script", "link", "iframe", "object", "base", "form", "b", "i"}  # b and i: from captions, if at all


@dataclass
class Page(HTMLParser):
    """Checks that tags are closed in order; keeps images, links, text."""

    images: list[dict[str, str | None]] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        HTMLParser.__init__(self, convert_charrefs=True)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        found = dict(attributes)
        assert len(found) == len(attributes), f"<{tag}> has an attribute twice"
        assert not [name for name in found if name.startswith("on")]
        if tag == "img":
            self.images.append(found)
            assert found.get("alt"), "an image without alternative text"
        self.linked += [found[name] or "" for name in ("href", "src", "srcset", "data", "xlink:href") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(content: bytes) -> Page:
    """The page, checked."""
    html = content.decode("utf-8")
    page = Page()
    page.feed(html)
    page.close()
    assert not page.open
    assert not FORBIDDEN & set(page.elements)
    assert not re.search(r"@import|url\(|https?://", html)
    assert html.startswith('<!doctype html>\n<html lang="en">')
    for part in ('name="viewport"', "<title>", "prefers-color-scheme: dark"):
        assert html.count(part) == 1, part
    assert [page.elements.count(name) for name in ("h1", "header", "main", "footer")] == [1, 1, 1, 1]
    levels = [int(name[1]) for name in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert all(below <= above + 1 for above, below in pairwise(levels)), levels
    assert not set("\x00\x1b\u202e\u200f") & set(html)
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ElementTree.fromstring(svg)
    return page

"""Waits for the page of ``xmodal serve`` in a browser."""

from __future__ import annotations

import time
from typing import Any

from helpers.served_photos import NUM_PHOTOS

THUMBNAILS_SHOWN = "[...document.querySelectorAll('#grid img')].every(image => image.naturalWidth > 0)"


def wait_for(page: Any, expression: str) -> None:
    """Wait until a JavaScript expression is true. The policy of the page does not let it evaluate text by itself."""
    end = time.monotonic() + 30
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)


def names(page: Any) -> list[str]:
    """The file names of the photos in the grid."""
    found: list[str] = page.eval_on_selector_all("#grid img", "images => images.map(image => image.alt)")
    return found


def wait_for_photos(page: Any, count: int = NUM_PHOTOS) -> None:
    wait_for(page, f"document.querySelectorAll('#grid li').length === {count}")

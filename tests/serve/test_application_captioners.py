"""The choice and the comparison of captioners in a real browser. Skipped where Chromium is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import wait_for, wait_for_photos
from helpers.served_captioners import write_captioners

CELLS = "[...document.querySelectorAll('#comparison td')]"
ALL_DONE = f"{CELLS}.length === 3 && {CELLS}.every(cell => cell.textContent && !cell.textContent.includes('…'))"


@pytest.fixture(scope="module")
def captioners(served_home: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(served_home / "home"))
        write_captioners()
    return served_home


@pytest.fixture
def detail(browser: Any, address: str, captioners: Path) -> Iterator[Any]:
    """The detail view of the first photo."""
    found = browser.new_page(viewport={"width": 1200, "height": 800})
    found.goto(address)
    wait_for_photos(found)
    found.click("#grid li:first-child button")
    found.wait_for_selector("#compare:not([hidden])")
    yield found
    found.close()


def test_all_captioners_are_compared_and_errors_are_in_their_rows(detail: Any) -> None:
    assert not detail.is_visible("#comparison")
    detail.click("#compare")
    wait_for(detail, ALL_DONE)
    names = [text.split("\n")[0] for text in detail.locator("#comparison tbody th").all_inner_texts()]
    assert names == ["starter-captioner", "damaged", "my-run"]
    bundled, damaged, copied = detail.locator("#comparison td").all_inner_texts()
    assert bundled == copied != ""
    assert "checksum of its weights is wrong" in damaged and "download the model again" in damaged
    assert detail.locator("#comparison td.problem").count() == 1
    detail.keyboard.press("ArrowRight")  # another photo
    wait_for(detail, "document.getElementById('comparison').hidden")


def test_a_chosen_captioner_captions_this_and_the_next_photo(detail: Any) -> None:
    options = detail.locator("#captioner option").all_inner_texts()
    assert options == ["starter-captioner (default)", "damaged", "my-run"]
    detail.select_option("#captioner", "my-run")
    for _ in range(2):
        with detail.expect_response(lambda response: "/api/caption?" in response.url) as found:
            detail.click("#describe")
        assert "model=my-run" in found.value.url and found.value.json()["model"] == "my-run"
        wait_for(detail, "document.querySelectorAll('#captions li').length === 3")
        detail.focus("#close")
        detail.keyboard.press("ArrowRight")
        wait_for(detail, "document.querySelectorAll('#captions li').length === 0")
    name = detail.inner_text("#name")
    detail.focus("#captioner")
    detail.keyboard.press("ArrowRight")  # does not open the next photo
    assert detail.inner_text("#name") == name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_no_barriers(browser: Any, address: str, captioners: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(address)
    wait_for_photos(page)
    page.click("#grid li:first-child button")
    page.click("#compare")
    wait_for(page, ALL_DONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    violations = axe.run(page).response["violations"]
    context.close()
    assert [(found["id"], found["impact"]) for found in violations] == []


def test_one_captioner_leaves_nothing_to_choose(browser: Any, address: str, captioners: Path) -> None:
    page = browser.new_page()
    one = {"captioners": [{"name": "starter-captioner", "default": True}]}
    page.route("**/api/captioners", lambda route: route.fulfill(json=one))
    page.goto(address)
    wait_for_photos(page)
    with page.expect_response("**/api/captioners"):
        page.click("#grid li:first-child button")
    page.click("#describe")
    wait_for(page, "document.querySelectorAll('#captions li').length === 3")
    assert not page.is_visible("#compare") and not page.is_visible("#captioner")
    page.close()

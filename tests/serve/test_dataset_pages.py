"""The pages of datasets in a real browser. Skipped where Chromium or Playwright is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import wait_for
from helpers.served_datasets import MARKED, MARKED_NAME, NUM_IMAGES

IMAGES_SHOWN = "[...document.images].length > 0 && [...document.images].every(image => image.naturalWidth > 0)"
LIGHTNESS = "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)[0]"
ADDRESSES = ("datasets", "datasets/tricky?q=dog", "datasets/tricky?show=missing", "datasets/features", "datasets/coco")
IMAGE_ADDRESSES = ("datasets/tricky/images/3", "datasets/tricky/images/5", "datasets/features/images/0")


@pytest.fixture(autouse=True)
def registered(served_datasets: Path) -> None:
    """All tests have the datasets."""


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page; the test fails for any error in its console."""
    found = browser.new_page(viewport={"width": 1200, "height": 800})
    errors: list[str] = []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield found
    found.close()
    assert errors == []


def num_cards(page: Any) -> int:
    count: int = page.locator(".card").count()
    return count


def test_from_the_photos_to_the_images_of_a_split(page, address):
    page.goto(address)
    page.click("header a[href='/datasets']")
    page.click("a[href='/datasets/tricky?split=val']")
    page.wait_for_url("**/datasets/tricky?split=val")
    assert num_cards(page) == 45
    assert page.inner_text(".tabs [aria-current]").split("\n") == ["val", "45 images, 176 captions"]


def test_a_search_in_the_captions_keeps_the_split(page, address):
    page.goto(f"{address}datasets/tricky?split=val")
    page.fill("#words", "DOG number 1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/datasets/tricky?q=DOG+number+1&split=val")
    assert page.inner_text("[role=status]") == "9 images." and num_cards(page) == 9
    assert page.locator(".card").nth(1).locator("mark").all_inner_texts() == ["Dog", "number", "1", "dog"]
    wait_for(page, IMAGES_SHOWN)
    page.click("text=Clear")
    page.wait_for_url("**/datasets/tricky?split=val")


def test_pages_by_keyboard(page, address):
    page.goto(f"{address}datasets/tricky")
    page.focus("nav[aria-label='Pages of images'] a[rel=next]")
    page.keyboard.press("Enter")
    page.wait_for_url("**/datasets/tricky?page=2")
    assert num_cards(page) == NUM_IMAGES - 48
    page.go_back()
    assert num_cards(page) == 48


def test_an_image_has_a_page(page, address):
    page.goto(f"{address}datasets/tricky")
    page.click(".card:nth-child(2) a.photo")
    page.wait_for_url("**/datasets/tricky/images/1")
    wait_for(page, IMAGES_SHOWN)
    assert page.locator("main li[dir]").first.inner_text() == "a Dog number 1"
    page.click("text=Previous")
    page.wait_for_url("**/datasets/tricky/images/0")
    assert page.locator("a:text-is('Previous')").count() == 0


def test_markup_in_captions_and_names_is_text(page, address):
    page.goto(f"{address}datasets/tricky")
    card = page.locator(".card").nth(MARKED)
    assert card.locator("img").get_attribute("alt") == f"images/{MARKED_NAME}"
    assert card.locator("li").nth(1).inner_text().startswith("<script>document.title='bad'</script>")
    assert page.title() == "tricky - xmodal" and page.locator("main script, main b").count() == 0
    card.scroll_into_view_if_needed()
    wait_for(page, f"document.querySelectorAll('.card')[{MARKED}].querySelector('img').naturalWidth > 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_colors_and_widths(browser, address, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for path in (*ADDRESSES, *IMAGE_ADDRESSES):
        page.goto(f"{address}{path}")
        assert (page.evaluate(LIGHTNESS) > 128) == (scheme == "light")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path  # nothing to scroll sideways
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_no_barriers(browser, address, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # it runs its script in the page
    page = context.new_page()
    found = {}
    for path in (*ADDRESSES, *IMAGE_ADDRESSES, "datasets/tricky?show=empty-or-repeated", "datasets/tricky?page=2"):
        page.goto(f"{address}{path}")
        found[path] = [(one["id"], one["impact"]) for one in axe.run(page).response["violations"]]
    context.close()
    assert not any(found.values()), found

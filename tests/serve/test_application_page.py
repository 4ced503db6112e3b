"""The page in a real browser. Skipped where Chromium or Playwright is not installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.browser import THUMBNAILS_SHOWN, names, wait_for, wait_for_photos
from helpers.served_photos import NUM_PHOTOS, free_port, paint

from xmodal_cli.__main__ import main


def test_typing_searches_and_the_address_repeats_the_search(page, browser, xmodal):
    page.fill("#query", "a red sky")
    wait_for(page, "location.search.includes('red')")
    expected = xmodal("search", "a red sky", "--json", "-k", NUM_PHOTOS).json
    expected_names = [Path(hit["path"]).name for hit in expected["hits"]]
    wait_for(page, f"document.querySelector('#grid img').alt === '{expected_names[0]}'")
    assert names(page) == expected_names
    other = browser.new_page()
    other.goto(page.url)
    wait_for_photos(other)
    assert names(other) == expected_names and other.input_value("#query") == "a red sky"
    other.close()


def test_all_thumbnails_are_shown(page):
    wait_for(page, THUMBNAILS_SHOWN)


def test_an_uploaded_photo_is_found(page, photos):
    page.set_input_files("#photo", photos / "4.jpg")
    wait_for(page, "document.querySelector('#grid img').alt === '4.jpg'")
    assert page.locator("#chips li").count() == 1
    page.click("#chips button")
    wait_for(page, "document.querySelectorAll('#chips li').length === 0")


def test_the_keyboard_alone(page):
    page.locator("#search button, summary").first.focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail[open]")
    second = names(page)[1]
    assert page.inner_text("#name") == second
    page.keyboard.press("ArrowRight")
    wait_for(page, f"document.getElementById('name').textContent === '{names(page)[2]}'")
    page.keyboard.press("Escape")
    wait_for(page, "!document.getElementById('detail').open")
    third = names(page)[2]
    wait_for(page, f"document.activeElement.querySelector('img')?.alt === '{third}'")  # focused after the dialog closed


def test_the_detail_view_captions_and_finds_similar_photos(page):
    page.click("#grid li:first-child button")
    first = page.inner_text("#name")
    wait_for(page, "document.querySelectorAll('#similar img').length === 7")
    page.click("#describe")
    wait_for(page, "document.querySelectorAll('#captions li').length === 3")
    assert "Box Camera" in page.inner_text("#facts") and "ISO 400" in page.inner_text("#facts")
    page.hover("#captions li:first-child button:nth-child(2)")
    wait_for(page, "!document.getElementById('attention').hidden")
    sizes = "[document.getElementById('attention'), document.getElementById('large')].map(e => e.clientWidth)"
    assert len(set(page.evaluate(sizes))) == 1
    page.focus("#captions li:first-child button:first-child")
    page.hover("#name")
    page.evaluate("document.activeElement.blur()")
    wait_for(page, "document.getElementById('attention').hidden")
    page.click("#more")
    wait_for(page, "location.search.includes('like=')")
    wait_for(page, f"document.querySelector('#grid img').alt === '{first}'")
    assert not page.evaluate("document.getElementById('detail').open")
    page.go_back()
    wait_for(page, "document.querySelectorAll('#chips li').length === 0")


def test_a_selection_is_downloaded(page):
    page.focus("#grid li:first-child button")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    wait_for(page, "document.getElementById('selected').textContent === '2 photos selected'")
    assert not page.evaluate("document.getElementById('detail').open")
    selected = names(page)[:2]
    page.fill("#query", "a red sky")  # the selection stays
    wait_for(page, "location.search.includes('red')")
    wait_for(page, "document.querySelectorAll('#grid input:checked').length === 2")
    with page.expect_download() as started:
        page.click("#list")
    lines = Path(started.value.path()).read_text(encoding="utf-8").splitlines()
    assert [Path(line).name for line in lines] == selected
    with page.expect_download() as started:
        page.click("#zip")
    assert zipfile.ZipFile(started.value.path()).namelist() == selected
    page.click("#clear")
    wait_for(page, "document.getElementById('selection').hidden")
    assert page.locator("#grid input:checked").count() == 0


def test_filters_and_errors(page):
    page.click("summary")
    page.fill("input[name=threshold]", "0.99")
    page.fill("#query", "dogs")
    page.wait_for_selector("#message:not([hidden])")
    assert "No photo matches" in page.inner_text("#message")
    page.fill("input[name=threshold]", "")
    wait_for_photos(page)
    wait_for(page, "document.getElementById('message').hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_colors_and_widths(browser, address, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(address)
    wait_for_photos(page)
    lightness = page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)[0]"
    )
    assert (lightness > 128) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing to scroll sideways
    page.close()


def test_an_updated_index_is_used_while_the_page_is_open(page, photos):
    paint(photos / "late.jpg", 50)
    try:
        assert main(["index", str(photos)]) == 0
        page.fill("#query", "something new")
        wait_for_photos(page, NUM_PHOTOS + 1)
        wait_for(page, THUMBNAILS_SHOWN)  # before the photo is removed
    finally:
        (photos / "late.jpg").unlink()
        assert main(["index", str(photos)]) == 0


def test_watched_photos_appear_on_the_page(served_home, browser, photos):
    port = free_port()
    command = [sys.executable, "-m", "xmodal_cli", "serve", "--watch", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        wait_for_photos(page)
        paint(photos / "watched.jpg", 51)
        try:
            wait_for_photos(page, NUM_PHOTOS + 1)
            wait_for(page, "document.getElementById('updates').hidden")
        finally:
            (photos / "watched.jpg").unlink()
        wait_for_photos(page)
        page.close()
        process.terminate()


def test_markup_in_names_is_text(browser, address, photos):
    name = "<img src=x onerror=document.title='bad'>.jpg"
    paint(photos / name, 60)
    try:
        assert main(["index", str(photos)]) == 0
        page = browser.new_page()
        page.goto(address)
        wait_for_photos(page, NUM_PHOTOS + 1)
        page.click(f'#grid button:has(img[alt="{name}"])')
        page.wait_for_selector("#detail[open]")
        assert page.inner_text("#name") == name
        assert page.title() == "xmodal"
        page.close()
    finally:
        (photos / name).unlink()
        assert main(["index", str(photos)]) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_the_api(browser, address, scheme):
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(f"{address}api/docs")
    lightness = page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)[0]"
    )
    assert (lightness > 128) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("nav li:last-child a")
    wait_for(page, "location.hash.startsWith('#get-api-photos')")
    context.close()
    assert errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_no_barriers(browser, address, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # it runs its script in the page
    page = context.new_page()
    page.goto(address)
    wait_for_photos(page)
    page.fill("#query", "a red sky +snow")
    page.keyboard.press("Enter")
    page.click("#history summary")
    wait_for(page, "document.querySelectorAll('#recent li').length === 1")
    page.click("#save")
    wait_for_photos(page)
    grid = axe.run(page).response["violations"]
    page.click("#grid li:first-child button")
    wait_for(page, "document.querySelectorAll('#similar img').length === 7")
    detail = axe.run(page).response["violations"]
    page.goto(f"{address}api/docs")
    description = axe.run(page).response["violations"]
    context.close()
    assert [(found["id"], found["impact"]) for found in grid + detail + description] == []

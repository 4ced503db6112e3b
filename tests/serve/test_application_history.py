"""Recent and saved searches on the page, and the terms of the query as chips."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from helpers.browser import names, wait_for, wait_for_photos

from xmodal_cli.retrieval.query_line import split_line


def labels(page: Any, kind: str) -> list[str]:
    found: list[str] = page.eval_on_selector_all(f"#{kind} a", "links => links.map(link => link.textContent)")
    return found


def submit(page: Any, text: str) -> None:
    page.fill("#query", text)
    page.focus("#query")
    page.keyboard.press("Enter")
    wait_for(page, "document.activeElement.closest('#grid') !== null")  # of the results


def open_searches(page: Any) -> None:
    page.click("#history summary")
    wait_for(page, "document.getElementById('history').open")


def test_recent_searches_are_links_that_repeat_the_search(page: Any, browser: Any) -> None:
    submit(page, "a red sky")
    submit(page, "two dogs -snow")
    submit(page, "a red sky")
    wait_for(page, "JSON.parse(localStorage.getItem('xmodal.recent')).length === 2")
    open_searches(page)
    assert labels(page, "recent") == ["a red sky", "two dogs -snow"]
    link = page.locator("#recent a").nth(1)
    address = page.evaluate("document.querySelectorAll('#recent a')[1].href")
    assert parse_qs(urlsplit(address).query) == {"q": ["two dogs -snow"], "index": ["trip"]}
    link.click()
    wait_for(page, "location.search.includes('dogs')")
    wait_for(page, "document.getElementById('query').value === 'two dogs -snow'")
    assert not page.evaluate("document.getElementById('history').open")
    page.wait_for_timeout(300)
    other = browser.new_page()
    other.goto(address)
    wait_for_photos(other)
    assert other.input_value("#query") == "two dogs -snow"
    assert names(other) == names(page)
    other.close()


def test_a_pause_in_typing_adds_one_search(page: Any, photos: Path) -> None:
    page.fill("#query", "two")
    wait_for(page, "(localStorage.getItem('xmodal.recent') || '').includes('q=two&')")
    page.fill("#query", "two dogs")
    wait_for(page, "(localStorage.getItem('xmodal.recent') || '').includes('q=two+dogs')")
    open_searches(page)
    assert labels(page, "recent") == ["two dogs"]
    page.set_input_files("#photo", photos / "4.jpg")
    wait_for(page, "document.getElementById('save').disabled")  # an uploaded photo is not in an address


def test_the_keyboard_saves_opens_and_deletes_searches(page: Any) -> None:
    submit(page, "a beach")
    page.focus("#history summary")
    page.keyboard.press("Enter")
    wait_for(page, "document.getElementById('history').open")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "save"
    page.keyboard.press("Enter")
    assert labels(page, "saved") == ["a beach"]
    assert page.inner_text("#searches-status") == "Saved a beach"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('#saved a')")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Delete the search a beach"
    page.keyboard.press("Enter")
    assert labels(page, "saved") == []
    assert page.is_visible("#saved-none")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.click("#recent button >> text=Save")
    assert labels(page, "saved") == ["a beach"] and labels(page, "recent") == ["a beach"]
    assert page.evaluate("document.activeElement.matches('#recent a')")
    page.click("#forget")
    assert labels(page, "recent") == []
    page.reload()
    wait_for_photos(page)
    open_searches(page)
    assert labels(page, "saved") == ["a beach"]  # they stay
    page.focus("#saved a")
    page.keyboard.press("Enter")
    wait_for(page, "document.getElementById('query').value === 'a beach'")


def test_at_most_twenty_recent_searches_with_filters_in_their_names(page: Any) -> None:
    old = [f"q=number+{n}&index=trip" for n in range(20)]
    page.evaluate("old => localStorage.setItem('xmodal.recent', JSON.stringify(old))", old)
    page.click("#filters summary")
    page.fill("input[name=after]", "2001")
    submit(page, "a beach")
    wait_for(page, "localStorage.getItem('xmodal.recent').includes('beach')")
    open_searches(page)
    found = labels(page, "recent")
    assert found[:2] == ["a beach, from 2001", "number 0"] and len(found) == 20


@pytest.mark.parametrize("stored", ["not json", "{}", '[1, "q=a&index=trip", null]'])
def test_damaged_lists_are_ignored(page: Any, stored: str) -> None:
    page.evaluate("stored => localStorage.setItem('xmodal.saved', stored)", stored)
    open_searches(page)
    assert labels(page, "saved") == (["a"] if "q=a" in stored else [])
    submit(page, "markup <b>")
    page.click("#save")
    wait_for(page, "document.querySelectorAll('#recent li').length === 1")
    assert labels(page, "recent") == ["markup <b>"]


LINES = [
    "two dogs +snow -person",
    'a "red sky" +"deep snow"^2 -name:"my beach" caption:dog',
    "rock'n'roll -'two words' +x^0.5 end",
    "well-known a+b -\u00e9t\u00e9",
]


@pytest.mark.parametrize("line", LINES)
def test_terms_with_signs_and_filters_are_chips(page: Any, line: str) -> None:
    nothing = {"hits": [], "items": 0, "vanished": 0, "unknown_words": [], "index": "trip", "model": "starter"}
    page.route("**/api/search?*", lambda route: route.fulfill(json=nothing))  # the index has no captions: an error
    page.fill("#query", line)
    expected = [t for t in split_line(line, find_files=False) if t[0] in "+-" or t.startswith(("name:", "caption:"))]
    shown = page.eval_on_selector_all("#terms li", "items => items.map(item => item.firstChild.textContent)")
    assert [text if ":" in text else text.replace('"', "").replace("'", "") for text in shown] == expected


def test_a_removed_term_is_no_longer_in_the_query(page: Any) -> None:
    page.fill("#query", "two dogs +snow  -person")
    wait_for(page, "location.search.includes('person')")
    page.click("#terms button[aria-label='Remove +snow']")
    assert page.input_value("#query") == "two dogs -person"
    wait_for(page, "!location.search.includes('snow')")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove -person"
    page.keyboard.press("Enter")
    assert page.input_value("#query") == "two dogs"
    assert page.evaluate("document.activeElement.id") == "query" and page.is_hidden("#terms")
    wait_for(page, "!location.search.includes('person')")
    page.go_back()
    wait_for(page, "document.querySelectorAll('#terms li').length === 1")

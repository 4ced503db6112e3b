from __future__ import annotations

from helpers import licenses


def test_the_page_has_every_package() -> None:
    text = licenses.PAGE.read_text(encoding="utf-8")
    assert len(licenses.requirements()) > 20
    assert [name for name in licenses.requirements() if f"| {name} | " not in text] == []


def test_every_package_has_a_license() -> None:
    assert [name for name in licenses.requirements() if not licenses.license_of(name).strip()] == []

from __future__ import annotations

import json

import pytest

from xmodal_cli import json_checksum

VALUE = {"name": "ä", "sizes": (1, 2.5), "inner": {10: None, 9: True}}


def test_the_value_comes_back_without_its_checksum() -> None:
    text = json_checksum.to_text(VALUE)
    assert json_checksum.parse(text) == {"name": "ä", "sizes": [1, 2.5], "inner": {"10": None, "9": True}}
    assert list(json.loads(text))[-1] == json_checksum.KEY


def test_the_order_of_keys_and_spaces_do_not_matter() -> None:
    entries = json.loads(json_checksum.to_text(VALUE))
    assert json_checksum.parse(json.dumps(dict(reversed(entries.items())), indent=3)) == json_checksum.verify(entries)


def test_an_older_text_without_a_checksum() -> None:
    assert json_checksum.parse('{"a": 1}') == {"a": 1}


def test_a_changed_value() -> None:
    with pytest.raises(ValueError, match="checksum is wrong"):
        json_checksum.parse(json_checksum.to_text(VALUE).replace("2.5", "2.4"))

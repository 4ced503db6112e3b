"""The settings of reading images in config.toml and in environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmodal_cli.data.image_settings import ImageSettings, image_settings
from xmodal_cli.errors import BadData, ConfigError, UnknownName


def write(home: Path, text: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(text)


def test_defaults_file_and_variables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert image_settings() == ImageSettings(179, False)
    write(home, "[defaults]\nmatcher = 'starter'\n[images]\nmax_megapixels = 400\nstrict = true\n")
    assert image_settings() == ImageSettings(400, True)
    monkeypatch.setenv("XMODAL_MAX_MEGAPIXELS", "50")
    monkeypatch.setenv("XMODAL_STRICT", "0")
    assert image_settings() == ImageSettings(50, False)
    assert image_settings().max_pixels == 50_000_000


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[images]\nmax_megapixel = 4", UnknownName, "max_megapixel"),
        ("[images]\nmax_megapixels = 0", ConfigError, "images.max_megapixels must be at least 1, not 0"),
        ("[images]\nmax_megapixels = true", ConfigError, "must be a whole number, not True"),
        ("[images]\nstrict = 1", ConfigError, "must be true or false, not 1"),
        ("images = 3", BadData, "must be a table"),
        ("[images", BadData, "cannot be read"),
    ],
)
def test_invalid_files(home: Path, text: str, error: type[Exception], message: str) -> None:
    write(home, text)
    with pytest.raises(error, match=message):
        image_settings()


def test_invalid_variables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("many", "-1", "1.5"):
        monkeypatch.setenv("XMODAL_MAX_MEGAPIXELS", value)
        with pytest.raises(ConfigError, match=value):
            image_settings()

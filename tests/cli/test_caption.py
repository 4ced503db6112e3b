"""``xmodal caption`` with a toy captioner that names colors."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_captioner import Toy, install, paint
from PIL import Image

from xmodal_cli.types import Decoding

Run = Callable[..., Any]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return install(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ``photos/`` in it."""
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "photos" / "b.png", "blue", "red")
    paint(tmp_path / "photos" / "a.jpg", "red", "green")
    paint(tmp_path / "photos" / "deep" / "c.png", "white")
    (tmp_path / "photos" / "notes.md").write_text("not an image")
    return tmp_path


def texts(outcome: Any) -> dict[str, list[str]]:
    return {entry["path"]: [c["text"] for c in entry["captions"]] for entry in outcome.json}


def test_one_photo(xmodal: Run, toy: Toy, photos: Path) -> None:
    outcome = xmodal("caption", "photos/a.jpg")
    assert (outcome.code, outcome.out) == (0, "photos/a.jpg\tred and green\n")
    assert "captions by /runs/toy" in outcome.err


def test_json(xmodal: Run, toy: Toy, photos: Path) -> None:
    outcome = xmodal("caption", "photos/a.jpg", "--json")
    assert outcome.json == [{"path": "photos/a.jpg", "captions": [{"text": "red and green", "score": -0.25}]}]


def test_files_keep_their_order_and_folders_are_read_recursively(xmodal: Run, toy: Toy, photos: Path) -> None:
    found = xmodal("caption", "photos/b.png", "photos", photos / "photos" / "a.jpg", "--json")
    assert texts(found) == {
        "photos/b.png": ["blue and red"],
        "photos/a.jpg": ["red and green"],
        "photos/deep/c.png": ["white and white"],
    }
    assert found.json[0]["path"] == "photos/b.png"


def test_glob_patterns(xmodal: Run, toy: Toy, photos: Path) -> None:
    assert list(texts(xmodal("caption", "photos/*", "--json"))) == ["photos/a.jpg", "photos/b.png", "photos/deep/c.png"]
    assert list(texts(xmodal("caption", "photos/**/*.png", "--json"))) == ["photos/b.png", "photos/deep/c.png"]
    paint(photos / "a[1].png", "green")
    paint(photos / "a1.png", "red")
    assert list(texts(xmodal("caption", "a[1].png", "--json"))) == [
        "a[1].png"
    ]  # an existing file takes precedence over a pattern
    outcome = xmodal("caption", "photos/*.tif")
    assert (outcome.code, "photos/*.tif matches nothing" in outcome.err) == (1, True)
    assert "matches only 1 files of other kinds" in xmodal("caption", "photos/*.md").err


def test_excluded_files(xmodal: Run, toy: Toy, photos: Path) -> None:
    paint(photos / "photos" / "deep" / ".hidden.png", "red")
    paint(photos / "photos" / "@eaDir" / "d.png", "red")

    def captioned(*args: object) -> list[str]:
        outcome = xmodal("caption", *args, "--json")
        assert outcome.code == 0, outcome.err
        return list(texts(outcome))

    everything = ["photos/a.jpg", "photos/b.png", "photos/deep/c.png"]
    assert captioned("photos") == everything
    assert captioned("photos", "--exclude", "deep/", "--exclude", "*.jpg") == ["photos/b.png"]
    assert captioned("photos", "--exclude", "/c.png") == everything  # relative to the folder
    assert captioned("photos", "--exclude", "*", "--exclude", "!b.png") == ["photos/b.png"]
    assert captioned("photos/*", "--exclude", "*.jpg") == everything[1:]
    assert captioned("photos/a.jpg", "photos/b.png", "--exclude", "a.*") == ["photos/b.png"]
    assert captioned(*everything, "--exclude", "deep/") == everything[:2]
    (photos / "photos" / ".xmodalignore").write_text("b.png\n")
    assert captioned("photos") == ["photos/a.jpg", "photos/deep/c.png"]
    assert captioned("photos/*") == captioned("photos/**/*.*") == ["photos/a.jpg", "photos/deep/c.png"]
    assert captioned("photos/deep", "photos/b.png") == ["photos/deep/c.png", "photos/b.png"]
    assert captioned("photos/@eaDir/*") == ["photos/@eaDir/d.png"]


def test_exclusions_that_leave_nothing_and_invalid_patterns(xmodal: Run, toy: Toy, photos: Path) -> None:
    for source in ("photos/a.jpg", "photos/*.jpg", "photos"):
        outcome = xmodal("caption", source, "--exclude", "*")
        assert outcome.code == 1 and outcome.out == "", outcome
    assert "excluded by --exclude *" in xmodal("caption", "photos/a.jpg", "--exclude", "*").err
    assert "is not a pattern" in xmodal("caption", "photos", "--exclude", " ").err


def test_links_and_repeated_paths(xmodal: Run, toy: Toy, photos: Path) -> None:
    (photos / "photos" / "again.jpg").symlink_to("a.jpg")
    (photos / "photos" / "loop").symlink_to(photos / "photos")
    found = texts(xmodal("caption", "photos", "photos/../photos/a.jpg", "--json"))
    assert list(found) == ["photos/a.jpg", "photos/again.jpg", "photos/b.png", "photos/deep/c.png"]
    assert found["photos/again.jpg"] == found["photos/a.jpg"]


def test_an_unreadable_file_among_many_is_reported_and_skipped(xmodal: Run, toy: Toy, photos: Path) -> None:
    for number in range(99):
        paint(photos / "many" / f"{number:02}.png", "red" if number % 2 else "blue")
    (photos / "many" / "50b.jpg").write_text("this is a text file")
    outcome = xmodal("caption", "many")
    assert outcome.code == 0
    lines = [line.split("\t") for line in outcome.out.splitlines()]
    assert lines == [[f"many/{n:02}.png", "red and red" if n % 2 else "blue and blue"] for n in range(99)]
    assert [line for line in outcome.err.splitlines() if "warning" in line] == [
        "warning: many/50b.jpg cannot be opened: it is not an image in a supported format"
    ]
    assert max(toy.batch_sizes) > 1
    assert sum(toy.batch_sizes) == 99
    assert toy.first_indices == list(range(0, 100, 8))
    result = xmodal("caption", "many", "--json").json
    assert result[51] == {
        "path": "many/50b.jpg",
        "error": "many/50b.jpg cannot be opened: it is not an image in a supported format",
        "hint": "open it in an image viewer; if that fails too, replace or remove the file",
        "category": "not_an_image",
    }
    assert [entry["path"] for entry in result] == sorted(
        str(p.relative_to(photos)) for p in (photos / "many").iterdir()
    )


def test_a_missing_file_is_reported_and_skipped(xmodal: Run, toy: Toy, photos: Path) -> None:
    outcome = xmodal("caption", "gone.jpg", "photos/a.jpg", "--json")
    assert outcome.code == 0
    assert outcome.json[0]["path"] == "gone.jpg"
    assert outcome.json[0]["error"] == "gone.jpg cannot be read: no such file or directory"
    assert outcome.json[0]["category"] == "missing"
    assert set(outcome.json[0]) == {"path", "error", "hint", "category"}
    assert outcome.json[1]["captions"][0]["text"] == "red and green"
    assert "~nobody-of-this-name/a.jpg cannot be read" in xmodal("caption", "~nobody-of-this-name/a.jpg").err


def test_file_names_with_a_tilde(xmodal: Run, toy: Toy, photos: Path) -> None:
    paint(photos / "~deep" / "~a.png", "red")
    paint(photos / "~b.png", "blue")
    assert list(texts(xmodal("caption", "~b.png", "~deep", "--write", "txt", "--json"))) == ["~b.png", "~deep/~a.png"]
    assert (photos / "~deep" / "~a.txt").is_file()


def make_text_file(folder: Path) -> str:
    (folder / "x.jpg").write_text("text")
    return "it is not an image in a supported format"


def make_empty_file(folder: Path) -> str:
    (folder / "x.jpg").write_bytes(b"")
    return "the file is empty"


def make_truncated_file(folder: Path) -> str:
    paint(folder / "y.png", "red", "blue", (900, 900))
    (folder / "x.jpg").write_bytes((folder / "y.png").read_bytes()[:1000])
    return "cannot be opened"


def make_folder(folder: Path) -> str:
    (folder / "x.jpg").mkdir()
    return "there are no images in"


def make_no_file(folder: Path) -> str:
    return "no such file or directory"


def make_pipe(folder: Path) -> str:
    os.mkfifo(folder / "x.jpg")
    return "it is a named pipe, not a file"


@pytest.mark.parametrize(
    "make",
    [make_text_file, make_empty_file, make_truncated_file, make_folder, make_no_file, make_pipe],
    ids=lambda f: f.__name__,
)
def test_a_single_unreadable_file_is_an_error(make: Callable[[Path], str], xmodal: Run, toy: Toy, photos: Path) -> None:
    reason = make(photos)
    outcome = xmodal("caption", "x.jpg")
    assert (outcome.code, outcome.out) == (1, "")
    *messages, error, hint = outcome.err.splitlines()
    assert error.startswith("error: ")
    assert "x.jpg" in error
    assert reason in error
    assert hint.startswith("hint: ")
    assert not [line for line in messages if "warning" in line]
    outcome = xmodal("caption", "x.jpg", "--json")
    assert outcome.code == 1
    assert [entry["path"] for entry in outcome.json] == ["x.jpg"]
    assert reason in outcome.json[0]["error"]


def test_only_unreadable_files(xmodal: Run, toy: Toy, photos: Path) -> None:
    make_text_file(photos)
    outcome = xmodal("caption", "x.jpg", "photos/notes.md", "gone.jpg")
    assert outcome.code == 1
    assert outcome.err.count("warning: ") == 3
    assert "error: none of the 3 photos could be captioned\nhint: " in outcome.err


def test_no_model_is_loaded_for_missing_files(xmodal: Run, toy: Toy, photos: Path) -> None:
    assert "no such file" in xmodal("caption", "gone.jpg", "--model", "matcher").err


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest turns the warning into an error
def test_a_photo_of_100_megapixels(xmodal: Run, toy: Toy, photos: Path) -> None:
    Image.new("1", (10_000, 10_000), 1).save(photos / "huge.png")
    assert xmodal("caption", "huge.png").out == "huge.png\twhite and white\n"


def test_decompression_bombs_are_rejected(xmodal: Run, toy: Toy, photos: Path) -> None:
    Image.new("1", (20_000, 10_000), 1).save(photos / "bomb.png")
    outcome = xmodal("caption", "bomb.png")
    assert outcome.code == 1
    assert "bomb.png has 20000 x 10000 pixels in its header, more than the 179 million allowed" in outcome.err
    assert "hint: " in outcome.err


def test_several_captions(xmodal: Run, toy: Toy, photos: Path) -> None:
    outcome = xmodal("caption", "photos/a.jpg", "--num", 3)
    assert outcome.out == "".join(f"photos/a.jpg\t{text}\n" for text in ("red and green", "worse 1", "worse 2"))
    scores = [c["score"] for c in xmodal("caption", "photos/a.jpg", "--num", 3, "--json").json[0]["captions"]]
    assert scores == [-0.25, -1.25, -2.25]


def test_on_a_terminal(xmodal: Run, toy: Toy, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class TerminalStream(io.StringIO):
        def isatty(self) -> bool:
            return True

    for num, shown in ((1, "  red and green\n"), (2, "    -0.250  red and green\n    -1.250  worse 1\n")):
        monkeypatch.setattr(sys, "stdout", stream := TerminalStream())
        assert xmodal("caption", "photos/a.jpg", "--num", num).code == 0
        assert stream.getvalue() == "photos/a.jpg\n" + shown


def test_control_characters_in_names_are_escaped(xmodal: Run, toy: Toy, photos: Path) -> None:
    paint(photos / "a\x1b[31m\t\nb.png", "red")
    assert xmodal("caption", "a\x1b[31m\t\nb.png").out == "a\\x1b[31m\\t\\nb.png\tred and red\n"
    outcome = xmodal("caption", "no\x1b\nne.png", "photos/a.jpg")
    assert "warning: no\\x1b\\nne.png cannot be read" in outcome.err


def test_flags_override_set_and_set_overrides_the_model(xmodal: Run, toy: Toy, photos: Path) -> None:
    toy.decoding = Decoding(beam=3, length_penalty=0.7, no_repeat_ngram_size=3)
    xmodal("caption", "photos/a.jpg")
    assert toy.calls[-1] == (1, Decoding(beam=3, length_penalty=0.7, no_repeat_ngram_size=3), (), False)
    xmodal(
        "caption", "photos/a.jpg", "--beam", 4, "--set", "decoding.beam=2", "--set", "decoding.no_repeat_ngram_size=0"
    )
    assert toy.calls[-1][1] == Decoding(beam=4, length_penalty=0.7, no_repeat_ngram_size=0)
    xmodal("caption", "photos/a.jpg", "--sample", "--num", 2, "--set", "decoding.seed=5")
    assert toy.calls[-1][1] == Decoding(beam=3, num=2, length_penalty=0.7, no_repeat_ngram_size=3, sample=True, seed=5)


def test_the_default_beam_is_large_enough_for_num(xmodal: Run, toy: Toy, photos: Path) -> None:
    assert xmodal("caption", "photos/a.jpg", "--num", 7).code == 0
    assert toy.calls[-1][1] == Decoding(beam=7, num=7)
    assert xmodal("caption", "photos/a.jpg", "--num", 7, "--set", "decoding.num_beam_groups=4").code == 0
    assert toy.calls[-1][1] == Decoding(beam=8, num=7, num_beam_groups=4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--set", "decoding.beem=3"), "did you mean 'decoding.beam'?"),
        (("--set", "training.epochs=3"), "is not a decoding setting"),
        (("--set", "beam=3"), "accepts only decoding.KEY=VALUE here"),
        (("--beam", 0), "decoding.beam must be at least 1"),
        (("--num", 5, "--beam", 4), "decoding.num must be at most the beam size, 4, not 5"),
        (("--num", 3, "--set", "decoding.beam=2"), "decoding.num must be at most the beam size, 2, not 3"),
        (("--num", -1), "decoding.num must be at least 1"),
        (("--model", "matcher"), "matcher is a matcher, not a captioner"),
        (("--model", "hf/some", "--model", "toy"), "cannot be part of an ensemble"),
        (("--model", "hf/some", "--tags", "dog"), "--tags is not supported for Hugging Face models"),
        (("--model", "hf/some", "--attention", "maps"), "--attention is not supported for Hugging Face models"),
    ],
)
def test_invalid_settings(xmodal: Run, toy: Toy, photos: Path, wrong: tuple[Any, ...], message: str) -> None:
    outcome = xmodal("caption", "photos/a.jpg", *wrong)
    assert (outcome.code, outcome.out) == (1, "")
    assert message in outcome.err
    assert outcome.err.splitlines()[-1].startswith("hint: ")
    assert not toy.calls


def test_usage(xmodal: Run, toy: Toy, photos: Path) -> None:
    for wrong in ((), ("photos/a.jpg", "--write", "xml"), ("photos/a.jpg", "--beam", "wide")):
        assert xmodal("caption", *wrong).code == 2
    for option in (("--tags", "a"), ("--beam", 3), ("--sample",), ("--attention", "d"), ("--set", "decoding.beam=2")):
        outcome = xmodal("caption", "photos/a.jpg", "--nearest", *option)
        assert outcome.code == 2
        assert "not allowed with --nearest" in outcome.err


def test_the_default_captioner(xmodal: Run, photos: Path) -> None:
    outcome = xmodal("caption", "photos/a.jpg", "--json")
    assert (outcome.code, len(outcome.json[0]["captions"][0]["text"].split()) > 2) == (0, True)
    assert "captions by starter-captioner" in outcome.err


def test_an_ensemble_runs_each_backbone_once(xmodal: Run, toy: Toy, photos: Path) -> None:
    models = [part for name in ("one", "two", "other") for part in ("--model", name)]
    outcome = xmodal("caption", "photos", *models)
    assert outcome.code == 0
    assert toy.calls[-1][0] == 3
    assert "captions by one + two + other" in outcome.err
    assert {name: sum(backbone.batches) for name, backbone in toy.backbones.items()} == {"halves": 3, "other": 3}


def test_an_ensemble_skips_unreadable_files(xmodal: Run, toy: Toy, photos: Path) -> None:
    (photos / "photos" / "bad.jpg").write_text("text")
    found = xmodal("caption", "photos", "--model", "one", "--model", "other", "--json").json
    assert ["error" in entry for entry in found] == [False, False, True, False]


def test_damaged_photos_and_files_that_are_left_out(
    xmodal: Run, toy: Toy, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos / "mixed"
    paint(folder / "a.png", "red", "green")
    paint(folder / "cut.jpg", "red", "green")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-2])
    (folder / "d.CR2").write_bytes(b"II*\0\x10\0\0\0CR\2\0")
    (folder / "e.svg").write_text("<svg/>")
    outcome = xmodal("caption", "mixed")
    assert outcome.out.count("\t") == 2
    assert "mixed/d.CR2 cannot be opened: camera RAW files are not supported" in outcome.err
    assert "mixed/cut.jpg: the file is truncated: " in outcome.err
    assert "left out: 2 files (1 camera RAW, 1 SVG)" in outcome.err
    found = {entry["path"]: entry for entry in xmodal("caption", "mixed", "--json").json}
    assert found["mixed/d.CR2"]["category"] == "raw" and found["mixed/e.svg"]["category"] == "svg"
    assert "truncated" in found["mixed/cut.jpg"]["defects"][0]
    monkeypatch.setenv("XMODAL_STRICT", "")  # the option sets it
    strict = {entry["path"]: entry for entry in xmodal("caption", "mixed", "--strict", "--json").json}
    assert strict["mixed/cut.jpg"]["category"] == "damaged" and "captions" in strict["mixed/a.png"]

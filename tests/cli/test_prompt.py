"""The parts of the search prompt without a terminal, and queries on stdin."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys

import pytest
from helpers import fake_search

from xmodal_cli import viewer
from xmodal_cli.cli import prompt as cli_prompt
from xmodal_cli.cli.completion import COMMANDS, complete
from xmodal_cli.cli.history import NUM_LINES, History
from xmodal_cli.cli.prompt import Prompt, parse_command
from xmodal_cli.errors import BadData, ConfigError, MissingData, Unavailable, UnknownName
from xmodal_cli.recipes import search as recipe
from xmodal_cli.retrieval.query_line import split_line
from xmodal_cli.retrieval.search_options import SearchOptions


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The opened searchers."""
    searchers = []
    monkeypatch.setattr(recipe, "open_searcher", fake_search.fake_open(tmp_path, searchers))
    return searchers


@pytest.fixture
def stdin(monkeypatch):
    """``stdin(text)``: set the content of stdin."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))


# ---------------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (":open 3", ("open", "3")),
        (":o 3", ("open", "3")),
        (":open", ("open", "")),
        (": k  20 ", ("k", "20")),
        (":index my photos", ("index", "my photos")),
        (":q", ("quit", "")),
        (":help", ("help", "")),
    ],
)
def test_commands(line, command):
    assert parse_command(line) == command


@pytest.mark.parametrize("line", [":", ": ", ":x", ":opens", ":Open", "::"])
def test_invalid_commands(line):
    with pytest.raises(UnknownName):
        parse_command(line)


@pytest.mark.parametrize("argument", ["0", "-1", "many", "1.5", "٣", "9" * 5000, "3 4"])
def test_invalid_numbers(opened, capsys, argument):
    prompt = Prompt(None, SearchOptions(10))
    assert prompt.run_line("red")
    for command in ("open", "k"):
        assert prompt.run_line(f":{command} {argument}")
        assert "is not a valid number" in capsys.readouterr().err
    assert opened[0].queries[-1] == (("red",), 10)


def test_everything_is_loaded_before_the_first_line_and_once(opened):
    prompt = Prompt(None, SearchOptions(10))
    assert len(opened[0].queries) == 1  # the first query loads the model
    prompt.run_line("red +green")
    prompt.run_line("a blue thing")
    assert opened[0].queries[1:] == [(("red", "+green"), 10), (("a blue thing",), 10)]
    assert len(opened) == 1
    prompt.run_line(":index animals")
    assert [one.closed for one in opened] == [True, False]
    prompt.close()
    assert opened[1].closed


def test_an_index_that_has_changed_is_opened_again(opened, capsys):
    prompt = Prompt("animals", SearchOptions(1))
    prompt.run_line("cat")
    opened[0].current = False
    capsys.readouterr()
    prompt.run_line(":k 2")
    assert "2 photos in the index animals" in capsys.readouterr().out
    assert [one.closed for one in opened] == [True, False]
    assert opened[1].queries[-1] == (("cat",), 2)


def test_an_index_that_is_not_there_leaves_the_old_one(opened, capsys):
    prompt = Prompt(None, SearchOptions(10))
    prompt.run_line(":index nothing")
    assert "no index called" in capsys.readouterr().err
    assert prompt.run_line("red")
    assert len(opened[0].queries) == 2


def test_an_interrupted_search(opened, capsys, monkeypatch):
    prompt = Prompt(None, SearchOptions(10))

    def interrupt(words, options):
        raise KeyboardInterrupt

    monkeypatch.setattr(opened[0], "search", interrupt)
    assert prompt.run_line("red")
    assert capsys.readouterr().err == "interrupted\n"


def test_control_characters_in_messages_are_escaped(opened, capsys):
    assert Prompt(None, SearchOptions(10)).run_line("\x1b[31m.jpg")
    assert "\x1b" not in capsys.readouterr().err


def test_k_of_zero(opened):
    with pytest.raises(ConfigError, match="-k must be at least 1"):
        Prompt(None, SearchOptions(0))


def test_the_help_names_every_command():
    for command in COMMANDS:
        assert f":{command}" in cli_prompt.HELP


# ---------------------------------------------------------------------------- completion


def test_commands_and_indexes_are_completed(home):
    for name in ("family", "fun", "work"):
        (home / "indexes" / name).mkdir(parents=True)
        (home / "indexes" / name / "index.json").write_text("{}")
    assert complete(":") == [f":{name}" for name in COMMANDS]
    assert complete(":o") == [":open"]
    assert complete(":x") == []
    assert complete(":index f") == [":index family", ":index fun"]
    assert complete(":i wo") == [":i work"]


def test_photos_and_folders_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dogs at sea").mkdir()
    for name in ("dog.jpg", "don't.png", "dog.txt", ".dot.jpg", "dogs at sea/1.jpg"):
        (tmp_path / name).write_bytes(b"")
    assert complete("snow -do") == ["snow -dog.jpg", r"snow -dogs\ at\ sea/", r"snow -don\'t.png"]
    assert complete(r"dogs\ at\ sea/") == [r"dogs\ at\ sea/1.jpg"]
    assert complete("./dog.") == ["./dog.jpg"]
    assert complete(f"{tmp_path}/dog.") == [f"{tmp_path}/dog.jpg"]
    assert complete("nowhere/x") == []
    assert complete("~nobody-at-all/") == []
    assert len(complete("")) == 3  # nothing hidden
    assert split_line(complete("don")[0]) == ("don't.png",)


# ---------------------------------------------------------------------------- history


class FakeReadline:
    def __init__(self):
        self.lines = []

    def set_auto_history(self, on):
        assert not on

    def add_history(self, line):
        self.lines.append(line)


def test_the_last_thousand_lines_are_kept(tmp_path):
    file = tmp_path / "deep" / "history"
    history = History(file, FakeReadline())
    for n in range(NUM_LINES + 20):
        history.add(f"line {n}")
    history.add(f"line {NUM_LINES + 19}")  # twice the same
    history.add("")
    history.close()
    lines = file.read_text().splitlines()
    assert lines == [f"line {n}" for n in range(20, NUM_LINES + 20)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    readline = FakeReadline()
    History(file, readline).add(lines[-1])
    assert readline.lines == lines


def test_two_prompts_share_the_history(tmp_path):
    file = tmp_path / "history"
    one, other = History(file, None), History(file, None)
    one.add("first")
    other.add("second")
    one.add("third")
    one.close()
    other.close()
    assert file.read_text() == "first\nsecond\nthird\n"


def test_history_with_invalid_utf8(tmp_path):
    file = tmp_path / "history"
    file.write_bytes(b"caf\xe9\x85.jpg\n" * 2 + b"x\n" * NUM_LINES)
    readline = FakeReadline()
    History(file, readline).close()
    assert len(file.read_bytes().split(b"\n")) == NUM_LINES + 1
    History(file, None).add("caf\udce9")
    assert file.read_bytes().endswith(b"caf\xe9\n")


def test_a_history_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for file in (tmp_path / "file" / "history", tmp_path):
        readline = FakeReadline()
        history = History(file, readline)
        history.add("red")
        history.close()
        assert readline.lines == ["red"]


# ---------------------------------------------------------------------------- viewer


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """``programs(name=code)``: the only programs on PATH, as shell scripts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setattr(sys, "platform", "linux")

    def write(**codes):
        for name, code in codes.items():
            (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{code}\n")
            (folder / name.replace("_", "-")).chmod(0o755)

    return write


def test_errors_without_a_viewer_or_display_have_the_path(programs, monkeypatch, tmp_path):
    photo = tmp_path / "a.jpg"
    with pytest.raises(MissingData):
        viewer.open_photo(photo)
    photo.write_bytes(b"")
    with pytest.raises(Unavailable, match="no image viewer") as error:
        viewer.open_photo(photo)
    assert str(photo) in error.value.hint
    programs(xdg_open="exit 3")
    with pytest.raises(Unavailable, match="could not open"):
        viewer.open_photo(photo)
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(Unavailable, match="no display"):
        viewer.open_photo(photo)


def test_the_folder_of_a_photo_is_shown(programs, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(viewer, "open_photo", opened.append)
    viewer.show_in_folder(tmp_path / "a.jpg")
    assert opened == [tmp_path]


def test_other_viewers(programs, tmp_path, monkeypatch):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"")
    programs(gio=f'echo "$@" > {tmp_path}/shown')
    viewer.open_photo(photo)
    assert (tmp_path / "shown").read_text() == f"open {photo}\n"
    monkeypatch.setattr(sys, "platform", "darwin")
    programs(open=f'echo mac "$@" > {tmp_path}/shown')
    viewer.open_photo(photo)
    assert (tmp_path / "shown").read_text() == f"mac {photo}\n"


def test_a_viewer_that_stays_is_not_waited_for(programs, tmp_path):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"")
    programs(xdg_open="read nothing < /dev/zero; while :; do :; done")
    busy = viewer.open_photo(photo)
    assert isinstance(busy, subprocess.Popen)
    busy.kill()
    busy.wait()


# ---------------------------------------------------------------------------- standard input


def test_one_query_and_one_result_per_line(xmodal, opened, stdin):
    stdin(b"a red thing\n\n  green -blue \r\nblue")
    outcome = xmodal("search", "--json", "-k", "1")
    assert outcome.code == 0, outcome.err
    results = [json.loads(line) for line in outcome.out.splitlines()]
    assert [a["query"] for a in results] == [["a red thing"], ["green", "-blue"], ["blue"]]
    assert [len(a["hits"]) for a in results] == [1, 1, 1]
    assert {"index", "model", "query", "hits", "vanished", "unknown_words"} <= set(results[0])
    assert len(opened) == 1
    assert opened[0].closed


def test_a_line_that_fails_does_not_end_the_command(xmodal, opened, stdin):
    lines = b'red\n"green\nnowhere.jpg\nblue\n'
    stdin(lines)
    outcome = xmodal("search", "--json")
    assert outcome.code == 1
    red, unclosed, missing, blue = (json.loads(line) for line in outcome.out.splitlines())
    assert red["hits"] and blue["hits"]
    assert unclosed == {"query": ['"green'], "error": "a quotation mark is not closed", "hint": unclosed["hint"]}
    assert "nowhere.jpg" in missing["error"]
    stdin(lines)
    outcome = xmodal("search")
    assert outcome.code == 1
    assert outcome.out.count("3 of 3 photos") == 2
    assert outcome.err.count("error: ") == outcome.err.count("hint: ") == 2


def test_an_empty_stdin_is_a_usage_error(xmodal, opened, stdin, monkeypatch):
    for text in (b"", b"\n \n"):
        stdin(text)
        outcome = xmodal("search")
        assert outcome.code == 2
        assert "stdin" in " ".join(outcome.err.split())
    monkeypatch.setattr(sys, "stdin", None)
    assert xmodal("search").code == 2
    assert opened == []


def test_no_prompt_if_stdout_is_not_a_terminal(xmodal, opened, stdin, monkeypatch):
    stdin(b"red\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert xmodal("search", "--json").code == 2
    assert xmodal("search").code == 2  # stdout is not a terminal
    assert opened == []


def test_a_file_name_that_is_not_utf8_on_stdin(xmodal, opened, stdin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open(b"caf\xe9.jpg", "wb"):
        pass
    stdin(b"caf\xe9.jpg\n")
    outcome = xmodal("search", "--json")
    assert outcome.code == 0
    assert opened[0].queries == [(("caf\udce9.jpg",), 10)]
    assert outcome.json["query"] == [r"caf\udce9.jpg"] or "\\udce9" in outcome.out


def test_each_result_is_written_before_the_next_line_is_read(tmp_path):
    command = [sys.executable, fake_search.__file__, str(tmp_path), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        for word in ("green", "blue"):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["query"] == [word]
        process.stdin.close()
        assert process.stdout.read() == "heavy: []\n"


def test_each_bad_line_of_stdin_has_its_own_error(xmodal, opened, stdin):
    """Bytes that are not UTF-8, a path, an option and a bug; the other lines have results."""
    lines = b"\xef\xbb\xbfred\ncaf\xe9\n./no such/a.jpg\ndog -n 1\nhttps://a.b/c.jpg\nd\0o\0g\nbug\nblue\n"
    stdin(lines)
    outcome = xmodal("search", "--json", "-k", "1")
    assert outcome.code == 1
    results = [json.loads(line) for line in outcome.out.splitlines()]
    assert ["hits" in result for result in results] == [True, *[False] * 6, True]
    assert results[0]["query"] == ["red"]  # without the byte order mark
    reasons = ["not valid UTF-8", "does not exist", "no option '-n'", "is a URL", "control characters", "ZeroDivision"]
    for result, reason in zip(results[1:-1], reasons, strict=True):
        assert reason in result["error"], result
        assert result["hint"]
    stdin(lines)
    outcome = xmodal("search")
    assert (outcome.code, outcome.out.count("3 of 3 photos")) == (1, 2)
    assert outcome.err.count("error: ") == outcome.err.count("hint: ") == len(outcome.err.splitlines()) // 2 == 6


def test_stdin_in_utf16(xmodal, opened, monkeypatch):
    text = "red\nblue\n".encode("utf-16")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-16"))
    assert xmodal("search", "--json").code == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text[:-1]), encoding="utf-16"))
    outcome = xmodal("search", "--json")
    assert (outcome.code, outcome.err.splitlines()[0]) == (1, outcome.err.splitlines()[0])
    assert "error: stdin is not valid utf-16" in outcome.err


@pytest.mark.parametrize("term", ["./no/dog.jpg", "/no-such-folder", "-k=1", "-n", "caf\udce9", "--json=1"])
def test_terms_that_are_no_queries_in_all_interfaces(xmodal, opened, stdin, term, capsys, monkeypatch):
    import xmodal_cli

    outcomes = [xmodal("search", term), xmodal("search", "--json", "--", "dog", term)]  # the fast path
    monkeypatch.setattr("xmodal_cli.cli.fast_path.read_query", lambda _: None)
    outcomes.append(xmodal("search", "--", term))  # Typer
    for outcome in outcomes:
        assert (outcome.code in (1, 2), outcome.out) == (True, "")
        assert "error: " in outcome.err.lower()
    with pytest.raises((ConfigError, MissingData, BadData)):
        xmodal_cli.search(term)
    with cli_prompt.contextlib.closing(Prompt(None, SearchOptions(1))) as prompt:
        capsys.readouterr()
        assert prompt.run_line(f"red {term}")
        assert "error: " in capsys.readouterr().err

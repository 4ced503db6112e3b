"""Output to pipes and files: full lines, no colors, the same in every environment and encoding."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_captioner import install, paint
from rich.text import Text

from xmodal_cli.cli import hits, output, tables
from xmodal_cli.cli.streams import checked_streams
from xmodal_cli.errors import error_lines
from xmodal_cli.retrieval.search_result import Hit, SearchResult

Run = Callable[..., Any]
PART = "a folder with a long name " + 50 * "x"
NARROW = {"COLUMNS": "20", "LINES": "5", "TERM": "dumb", "NO_COLOR": "1", "LC_ALL": "C"}
FORCED = {"COLUMNS": "20", "TERM": "xterm-256color", "FORCE_COLOR": "1", "GITHUB_ACTIONS": "1", "TERMINAL_WIDTH": "20"}
ENVIRONMENTS = {"narrow": NARROW, "forced": FORCED}


def process(*args: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command with pipes for stdin, stdout and stderr."""
    command = [sys.executable, "-m", "xmodal_cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, input=b"", env={**os.environ, **environment}, check=False)


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ENVIRONMENTS[request.param].items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder whose path has more than 300 characters."""
    folder = tmp_path.joinpath(*[PART] * 4)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 300
    return folder


def lines_with(text: str, *parts: object) -> list[str]:
    """The lines that contain all parts; there must be no escape codes."""
    assert "\x1b" not in text
    return [line for line in text.splitlines() if all(str(part) in line for part in parts)]


# ---------------------------------------------------------------------------- the functions that print


@pytest.mark.usefixtures("environment")
class TestFunctions:
    LONG = " ".join(["several words"] * 40)

    def test_tables(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table(self.LONG, ["name", "size", "more"], [[self.LONG, 1, self.LONG], ["b", None, Text("x\ny")]])
        title, header, rule, first, second, third = capsys.readouterr().out.splitlines()
        assert title == self.LONG
        assert header.split() == ["name", "size", "more"]
        assert set(rule) == {"-"}
        assert first == f"{self.LONG}     1  {self.LONG}"
        assert second.split() == ["b", "-", "x"]
        assert third.split() == ["y"]
        assert second.index("x") == third.index("y") == first.index("1") + 3

    def test_columns_are_aligned_with_wide_characters(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table("", ["a", "b"], [["狗", "x"], ["dog", "x"]])
        *_, wide, narrow = capsys.readouterr().out.splitlines()
        assert (wide, narrow) == ("狗   x", "dog  x")

    def test_retrieval_scores(self, capsys: pytest.CaptureFixture[str]) -> None:
        side = {"R@1": 1.0, "R@5": 5.0, "R@10": 10.0, "median_rank": 4.0, "mean_rank": 8.5}
        tables.print_retrieval("", {self.LONG: {"image_to_text": side, "text_to_image": side, "rsum": 32.0}})
        assert lines_with(capsys.readouterr().out, self.LONG, "8.5", "32.0")

    def test_messages(self, capsys: pytest.CaptureFixture[str]) -> None:
        reporter = output.TerminalReporter()
        reporter.info(f"[bold]{self.LONG}")
        reporter.warn(self.LONG)
        with reporter.task(self.LONG, 2) as task:
            task.advance()
        assert capsys.readouterr().err.splitlines() == [f"[bold]{self.LONG}", f"warning: {self.LONG}"]

    def test_errors(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_error(error_lines(self.LONG, self.LONG))
        assert capsys.readouterr().err.splitlines() == [f"error: {self.LONG}", f"hint: {self.LONG}"]

    def test_hits(self, capsys: pytest.CaptureFixture[str]) -> None:
        path = f"/photos/{self.LONG}.jpg"
        found = SearchResult(self.LONG, "toy", "cosine", ("dog",), (Hit(1, path, 0.5),), 1, 0, ())
        hits.print_hits(found)
        out = capsys.readouterr().out
        assert lines_with(out, path, "0.5000")
        assert lines_with(out, "1 of 1 photos", self.LONG)


class Ascii(io.TextIOWrapper):
    """A stream that can write ASCII only."""

    def __init__(self) -> None:
        self.written = io.BytesIO()
        super().__init__(self.written, encoding="ascii", write_through=True)

    def text(self) -> str:
        return self.written.getvalue().decode("ascii")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], str]:
    """``written(function)``: what the function writes on a stdout that can write ASCII only."""

    def run(function: Callable[[], None]) -> str:
        stream = Ascii()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            with checked_streams():
                function()
        return stream.text()

    return run


Written = Callable[[Callable[[], None]], str]


def test_tables_without_characters_that_the_stream_cannot_encode(written: Written) -> None:
    _, rule, first, second = written(
        lambda: output.print_table("", ["name", "rsum"], [["café", "±1.5"], ["dog", "2.0"]])
    ).splitlines()
    assert set(rule) == {"-"}
    assert first == r"caf\xe9  +-1.5"
    assert second == "dog        2.0"
    assert written(lambda: output.print_rule(3)) == "---\n"


def test_a_table_is_the_same_in_every_encoding(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        output.print_table("t", ["name", "rsum"], [["dog", "±1.5"], ["cat", "2.0"]])
        output.print_rule(3)

    write()  # as UTF-8
    assert written(write) == capsys.readouterr().out


def test_json_on_a_stream_that_cannot_encode_it(written: Written) -> None:
    result = {"path": "café/\udcff.jpg", "caption": "狗"}
    assert json.loads(written(lambda: output.print_json(result))) == result
    assert json.loads(written(lambda: output.print_json_line(result))) == result


# ---------------------------------------------------------------------------- the commands


@pytest.mark.usefixtures("environment")
class TestCommands:
    def test_data(self, xmodal: Run, deep: Path) -> None:
        made = xmodal("data", "make", "shapes", deep / "set")
        assert lines_with(made.out, deep / "set")
        assert xmodal("data", "add", "long", deep / "set").code == 0
        assert lines_with(xmodal("data", "list").out, "long", deep / "set")
        assert lines_with(xmodal("data", "info", "long").out, deep / "set")
        assert lines_with(xmodal("data", "info", deep / "none").err, "error:", deep / "none")

    def test_models(self, xmodal: Run, trained: Path, deep: Path) -> None:
        import shutil

        (deep / "model.safetensors").symlink_to(trained / "model.safetensors")
        file = shutil.copy(trained / "model.safetensors", deep / "copy.safetensors")
        assert lines_with(xmodal("models", "info", file).out, "path", file)
        assert lines_with(xmodal("models", "average", file, file, "--out", deep / "mean.safetensors").out, deep)
        assert lines_with(xmodal("models", "default", file).err, file)
        assert lines_with(xmodal("models", "default").out, "matcher", file)
        assert len(xmodal("models", "list").out.splitlines()) == 4

    def test_eval(self, xmodal: Run, trained: Path, planted: Path, deep: Path) -> None:
        import shutil

        file = shutil.copy(trained / "model.safetensors", deep / f"{'m' * 200}.safetensors")
        out = xmodal("eval", file, file, "--data", planted, "--split", "test").out
        header = lines_with(out, "model", "i2t R@1", "t2i R@1", "rsum")
        assert len(header) == 1
        assert len(lines_with(out, "m" * 200)) == 2
        assert lines_with(xmodal("eval", file, "--data", deep / "none").err, "error:", deep / "none")

    def test_train(self, xmodal: Run, planted: Path, small_settings: list[str], deep: Path) -> None:
        once = [*small_settings, "--set", "training.epochs=1", "--device", "cpu"]
        done = xmodal("train", "--model", "vse", "--data", planted, "--out", deep / "run", *once)
        assert done.code == 0, done.err
        assert lines_with(done.out + done.err, deep / "run")
        again = xmodal("train", "--model", "vse", "--data", planted, "--out", deep / "run", *once)
        assert lines_with(again.err, "error:", deep / "run")

    def test_caption(self, xmodal: Run, deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(monkeypatch)
        paint(deep / "a.png", "red", "blue")
        (deep / "b.png").write_text("no image")
        done = xmodal("caption", deep)
        assert lines_with(done.out, f"{deep / 'a.png'}\tred and blue")
        assert lines_with(done.err, "warning:", deep / "b.png")

    def test_features(self, xmodal: Run, trained: Path, planted: Path, deep: Path) -> None:
        out = deep / "vectors.safetensors"
        done = xmodal("features", planted, "--model", trained, "--split", "test", "--out", out)
        assert lines_with(done.out, out), done

    def test_usage_errors(self, xmodal: Run, deep: Path) -> None:
        done = xmodal("models", "convert", deep / "w.pt", f"--{deep}")
        assert done.code == 2
        assert lines_with(done.err, "No such option", deep)
        done = xmodal("search", "-k", deep, "dog")
        assert (done.code, bool(lines_with(done.err, "-k", deep))) == (2, True)

    def test_version(self, xmodal: Run) -> None:
        assert len(xmodal("--version").out.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_index_and_search(xmodal: Run, deep: Path) -> None:
    paint(deep / "a.png", "red", "blue")
    (deep / "b.png").write_text("no image")
    made = xmodal("index", deep, "--index", deep / "index")
    assert made.code == 0, made.err
    assert lines_with(made.out + made.err, deep / "b.png")
    assert lines_with(made.out, "1 photos")
    found = xmodal("search", deep / "a.png", "--index", deep / "index")
    assert lines_with(found.out, deep / "a.png", "1.0000")


@pytest.mark.usefixtures("environment")
def test_demo_and_doctor_print_long_paths_in_full(capsys: pytest.CaptureFixture[str], deep: Path) -> None:
    from xmodal_cli.cli.doctor import _rows
    from xmodal_cli.doctor.finding import Finding

    findings = [Finding("home", "XMODAL_HOME", "fail", f"{deep} is full", f"free some space in {deep}")]
    output.print_table("", ("", "check", "result"), list(_rows(findings)))
    out = capsys.readouterr().out
    assert lines_with(out, "fail", "XMODAL_HOME", f"{deep} is full")
    assert lines_with(out, f"-> free some space in {deep}")


# ---------------------------------------------------------------------------- as processes


def test_help_does_not_depend_on_the_environment(xmodal: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [["--help"], ["train", "--help"], ["data", "--help"], ["search", "-h"]]
    plain = [xmodal(*page).out for page in pages]
    for environment in ENVIRONMENTS.values():
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert [xmodal(*page).out for page in pages] == plain
    assert plain[0].count("...") == 1  # ARGS...: no description is cut off
    assert max(len(line) for line in plain[0].splitlines()) > 80


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_a_process_with_pipes(kind: str, deep: Path) -> None:
    done = process("data", "info", deep / "none", **ENVIRONMENTS[kind])
    assert done.returncode == 1
    assert lines_with(done.stderr.decode(), "error:", deep / "none")
    registered = process("data", "list", XMODAL_HOME=str(deep), **ENVIRONMENTS[kind])
    assert all(line[0] != " " for line in registered.stdout.decode().splitlines())


def test_a_process_with_ascii_output(deep: Path) -> None:
    folder = deep / "café 狗"
    made = process("data", "make", "shapes", folder, "--json", PYTHONIOENCODING="ascii")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout.decode("ascii"))["path"] == str(folder)
    shown = process("data", "info", folder, PYTHONIOENCODING="ascii")
    assert lines_with(shown.stdout.decode("ascii"), r"caf\xe9 \u72d7")
    table = process("data", "list", PYTHONIOENCODING="ascii").stdout.decode("ascii").splitlines()
    assert set(table[1]) == {"-"}
    assert process("--help", PYTHONIOENCODING="ascii").stdout.isascii()

"""Every command that writes, with a fault at moments of its changes of files: killed, interrupted, or with a full disk.

Repeated without the fault, it writes what a run without a fault writes, and nothing is left of the first one.
``pytest -m faults tests/faults/test_writing_commands.py`` has all, at ``XMODAL_TEST_FAULTS`` (30) moments each.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.faulty_runs import FULL, Done, FaultServer
from helpers.writing_commands import COMMANDS, World, WritingCommand, make_world

from xmodal_cli.drafts import remove_abandoned

NUM = int(os.environ.get("XMODAL_TEST_FAULTS", "30"))
QUICK = ("index update", "vectors import", "data add")  # of the default run
IMPORTED = ("torch", "matplotlib.pyplot", "xmodal_cli.recipes.train", "xmodal_cli.recipes.evaluate")
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

every_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
quick_commands = pytest.mark.parametrize("command", [c for c in COMMANDS if c.name in QUICK], ids=lambda c: c.name)


class Runs:
    """Runs of commands in the same world, and the contents after one without a fault."""

    def __init__(self, server: FaultServer, world: World) -> None:
        self._server, self.world = server, world
        self._expected: dict[str, tuple[dict[str, Any], Done]] = {}

    def expected(self, command: WritingCommand) -> tuple[dict[str, Any], Done]:
        if command.name not in self._expected:
            self._expected[command.name] = self._first(command), self.last
            assert self.last.code == 0, self.last
            assert self._expected[command.name][0]["left"] == []
        return self._expected[command.name]

    def _first(self, command: WritingCommand, **fault: Any) -> dict[str, Any]:
        self.world.restore()
        command.prepare(self.world)
        self.last = self._server.run(command.args(self.world), self.world.home, **fault)
        return self.world.contents()

    def check(self, command: WritingCommand, moment: int, fault: str) -> Done:
        """Run with the fault, and again without; returns the first run."""
        expected, _ = self.expected(command)
        found, first = self._first(command, moment=moment, fault=fault), self.last
        again = self._server.run(command.repeat(self.world), self.world.home)
        where = f"{command.name} with {fault} at {moment} ({first.names[moment - 1 : moment]}): {again.err}"
        contents = self.world.contents()
        if command.is_move and again.code != 0:
            remove_abandoned(self.world.home / "indexes")  # as the next write there does
            contents = self.world.contents()
            assert "there is no index called 'old'" in again.err, where
            found, contents, expected = (_without_moved(c) for c in (found, contents, expected))
        assert again.code == 0 or {**found, "left": []} == expected, where
        assert contents["left"] == [], where
        assert contents == expected, f"{where} {_differences(contents, expected)}"
        return first


def _without_moved(contents: dict[str, Any]) -> dict[str, Any]:
    """Without the name of the default index, which may no longer exist."""
    return {name: content for name, content in contents.items() if name != "home/indexes/.last.json"}


def _differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    return [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)]


def moments(command: WritingCommand, fault: str, done: Done, num: int) -> list[int]:
    """Seeded moments of a run."""
    rng = random.Random(f"{command.name} {fault}")
    return sorted(rng.sample(range(1, done.moments + 1), min(num, done.moments)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Runs]:
    base = tmp_path_factory.mktemp("world") / "world"
    is_full = "not faults" not in request.config.getoption("-m")
    with FaultServer(*(IMPORTED if is_full else ())) as server:

        def run(*args: object) -> None:
            done = server.run(args, base / "home")
            assert done.code == 0, done

        yield Runs(server, make_world(base, run, is_full))


def _check_killed(runs: Runs, command: WritingCommand, num: int) -> None:
    _, done = runs.expected(command)
    for moment in moments(command, "SIGKILL", done, num):
        first = runs.check(command, moment, "SIGKILL")
        assert first.code == -signal.SIGKILL


def _check_interrupted(runs: Runs, command: WritingCommand, num: int) -> None:
    _, done = runs.expected(command)
    for number, moment in enumerate(moments(command, "SIGINT", done, num)):
        name = SIGNALS[number % len(SIGNALS)]
        first = runs.check(command, moment, name)
        assert first.code == 128 + getattr(signal, name), first
        assert first.err.count("interrupted") == 1, first
        assert "error:" not in first.err and "Traceback" not in first.err, first


def _check_full(runs: Runs, command: WritingCommand, num: int) -> None:
    _, done = runs.expected(command)
    for moment in moments(command, FULL, done, num):
        first = runs.check(command, moment, FULL)
        assert first.code in (0, 1), first
        assert "Traceback" not in first.err and "this is a bug" not in first.err, first
        if first.code == 1:
            error, hint = first.err.splitlines()[-2:]
            assert error.startswith("error: ") and "no space left" in error and str(runs.world.base) in error, first
            assert hint.startswith("hint: ") and "MB are free" in hint, first


@quick_commands
def test_it_is_killed(runs: Runs, command: WritingCommand) -> None:
    _check_killed(runs, command, 1)


@quick_commands
def test_it_is_interrupted(runs: Runs, command: WritingCommand) -> None:
    _check_interrupted(runs, command, 1)


@quick_commands
def test_the_disk_is_full(runs: Runs, command: WritingCommand) -> None:
    _check_full(runs, command, 1)


@pytest.mark.faults
@every_command
def test_it_is_killed_at_many_moments(runs: Runs, command: WritingCommand) -> None:
    _check_killed(runs, command, NUM)


@pytest.mark.faults
@every_command
def test_it_is_interrupted_at_many_moments(runs: Runs, command: WritingCommand) -> None:
    _check_interrupted(runs, command, NUM)


@pytest.mark.faults
@every_command
def test_the_disk_is_full_at_many_moments(runs: Runs, command: WritingCommand) -> None:
    _check_full(runs, command, NUM)

"""Plain progress lines, with a clock that the tests set."""

from __future__ import annotations

import pytest

from xmodal_cli.cli.output import TerminalReporter
from xmodal_cli.cli.progress import INTERVAL, PlainProgress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(total: int | None, steps: list[tuple[float, int]], unit: str = "photos", **facts: object) -> list[str]:
    """The lines of a task with ``steps``: (seconds since the step before, amount)."""
    clock, lines = Clock(), list[str]()
    with PlainProgress(lines.append, "captioning", total, unit, clock) as task:
        for seconds, amount in steps:
            clock.now += seconds
            task.advance(amount, **facts)
    return lines


def test_nothing_is_printed_for_a_short_task() -> None:
    assert lines_of(10, [(INTERVAL / 20, 1)] * 10) == []


def test_a_line_about_every_ten_seconds_and_one_at_the_end() -> None:
    assert lines_of(600, [(1.0, 24)] * 25) == [
        "captioning: 240 of 600 photos, 24 photos/s, 0:15 left",
        "captioning: 480 of 600 photos, 24 photos/s, 0:05 left",
        "captioning: done: 600 of 600 photos, 0:25",
    ]


def test_the_rate_is_that_since_the_last_line() -> None:
    first, second, _ = lines_of(1100, [(0, 100), (10, 500), (10, 5)])
    assert first.endswith("50 photos/s, 0:10 left")
    assert second.endswith("0.5 photos/s, 16:30 left")


def test_the_rate_counts_from_the_first_item() -> None:
    """The time before it is that of loading a model, here a minute."""
    assert lines_of(600, [(60, 1), *[(1.0, 10)] * 10, (1.0, 499)]) == [
        "captioning: 1 of 600 photos",
        "captioning: 101 of 600 photos, 10 photos/s, 0:50 left",
        "captioning: done: 600 of 600 photos, 1:11",
    ]
    late = lines_of(600, [(8, 2), *[(1.0, 10)] * 2])
    assert late[0] == "captioning: 22 of 600 photos, 10 photos/s, 0:58 left"


def test_a_line_at_the_time_of_the_first_item_is_not_a_division_by_zero() -> None:
    assert lines_of(5, [(20, 0), (0, 1), (10, 1)])[1:3] == [
        "captioning: 2 of 5 photos, 0.1 photos/s, 0:30 left",
        "captioning: done: 2 of 5 photos, 0:30",
    ]


def test_an_unknown_total_bytes_and_facts() -> None:
    assert lines_of(None, [(0, 1), (12, 30)], "files", loss=0.123456) == [
        "captioning: 31 files, 2.5 files/s, loss 0.1235",
        "captioning: done: 31 files, 0:12",
    ]
    megabytes = lines_of(41_000_000, [(0, 1_000_000), (10, 15_000_000)], "bytes")
    assert megabytes[0] == "captioning: 16.0 of 41.0 MB, 1.5 MB/s, 0:17 left"
    assert lines_of(100_001, [(0, 1), (10, 10)])[0].endswith("1.0 photos/s, 27:46:30 left")


def test_a_task_that_fails_ends_with_a_line_too() -> None:
    clock, lines = Clock(), list[str]()
    with pytest.raises(KeyboardInterrupt), PlainProgress(lines.append, "training", 50, "steps", clock) as task:
        clock.now += 11
        task.advance(20)
        raise KeyboardInterrupt
    assert lines[-1] == "training: stopped after 20 of 50 steps, 0:11"


def test_a_step_of_no_items_has_no_time_left() -> None:
    assert lines_of(5, [(20, 0)])[0] == "captioning: 0 of 5 photos"
    assert lines_of(5, [(0, 1), (20, 0)])[0] == "captioning: 1 of 5 photos, 0.0 photos/s"


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "COLUMNS": "10"}, {"TERM": "dumb"}])
def test_the_reporter_prints_the_lines_on_stderr(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    clock = Clock()
    with TerminalReporter(clock).task("indexing \x1b[31m", 4, "photos") as task:
        task.advance(1)
        clock.now += 10
        task.advance(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "indexing \\x1b[31m: 3 of 4 photos, 0.2 photos/s, 0:05 left",
        "indexing \\x1b[31m: done: 3 of 4 photos, 0:10",
    ]

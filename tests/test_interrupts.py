"""Signals end a command with 128 + signal and one line, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xmodal_cli import interrupts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

RUN = """
import signal, sys, time, threading
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN if number in ({ignored},) else signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
from xmodal_cli import __main__, interrupts

def ready():
    print("ready", flush=True)

def work(args):
{work}

__main__._run = work
sys.argv = ["xmodal"]
sys.exit(__main__.main())
"""
WORK = {
    "waits": "ready(); time.sleep(60)",
    "is in a long call of a library": "import hashlib; ready(); hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "waits for a thread in such a call": """
        import hashlib
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            pool.submit(hashlib.pbkdf2_hmac, 'sha256', b'', b'', 10**9)
            ready()""",
    "ignores the exception": """
        ready()
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass""",
    "ignores the exception and continues": """
        ready()
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass""",
    "takes long to end": """
        try:
            ready()
            time.sleep(60)
        finally:
            time.sleep(60)""",
}


def start(work: str, ignored: str = "") -> subprocess.Popen[str]:
    lines = "\n".join(f"    {line}" for line in work.replace("\n        ", "\n").splitlines())
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN.format(work=lines, ignored=ignored or "0")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that(work: str, number: signal.Signals) -> None:
    if number != signal.SIGTERM and work not in ("waits", "is in a long call of a library"):
        pytest.skip("the other signals have the same handler")
    with start(WORK[work]) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (128 + number, "interrupted\n")


def test_a_second_signal_ends_it_at_once() -> None:
    """The time limit cannot have ended it: it would be over later."""
    with start("interrupts.GRACE = 1000.0\n" + WORK["takes long to end"].strip("\n")) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(2 * interrupts.SAME)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_signals_that_the_process_was_started_to_ignore_are_ignored() -> None:
    work = """
        import os
        ready()
        os.kill(os.getpid(), signal.SIGHUP)
        print("done", file=sys.stderr)"""
    with start(work, ignored="signal.SIGHUP") as process:
        _, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (0, "done\n")


def test_the_line_has_how_to_resume() -> None:
    work = """
        with interrupts.resumable(lambda: interrupts.hint_of(1200, 8000, "images", "are done")):
            with interrupts.resumable(lambda: "inner"):
                ready()
                time.sleep(60)"""
    long_call = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
    for code in (work, work.replace("time.sleep(60)", long_call)):
        with start(code) as process:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=50)
        assert err == "interrupted; run the same command again to resume: 1,200 of 8,000 images are done\n"


def test_hints_end_with_their_context() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts.resumable(lambda: "of an earlier call"):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), interrupts.resumable(lambda: "hint"):
        assert interrupts.message() == "interrupted; hint"
        raise ZeroDivisionError
    assert interrupts.message() == "interrupted"
    with pytest.raises(KeyboardInterrupt), interrupts.resumable(lambda: "hint"):
        raise KeyboardInterrupt
    assert interrupts.message() == "interrupted; hint"
    interrupts.clear_hint()
    assert interrupts.message() == "interrupted"


def test_only_the_first_process_of_a_training_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert interrupts.message() == ""


def test_the_prompt_continues_after_ctrl_c_and_ends_at_sigterm() -> None:
    work = """
        from xmodal_cli.cli import prompt
        class NoPrompt:
            def __init__(self, *args): pass
            def close(self): pass
            def print_index(self): ready()
            def run_line(self, line): return ready() or True
        prompt.Prompt = NoPrompt
        prompt.run_prompt(None)"""
    with start(work) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("dogs\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith("ready\n")
        assert process.stdout.read(8) == "search> "  # it waits for the next line
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "\n"  # the line was dropped
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=50)
    assert (process.returncode, err.strip()) == (143, "interrupted")

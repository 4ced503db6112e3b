"""The ``xmodal`` command: runs the Typer app, prints errors and returns the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from xmodal_cli import interrupts
from xmodal_cli.cli import output, python_warnings
from xmodal_cli.cli.streams import check_stdout, checked_streams
from xmodal_cli.errors import (
    ConfigError,
    ReportedInterrupt,
    XmodalError,
    bug_lines,
    error_lines,
    is_debugging,
    memory_lines,
    missing_package_lines,
    path_lines,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, by default that of this process, which then handles signals.

    Returns 0 on success, 1 for a user-fixable error, 2 for wrong usage, 128 + the signal if interrupted.
    """
    _limit_openmp_spinning()
    interrupts.clear_hint()
    if argv is None:
        interrupts.end_on_signals()
        python_warnings.print_as_lines()
    args = sys.argv[1:] if argv is None else list(argv)
    with checked_streams():
        code = _code_of(lambda: _run(args)) or _code_of(_flush)
        if code == 0 and interrupts.was_received():
            code = _print_interrupted()
    if argv is None:
        interrupts.command_is_over()
    return code


def _flush() -> None:
    sys.stdout.flush()


def _code_of(function: Callable[[], None]) -> int:
    """Call a function; returns the exit code, after printing the error if there is one."""
    try:
        function()
        return 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return _print_interrupted() if code == 130 else code  # Typer has caught the interrupt
    except XmodalError as error:
        if is_debugging():
            raise
        return _print_error(error_lines(error.message, error.hint))
    except ReportedInterrupt:
        return interrupts.exit_code()
    except KeyboardInterrupt:
        return _print_interrupted()
    except Exception as error:
        if is_debugging():
            raise
        lines = missing_package_lines(error) or memory_lines(error) or path_lines(error) or bug_lines(error)
        return _print_error(lines)


def _run(args: list[str]) -> None:
    check_stdout()
    _check_not_empty(args)
    if args[:1] == ["search"] and len(args) > 1:
        from xmodal_cli.cli.fast_path import read_query, run_query

        if (query := read_query(args[1:])) is not None:
            run_query(query)
            return
    from xmodal_cli.cli.app import run

    run(args)


def _check_not_empty(args: list[str]) -> None:
    """Raise ConfigError for an empty value, which as a path would be the current folder.

    Empty terms of a search have their own error.
    """
    for before, arg in zip(["", *args], args, strict=False):
        name, _, value = arg.partition("=")
        if arg and not (name.startswith("--") and arg.endswith("=") and not value):
            continue
        is_option = before.startswith("-")
        if args[0] == "search" and not arg and not is_option:
            continue
        what = f"the value of {name}" if arg else f"the argument after {before}" if before else "the command"
        raise ConfigError(f"{what} is empty", "is a variable of the shell not set? the current folder is .")


def _limit_openmp_spinning() -> None:
    """Limit how long waiting OpenMP threads spin before they sleep. Call it before torch is imported.

    GNU OpenMP spins for milliseconds by default. With one other busy process on the machine this makes training more
    than ten times slower; on an idle machine the shorter spin has no measurable cost.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _print_interrupted() -> int:
    output.print_error([text] if (text := interrupts.message()) else [])
    return interrupts.exit_code()


def _print_error(lines: Sequence[str]) -> int:
    output.print_error(lines)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""The ``xmodal`` command: runs the Typer app, prints errors and returns the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from xmodal_cli.cli import output
from xmodal_cli.cli.streams import check_stdout, checked_streams
from xmodal_cli.errors import (
    ReportedInterrupt,
    XmodalError,
    bug_lines,
    error_lines,
    is_debugging,
    memory_lines,
    missing_package_lines,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line. Returns 0 on success, 1 for a user-fixable error, 2 for wrong usage, 130 if interrupted."""
    _limit_openmp_spinning()
    args = sys.argv[1:] if argv is None else list(argv)

    with checked_streams():
        return _code_of(lambda: _run(args)) or _code_of(_flush)


def _flush() -> None:
    sys.stdout.flush()


def _code_of(function: Callable[[], None]) -> int:
    """Call a function; returns the exit code, after printing the error if there is one."""
    try:
        function()
        return 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code == 130:  # Typer has caught the interrupt
            output.print_error(error_lines("interrupted"))
        return code
    except XmodalError as error:
        if is_debugging():
            raise
        return _print_error(error_lines(error.message, error.hint))
    except ReportedInterrupt:
        return 130
    except KeyboardInterrupt:
        return _print_error(error_lines("interrupted"), code=130)
    except Exception as error:
        if is_debugging():
            raise
        return _print_error(missing_package_lines(error) or memory_lines(error) or bug_lines(error))


def _run(args: list[str]) -> None:
    check_stdout()
    if args[:1] == ["search"] and len(args) > 1:
        from xmodal_cli.cli.fast_path import read_query, run_query

        if (query := read_query(args[1:])) is not None:
            run_query(query)
            return
    from xmodal_cli.cli.app import run

    run(args)


def _limit_openmp_spinning() -> None:
    """Limit how long waiting OpenMP threads spin before they sleep. Call it before torch is imported.

    GNU OpenMP spins for milliseconds by default. With one other busy process on the machine this makes training more
    than ten times slower; on an idle machine the shorter spin has no measurable cost.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _print_error(lines: Sequence[str], code: int = 1) -> int:
    output.print_error(lines)
    return code


if __name__ == "__main__":
    sys.exit(main())

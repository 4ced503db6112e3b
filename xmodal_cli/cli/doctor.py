"""``xmodal doctor``: check the installation and suggest fixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.printable import escape_unprintable

if TYPE_CHECKING:
    from rich.text import Text

    from xmodal_cli.doctor.finding import Finding

COLORS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def command(
    verify: Annotated[
        bool, typer.Option("--verify", help="Also read all models, features, exports and indexes, and report damage.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check package versions, device, weights, Java, disk space and stored data, and suggest fixes.

    Every package is imported in a separate process, so a broken package is reported instead of ending the command.
    Needs no network and changes nothing. The exit code is 1 if there are problems and 0 if there are only warnings.

    Examples:

      xmodal doctor

      xmodal doctor --json

      xmodal doctor --verify
    """
    from xmodal_cli.doctor.examine import examine, worst

    findings = examine(output.TerminalReporter(), verify)
    if as_json:
        output.print_json({"status": worst(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        rows = list(_rows(findings))
        output.print_table("", ("", "check", "result"), rows)
        output.print_line(_conclusion(findings))
    if worst(findings) == "fail":
        raise typer.Exit(1)


def _rows(findings: Sequence[Finding]) -> Iterator[tuple[Text, str, Text]]:
    """One row per finding, except that all packages without problems are in one row."""
    from rich.text import Text

    ok_packages = [f for f in findings if f.area == "packages" and f.status == "ok" and f.what != "torch pair"]
    for finding in findings:
        if finding in ok_packages and finding is not ok_packages[-1]:
            continue
        check, result = finding.what, finding.found
        if finding in ok_packages:
            check, result = "packages", ", ".join(f"{f.what} {f.found}" for f in ok_packages)
        cell = Text(escape_unprintable(result))
        if finding.remedy:
            cell.append(f"\n-> {escape_unprintable(finding.remedy)}", style="" if finding.status == "ok" else "bold")
        yield Text(finding.status, style=COLORS[finding.status]), check, cell


def _conclusion(findings: Sequence[Finding]) -> str:
    problems, warnings = (sum(f.status == status for f in findings) for status in ("fail", "warn"))
    if not problems and not warnings:
        return "no problems found"
    counts = [f"{problems} problem{'s' * (problems != 1)}"] * bool(problems)
    counts += [f"{warnings} warning{'s' * (warnings != 1)}"] * bool(warnings)
    return ", ".join(counts) + "; see the suggested fixes (->)"

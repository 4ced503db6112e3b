"""``xmodal doctor``: what is installed, what computes, what would fail and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from xmodal_cli.cli import options, output

if TYPE_CHECKING:
    from rich.text import Text

    from xmodal_cli.doctor.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def command(as_json: options.Json = False) -> None:
    """Check the installation: versions, device, weights, Java, disk, and what is kept at home; say how to mend it.

    Every package is imported, in a process of its own, so that a broken one is a line of the report. Needs no network
    and changes nothing. Exit code 1 if something will fail, 0 with warnings.

    Examples:

      xmodal doctor

      xmodal doctor --json
    """
    from xmodal_cli.doctor.examine import examine, worst

    findings = examine(output.TerminalReporter())
    if as_json:
        output.print_json({"status": worst(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        rows = list(_rows(findings))
        output.print_table("", ("", "what", "found"), rows)
        output.print_line(_conclusion(findings))
    if worst(findings) == "fail":
        raise typer.Exit(1)


def _rows(findings: Sequence[Finding]) -> Iterator[tuple[Text, str, Text]]:
    """A row per finding; the packages that are fine share one."""
    from rich.text import Text

    fine = [f for f in findings if f.area == "packages" and f.status == "ok" and f.what != "torch pair"]
    for finding in findings:
        if finding in fine and finding is not fine[-1]:
            continue
        what, found = finding.what, finding.found
        if finding in fine:
            what, found = "packages", ", ".join(f"{f.what} {f.found}" for f in fine)
        cell = Text(output.printable(found))
        if finding.remedy:
            cell.append(f"\n-> {output.printable(finding.remedy)}", style="" if finding.status == "ok" else "bold")
        yield Text(finding.status, style=COLOURS[finding.status]), what, cell


def _conclusion(findings: Sequence[Finding]) -> str:
    failing, warnings = (sum(f.status == status for f in findings) for status in ("fail", "warn"))
    if not failing and not warnings:
        return "all is well"
    told = [f"{failing} thing{'s' * (failing != 1)} will fail"] * bool(failing)
    told += [f"{warnings} warning{'s' * (warnings != 1)}"] * bool(warnings)
    return ", ".join(told) + "; what helps stands after each arrow"

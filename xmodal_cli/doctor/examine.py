"""Runs all checks of ``xmodal doctor``. Needs no network.

Checks are independent: an exception in a check becomes a finding, and the other checks still run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from xmodal_cli.doctor import machine, software
from xmodal_cli.doctor.finding import Finding, Status
from xmodal_cli.doctor.probe import DEVICE, Probe, probe
from xmodal_cli.errors import XmodalError
from xmodal_cli.reporter import SILENT, Reporter

Check = Callable[[], Iterable[Finding]]
# module of this package -> its checks, in the order of the report; imported when they run, as an import may fail
LAZY_CHECKS = {
    "weights": ("towers", "starters", "java"),
    "home": ("location", "sizes", "disks", "defaults", "datasets", "models", "indexes", "downloads"),
}
VERIFIED = {"stored_files": ("models", "checkpoints", "features", "exports", "indexes")}


def examine(reporter: Reporter = SILENT, verify: bool = False) -> list[Finding]:
    """The findings of all checks, in the order of the report. Raises nothing; takes about 15 s.

    ``verify`` also reads all files that xmodal wrote, and compares their checksums.
    """
    probes, lazy = _probe(reporter), {**LAZY_CHECKS, **(VERIFIED if verify else {})}
    device = probes.get(DEVICE, Probe(DEVICE))
    checks: list[tuple[str, Check]] = [
        ("versions", software.versions),
        ("installation", software.installation),
        ("packages", partial(software.packages, probes)),
        ("torch pair", partial(software.torch_pair, probes)),
        ("optional", software.optional),
        *((name, partial(check, device)) for name, check in _device_checks()),
        ("memory", machine.memory),
        *((name, partial(_import_and_run, file, name)) for file, names in lazy.items() for name in names),
    ]
    return [finding for name, check in checks for finding in _run_check(name, check)]


def worst(findings: Iterable[Finding]) -> Status:
    """``fail`` if a finding is one, else ``warn`` if a finding is one, else ``ok``."""
    statuses = {finding.status for finding in findings}
    return "fail" if "fail" in statuses else "warn" if "warn" in statuses else "ok"


def _device_checks() -> Iterator[tuple[str, Callable[[Probe], Iterable[Finding]]]]:
    yield "device", machine.auto
    yield "processor", machine.processor
    yield "GPU", machine.gpu


def _probe(reporter: Reporter) -> dict[str, Probe]:
    """The results of importing all packages, by module."""
    try:
        modules = [module for name in software.needed() if (module := software.module_of(name))]
        # torch first: other packages and the device facts depend on it
        with_torch = [] if software.is_light() else ["torch", DEVICE, "torchvision"]
        order = [*with_torch, *(m for m in modules if m not in ("torch", "torchvision"))]
        with reporter.task("importing packages", len(order), "packages") as task:
            return probe(order, task.advance)
    except Exception as error:
        return dict.fromkeys(("torch", "torchvision", DEVICE), Probe("", f"not tried: {error}"))


def _import_and_run(file: str, check: str) -> Iterable[Finding]:
    findings: Iterable[Finding] = getattr(importlib.import_module(f"xmodal_cli.doctor.{file}"), check)()
    return findings


def _run_check(name: str, check: Check) -> list[Finding]:
    """The findings of a check, with one more if it raises."""
    findings: list[Finding] = []
    try:
        findings.extend(check())  # keeps the findings before an exception
    except XmodalError as error:
        findings.append(Finding(name, name, "fail", error.message, error.hint))
    except Exception as error:
        reason = f"could not be checked: {type(error).__name__}: {error}"
        findings.append(Finding(name, name, "warn", reason, "fix the problems above, then run xmodal doctor again"))
    return findings

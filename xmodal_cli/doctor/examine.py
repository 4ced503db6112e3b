"""``xmodal doctor``: what is installed, what computes, what would fail, and how to mend it. Needs no network.

Each check stands alone: one that raises is a finding itself, and the others go on.
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
# module of recipes.checks -> its checks, in the order of the report; imported one by one, as they need more than this
LATER = {
    "weights": ("towers", "starters", "java"),
    "home": ("place", "sizes", "disks", "defaults", "datasets", "models", "indexes", "downloads"),
}


def examine(reporter: Reporter = SILENT) -> list[Finding]:
    """Every check's findings, in the order in which they are read. Raises nothing; takes a quarter of a minute."""
    probes = _probe(reporter)
    device = probes.get(DEVICE, Probe(DEVICE))
    checks: list[tuple[str, Check]] = [
        ("versions", software.versions),
        ("packages", partial(software.packages, probes)),
        ("torch pair", partial(software.torch_pair, probes)),
        ("optional", software.optional),
        *((name, partial(check, device)) for name, check in _of_the_machine()),
        ("memory", machine.memory),
        *((name, partial(_later, file, name)) for file, names in LATER.items() for name in names),
    ]
    return [finding for name, check in checks for finding in _guarded(name, check)]


def worst(findings: Iterable[Finding]) -> Status:
    """``fail`` if anything will fail, else ``warn`` if there is a warning, else ``ok``."""
    found = {finding.status for finding in findings}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"


def _of_the_machine() -> Iterator[tuple[str, Callable[[Probe], Iterable[Finding]]]]:
    yield "device", machine.auto
    yield "processor", machine.processor
    yield "GPU", machine.gpu


def _probe(reporter: Reporter) -> dict[str, Probe]:
    """How the imports of all packages go, by module."""
    try:
        modules = [module for name in software.needed() if (module := software.module_of(name))]
        # torch first: what hangs on it fails by it, and the question about devices needs it
        order = ["torch", DEVICE, "torchvision", *(m for m in modules if m not in ("torch", "torchvision"))]
        with reporter.task("importing packages", len(order), "packages") as task:
            return probe(order, task.advance)
    except Exception as error:
        return dict.fromkeys(("torch", "torchvision", DEVICE), Probe("", f"not tried: {error}"))


def _later(file: str, check: str) -> Iterable[Finding]:
    findings: Iterable[Finding] = getattr(importlib.import_module(f"xmodal_cli.doctor.{file}"), check)()
    return findings


def _guarded(name: str, check: Check) -> list[Finding]:
    """The check's findings; where it fails itself, that is one more."""
    found: list[Finding] = []
    try:
        found.extend(check())  # keeps what came before a failure
    except XmodalError as error:
        found.append(Finding(name, name, "fail", error.message, error.hint))
    except Exception as error:
        reason = f"could not be checked: {type(error).__name__}: {error}"
        found.append(Finding(name, name, "warn", reason, "mend what stands above, and ask again"))
    return found

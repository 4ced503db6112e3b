"""Imports in a child process: errors, crashes, hangs and output are reported, and later modules are imported."""

from __future__ import annotations

import pytest

from xmodal_cli.doctor import software
from xmodal_cli.doctor.probe import DEVICE, probe

BODIES = {
    "sound": "print('noise on stdout')",
    "torn": "raise RuntimeError('operator torchvision::nms does not exist\\nmore of it')",
    "leaver": "import sys; sys.exit(3)",
    "dier": "import os; os._exit(7)",
    "crasher": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "sleeper": "import time; time.sleep(60)",
    "warner": "import warnings; warnings.warn('old')",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """``modules(name=code)`` writes modules that precede all others on the import path, in child processes too."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**bodies):
        for name, body in bodies.items():
            (tmp_path / f"{name}.py").write_text(body + "\n")

    return write


def test_every_failure_is_reported_and_the_next_module_is_imported(modules):
    modules(**BODIES)
    calls = []
    names = ["sound", "torn", "dier", "crasher", "leaver", "absent", "warner"]
    results = probe(names, lambda: calls.append(1))
    assert list(results) == names
    assert len(calls) == len(names)
    assert results["sound"].error == results["warner"].error == ""
    assert results["torn"].error == "RuntimeError: operator torchvision::nms does not exist"
    assert results["dier"].error == "the import ends Python with exit code 7"
    assert results["crasher"].error == "the import ends Python with SIGSEGV"
    assert results["leaver"].error == "SystemExit: 3"
    assert results["absent"].error == "ModuleNotFoundError: No module named 'absent'"


def test_an_import_that_hangs_is_killed(modules):
    modules(sleeper=BODIES["sleeper"], sound=BODIES["sound"])
    results = probe(["sleeper", "sound"], lambda: None, seconds=2.0)
    assert results["sleeper"].error == "the import takes longer than 2 s"
    assert results["sound"].error == ""


def test_modules_in_the_current_folder_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.chdir(tmp_path)
    assert probe(["colorsys"], lambda: None)["colorsys"].error == ""


def test_an_error_of_starting_python_is_reported_for_each_module(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    results = probe(["json", "csv"], lambda: None)
    assert all("cannot be started" in p.error for p in results.values())
    assert len(results) == 2


def test_a_torch_pair_that_does_not_match_is_reported_without_importing_it_here(modules):
    modules(torch="", torchvision=BODIES["torn"])
    probes = probe(["torch", "torchvision"], lambda: None)
    (finding,) = software.torch_pair(probes)
    assert finding.status == "fail"
    assert "do not match" in finding.found
    assert "torch torchvision" in finding.remedy
    assert all(f.what != "torchvision" for f in software.packages(probes))  # reported once


def test_the_device_check_fails_with_the_error_of_torch(modules):
    modules(torch="raise ImportError('libtorch.so: no such file')")
    result = probe([DEVICE], lambda: None)[DEVICE]
    assert result.facts == {}
    assert result.error == "ImportError: libtorch.so: no such file"

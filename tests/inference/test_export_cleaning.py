"""Exports of models that were deleted or changed are removed; concurrent and killed exports leave one whole export."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xmodal_cli import atomic_folder, paths, starter
from xmodal_cli.errors import Unavailable
from xmodal_cli.inference import onnx_writing
from xmodal_cli.inference.caption_runtime import captioner_folder
from xmodal_cli.inference.export_cleaning import KINDS, remove_unused_exports
from xmodal_cli.inference.image_encoders import backbone_folder, head_folder, load_matcher_images
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.onnx_folder import METADATA, source_record
from xmodal_cli.inference.onnx_writing import ExportRecord, write_export
from xmodal_cli.models.model_file import read_header, read_tensors, write_model
from xmodal_cli.reporter import SILENT

EXPORT = """
import sys, time
from pathlib import Path
from xmodal_cli.inference import onnx_writing
from xmodal_cli.inference.onnx_folder import source_record

folder, marker, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
record = onnx_writing.ExportRecord("captioner", "toy", "a" * 64, source_record("toy", folder))

def write(draft):
    with marker.open("a") as file:
        file.write("x")
    (draft / "graph").write_bytes(b"graph")
    time.sleep(seconds)
    record.save(draft, {})

onnx_writing.write_export(folder, record, write)
"""


def names(kind: str) -> set[str]:
    folder = paths.cache_dir() / kind
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def fake_export(kind: str, fingerprint: str, path: Path, **facts: object) -> Path:
    folder = paths.cache_dir() / kind / fingerprint[:16]
    record = ExportRecord("export", path.stem, fingerprint, source_record(str(path), path))
    folder.mkdir(parents=True)
    record.save(folder, facts)
    return folder


def start(folder: Path, marker: Path, seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", EXPORT, str(folder), str(marker), str(seconds)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_exports_of_deleted_and_changed_models_are_removed(home: Path) -> None:
    bundled = starter.file_of(starter.MATCHER)
    assert bundled is not None
    header, tensors = read_header(bundled), read_tensors(bundled)
    name = sorted(tensors)[0]
    files = {run: paths.runs_dir() / run / "model.safetensors" for run in ("kept", "changed", "deleted")}
    fingerprints = {}
    for number, (run, file) in enumerate(files.items()):
        file.parent.mkdir(parents=True)
        changed = {**tensors, name: tensors[name] + number + 1}
        fingerprints[run] = write_model(file, header, changed).fingerprint
        for kind in ("text-encoders", "image-encoders"):
            fake_export(kind, fingerprints[run], file)
    used = load_matcher_images(describe_model(starter.MATCHER), SILENT)
    write_model(files["changed"], header, {**tensors, name: tensors[name] - 1})
    shutil.rmtree(files["deleted"].parent)
    unused = fake_export("image-backbones", "b" * 64, Path(), meta={"fingerprint": "c" * 64})

    remove_unused_exports(head_folder(fingerprints["kept"]))
    assert names("text-encoders") == {fingerprints["kept"][:16]}
    assert names("image-encoders") == {fingerprints["kept"][:16], used.info.fingerprint[:16]}
    assert backbone_folder(used.info.meta).is_dir() and not unused.exists()


def test_exports_of_models_elsewhere_are_kept_while_the_file_is_the_same(home: Path, tmp_path: Path) -> None:
    weights = tmp_path / "open_clip.bin"  # not a model file of xmodal
    weights.write_bytes(b"weights")
    text = fake_export("text-encoders", "c" * 64, weights)
    backbone = fake_export("image-backbones", "b" * 64, Path(), meta={"fingerprint": "c" * 64})
    remove_unused_exports(tmp_path)
    assert text.is_dir() and backbone.is_dir()
    weights.write_bytes(b"others")
    remove_unused_exports(tmp_path)
    assert not text.exists() and not backbone.exists()


def test_exports_that_another_process_writes_and_unknown_files_are_left_alone(home: Path, tmp_path: Path) -> None:
    export = fake_export("captioners", "d" * 64, tmp_path / "gone")
    draft = export.with_name(f".{export.name}.build-0123abcd")
    draft.mkdir()
    (export.parent / "notes.txt").write_text("mine")
    with atomic_folder.write_lock(export):
        remove_unused_exports(tmp_path)
        assert export.is_dir() and draft.is_dir()
    remove_unused_exports(tmp_path)
    assert names("captioners") == {"notes.txt"}
    assert set(KINDS) >= {captioner_folder("e" * 64).parent.name}


@pytest.mark.slow
def test_one_of_two_processes_exports_and_the_other_waits(tmp_path: Path) -> None:
    folder, marker = tmp_path / "cache" / "e", tmp_path / "marker"
    first = start(folder, marker, 3.0)
    wait_for(marker)
    second = start(folder, marker, 0.0)
    assert [first.communicate()[1], second.communicate()[1]] == [b"", b""]
    assert (first.returncode, second.returncode) == (0, 0)
    assert marker.read_text() == "x"  # exported once
    assert {path.name for path in folder.parent.iterdir()} == {"e"}


@pytest.mark.slow
def test_an_export_that_was_killed_is_started_again(tmp_path: Path) -> None:
    folder, marker = tmp_path / "cache" / "e", tmp_path / "marker"
    killed = start(folder, marker, 60.0)
    wait_for(marker)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not folder.exists() and any(path.name.startswith(".e.build-") for path in folder.parent.iterdir())
    again = start(folder, marker, 0.0)
    assert (again.communicate()[1], again.returncode) == (b"", 0)
    assert {path.name for path in folder.parent.iterdir()} == {"e"}
    assert {path.name for path in folder.iterdir()} == {"graph", METADATA}


def test_a_failure_that_another_process_recorded_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "e"
    record = ExportRecord("captioner", "toy", "a" * 64, source_record("toy", folder))
    stamps = iter([None, (1, 1)])  # before and after waiting for the lock
    monkeypatch.setattr(onnx_writing, "size_and_mtime", lambda _: next(stamps))
    folder.mkdir()
    (folder / METADATA).write_text(json.dumps({"refused": "it has loops"}))
    with pytest.raises(Unavailable, match="it has loops"):
        write_export(folder, record, lambda _: pytest.fail("exported twice"))

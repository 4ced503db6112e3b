"""What is installed is whole, small and quick: the files of the wheel, shell completion, the single-file executable."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "xmodal_cli"
HEAVY = {"torch", "numpy", "faiss", "PIL", "transformers", "open_clip", "onnxruntime", "tokenizers", "pydantic"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files_of(kind: str) -> dict[str, Path]:
    """The files of a wheel or sdist, by their path in it, as listed by the build backend."""
    pytest.importorskip("hatchling", reason="the build backend is not installed; `uv sync` brings it")
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    builder = {"wheel": WheelBuilder, "sdist": SdistBuilder}[kind](str(ROOT))
    return {f.distribution_path: Path(f.path) for f in builder.recurse_included_files()}


def test_the_wheel_holds_the_package_and_nothing_else() -> None:
    here = {p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert set(files_of("wheel")) == {p.relative_to(ROOT).as_posix() for p in here}


def test_the_wheel_holds_presets_types_and_the_starter_pair_and_is_light() -> None:
    files = files_of("wheel")
    for name in (
        "py.typed",
        "presets/demo.toml",
        "starter/starter.safetensors",
        "starter/starter-captioner.safetensors",
    ):
        assert f"xmodal_cli/{name}" in files
    starter = {name for name in files if name.endswith(".safetensors")}
    assert sum(files[name].stat().st_size for name in starter) <= 30 << 20
    assert sum(path.stat().st_size for name, path in files.items() if name not in starter) <= 3 << 20


def test_the_sdist_can_be_built_and_tested_from() -> None:
    files = set(files_of("sdist"))
    assert {"pyproject.toml", "README.md", "xmodal_cli/__main__.py", "tests/conftest.py"} <= files
    assert "xmodal_cli/starter/starter.safetensors" in files
    assert not any(name == "uv.lock" or name.startswith((".venv/", "dist/", ".git/")) for name in files)


def test_the_script_of_the_package_is_a_function_that_exists() -> None:
    module, _, function = PROJECT["project"]["scripts"]["xmodal"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[function]), function))


def test_the_project_names_no_registry() -> None:
    assert "uv" not in PROJECT["tool"]
    assert "://" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def completed(line: str) -> tuple[list[str], set[str]]:
    """The completions of ``line``, and the packages that were imported to compute them."""
    words = line.split(" ")
    asked = {"_XMODAL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-X", "importtime", "-m", "xmodal_cli"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), {m.split(".")[0] for m in re.findall(r"\|\s*([\w.]+)$", done.stderr, flags=re.M)}


@pytest.mark.parametrize(
    ("line", "offered"),
    [("xmodal sea", ["search"]), ("xmodal models def", ["default"]), ("xmodal caption --be", ["--beam"])],
)
def test_the_shell_completes_and_loads_nothing_heavy(line: str, offered: list[str]) -> None:
    words, loaded = completed(line)
    assert words == offered
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_reading_options_does_not_load_pydantic() -> None:
    """Typer 0.29 does, for a tenth of a second in every command; which is why older versions are required."""
    code = (
        "import sys; from xmodal_cli.__main__ import main; main(['search', '-h']); sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False).returncode == 0


def test_onnxruntime_reports_nothing_to_its_makers(tmp_path: Path) -> None:
    """Its telemetry begins with a file below the home folder."""
    code = (
        "import xmodal_cli, onnxruntime, onnx.helper as make\n"
        "x, y = [make.make_tensor_value_info(name, 1, [1]) for name in 'xy']\n"
        "graph = make.make_graph([make.make_node('Neg', ['x'], ['y'])], 'g', [x], [y])\n"
        "model = make.make_model(graph, opset_imports=[make.make_opsetid('', 17)], ir_version=8)\n"
        "onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    env = clean | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []


Build = Callable[[bytes], Path]


@pytest.fixture
def single_file(tmp_path: Path) -> Build:
    """Puts the shell part of the single-file executable before a payload."""
    if sys.platform != "linux":
        pytest.skip("the single file is for Linux")
    script = (ROOT / "examples" / "single_file.sh").read_text(encoding="utf-8")
    found = re.search(r"/stub\" <<'EOF'\n(.*?)\nEOF\n", script, flags=re.S)
    assert found is not None
    stub = found.group(1) + "\n"
    stub = stub.replace("@ID@", "0123").replace("@LINE@", str(stub.count("\n") + 1))

    def build(payload: bytes) -> Path:
        weights = packed("w", "python/weights", b"12\n" * 5000, 0o644)
        file = tmp_path / "a folder" / "xmodal"
        file.parent.mkdir()
        file.write_bytes(stub.replace("@SIZE@", str(len(weights))).encode() + weights + payload)
        file.chmod(0o755)
        return file

    return build


def payload_of(python: str) -> bytes:
    """A packed tree whose Python is this shell script."""
    return packed("w:gz", "python/bin/python3", python.encode(), 0o755)


def packed(mode: Literal["w", "w:gz"], name: str, content: bytes, permissions: int) -> bytes:
    """An archive with one file."""
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode=mode) as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), permissions
        tar.addfile(member, BytesIO(content))
    return archive.getvalue()


def start(file: Path, cache: Path, *args: str) -> subprocess.Popen[str]:
    env = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen([file, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_single_file_unpacks_once_and_passes_its_arguments(single_file: Build, tmp_path: Path) -> None:
    file = single_file(payload_of('#!/bin/sh\nshift 3\nprintf "%s|" "$@"\nexit 3\n'))
    first = start(file, tmp_path / "cache", "search", "two dogs")
    out, stderr = first.communicate()
    assert (first.returncode, out) == (3, "search|two dogs|")
    unpacked = tmp_path / "cache" / "xmodal-file" / "0123" / "python"
    assert (unpacked / "weights").read_bytes() == b"12\n" * 5000
    assert "unpacking" in stderr
    later = start(file, tmp_path / "cache", "-h")
    assert later.communicate() == ("-h|", "")
    assert [p.name for p in (tmp_path / "cache" / "xmodal-file").iterdir()] == ["0123"]


def test_starts_at_once_leave_one_copy(single_file: Build, tmp_path: Path) -> None:
    file = single_file(payload_of("#!/bin/sh\necho fine\n"))
    starts = [start(file, tmp_path / "cache") for _ in range(5)]
    assert [s.communicate()[0] for s in starts] == ["fine\n"] * 5
    assert [p.name for p in (tmp_path / "cache" / "xmodal-file").iterdir()] == ["0123"]


@pytest.mark.parametrize("kept", [-20, -8], ids=["cut short", "without its checksum"])
def test_a_damaged_single_file_is_an_error_and_leaves_nothing(single_file: Build, tmp_path: Path, kept: int) -> None:
    broken = start(single_file(payload_of("#!/bin/sh\n")[:kept]), tmp_path / "cache")
    _, stderr = broken.communicate()
    assert broken.returncode == 1
    assert "error: could not unpack" in stderr
    assert "hint:" in stderr
    assert list((tmp_path / "cache" / "xmodal-file").iterdir()) == []

"""The commands for photos without torch and the packages that need it: a new process cannot import them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.random_captioner import write_captioner
from helpers.tag_fixtures import write_tagger
from PIL import Image

from xmodal_cli.errors import OPTIONAL_PACKAGES
from xmodal_cli.inference.models import describe_model

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "single_file.sh"
# modules that the single file with --photos does not contain
LEFT_OUT = [
    path.replace("/", ".")
    for path in re.findall(r"rm -rf (onnx/.*?)\)$", SCRIPT.read_text("utf-8"), re.DOTALL | re.MULTILINE)[0].split()
    if re.fullmatch(r"[a-z0-9_/]+", path)
]
RUN = f"""
import importlib.metadata, importlib.util, sys

MISSING = {(*OPTIONAL_PACKAGES, "llvmlite", "sympy", "huggingface_hub")}
LEFT_OUT = {tuple(LEFT_OUT)}
find = importlib.util.find_spec

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING or name.startswith(LEFT_OUT):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
importlib.util.find_spec = lambda name, *more: None if name.partition(".")[0] in MISSING else find(name, *more)
version_of = importlib.metadata.version

def version(name):
    if name.replace("-", "_").lower().startswith(tuple(package.lower() for package in MISSING)):
        raise importlib.metadata.PackageNotFoundError(name)
    return version_of(name)

importlib.metadata.version = version
from xmodal_cli.__main__ import main
sys.exit(main())
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=False)


def run_json(*words: str) -> object:
    result = run(*words, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_modules_that_the_single_file_leaves_out_are_known():
    assert "onnx.reference" in LEFT_OUT and "numpy.f2py" in LEFT_OUT


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 200)).save(tmp_path / f"{name}.jpg")
    return tmp_path


@pytest.mark.slow
def test_photos_are_indexed_searched_and_captioned(photos, tmp_path_factory, xmodal):
    query = tmp_path_factory.mktemp("queries") / "query.png"
    Image.open(photos / "b.jpg").save(query)
    run_json("index", str(photos), "--index", "light")
    sentence = run_json("search", "two dogs", "--index", "light")
    similar = run_json("search", str(query), "--index", "light")
    assert Path(similar["hits"][0]["path"]).name == "b.jpg" and len(sentence["hits"]) == 3
    (caption,) = run_json("caption", str(query), "--beam", "3")
    assert run("models", "list").returncode == 0

    with_torch = xmodal("search", str(query), "--index", "light", "--runtime", "torch", "--json").json
    assert [hit["path"] for hit in with_torch["hits"]] == [hit["path"] for hit in similar["hits"]]
    np.testing.assert_allclose(*[[h["score"] for h in r["hits"]] for r in (with_torch, similar)], atol=1e-3)
    settings = ("--beam", "3", "--runtime", "torch", "--device", "cpu", "--precision", "fp32", "--json")
    assert xmodal("caption", str(query), *settings).json[0]["captions"][0]["text"] == caption["captions"][0]["text"]


@pytest.mark.slow
def test_tags_and_captions_of_the_training_set(photos, home, xmodal):
    captioner_meta = describe_model("starter-captioner").meta
    write_tagger(home / "models" / "words.safetensors", captioner_meta, ("dog", "cat", "grass", "runs"))
    captioner = write_captioner(home / "models" / "tagged.safetensors", captioner_meta)
    words = ("caption", str(photos / "a.jpg"), "--model", str(captioner), "--tags", "auto")
    needed = run(*words)
    assert needed.returncode == 1 and "needs torch" in needed.stderr
    findings = {finding["what"]: finding for finding in run_json("doctor")["findings"]}
    assert findings["models without torch"]["found"].startswith("tagged, words: not exported")
    exported = xmodal(*words, "--runtime", "onnx", "--json").json
    assert "models without torch" not in {finding["what"] for finding in run_json("doctor")["findings"]}
    assert run_json(*words) == exported and exported[0]["tags"]

    for name, caption in (("a", "a dog runs"), ("b", "two men on a beach"), ("c", "a child in red")):
        (photos / f"{name}.txt").write_text(caption)
    assert run("data", "add", "f8k", str(photos)).returncode == 0
    (nearest,) = run_json("caption", str(photos / "a.jpg"), "--nearest", "--num", "2")
    assert len({caption["text"] for caption in nearest["captions"]}) == 2
    with_torch = xmodal("caption", photos / "a.jpg", "--nearest", "--num", 2, "--runtime", "torch", "--json").json[0]
    assert [c["text"] for c in with_torch["captions"]] == [c["text"] for c in nearest["captions"]]
    np.testing.assert_allclose(*[[c["score"] for c in r["captions"]] for r in (with_torch, nearest)], atol=1e-3)
    (images,) = run_json("caption", str(photos / "a.jpg"), "--nearest", "--set", "nearest.images=2")
    assert images["captions"]


@pytest.mark.slow
def test_doctor_reports_what_is_there_and_how_to_get_the_rest(photos):
    report = run_json("doctor")
    found = {finding["what"]: finding for finding in report["findings"]}
    assert report["status"] in ("ok", "warn") and not {"torch", "timm", "faiss-cpu", "Java", "GPU"} & found.keys()
    assert {"onnxruntime", "numpy", "starter", "minilm"} <= found.keys()
    assert "without torch" in found["installation"]["found"]
    assert "docs/install.md" in found["installation"]["remedy"]
    assert "cpu" in found["device"]["found"] and found["device"]["status"] == "ok"


@pytest.mark.parametrize(
    "words", [("train", "--model", "vse", "--data", "shapes"), ("caption", "x.jpg", "--model", "hf/x")]
)
def test_other_commands_name_the_missing_package(words, photos, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "x.jpg").write_bytes((photos / "a.jpg").read_bytes())
    result = run(*words)
    assert result.returncode == 1 and "docs/install.md" in result.stderr, result.stderr
    assert "not installed" in result.stderr and "bug" not in result.stderr

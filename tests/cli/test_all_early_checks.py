"""Options that cannot work are refused before a model is loaded, features are extracted or a folder is listed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import xmodal_cli.recipes.average
import xmodal_cli.recipes.features
import xmodal_cli.recipes.index  # noqa: F401 - imported before their functions are replaced
from xmodal_cli.data import photo_files
from xmodal_cli.features import extraction
from xmodal_cli.inference import captioners, hf_captioner, matchers, model_average, taggers
from xmodal_cli.paths import CONFIG_FILE, MODEL_FILE
from xmodal_cli.retrieval import target

BELOW_A_FILE = "file/out"


def _fail(name):
    def fail(*args, **kwargs):
        raise AssertionError(f"{name} was called before the checks")

    return fail


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with ``photos`` of one image and ``file``; expensive functions fail."""
    expensive = {
        "load_matcher": matchers.load_matcher,
        "load_captioner": captioners.load_captioner,
        "load_tagger": taggers.load_tagger,
        "load": hf_captioner.load,
        "encode_files": extraction.encode_files,
        "mean_tensors": model_average.mean_tensors,
        "scan_roots": target.scan_roots,
        "find_photos": photo_files.find_photos,
    }
    for module in [m for name, m in sys.modules.items() if name.startswith("xmodal_cli.")]:
        for name, function in expensive.items():
            if getattr(module, name, None) is function:
                monkeypatch.setattr(module, name, _fail(name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "file").write_text("text", encoding="utf-8")
    return tmp_path


STARTER = ("--model", "starter")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("caption", "photos", "--model", "nope"), "there is no model called 'nope'"),
        (("caption", "photos", *STARTER), "starter is a matcher, not a captioner"),
        (("caption", "photos", "--model", "starter-captioner", "--model", "nope"), "there is no model called 'nope'"),
        (("caption", "photos", "--model", "hf/"), "'hf/' cannot be a model of the Hugging Face hub"),
        (("caption", "photos", "--model", "some/name"), "names such as hf/some/name"),
        (("caption", "photos", "--model", "photos"), "the folder photos has neither a model.safetensors"),
        (("eval", "hf/some/name", "--data", "shapes"), "is a Hugging Face model, which only `xmodal caption` reads"),
        (("caption", "photos", "--set", "decoding.foo=1"), "there is no setting called 'decoding.foo'"),
        (("caption", "photos", "--beam", "0"), "decoding.beam must be at least 1"),
        (("caption", "photos", "--beam", "10000000000"), "decoding.beam must be at least 1 and at most 100000"),
        (
            ("caption", "photos", "--sample", "--num", "10000000000"),
            "decoding.num must be at least 1 and at most 100000",
        ),
        (("caption", "photos", "--beam", "5", "--set", "decoding.num_beam_groups=3"), "a divisor of the beam size"),
        (("caption", "photos", "--tags", "dog"), "starter-captioner was not trained with tags"),
        (("caption", "photos", "--tags", "auto"), "starter-captioner was not trained with tags"),
        (("caption", "photos", "--attention", BELOW_A_FILE), "file is not a folder"),
        (("caption", "photos", "--device", "cuda:99"), "cuda:99"),
        (("caption", "photos", "--device", "tpu"), "there is no device called 'tpu'"),
        (("caption", "photos", "--model", "hf/x", "--set", "decoding.num_beam_groups=3"), "decoding.num_beam_groups"),
        (("caption", "photos", "--model", "hf/x", "--set", "decoding.foo=3"), "no setting called 'decoding.foo'"),
        (("caption", "photos", "--nearest", "--model", "starter-captioner"), "is a captioner, not a matcher"),
        (("caption", "photos", "--nearest", "--num", "0"), "decoding.num must be at least 1"),
        (("index", "photos", "--model", "nope"), "there is no model called 'nope'"),
        (("index", "photos", "--model", "starter-captioner"), "is a captioner, not a matcher"),
        (("index", "photos", "--store", "nope"), "there is no precision of stored vectors called 'nope'"),
        (("index", "photos", "--index", f"./{BELOW_A_FILE}"), "file is not a folder"),
        (("index", "photos", "--index", "./photos"), "exists and is not an index"),
        (("index", "photos", "--device", "tpu"), "there is no device called 'tpu'"),
        (("features", "photos", "--out", BELOW_A_FILE), "file is not a folder"),
        (("features", "photos", "--out", "photos"), "photos has other files than features"),
        (("features", "photos", "--device", "cuda:99"), "cuda:99"),
        (("features", "photos", *STARTER, "--out", f"{BELOW_A_FILE}.npz"), "file is not a folder"),
        (("features", "photos", *STARTER, "--out", "model.safetensors"), "is not a file of --out"),
        (("features", "photos", *STARTER, "--kind", "grid"), "--kind"),
        (("features", *STARTER, "--text", "file", "--out", f"{BELOW_A_FILE}.npz"), "file is not a folder"),
        (("features", *STARTER, "--text", "file", "--split", "test"), "--split"),
        (("models", "average", "starter", "starter", "--out", f"{BELOW_A_FILE}.safetensors"), "file is not a folder"),
        (("models", "convert", "a.pt", "--out", f"{BELOW_A_FILE}.safetensors"), "file is not a folder"),
        (("search", "dog", "--html", f"{BELOW_A_FILE}.html"), "file is not a folder"),
        (("search", "dog", "--sheet", f"{BELOW_A_FILE}.png"), "file is not a folder"),
        (("data", "make", "shapes", BELOW_A_FILE), "file is not a folder"),
        (("data", "get", "f8k", "--out", "file"), "file is not a folder"),
        (("train", "--model", "vse", "--data", "photos", "--out", "file"), "file is not a folder"),
    ],
)
def test_it_is_refused_before_anything_expensive(xmodal, home, folder, command, message):
    (folder / "a.pt").touch()
    np.savez(folder / "model.npz", images=np.zeros((1, 1)))
    (folder / "model.npz").rename(folder / "model.safetensors")
    before = sorted(path.name for path in folder.iterdir())
    done = xmodal(*command)
    assert (done.code, done.out) in [(1, ""), (2, "")]
    assert message in done.err
    assert "bug" not in done.err
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ranks", f"{BELOW_A_FILE}.jsonl"), "file is not a folder"),
        (("--ranks", "captions.jsonl"), "captions.jsonl already exists and is not a file of --ranks"),
        (("--ranks", "table.csv"), "table.csv already exists and is not a file of --ranks"),
        (("--report", BELOW_A_FILE), "file is not a folder"),
        (("--report", "page"), "index.html already exists and is not a file of --report"),
        (("--device", "cuda:99"), "cuda:99"),
    ],
)
def test_eval_is_refused_before_a_model_is_loaded(xmodal, trained, planted, folder, options, message):
    (folder / "captions.jsonl").write_text('{"image": "a.png", "caption": "a dog"}\n', encoding="utf-8")
    (folder / "table.csv").write_text("image,caption\na.png,a dog\n", encoding="utf-8")
    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("<html>my page</html>", encoding="utf-8")
    done = xmodal("eval", trained, "--data", planted, *options)
    assert (done.code, done.out) == (1, "")
    assert message in done.err.splitlines()[0]


def test_own_files_are_replaced(xmodal, trained, planted, tmp_path):
    ranks, report, vectors = tmp_path / "r.csv", tmp_path / "report", tmp_path / "v.npz"
    for _ in range(2):
        done = xmodal("eval", trained, "--data", planted, "--ranks", ranks, "--report", report)
        assert done.code == 0, done.err
        done = xmodal("features", planted, "--model", trained, "--split", "test", "--out", vectors)
        assert done.code == 0, done.err
    assert xmodal("eval", trained, "--data", planted, "--ranks", tmp_path / "r.jsonl").code == 0
    assert xmodal("eval", trained, "--data", planted, "--ranks", tmp_path / "r.jsonl").code == 0


def test_features_of_another_dataset_or_backbone_are_not_replaced(xmodal, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / f"{name}.png")
    out = tmp_path / "features"
    for _ in range(2):
        done = xmodal("features", tmp_path / "one", "--out", out)
        assert done.code == 0, done.err
    for options in ((tmp_path / "two",), (tmp_path / "one", "--kind", "grid")):
        done = xmodal("features", *options, "--out", out)
        assert done.code == 1
        assert f"{out} has other features (1 images, global of efficientnet-lite2)" in done.err


@pytest.mark.parametrize(
    "command",
    [
        "train --model vse --data nope",
        "train --model vse --data /no/where",
        "train --model nope --data shapes",
        "eval nope --data shapes",
        "eval starter --data nope",
        "features nope",
        "caption photo.jpg --model nope",
        "index /no/where",
        "demo /no/where",
    ],
)
def test_names_that_do_not_exist_are_reported_without_torch(home, command):
    code = "import sys; from xmodal_cli.__main__ import main; print(main(), 'torch' in sys.modules)"
    run = [sys.executable, "-c", f"import sys; sys.argv[1:] = {command.split()}; {code}"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.split() == ["1", "False"]


def test_a_folder_with_a_run_is_refused_without_torch(home, tmp_path):
    for name in (CONFIG_FILE, MODEL_FILE):
        (tmp_path / name).touch()
    command = ["train", "--model", "vse", "--data", "shapes", "--out", str(tmp_path)]
    code = "import sys; from xmodal_cli.__main__ import main; print(main(), 'torch' in sys.modules)"
    run = [sys.executable, "-c", f"import sys; sys.argv[1:] = {command}; {code}"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
    assert "already contains a training run" in done.stderr

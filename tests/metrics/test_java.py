"""METEOR and SPICE: scores if their programs are installed, a reason if not, and no process left running."""

from __future__ import annotations

import json
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from xmodal_cli import catalog
from xmodal_cli.errors import Unavailable
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.metrics import java

CANDIDATES = [["a", "dog", "runs"], ["two", "men"], []]
REFERENCES = [[["a", "dog", "is", "running"], ["dogs", "run"]], [["two", "men", "sit"]], [["a", "cat"]]]
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """``fake_java(code)`` replaces ``java`` by a Python program."""

    def make(code):
        program = tmp_path / "bin" / "java"
        program.parent.mkdir(exist_ok=True)
        script = program.with_suffix(".py")
        script.write_text(f"import json, os, sys\n{code}\n", encoding="utf-8")
        command = shlex.join([sys.executable, str(script)])  # the path may have spaces, which a shebang cannot have
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(program.parent))

    return make


@pytest.fixture
def processes(monkeypatch):
    """A list of all started processes."""
    started = []
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(real(*args, **kwargs)) or started[-1]
    )
    return started


def metric(name, **args):
    return catalog.build("caption_metric", name, args)


@needs_java
@pytest.mark.slow
def test_separators_and_line_breaks_in_words_do_not_break_the_protocol():
    scores = metric("meteor")([["a|||b", "|||"], ["c\nd"], ["e"]], [[["a\rb"]], [["c", "d"]], [["|||"], [], ["e"]]])
    assert scores.per_candidate["meteor"].shape == (3,)
    assert scores.per_candidate["meteor"][1] > 0.5


@needs_java
@pytest.mark.slow
@pytest.mark.realdata
def test_meteor_of_a_published_set(real_data):
    content = json.loads((real_data / "f8k/dataset_flickr8k.json").read_text(encoding="utf-8"))
    of_image = {i["filename"]: [s["tokens"] for s in i["sentences"]] for i in content["images"]}
    folder = real_data / "caption-scores"
    references = [of_image[image] for image in (folder / "images.txt").read_text(encoding="utf-8").split()]
    candidates = [line.split() for line in (folder / "flickr8k_par_3.txt").read_text(encoding="utf-8").splitlines()]
    published = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["flickr8k_par_3"]["METEOR"]
    assert metric("meteor")(candidates, references).total["meteor"] == pytest.approx(published, abs=1e-9)


METEOR_CODE = (
    "for line in sys.stdin:\n    print('0.5\\n' * line.count('|||') + '0.25' if line[0] == 'E' else 's', flush=True)"
)


def test_the_protocol_of_meteor(fake_java, processes):
    fake_java(METEOR_CODE)
    scores = metric("meteor")(CANDIDATES, REFERENCES)
    assert scores.total == {"meteor": 0.25}
    assert scores.per_candidate["meteor"].tolist() == [0.5] * 3
    assert [p.returncode is not None for p in processes] == [True]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("sys.exit(3)", "ended before its output was complete with code 3"),
        ("print('no heap space', file=sys.stderr)", "ended before its output was complete: no heap space"),
        ("input(); print('s'); sys.exit('disk full')", "ended before its output was complete: disk full"),
        ("print('half', end='')", "ended before its output was complete"),
        ("for line in sys.stdin: print('what?', flush=True)", "is not a number"),
    ],
)
def test_a_program_that_fails_raises_unavailable(fake_java, processes, code, reason):
    fake_java(code)
    with pytest.raises(Unavailable, match=reason) as error:
        metric("meteor")(CANDIDATES, REFERENCES)
    assert error.value.hint
    assert [p.returncode is not None for p in processes] == [True]


def test_a_program_that_hangs_is_killed(fake_java, processes):
    fake_java("import time; time.sleep(600)")
    with pytest.raises(Unavailable, match="ended before its output was complete"):
        metric("meteor", seconds=1)(CANDIDATES, REFERENCES)
    assert [p.returncode is not None for p in processes] == [True]


def test_a_program_that_cannot_be_started_raises_unavailable(fake_java, tmp_path):
    fake_java("")
    (tmp_path / "bin" / "java").write_text("#!/no/such/program\n", encoding="utf-8")
    with pytest.raises(Unavailable, match="cannot be started"):
        metric("meteor")(CANDIDATES, REFERENCES)


def test_without_java_the_scores_are_null_with_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = score_captions(["a dog"], [["a dog", "the dog"]], names=("meteor", "spice", "bleu"))
    assert result.scores["meteor"] is None
    assert result.scores["spice"] is None
    assert result.scores["bleu_1"] > 0.9
    assert result.unavailable["meteor"].startswith("Java is not installed; install")
    assert set(result.unavailable) == {"meteor", "spice"}
    assert "meteor" not in result.signature


def test_a_missing_jar_raises_unavailable():
    with pytest.raises(Unavailable, match=r"pycocoevalcap has no meteor/no.jar"):
        java.jar("meteor", "no.jar")


# ---------------------------------------------------------------------------- SPICE, whose models are rarely installed


@pytest.fixture
def spice_models(tmp_path, monkeypatch):
    """A folder with empty files named like SPICE and its models."""
    from xmodal_cli.metrics.captions import spice

    folder = tmp_path / "spice"
    (folder / "lib").mkdir(parents=True)
    for name in ("spice-1.0.jar", *(f"lib/{model}" for model in spice.MODELS)):
        (folder / name).touch()
    monkeypatch.setattr(spice, "jar", tmp_path.joinpath)
    return folder


SPICE_CODE = (
    "given, got = sys.argv[4], sys.argv[8]\n"
    "items = json.load(open(given))\n"
    "score = lambda i: {'All': {'f': len(i['test'].split()) / 4}}\n"
    "json.dump([{'image_id': i['image_id'], 'scores': score(i)} for i in items[::-1]], open(got, 'w'))\n"
    "assert '--add-opens' in os.environ['JDK_JAVA_OPTIONS']"
)


def test_spice_reads_the_output_file_of_its_program(fake_java, spice_models):
    fake_java(SPICE_CODE)
    scores = metric("spice")(CANDIDATES, REFERENCES)
    assert scores.per_candidate["spice"].tolist() == [0.75, 0.5, 0]
    assert scores.total["spice"] == pytest.approx(1.25 / 3)


@pytest.mark.parametrize("code", ["sys.exit(1)", "open(sys.argv[8], 'w').write('[]')", "import time; time.sleep(600)"])
def test_a_spice_that_fails_raises_unavailable(fake_java, spice_models, code):
    fake_java(code)
    with pytest.raises(Unavailable, match="SPICE failed"):
        metric("spice", seconds=1 if "sleep" in code else 60)(CANDIDATES, REFERENCES)


def test_the_hint_of_spice_without_models_has_their_folder(spice_models):
    model = next(Path(spice_models, "lib").iterdir())
    model.unlink()
    with pytest.raises(Unavailable, match=model.name) as error:
        metric("spice")(CANDIDATES, REFERENCES)
    assert str(spice_models / "lib") in error.value.hint

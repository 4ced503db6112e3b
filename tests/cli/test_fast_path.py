"""A search in a new process imports neither torch nor typer; missing and damaged exports are rebuilt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.index_fixtures import DIM, PhotoIndexFixture

from xmodal_cli.cli.fast_path import SearchArguments, read_query
from xmodal_cli.device import Compute
from xmodal_cli.inference import matchers, models, onnx_export, text_encoders
from xmodal_cli.inference.onnx_folder import METADATA
from xmodal_cli.inference.onnx_text_encoder import WORDS
from xmodal_cli.models.assembly import build_matcher
from xmodal_cli.models.model_file import ModelHeader, write_model
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.recipes.search import open_searcher, search
from xmodal_cli.reporter import SILENT, SilentReporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.metadata import IndexModel
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.types import FeatureMeta

NEVER = (
    *("torch", "torchvision", "transformers", "open_clip", "timm", "numba", "faiss", "typer", "rich", "PIL", "onnx"),
    *("logging", "concurrent.futures", "socket", "xmodal_cli.data.scan"),  # take milliseconds each
)
META = FeatureMeta("eyes", "e" * 64, "global", 8)


class RecordingReporter(SilentReporter):
    """A Reporter that records its messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")


def write_matcher(file: Path, seed: int = 0) -> Path:
    """A model file with a GRU and the vocabulary of a few captions."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_captions(["two dogs run on grass", "a man in the snow"])
    parts = {kind: {"name": name, "args": {}} for kind, name in (("image_encoder", "linear"), ("text_encoder", "gru"))}
    sizes = {"image_dim": 8, "image_kind": "global", "vocab_size": tokenizer.vocab_size, "embed_dim": DIM}
    architecture = {"name": "vse", "args": {}, **parts, "similarity": {"name": "cosine", "args": {}}, **sizes}
    model = build_matcher(architecture)
    header = ModelHeader("matcher", architecture, tokenizer.to_json(), asdict(META), "cosine", {}, {})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_model(file, header, model.state_dict())
    return file


@pytest.fixture
def indexed(photo_index: PhotoIndexFixture, home: Path) -> PhotoIndexFixture:
    """Thirty indexed photos; the text encoder of the matcher is not exported."""
    made_by = models.describe_model(str(write_matcher(home / "models" / "toy.safetensors")))
    photo_index.model = IndexModel("toy", made_by.source, made_by.fingerprint, "cosine", DIM, META)
    photo_index.fill(30)
    photo_index.update()
    registry.set_default(photo_index.index_folder)
    return photo_index


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once called, loading a model fails the test."""

    def forbid() -> None:
        monkeypatch.setattr(matchers, "load_matcher", lambda *_: pytest.fail("the model was loaded"))

    return forbid


def run_search_process(*args: str) -> tuple[list[str], Any]:
    """Run ``xmodal`` as a process; returns the modules of NEVER that it imported, and stdout."""
    code = (
        "import sys, json; from xmodal_cli.__main__ import main\n"
        f"code = main({list(args)!r})\n"
        f"print(json.dumps([code, [m for m in {NEVER!r} if m in sys.modules]]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    code_, modules = json.loads(done.stderr.strip().splitlines()[-1])
    assert code_ == 0, done.stderr
    return modules, done.stdout


def expected_scores(indexed: PhotoIndexFixture, sentence: str) -> dict[str, float]:
    """Scores by the torch model and a dot product."""
    query = matchers.load_matcher(indexed.model.source, Compute("cpu", "fp32")).embed_texts([sentence])[0]
    return {str(indexed.photos / name): float(query @ v) for name, v in indexed.contents().items()}


def test_a_search_imports_no_heavy_packages(indexed: PhotoIndexFixture) -> None:
    text_encoders.ensure(models.describe_model(indexed.model.source), SILENT)
    modules, out = run_search_process("search", "two dogs run", "-k", "3", "--json")
    assert modules == []
    scores = expected_scores(indexed, "two dogs run")
    assert [h["path"] for h in json.loads(out)["hits"]] == sorted(scores, key=lambda p: -scores[p])[:3]
    modules, table = run_search_process("search", "two dogs run", "-k", "3")
    assert modules == []
    assert "3 of 30 photos" in table


def test_the_vectors_are_those_of_torch(indexed: PhotoIndexFixture, no_torch: Callable[[], None]) -> None:
    scores = expected_scores(indexed, "a man and two dogs")
    text_encoders.ensure(models.describe_model(indexed.model.source), SILENT)
    no_torch()
    hits = search(["a man and two dogs"], options=SearchOptions(30)).hits
    assert {h.path: h.score for h in hits} == pytest.approx(scores, abs=1e-6)
    assert search(["a man and two dogs"]).unknown_words == ("and",)


def test_a_search_reads_the_header_of_its_model_once(
    indexed: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, files = models.read_header, list[Path]()
    monkeypatch.setattr(models, "read_header", lambda file: files.append(file) or read(file))
    search(["two dogs run"])
    assert files == [Path(indexed.model.source)]


def test_a_missing_export_is_made_by_the_search_that_misses_it(
    indexed: PhotoIndexFixture, no_torch: Callable[[], None], xmodal: Callable[..., Any]
) -> None:
    first = xmodal("search", "two dogs", "--json")
    assert first.err.splitlines() == ["exporting the text encoder of toy with torch; later searches will be faster"]
    no_torch()
    again = xmodal("search", "two dogs", "--json")
    assert (again.err, again.out) == ("", first.out)


@pytest.mark.parametrize("name", [METADATA, WORDS, "encoder.onnx", "tokenizer.json"])
def test_a_damaged_export_is_made_again(indexed: PhotoIndexFixture, name: str) -> None:
    text_encoders.ensure(models.describe_model(indexed.model.source), SILENT)
    expected = search(["two dogs"])
    file = text_encoders.folder_of(indexed.model.fingerprint) / name
    file.write_bytes(file.read_bytes()[:-9] + b"\0" * 9)
    reporter = RecordingReporter()
    assert search(["two dogs"], reporter=reporter).hits == expected.hits
    assert "exporting the text encoder" in reporter.lines[0]
    reporter.lines.clear()
    assert search(["two dogs"], reporter=reporter).hits == expected.hits
    assert reporter.lines == []


def test_damage_with_unchanged_size_and_time_is_detected_on_load(indexed: PhotoIndexFixture) -> None:
    text_encoders.ensure(models.describe_model(indexed.model.source), SILENT)
    expected = search(["two dogs"])
    graph = text_encoders.folder_of(indexed.model.fingerprint) / "encoder.onnx"
    status = graph.stat()
    graph.write_bytes(b"\xff" * status.st_size)
    os.utime(graph, ns=(status.st_atime_ns, status.st_mtime_ns))
    reporter = RecordingReporter()
    assert search(["two dogs"], reporter=reporter).hits == expected.hits
    assert len(reporter.lines) == 1


def test_a_failed_export_is_reported_and_torch_is_used(
    indexed: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MIN_COSINE", 2.0)
    reporter = RecordingReporter()
    text_encoders.ensure(models.describe_model(indexed.model.source), reporter)
    assert "its vectors differ" in reporter.lines[0] and len(reporter.lines) == 1
    tries = text_encoders.folder_of(indexed.model.fingerprint).stat().st_mtime_ns
    text_encoders.ensure(models.describe_model(indexed.model.source), reporter)
    assert len(reporter.lines) == 1
    scores = expected_scores(indexed, "two dogs")
    hits = search(["two dogs"], options=SearchOptions(30), reporter=reporter).hits
    assert {h.path: h.score for h in hits} == pytest.approx(scores, abs=1e-6)
    assert reporter.lines[1].startswith("searching with torch")
    assert text_encoders.folder_of(indexed.model.fingerprint).stat().st_mtime_ns == tries


def test_a_cache_that_cannot_be_written_is_only_slower(indexed: PhotoIndexFixture, home: Path) -> None:
    (home / "cache").mkdir(exist_ok=True)
    (home / "cache" / "text-encoders").write_text("in the way")
    reporter = RecordingReporter()
    assert len(search(["two dogs"], reporter=reporter).hits) == 10
    assert any("loads torch" in line for line in reporter.lines)


def test_the_model_is_still_checked(indexed: PhotoIndexFixture, home: Path, xmodal: Callable[..., Any]) -> None:
    text_encoders.ensure(models.describe_model(indexed.model.source), SILENT)
    file = home / "models" / "toy.safetensors"
    kept = file.read_bytes()
    os.utime(file, ns=(5, 5))  # the same weights with another mtime: hashed once more, and stored
    assert xmodal("search", "two dogs").code == 0
    assert text_encoders.find(indexed.model.fingerprint).folder.is_export_of(str(file))
    write_matcher(file, seed=1)
    assert "another version of toy" in xmodal("search", "two dogs").err
    file.unlink()
    assert "does not exist at" in xmodal("search", "two dogs").err
    file.write_bytes(kept)
    assert xmodal("search", "two dogs").code == 0


def test_a_searcher_stays_open(indexed: PhotoIndexFixture, no_torch: Callable[[], None]) -> None:
    text_encoders.ensure(models.describe_model(indexed.model.source), SILENT)
    no_torch()
    with open_searcher() as searcher:
        assert (searcher.index_name, searcher.model, len(searcher)) == ("family", "toy", 30)
        for sentence in ("two dogs", "a man", "two dogs"):
            found, alone = searcher.search([sentence], SearchOptions(4)), search([sentence], options=SearchOptions(4))
            assert [hit.path for hit in found.hits] == [hit.path for hit in alone.hits]
            assert [h.score for h in found.hits] == pytest.approx([h.score for h in alone.hits], abs=1e-6)
            assert (found.query, found.items) == ((sentence,), 30)


@pytest.mark.slow
def test_concurrent_searches_without_an_export(indexed: PhotoIndexFixture) -> None:
    command = [sys.executable, "-m", "xmodal_cli", "search", "two dogs", "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    one, other = ([hit["path"] for hit in json.loads(out)["hits"]] for out, _ in outputs)
    assert one == other
    assert text_encoders.find(indexed.model.fingerprint).folder.export_error == ""
    left = {f.name for f in text_encoders.folder_of(indexed.model.fingerprint).parent.iterdir()}
    assert left == {indexed.model.fingerprint[:16]}


# ---------------------------------------------------------------------------- the fast path without typer


@pytest.mark.parametrize(
    ("args", "query"),
    [
        (["two dogs"], SearchArguments(["two dogs"])),
        (["dog", "-person", "--json", "-k3"], SearchArguments(["dog", "-person"], k=3, json=True)),
        (["-k", "5", "--index", "family", "dog", "+snow"], SearchArguments(["dog", "+snow"], "family", 5)),
        (["dog", "-k", "-1"], SearchArguments(["dog"], k=-1)),
        (["-kite"], SearchArguments(["-kite"])),
        (["dog", "--exact", "--all"], SearchArguments(["dog"], all=True, exact=True)),
        (["--json", "--", "-k", "--blue"], SearchArguments(["- k", "- -blue"], json=True)),
        (["--index", "-x", "dog"], SearchArguments(["dog"], "-x")),
        (["dog", "--paths", "-0"], SearchArguments(["dog"], paths=True, null=True)),
        (
            ["dog", "--in", "a", "--in", "-b", "--after", "2024"],
            SearchArguments(["dog"], folders=["a", "-b"], after="2024"),
        ),
        (["name:x", "--threshold", "0.25", "--before", "x"], SearchArguments(["name:x"], threshold=0.25, before="x")),
        (["dog", "--threshold", "high"], None),
        (["dog", "--paths", "--json"], None),
        (["dog", "--format", "{path}"], None),
    ],
)
def test_plain_queries(args: list[str], query: SearchArguments) -> None:
    assert read_query(args) == query


@pytest.mark.parametrize("args", [[], ["-h"], ["--help"], ["-k", "3"], ["dog", "--help"]])
def test_help_and_empty_queries_are_left_to_typer(args: list[str]) -> None:
    assert read_query(args) is None


@pytest.mark.parametrize("args", [["--jsn"], ["-k"], ["-k", "many"], ["--index"], ["--index=x"]])
def test_invalid_options_are_left_to_typer(args: list[str]) -> None:
    assert read_query(["dog", *args]) is None


@pytest.mark.parametrize(
    "args",
    [
        ["dog"],
        ["dog", "-k", "2"],
        ["-k2", "dog", "-snow"],
        ["a", "--index", "family", "--json"],
        ["--json", "--", "-k"],
    ],
)
def test_the_fast_path_and_typer_give_the_same_result(
    indexed: PhotoIndexFixture, args: list[str], xmodal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = xmodal("search", *args)
    monkeypatch.setattr("xmodal_cli.cli.fast_path.read_query", lambda _: None)
    slow = xmodal("search", *args)
    assert (fast.code, fast.out) == (slow.code, slow.out)

"""A sentence against 100,000 photos, as whole processes: ours, the imports that a search may do, and the script that
people write with open_clip and FAISS. Then the same within one process. Medians of many, taken in turns.

    pytest -m bench tests/bench/test_bench_cold_search.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers.large_index import write_large_index

from xmodal_cli.config import load_config
from xmodal_cli.data.scan import FoundFile
from xmodal_cli.inference import text_encoders
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.towers import text_side
from xmodal_cli.models.assembly import Sizes, build_matcher, describe
from xmodal_cli.models.model_file import ModelHeader, write_model
from xmodal_cli.models.towers import trainable_state_dict
from xmodal_cli.recipes.search import open_searcher
from xmodal_cli.reporter import SILENT
from xmodal_cli.retrieval.metadata import IndexModel
from xmodal_cli.types import FeatureMeta

COUNT, DIM, ROUNDS, NAIVE_ROUNDS = 100_000, 1024, 15, 5
FLOOR_RATIO, NAIVE_RATIO, FLAT_RATIO = 1.5, 8.0, 1.2
META = FeatureMeta("eyes", "e" * 64, "global", 1280)
SENTENCES = [
    f"{who} {what} {where}" for who in ("two dogs", "a man") for what in ("run", "play") for where in ("", "in snow")
]

FLOOR = "import numpy, faiss, onnxruntime, tokenizers"
NAIVE = """
import sys
import faiss, open_clip, torch

model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained=sys.argv[1])
tokenizer = open_clip.get_tokenizer("ViT-B-32")
index = faiss.read_index(sys.argv[2])
paths = open(sys.argv[3]).read().splitlines()
with torch.no_grad():
    vector = model.encode_text(tokenizer([sys.argv[4]]))
    vector /= vector.norm(dim=-1, keepdim=True)
scores, rows = index.search(vector.numpy(), 10)
for score, row in zip(scores[0], rows[0]):
    print(f"{score:.4f} {paths[row]}")
"""
STEPS = """
import sys, time
times = [("", time.perf_counter())]
def mark(name): times.append((name, time.perf_counter()))
import numpy; mark("numpy")
import onnxruntime; mark("onnxruntime")
import tokenizers; mark("tokenizers")
from pathlib import Path
from xmodal_cli.cli import fast_path, hits, output
from xmodal_cli.inference import text_encoders
from xmodal_cli.recipes import search
from xmodal_cli.models import tokenizer
from xmodal_cli.retrieval import index, search as ranking
mark("our modules")
opened = index.open_index(Path(sys.argv[1])); mark("index opened")
text = text_encoders.find(opened.metadata.model.fingerprint); mark("export checked")
text._tokenizer; mark("tokenizer loaded")
vector = text.embed_texts([sys.argv[2]])[0]; mark("graph loaded, sentence encoded")
found = ranking.top_hits(opened.vectors, [ranking.TermVector(vector)], "cosine", 10); mark("vectors searched")
entries = opened.items_of_rows([row for row, _ in found]); mark("sqlite")
for entry in entries: print(entry.item.path)
mark("printed")
print("|".join(f"{name} {1000 * (b - a):.1f}" for (_, a), (name, b) in zip(times, times[1:])), file=sys.stderr)
"""

pytestmark = [pytest.mark.bench, pytest.mark.slow]


def model_file(folder: Path) -> Path:
    """Two heads on MiniLM, of fresh weights: timings do not depend on what they are."""
    config = load_config("two-heads", [f"model.embed_dim={DIM}"])
    side = text_side(config)
    assert side is not None
    architecture = describe(config.model, Sizes(1280, "global", 30_522, side.backbone.meta.dim), {"text": side.facts()})
    model = build_matcher(architecture, {"text": side.stack()})
    header = ModelHeader("matcher", architecture, side.backbone.tokenizer, asdict(META), "cosine", {}, {})
    write_model(folder / "two-heads.safetensors", header, trainable_state_dict(model))
    return folder / "two-heads.safetensors"


def unit_rows(dim: int) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((COUNT, dim), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


@pytest.fixture(scope="module")
def cold_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a matcher and an index of 100,000 photos, as empty files."""
    folder = tmp_path_factory.mktemp("cold")
    (folder / "photos").mkdir()
    photos = [folder / "photos" / f"{n:06}.jpg" for n in range(COUNT)]
    for photo in photos:
        photo.touch()
    found = describe_model(str(model_file(folder)))
    made_by = IndexModel(found.name, found.source, found.fingerprint, "cosine", DIM, META)
    files = [FoundFile(str(photo), 0, 0) for photo in photos]
    write_large_index(folder / "indexes" / "big", folder / "photos", files, unit_rows(DIM), made_by)
    (folder / "paths.txt").write_text("\n".join(map(str, photos)))
    return folder


@pytest.fixture(autouse=True)
def default_home(home: Path, cold_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMODAL_HOME", str(cold_home))
    made_by = describe_model(str(cold_home / "two-heads.safetensors"))
    text_encoders.ensure(made_by, SILENT)


def run(*command: object) -> tuple[float, str]:
    """Seconds, and standard error, of a process."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stderr


def in_turns(commands: dict[str, tuple[object, ...]], rounds: int) -> dict[str, float]:
    """Median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            times[name].append(run(*command)[0])
    return {name: float(np.median(found[1:])) for name, found in times.items()}


def test_a_search_as_a_process(cold_home, report):
    index = cold_home / "indexes" / "big"
    ours = ("-m", "xmodal_cli", "search", SENTENCES[0], "--index", index)
    found = in_turns({"ours": ours, "floor": ("-c", FLOOR), "python": ("-c", "pass")}, ROUNDS)
    ratio = found["ours"] / found["floor"]
    report(
        "a search as a process",
        f"{found['ours']:.2f} s; importing what it may use {found['floor']:.2f} s: {ratio:.2f} times",
    )
    steps = [run("-c", STEPS, index, SENTENCES[0])[1].strip().splitlines()[-1] for _ in range(ROUNDS)]
    parsed = [{p.rsplit(" ", 1)[0]: float(p.rsplit(" ", 1)[1]) for p in line.split("|")} for line in steps]
    report("  the interpreter", f"{1000 * found['python']:.0f} ms")
    for name in parsed[0]:
        report(f"  {name}", f"{np.median([p[name] for p in parsed]):.1f} ms")
    assert ratio <= FLOOR_RATIO


def test_a_search_against_the_script_that_users_write(cold_home, report):
    import faiss
    import open_clip
    import torch

    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), cold_home / "vit-b-32.pt")
    baseline = faiss.IndexFlatIP(512)
    baseline.add(unit_rows(512))
    faiss.write_index(baseline, str(cold_home / "baseline.faiss"))
    naive = (
        "-c",
        NAIVE,
        cold_home / "vit-b-32.pt",
        cold_home / "baseline.faiss",
        cold_home / "paths.txt",
        SENTENCES[0],
    )
    ours = ("-m", "xmodal_cli", "search", SENTENCES[0], "--index", cold_home / "indexes" / "big")
    found = in_turns({"ours": ours, "naive": naive}, NAIVE_ROUNDS)
    ratio = found["naive"] / found["ours"]
    report(
        "a search with open_clip and FAISS", f"{found['naive']:.2f} s, ours {found['ours']:.2f} s: {ratio:.1f} times"
    )
    (cold_home / "vit-b-32.pt").unlink()
    assert ratio >= NAIVE_RATIO


def test_a_search_in_one_process(cold_home, report, seconds):
    import faiss

    flat = faiss.IndexFlatIP(DIM)
    flat.add(unit_rows(DIM))
    faiss.omp_set_num_threads(1)
    with open_searcher(str(cold_home / "indexes" / "big")) as searcher:
        encoder = searcher._embedder._sentences
        searcher.search([SENTENCES[0]])
        times: dict[str, list[float]] = {"whole": [], "sentence": [], "flat": []}
        for _ in range(5):
            for sentence in SENTENCES:
                times["whole"].append(seconds(lambda s=sentence: searcher.search([s])))
                times["sentence"].append(seconds(lambda s=sentence: encoder.embed_texts([s])))
                vector = encoder.embed_texts([sentence])
                times["flat"].append(seconds(lambda v=vector: flat.search(v, 10)))
    whole, alone, plain = (1000 * float(np.median(times[name])) for name in ("whole", "sentence", "flat"))
    ratio = plain / (whole - alone)
    report("a search in one process", f"{whole:.1f} ms, of which the sentence takes {alone:.1f} ms")
    report("  its vectors, against FAISS's flat index", f"{whole - alone:.1f} ms, {plain:.1f} ms: {ratio:.1f} times")
    assert ratio >= FLAT_RATIO

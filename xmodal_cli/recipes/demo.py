"""The whole road on the generated sample set: pictures, features, training, evaluation, index, search, results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli import paths
from xmodal_cli.config import load_config
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.recipes.contact_sheet import Row, draw_contact_sheet
from xmodal_cli.recipes.evaluate import evaluate
from xmodal_cli.recipes.index import index
from xmodal_cli.recipes.search import search
from xmodal_cli.recipes.train import run_folder, train_model
from xmodal_cli.types import Example, Reporter, Silent

DATA, PRESET, INDEX = "shapes", "demo", "demo"
NUM_QUERIES, NUM_PHOTOS = 3, 5


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: the run, the test figures, the searches and the picture of them."""

    run: Path
    model: str
    test: dict[str, Any]
    index: dict[str, Any]
    searches: list[dict[str, Any]]
    picture: Path


def demo(reporter: Reporter | None = None) -> DemoResult:
    """Run every step; what an earlier demo finished is not done again. Raises StorageError when the disk is full."""
    reporter = reporter or Silent()
    reporter.say("1/5  the sample set: coloured shapes, five captions each")
    test = load_dataset(DATA).select("test")
    reporter.say("2/5  features and training: a small image-text matcher")
    config = load_config(PRESET)
    run = run_folder(config, DATA)
    train_model(config, DATA, resume=True, reporter=reporter)
    reporter.say("3/5  evaluation on the test pictures")
    (figures,) = evaluate([str(run)], DATA, "test", reporter=reporter)
    reporter.say("4/5  an index of the test pictures")
    files = [example.path for example in test.examples if example.path is not None]
    indexed = index(files, INDEX, str(run), reporter=reporter)
    reporter.say("5/5  three searches")
    chosen = [test.examples[len(test.examples) * n // NUM_QUERIES] for n in range(NUM_QUERIES)]
    searches = [_search(example) for example in chosen]
    picture = draw_contact_sheet([_row(found) for found in searches], paths.home() / "demo" / "results.png")
    return DemoResult(run, run.name, figures, indexed, searches, picture)


def _search(example: Example) -> dict[str, Any]:
    """Look for an example by its first caption."""
    found = search([example.captions[0].rstrip(".")], INDEX, NUM_PHOTOS)
    hits = [{"rank": hit.rank, "path": hit.path, "score": hit.score} for hit in found.hits]
    return {"query": found.query[0], "right": str(example.path), "hits": hits}


def _row(found: dict[str, Any]) -> Row:
    photos = [Path(hit["path"]) for hit in found["hits"]]
    right = Path(found["right"])
    return Row(found["query"], photos, frozenset(p for p in photos if p.exists() and p.samefile(right)))

"""The demo's indexes: made, brought up to date, or made anew where another model made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xmodal_cli.demo.results import SearchExample
from xmodal_cli.errors import XmodalError
from xmodal_cli.inference.models import describe_model
from xmodal_cli.paths import indexes_dir
from xmodal_cli.recipes.index import index
from xmodal_cli.recipes.search import search
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.index import is_index, read_metadata

NUM_HITS = 5


def make_index(roots: Sequence[Path], name: str, model: str, reporter: Reporter) -> dict[str, Any]:
    """The index ``name`` of ``roots`` by ``model``; what ``xmodal index --json`` prints. Raises as ``index``."""
    rebuild = _is_of_another(indexes_dir() / name, model)
    return asdict(index(roots, name, model, rebuild=rebuild, reporter=reporter))


def _is_of_another(place: Path, model: str) -> bool:
    try:
        return is_index(place) and read_metadata(place).model.fingerprint != describe_model(model).fingerprint
    except XmodalError:
        return False  # indexing tells what is wrong


def find(query: str, place: str, right: Path | None = None) -> SearchExample:
    """The first few photos for a sentence; ``place`` is an index's name or folder. Raises what ``search`` raises."""
    hits = search([query], place, NUM_HITS).hits
    return SearchExample(query, [{"rank": hit.rank, "path": hit.path, "score": hit.score} for hit in hits], right)

"""The indexes of the demo: built, updated, or rebuilt if another model built them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xmodal_cli.demo.results import SearchExample
from xmodal_cli.errors import XmodalError
from xmodal_cli.inference.models import describe_model
from xmodal_cli.paths import indexes_dir
from xmodal_cli.recipes.index import index
from xmodal_cli.recipes.search import search
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.index import is_index
from xmodal_cli.retrieval.report import IndexReport
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.stored_metadata import read_metadata

NUM_HITS = 5


def make_index(roots: Sequence[Path], name: str, model: str, reporter: Reporter) -> IndexReport:
    """Build or update the index ``name`` of ``roots``. Raises as ``index``."""
    rebuild = _has_other_model(indexes_dir() / name, model)
    return index(roots, name, model, rebuild=rebuild, reporter=reporter)


def _has_other_model(folder: Path, model: str) -> bool:
    try:
        return is_index(folder) and read_metadata(folder).model.fingerprint != describe_model(model).fingerprint
    except XmodalError:
        return False  # indexing reports it


def find(query: str, index_name: str, right: Path | None = None) -> SearchExample:
    """The best photos for a sentence; ``index_name`` is a name or a folder. Raises what ``search`` raises."""
    return SearchExample(query, search([query], index_name, SearchOptions(NUM_HITS)).hits, right)

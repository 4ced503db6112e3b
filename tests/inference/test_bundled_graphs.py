"""The graphs of the bundled models: of their current weights; damaged files are errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xmodal_cli import starter
from xmodal_cli.errors import BadModel, MissingData
from xmodal_cli.inference import bundled_graphs
from xmodal_cli.inference.export_cleaning import backbone_fingerprint
from xmodal_cli.inference.graph_weights import load_graph, read_facts
from xmodal_cli.inference.models import describe_model

NAMES = (*bundled_graphs.BACKBONES, bundled_graphs.HEAD, bundled_graphs.TEXT, *bundled_graphs.CAPTIONER)


def test_the_graphs_are_those_of_the_bundled_models():
    matcher, captioner = describe_model(starter.MATCHER), describe_model(starter.CAPTIONER)
    backbones = [backbone_fingerprint(info.meta) for info in (matcher, captioner)]
    expected = [*backbones, matcher.fingerprint, matcher.fingerprint, captioner.fingerprint, captioner.fingerprint]
    assert [read_facts(bundled_graphs.folder() / name)["fingerprint"] for name in NAMES] == expected
    assert sum(file.stat().st_size for file in bundled_graphs.folder().iterdir()) < 700_000


def test_a_damaged_graph_and_a_missing_package_are_errors(tmp_path):
    file = tmp_path / bundled_graphs.HEAD
    shutil.copy(bundled_graphs.folder() / bundled_graphs.HEAD, file)

    def missing() -> Path:
        raise MissingData("the package is not installed")

    with pytest.raises(MissingData, match="not installed"):
        load_graph(file, dict.fromkeys(bundled_graphs.sources(), missing))
    file.write_bytes(b"not a graph")
    with pytest.raises(BadModel, match=bundled_graphs.HEAD):
        read_facts(file)
    with pytest.raises(BadModel, match=bundled_graphs.HEAD):
        load_graph(file, bundled_graphs.sources())

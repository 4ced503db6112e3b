"""The exports of the bundled models without torch: from graphs in ``starter/graphs`` and the weights of all files.

``bundled_graphs_writing`` writes the graphs. Each is for weights with one fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli import starter
from xmodal_cli.backbones.image import efficientnet_lite2
from xmodal_cli.backbones.text import minilm
from xmodal_cli.errors import MissingData
from xmodal_cli.inference.graph_weights import load_graph, read_facts
from xmodal_cli.inference.onnx_captioner import START, STEP
from xmodal_cli.inference.onnx_image_encoder import GRAPH
from xmodal_cli.inference.onnx_text_encoder import TOKENIZER
from xmodal_cli.inference.onnx_text_graph import write_text_graph
from xmodal_cli.inference.onnx_writing import ExportRecord, save_graph, step_inputs, write_export

if TYPE_CHECKING:
    from xmodal_cli.inference.models import ModelInfo

TEXT, HEAD = "text-encoder.onnx", "image-encoder.onnx"
BACKBONES = ("matcher-backbone.onnx", "captioner-backbone.onnx")
CAPTIONER = ("captioner-start.onnx", "captioner-step.onnx")


def folder() -> Path:
    """The folder of the graphs."""
    return starter.folder() / "graphs"


def sources() -> Mapping[str, Callable[[], Path]]:
    """The files that contain the weights, by the names in the graphs; the functions check their sha256."""
    return {
        "efficientnet-lite2": efficientnet_lite2.packaged_file,
        "minilm": minilm.weights_file,
        "matcher": lambda: _bundled(starter.MATCHER),
        "captioner": lambda: _bundled(starter.CAPTIONER),
    }


def export_bundled_text(info: ModelInfo, record: ExportRecord, target: Path) -> bool:
    """Export the text encoder of a bundled matcher to ``target``; False for any other model.

    Raises Unavailable, StorageError, BadModel, and MissingData for a package that is not installed.
    """
    from xmodal_cli.inference.weights import read_tokenizer

    file = _find((TEXT,), info.fingerprint)
    if file is None:
        return False
    graph, facts = load_graph(file, sources()), read_facts(file)["export"]

    def write(draft: Path) -> None:
        (draft / TOKENIZER).write_text(read_tokenizer(info).to_json(), encoding="utf-8")
        inputs = write_text_graph(graph, draft)
        record.save(draft, {**facts, "inputs": inputs})

    write_export(target, record, write)
    return True


def export_bundled_image(names: tuple[str, ...], record: ExportRecord, target: Path) -> bool:
    """Export a backbone (``BACKBONES``) or the image encoder (``HEAD``) of a bundled model, as above."""
    file = _find(names, record.fingerprint)
    if file is None:
        return False
    graph, facts = load_graph(file, sources()), read_facts(file)["export"]

    def write(draft: Path) -> None:
        save_graph(graph, draft, Path(GRAPH).stem)
        record.save(draft, facts)

    write_export(target, record, write)
    return True


def export_bundled_captioner(record: ExportRecord, target: Path) -> bool:
    """Export the bundled captioner, as above."""
    file = _find(CAPTIONER[:1], record.fingerprint)
    if file is None:
        return False
    graphs = [load_graph(folder() / name, sources()) for name in CAPTIONER]
    facts = read_facts(file)["export"]

    def write(draft: Path) -> None:
        for graph, name in zip(graphs, (START, STEP), strict=True):
            save_graph(graph, draft, Path(name).stem)
        record.save(draft, {**facts, "inputs": step_inputs(draft / STEP)})

    write_export(target, record, write)
    return True


def _find(names: tuple[str, ...], fingerprint: str) -> Path | None:
    """The first of the graphs that is for weights with this fingerprint."""
    for file in (folder() / name for name in names):
        if file.is_file() and read_facts(file)["fingerprint"] == fingerprint:
            return file
    return None


def _bundled(name: str) -> Path:
    file = starter.file_of(name)
    if file is None:
        raise MissingData(f"{name} is not a bundled model", starter.INSTALL)
    starter.check(file)
    return file

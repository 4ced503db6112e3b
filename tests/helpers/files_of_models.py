"""Valid files of models, training states, word vectors and exports, and their readers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.damage import Kind
from xmodal_cli.device import Compute
from xmodal_cli.inference import onnx_folder, onnx_text_encoder
from xmodal_cli.inference.captioners import caption_features, load_captioner
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.inference.model_reports import report_model
from xmodal_cli.models.assembly import build_captioner, build_matcher
from xmodal_cli.models.model_file import ModelHeader, write_model
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.models.word_vectors import initialize_from_word_vectors
from xmodal_cli.reporter import SILENT
from xmodal_cli.training.checkpoint import LoopState, load_state, save_state
from xmodal_cli.types import FeatureMeta

CPU = Compute("cpu", "fp32")
META = FeatureMeta("toy-backbone", "e" * 64, "global", 8)
WORDS = ["two dogs run on grass", "a man in the snow"]


def _sizes(tokenizer: Tokenizer) -> dict[str, Any]:
    return {"image_dim": 8, "image_kind": "global", "vocab_size": tokenizer.vocab_size, "embed_dim": 12}


def make_matcher(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_captions(WORDS)
    parts = {kind: {"name": name, "args": {}} for kind, name in (("image_encoder", "linear"), ("text_encoder", "bow"))}
    architecture = {"name": "vse", "args": {}, **parts, "similarity": {"name": "cosine", "args": {}}, "towers": {}}
    architecture |= {**_sizes(tokenizer), "text_dim": 0}
    model, training = build_matcher(architecture), {"preset": "vse"}
    header = ModelHeader(
        "matcher", architecture, tokenizer.to_json(), asdict(META), "cosine", training, {"name": "d"}, {"rsum": 1.0}
    )
    write_model(folder / "matcher.safetensors", header, model.state_dict())
    return folder / "matcher.safetensors"


def read_matcher(file: Path) -> None:
    report_model(str(file))
    loaded = load_matcher(str(file), CPU)
    loaded.info.config  # noqa: B018 - read from the header
    loaded.embed_texts(WORDS)
    loaded.embed_features(np.ones((2, 8), np.float32))


def make_captioner(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_captions(WORDS)
    args = {"num_layers": 1}
    architecture = {"name": "transformer", "args": args, "towers": {}, **_sizes(tokenizer), "image_kind": "grid"}
    model, training = build_captioner(architecture), {"preset": "transformer", "kind": "captioner"}
    meta = asdict(META) | {"kind": "grid"}
    header = ModelHeader("captioner", architecture, tokenizer.to_json(), meta, "", training, {})
    write_model(folder / "captioner.safetensors", header, model.state_dict())
    return folder / "captioner.safetensors"


def read_captioner(file: Path) -> None:
    loaded = load_captioner(str(file), CPU)
    caption_features([loaded], [torch.ones(1, 4, 8)], loaded.decoding)


def _network() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def make_state(folder: Path) -> Path:
    model, optimizer = _network()
    folder = folder / "run" / "last"
    save_state(folder, LoopState("here", 1, 5, 0.5, 1, [{"epoch": 1.0, "rsum": 0.5}]), {"model": model}, optimizer)
    return folder / "state.safetensors"


def read_state(file: Path) -> None:
    model, optimizer = _network()
    load_state(file.parent, {"model": model}, optimizer, "here")
    optimizer.step()


def make_word_vectors(folder: Path) -> Path:
    lines = [f"{word} {' '.join(['0.5'] * 12)}\n" for word in ("two", "dogs", "man")]
    (folder / "glove.txt").write_text("".join(lines))
    return folder / "glove.txt"


def read_word_vectors(file: Path) -> None:
    tokenizer = Tokenizer.from_captions(WORDS)
    text = {"name": "bow", "args": {"word_dim": 12}}
    parts = {"image_encoder": {"name": "linear", "args": {}}, "similarity": {"name": "cosine", "args": {}}}
    model = build_matcher({"name": "vse", "args": {}, **parts, "text_encoder": text, **_sizes(tokenizer)})
    initialize_from_word_vectors(model, tokenizer, file, SILENT)


def make_export(folder: Path) -> Path:
    """Only the metadata: the graphs are checked by their checksums."""
    (folder / onnx_text_encoder.GRAPH).write_bytes(b"graph")
    (folder / onnx_text_encoder.TOKENIZER).write_text(Tokenizer.from_captions(WORDS).to_json())
    facts = {"format": 1, "fingerprint": "f", "inputs": ["tokens"], "length": 0, "pad_id": 0, "embed_dim": 12}
    source = onnx_folder.source_record("toy", folder / "toy")
    content = {**facts, "source": source, "files": onnx_folder.file_records(folder)}
    (folder / onnx_folder.METADATA).write_text(json.dumps(content))
    return folder / onnx_folder.METADATA


def read_export(file: Path) -> None:
    encoder = onnx_text_encoder.OnnxTextEncoder(file.parent, "f")
    encoder.folder.is_export_of("toy")
    if not encoder.folder.export_error:
        encoder.unknown_words("a zebra")


KINDS = {
    "matcher": Kind(make_matcher, read_matcher),
    "captioner": Kind(make_captioner, read_captioner),
    "state": Kind(make_state, read_state),
    "word-vectors": Kind(make_word_vectors, read_word_vectors),
    "export": Kind(make_export, read_export),
}

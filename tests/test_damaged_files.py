"""Damaged, hostile and unreadable files of every kind that is read: an error that names the file, or no error at all.

Each reader gets its file truncated, with changed bytes, with other JSON values, as a folder, and without permission.
"""

from __future__ import annotations

import copy
import json
import random
import struct
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from safetensors.numpy import save_file

from xmodal_cli.config import load_config, to_toml
from xmodal_cli.data import registry
from xmodal_cli.data.npy_files import map_features
from xmodal_cli.device import Compute
from xmodal_cli.errors import XmodalError
from xmodal_cli.evaluation.embeddings import is_embeddings, read_embeddings
from xmodal_cli.evaluation.results_file import read_results
from xmodal_cli.evaluation.scoring import score_embeddings
from xmodal_cli.features import shards, store
from xmodal_cli.inference import onnx_folder, onnx_text_encoder
from xmodal_cli.inference.captioners import caption_features, load_captioner
from xmodal_cli.inference.defaults import default_models
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.inference.model_reports import report_model
from xmodal_cli.models.assembly import build_captioner, build_matcher
from xmodal_cli.models.model_file import ModelHeader, write_model
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.models.word_vectors import initialize_from_word_vectors
from xmodal_cli.paths import config_file
from xmodal_cli.reporter import SILENT
from xmodal_cli.trainers.resume import check_folder
from xmodal_cli.training.checkpoint import LoopState, load_state, save_state
from xmodal_cli.training.log import rewind_log
from xmodal_cli.types import FeatureMeta

CPU = Compute("cpu", "fp32")
VALUES: tuple[Any, ...] = (None, True, -1, 1.5, 10**30, "x", [], {}, [[None]], {"a": 1})
META = FeatureMeta("toy-backbone", "e" * 64, "global", 8)
WORDS = ["two dogs run on grass", "a man in the snow"]


# ---------------------------------------------------------------------------- one valid file per kind


def make_npz(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {"images": rng.normal(size=(4, 3)), "texts": rng.normal(size=(4, 3)), "image_of_caption": np.arange(4)}
    np.savez(folder / "vectors.npz", **arrays, similarity=np.array("cosine"))
    return folder / "vectors.npz"


def make_vectors(folder: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    arrays = {"images": rows, "texts": rows, "image_of_caption": np.arange(4)}
    save_file(arrays, folder / "vectors.safetensors", {"similarity": "cosine"})
    return folder / "vectors.safetensors"


def read_vectors(file: Path) -> None:
    is_embeddings(str(file))
    score_embeddings(read_embeddings(file))


def make_npy(folder: Path) -> Path:
    np.save(folder / "ims.npy", np.ones((4, 3), np.float32))
    return folder / "ims.npy"


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


def make_config(folder: Path) -> Path:
    config_file().write_text(tomli_w.dumps({"defaults": {"matcher": "starter"}}))
    return config_file()


def make_run_config(folder: Path) -> Path:
    (folder / "model.safetensors").touch()  # without a model the run is started again
    (folder / "config.toml").write_text(to_toml(load_config("vse")))
    return folder / "config.toml"


def make_registry(folder: Path) -> Path:
    (folder / "a.jsonl").write_text('{"image": "a.png", "captions": ["x"], "split": "train"}\n')
    registry.add("mine", folder / "a.jsonl", "jsonl")
    return registry.data_dir() / "registry.json"


def read_registry(file: Path) -> None:
    registry.list_registered()
    if file.is_file() and "mine" in registry.list_registered():
        registry.load_dataset("mine")


def make_summary(folder: Path) -> Path:
    metadata = shards.ShardMetadata("plan", ("a", "b"), (("c", "c.png", "damaged"),))
    shards.write_shard(shards.shard_path(folder, 0), [np.ones(8), np.zeros(8)], metadata)
    skipped = (store.Skipped("c", "c.png", "damaged"),)
    store.write_summary(
        folder, store.StoreSummary(META, ("a", "b"), skipped, (2,), "digest", store.FileStamp("w", 1, 2))
    )
    return folder / store.SUMMARY


def read_store(file: Path) -> None:
    opened = store.open_store(file.parent)
    opened.load()
    opened.meta.key()
    shards.read_shard_metadata(shards.shard_path(file.parent, 0))


def make_shard(folder: Path) -> Path:
    make_summary(folder)
    return shards.shard_path(folder, 0)


def make_log(folder: Path) -> Path:
    lines = [
        {"event": "step", "step": 1, "epoch": 1, "loss": 0.5},
        {"event": "eval", "step": 2, "epoch": 1, "rsum": 1.0},
    ]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder / "log.jsonl"


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


def make_results(folder: Path) -> Path:
    (folder / "results.json").write_text(
        json.dumps([{"image_id": 1, "caption": "a dog"}, {"image_id": "b", "caption": ""}])
    )
    return folder / "results.json"


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


def read_sentences(file: Path) -> None:
    from xmodal_cli.data import sentences

    sentences.read_sentences(file)


def make_sentences(folder: Path) -> Path:
    (folder / "sentences.txt").write_text("one\ntwo\n")
    return folder / "sentences.txt"


@dataclass(frozen=True)
class Kind:
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    also_named: str = "/run was trained on other data"  # instead of the file


KINDS = {
    "npz": Kind(make_npz, read_vectors),
    "vectors": Kind(make_vectors, read_vectors),
    "npy": Kind(make_npy, map_features),
    "matcher": Kind(make_matcher, read_matcher),
    "captioner": Kind(make_captioner, read_captioner),
    "config": Kind(make_config, lambda _: default_models()),
    "run-config": Kind(make_run_config, lambda file: check_folder(file.parent, load_config("vse"), True)),
    "preset": Kind(make_run_config, lambda file: load_config(str(file))),
    "registry": Kind(make_registry, read_registry, "the dataset mine is no longer at"),
    "summary": Kind(make_summary, read_store),
    "shard": Kind(make_shard, read_store),
    "log": Kind(make_log, lambda file: rewind_log(file.parent, 1)),
    "state": Kind(make_state, read_state),
    "results": Kind(make_results, read_results),
    "word-vectors": Kind(make_word_vectors, read_word_vectors),
    "export": Kind(make_export, read_export),
    "sentences": Kind(make_sentences, read_sentences),
}
JSON_FILES = ("registry", "summary", "results", "export")
SAFETENSORS = {"matcher": "xmodal", "captioner": "xmodal", "shard": "xmodal", "state": "loop"}  # key of JSON metadata


# ---------------------------------------------------------------------------- damages


def changed_bytes(content: bytes) -> Iterator[bytes]:
    """Truncated content, other content, and content with a few other bytes, most of them in the first part."""
    yield from (b"", b"\0" * 100, b"null", b"[" * 100_000, b"\xff\xfe\xfd", b"PK\x03\x04" + content)
    yield from (content[:size] for size in {1, 7, 8, 9, 60, *(len(content) * part // 8 for part in range(1, 8))})
    yield from (content[:-1], content + b"x")
    for seed in range(20):
        rng, damaged = random.Random(seed), bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(min(len(content), 600 if seed % 3 else len(content)))] = rng.randrange(256)
        yield bytes(damaged)


def changed_values(value: Any) -> Iterator[Any]:
    """The JSON value with one of its parts replaced or deleted."""
    for path in _paths(value):
        for other in VALUES:
            changed = copy.deepcopy(value)
            if not path:
                yield other
                continue
            _parent(changed, path)[path[-1]] = other
            yield changed
        if path and isinstance(path[-1], str):
            changed = copy.deepcopy(value)
            del _parent(changed, path)[path[-1]]
            yield changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield from _paths(inner, (*path, key))


def _parent(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def with_metadata(content: bytes, key: str) -> Iterator[bytes]:
    """A safetensors file with other values in the JSON of its metadata ``key``."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for changed in changed_values(json.loads(header["__metadata__"][key])):
        other = json.dumps({**header, "__metadata__": {key: json.dumps(changed)}}).encode()
        yield struct.pack("<Q", len(other)) + other + content[8 + length :]


def check(kind: Kind, file: Path) -> bool:
    """Read the file; whether it was refused. Any exception but an XmodalError that names the file is a failure."""
    try:
        kind.read(file)
    except XmodalError as error:
        named = str(file) in error.message or str(file.parent) in error.message
        assert named or kind.also_named in error.message, error.message
        assert error.hint
        return True
    return False


@pytest.mark.parametrize("name", KINDS)
def test_changed_bytes(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = kind.make(tmp_path)
    content = file.read_bytes()
    assert not check(kind, file)
    refused = 0
    for damaged in changed_bytes(content):
        file.write_bytes(damaged)
        refused += check(kind, file)
    assert refused > 3 or name == "log"  # a log skips lines


@pytest.mark.parametrize("name", [*JSON_FILES, *SAFETENSORS])
def test_other_json_values(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = kind.make(tmp_path)
    content = file.read_bytes()
    changed = (
        with_metadata(content, SAFETENSORS[name])
        if name in SAFETENSORS
        else (json.dumps(value).encode() for value in changed_values(json.loads(content)))
    )
    refused = 0
    for number, damaged in enumerate(changed):
        if number % {"matcher": 3, "captioner": 11}.get(name, 1):  # loading a model takes milliseconds
            continue
        file.write_bytes(damaged)
        refused += check(kind, file)
    assert refused > 20


@pytest.mark.parametrize("name", ["config", "run-config", "preset"])
def test_other_toml_values(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = kind.make(tmp_path)
    refused = 0
    for number, changed in enumerate(changed_values(tomllib.loads(file.read_text()))):
        if name == "config" or number % 7 == 0:
            try:
                text = tomli_w.dumps(changed)
            except (TypeError, AttributeError, ValueError):  # TOML has no null, and is a table
                continue
            file.write_text(text)
            refused += check(kind, file)
    assert refused > 2


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_in_its_place(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = kind.make(tmp_path)
    file.unlink()
    file.mkdir()
    check(kind, file)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_cannot_be_opened(name: str, tmp_path: Path) -> None:
    """A link to itself: the error is that of the operating system, for every user and library."""
    kind = KINDS[name]
    file = kind.make(tmp_path)
    file.unlink()
    file.symlink_to(file.name)
    check(kind, file)


# ---------------------------------------------------------------------------- sizes that would exhaust the memory


@pytest.mark.parametrize("shape", ["(1000000000, 2000)", "(4, 4)", "(-4, -3)", "(4, 3, 10**12)"])
def test_an_array_that_is_larger_than_its_data(shape: str, tmp_path: Path) -> None:
    import zipfile

    file = make_npz(tmp_path)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head, _, rest = members["images.npy"].partition(b"(4, 3)")
    padding = len(shape) - 6
    members["images.npy"] = head + shape.encode() + rest.replace(b" " * padding, b"", 1)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert check(KINDS["npz"], file)


def test_an_archive_of_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xmodal_cli.data import npz_files

    monkeypatch.setattr(npz_files, "_SMALL", 1000)
    zeros = {"images": np.zeros((10000, 30)), "texts": np.zeros((10, 30)), "image_of_caption": np.zeros(10, int)}
    np.savez_compressed(tmp_path / "zeros.npz", **zeros)
    assert check(KINDS["npz"], tmp_path / "zeros.npz")


@pytest.mark.parametrize("key", ["embed_dim", "image_dim", "vocab_size", "num_layers"])
def test_an_architecture_that_is_larger_than_its_weights(key: str, tmp_path: Path) -> None:
    name = "captioner" if key == "num_layers" else "matcher"
    file = KINDS[name].make(tmp_path)
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    fields = json.loads(header["__metadata__"]["xmodal"])
    (fields["architecture"]["args"] if key == "num_layers" else fields["architecture"])[key] = (
        4000 if "num" in key else 4_000_000
    )
    header["__metadata__"]["xmodal"] = json.dumps(fields)
    other = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(other)) + other + content[8 + length :])
    assert check(KINDS[name], file)

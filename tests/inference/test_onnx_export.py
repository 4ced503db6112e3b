"""Export of text encoders: equal to torch; failed exports and damaged files are errors."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models as token_models
from tokenizers import pre_tokenizers, processors

from xmodal_cli import catalog
from xmodal_cli.backbones.text_backbones import build_text_backbone
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, MissingData, StorageError, Unavailable
from xmodal_cli.inference import onnx_export, onnx_writing, text_encoders
from xmodal_cli.inference.matchers import LoadedMatcher, load_matcher
from xmodal_cli.inference.onnx_export import export_text
from xmodal_cli.inference.onnx_folder import METADATA, running, source_record
from xmodal_cli.inference.onnx_text_encoder import WEIGHTS, WORDS, OnnxTextEncoder
from xmodal_cli.models.assembly import build_matcher
from xmodal_cli.models.tokenizer import Tokenizer

DIM, FINGERPRINT = 12, "f" * 64
CAPTIONS = ["two dogs run on the grass", "a man in a red shirt", "children play in the snow with a black dog", "it's 3"]
SENTENCES = [
    "dog",
    "two dogs run on the grass in the snow",
    "a black dog and a red man, and it's a man on the snow " * 12,
    "unheard-of wörds: 日本語 🐶 — naïve",
    "?",
    "MAN",
]
ENCODERS = [name for name in catalog.names("text_encoder") if name != "identity"]
WORDS_OF_TINY = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "dog", "man", "snow", "on", "the", "black", "red")


def randomize(model: torch.nn.Module, tokenizer: Tokenizer, dim: int = DIM) -> LoadedMatcher:
    info = SimpleNamespace(name="toy", fingerprint=FINGERPRINT, embed_dim=dim)
    for parameter in model.parameters():  # the vectors of an untrained model are nearly the same
        parameter.data += 0.2 * torch.randn_like(parameter)
    return LoadedMatcher(info, Compute("cpu", "fp32"), model.eval(), tokenizer)


def word_matcher(text: str, args: dict | None = None, similarity: str = "cosine", model: str = "vse") -> LoadedMatcher:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    parts = {
        "image_encoder": {"name": "transformer" if "tern" in model else "linear", "args": {}},
        "text_encoder": {"name": text, "args": args or {}},
        "similarity": {"name": similarity, "args": {}},
    }
    sizes = {"image_dim": 8, "image_kind": "global", "vocab_size": tokenizer.vocab_size, "embed_dim": DIM}
    return randomize(build_matcher({"name": model, "args": {}, **parts, **sizes}), tokenizer)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(WORDS_OF_TINY), max_position_embeddings=80, **sizes)).save_pretrained(folder)
    rust = RustTokenizer(token_models.WordLevel({w: n for n, w in enumerate(WORDS_OF_TINY)}, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    rust.save(str(folder / "tokenizer.json"))
    return folder


def tower_matcher(name: str, layers: int, tuned: bool, model: str = "vse", text: str = "bow") -> LoadedMatcher:
    torch.manual_seed(0)
    backbone = build_text_backbone(name, layers)
    stack = [(backbone.network, tuned and not layers)] + ([(backbone.upper, True)] if backbone.upper else [])
    parts = {
        "image_encoder": {"name": "transformer" if "tern" in model else "linear", "args": {}},
        "text_encoder": {"name": text, "args": {}},
        "similarity": {"name": "cosine", "args": {}},
    }
    sizes = {"image_dim": 8, "image_kind": "global", "vocab_size": 5, "text_dim": backbone.meta.dim, "embed_dim": 16}
    built = build_matcher({"name": model, "args": {}, **parts, **sizes}, {"text": stack})
    return LoadedMatcher(
        SimpleNamespace(name="toy", fingerprint=FINGERPRINT, embed_dim=16),
        Compute("cpu", "fp32"),
        built.eval(),
        Tokenizer.from_json(backbone.tokenizer),
    )


def export(loaded: LoadedMatcher, folder: Path) -> OnnxTextEncoder:
    export_text(loaded, source_record("toy", folder / "toy"), folder)
    return OnnxTextEncoder(folder, loaded.info.fingerprint)


def assert_export_equals_torch(loaded: LoadedMatcher, folder: Path) -> OnnxTextEncoder:
    """Compare vectors and unknown words, for sentences that the export itself did not compare."""
    expected = loaded.embed_texts(SENTENCES)
    spread = np.abs(expected - expected[0]).max()
    assert spread > 1e-2 or "FirstPooling" in str(loaded.model)  # vectors that differ
    unknown = [loaded.tokenizer.unknown_words(s) for s in SENTENCES]
    exported = export(loaded, folder)
    vectors = exported.embed_texts(SENTENCES)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=2e-5)
    cosines = (vectors * expected).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.9999
    assert [exported.unknown_words(s) for s in SENTENCES] == unknown
    assert exported.embed_texts([]).shape == (0, loaded.info.embed_dim)
    return exported


@pytest.mark.parametrize("name", ENCODERS)
def test_text_encoders_over_words(name, tmp_path):
    assert_export_equals_torch(word_matcher(name), tmp_path / "e")


@pytest.mark.parametrize("pooling", catalog.names("pooling"))
def test_poolings(pooling, tmp_path):
    assert_export_equals_torch(word_matcher("gru", {"pooling": pooling}), tmp_path / "e")


def test_order_similarity(tmp_path):
    vectors = assert_export_equals_torch(word_matcher("gru", similarity="order"), tmp_path / "e").embed_texts(SENTENCES)
    assert (vectors >= 0).all()


def test_tern_over_words(tmp_path):
    assert_export_equals_torch(word_matcher("transformer", model="tern"), tmp_path / "e")


@pytest.mark.parametrize(("layers", "tuned"), [(0, False), (0, True), (1, True)])
def test_a_folder_of_transformers(layers, tuned, tiny_bert, tmp_path):
    assert_export_equals_torch(tower_matcher(str(tiny_bert), layers, tuned), tmp_path / "e")


def test_tern_over_a_pretrained_encoder(tiny_bert, tmp_path):
    assert_export_equals_torch(tower_matcher(str(tiny_bert), 0, False, model="tern", text="identity"), tmp_path / "e")


def test_tern_as_published(tiny_bert, tmp_path):
    loaded = tower_matcher(str(tiny_bert), 0, True, model="post-norm-tern", text="identity")
    assert_export_equals_torch(loaded, tmp_path / "e")


@pytest.mark.slow
def test_minilm_with_tuned_layers(tmp_path):
    exported = assert_export_equals_torch(tower_matcher("minilm", 2, True), tmp_path / "e")
    assert (tmp_path / "e" / WORDS).stat().st_size > 40_000_000  # outside the graph, not read on load
    assert exported.unknown_words("zyxqv") == []


@pytest.mark.parametrize(
    ("kind", "changes", "length"),
    [
        ("plain", {}, 0),
        # as SigLIP: no causal mask, padding is attended to, and the last position is pooled
        ("siglip", {"text_cfg": {"no_causal_mask": True, "pool_type": "last", "pad_id": 1}}, 16),
    ],
)
def test_text_towers_of_open_clip(kind, changes, length, tiny_clip, tmp_path):
    name, _ = tiny_clip(f"export-{kind}", changes)
    exported = assert_export_equals_torch(load_matcher(name, Compute("cpu", "fp32")), tmp_path / "e")
    metadata = json.loads((tmp_path / "e" / METADATA).read_text())
    assert (metadata["length"], exported.folder.export_error) == (length, "")


# ---------------------------------------------------------------------------- failed exports


class _LengthDependent(torch.nn.Module):
    """Encodes long sentences differently, by a branch that is not in the trace."""

    def encode_text(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        states = torch.nn.functional.one_hot(tokens % 5, 5).float().mean(1) + 0.1
        return states if tokens.shape[1] < 9 else states.flip(1)

    embed_dim = 5


def test_an_export_that_differs_from_torch_fails_once(tmp_path):
    loaded = LoadedMatcher(
        SimpleNamespace(name="toy", fingerprint=FINGERPRINT, embed_dim=5),
        Compute("cpu", "fp32"),
        _LengthDependent().eval(),
        Tokenizer.from_captions(CAPTIONS),
    )
    with pytest.raises(Unavailable, match=r"cannot be exported: its vectors differ from torch's: cosine 0\.[0-9]+"):
        export(loaded, tmp_path / "e")
    failed = OnnxTextEncoder(tmp_path / "e", FINGERPRINT)
    assert "differ" in failed.folder.export_error
    assert [f.name for f in (tmp_path / "e").iterdir()] == [METADATA]
    assert {f.name for f in tmp_path.iterdir()} == {"e"}  # no partial export


def test_a_model_that_cannot_be_traced_is_an_error(tmp_path):
    loaded = word_matcher("bow")
    loaded.model.encode_text = None
    with pytest.raises(Unavailable, match="toy cannot be exported"):
        export(loaded, tmp_path / "e")
    assert OnnxTextEncoder(tmp_path / "e", FINGERPRINT).folder.export_error


def _caused_by_a_full_disk() -> Exception:
    error = ValueError("the graph could not be saved")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError(),
        ImportError("No module named 'onnxscript'"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        _caused_by_a_full_disk(),
    ],
)
def test_failures_of_the_machine_are_not_recorded(failure, tmp_path, monkeypatch):
    """They do not depend on the model: the next search tries again."""

    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(onnx_export, "_write", fail)
        with pytest.raises((Unavailable, StorageError)) as error:
            export(word_matcher("bow"), tmp_path / "e")
    assert error.value.hint
    assert not (tmp_path / "e").exists()
    assert list(tmp_path.glob(".e.build-*")) == []
    assert export(word_matcher("bow"), tmp_path / "e").folder.export_error == ""


def test_errors_on_a_nearly_full_disk_are_not_recorded(tmp_path, monkeypatch):
    """onnxruntime's message for a full disk does not mention the disk."""

    def fail(*_: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf serialization failed.")

    with monkeypatch.context() as patch:
        patch.setattr(onnx_export, "_write", fail)
        patch.setattr(onnx_writing.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(Unavailable, match="now"):
            export(word_matcher("bow"), tmp_path / "e")
    assert export(word_matcher("bow"), tmp_path / "e").folder.export_error == ""


def test_a_failure_that_an_older_version_recorded_is_tried_again(tmp_path):
    loaded = word_matcher("bow")
    loaded.model.encode_text = None
    with pytest.raises(Unavailable):
        export(loaded, tmp_path / "e")
    record = json.loads((tmp_path / "e" / METADATA).read_text())
    del record["permanent"]  # xmodal 0.1 recorded a full disk too
    (tmp_path / "e" / METADATA).write_text(json.dumps(record))
    with pytest.raises(BadData):
        OnnxTextEncoder(tmp_path / "e", FINGERPRINT)
    assert export(word_matcher("bow"), tmp_path / "e").folder.export_error == ""


# ---------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "e"
    export(word_matcher("gru", {"word_dim": 200}), folder)
    return folder


@pytest.fixture
def folder(original, tmp_path) -> Path:
    """A copy with the same sizes and modification times."""
    target = tmp_path / "copy"
    target.mkdir()
    for file in original.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
        os.utime(target / file.name, ns=(file.stat().st_mtime_ns, file.stat().st_mtime_ns))
    return target


def test_no_export_and_an_export_of_another_model_are_missing(folder, tmp_path):
    with pytest.raises(MissingData):
        OnnxTextEncoder(folder, "0" * 64)
    with pytest.raises(MissingData):
        OnnxTextEncoder(tmp_path / "nothing", FINGERPRINT)


@pytest.mark.parametrize("name", [WORDS, WEIGHTS, "encoder.onnx", "tokenizer.json"])
def test_truncated_changed_and_missing_files_are_errors(folder, name):
    file = folder / name
    content = file.read_bytes()
    assert len(content) > 50
    OnnxTextEncoder(folder, FINGERPRINT)
    file.write_bytes(content[:-1])
    with pytest.raises(BadData, match=name):
        OnnxTextEncoder(folder, FINGERPRINT)
    file.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(BadData, match=name):
        OnnxTextEncoder(folder, FINGERPRINT)
    file.unlink()
    with pytest.raises(BadData, match=name):
        OnnxTextEncoder(folder, FINGERPRINT)
    file.write_bytes(content)  # the same content with another modification time
    os.utime(file, ns=(1, 1))
    expected = OnnxTextEncoder(folder, FINGERPRINT).embed_texts(["a dog"])
    metadata = json.loads((folder / METADATA).read_text())
    assert metadata["files"][name]["stamp"] == [len(content), 1]  # the checksum is computed once
    np.testing.assert_array_equal(OnnxTextEncoder(folder, FINGERPRINT).embed_texts(["a dog"]), expected)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1}', "\xff"])
def test_invalid_metadata_is_an_error(folder, text):
    (folder / METADATA).write_text(text, encoding="latin-1")
    with pytest.raises(BadData):
        OnnxTextEncoder(folder, FINGERPRINT)


def test_the_model_file_is_identified_by_size_and_modification_time(folder, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    exported = OnnxTextEncoder(folder, FINGERPRINT)
    assert not exported.folder.is_export_of("toy@folder")
    exported.folder.set_source("toy@folder", file)
    assert OnnxTextEncoder(folder, FINGERPRINT).folder.is_export_of("toy@folder")
    assert not OnnxTextEncoder(folder, FINGERPRINT).folder.is_export_of("other")
    file.write_bytes(b"trained again")
    assert not OnnxTextEncoder(folder, FINGERPRINT).folder.is_export_of("toy@folder")


def test_exports_are_cached_by_fingerprint(home):
    assert text_encoders.folder_of("0123456789abcdef" * 4) == home / "cache" / "text-encoders" / "0123456789abcdef"
    assert text_encoders.find(FINGERPRINT) is None


@pytest.mark.parametrize("message", ["std::bad_alloc", "Failed to allocate memory for requested buffer of size 1024"])
def test_too_little_memory_to_run_a_graph_is_not_damage(message, tmp_path):
    class RuntimeException(Exception):
        __module__ = "onnxruntime.capi.onnxruntime_pybind11_state"

    with pytest.raises(MemoryError, match=message), running(tmp_path / "encoder.onnx"):
        raise RuntimeException(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {message}")
    with pytest.raises(BadData, match=r"encoder\.onnx cannot be run"), running(tmp_path / "encoder.onnx"):
        raise RuntimeException("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions")

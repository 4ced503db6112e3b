"""The towers of open_clip: the same embeddings and tokens as open_clip, and gradients for training."""

from __future__ import annotations

import json

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import nn

from xmodal_cli.backbones.clip_tokenizer import build_clip_tokenizer, build_tokenizer
from xmodal_cli.backbones.image.open_clip import read_matcher_meta, text_tower
from xmodal_cli.backbones.image_backbones import build_backbone, build_network
from xmodal_cli.errors import BadData, ConfigError, DownloadError, MissingData
from xmodal_cli.models.tokenizer import Tokenizer, pad

SENTENCES = ["a dog runs", "", "two children in the water, laughing out loud at a very wet brown dog", "été 12!"]


@pytest.fixture(scope="module")
def simple():
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def ours():
    return Tokenizer.from_json(build_clip_tokenizer().to_str())


def open_clip_ids(simple, sentence, length=77):
    ids = simple([sentence], context_length=length)[0].tolist()
    return ids[: ids.index(simple.eot_token_id) + 1]


UNUSUAL_TEXTS = {
    "empty": ["", " ", "\n\t"],
    "accents": ["Café déjà vu", "cafe\N{COMBINING ACUTE ACCENT}", "naïve ÉTÉ", "İstanbul", "ΣΑΣ ΟΔΟΣ", "Straße"],
    "emoji": ["🐕 runs", "👩‍👩‍👧 and ❤️", "…\N{EM DASH}\N{EN DASH}"],
    "entities": ["a &amp; b", "&lt;b&gt; &quot;x&quot; &#39;s", "&amp;amp;quot;hi", "x&nbsp;y"],
    "quotes": ["it\N{RIGHT SINGLE QUOTATION MARK}s \N{LEFT DOUBLE QUOTATION MARK}fine\N{RIGHT DOUBLE QUOTATION MARK}"],
    "punctuation": ["snow_covered x--y", "don't I'LL we'Re 's", "123 45.6", "a\u200bb\u00a0c", "a\x07b", "ﬁsh ﬂoor ﬆ"],
    "scripts": ["日本語のテキスト", "दो कुत्ते दौड़ते", "два собаки", "\u202eabc"],
    "long": ["long " * 100, "A" * 300, "dog. " * 37 + "x"],
}


@pytest.mark.parametrize("kind", UNUSUAL_TEXTS)
def test_clip_tokens_equal_open_clip(simple, ours, kind):
    for sentence in UNUSUAL_TEXTS[kind]:
        assert ours.encode([sentence])[0] == open_clip_ids(simple, sentence), sentence


def test_known_differences_of_clip_tokens(simple, ours):
    """If one of these becomes equal, update the module docstring of ``clip_tokenizer``."""
    for sentence in ("\N{FULLWIDTH LATIN CAPITAL LETTER D}og", "sch\u00c3\u00b6n", "&eacute;", "<start_of_text> hi"):
        assert ours.encode([sentence])[0] != open_clip_ids(simple, sentence), sentence
    for sentence in ("<start_of_text> hi", "bye <end_of_text>"):
        ids = ours.encode([sentence])[0]
        assert ids.count(simple.sot_token_id) == ids.count(simple.eot_token_id) == 1  # not parsed in a text


@pytest.mark.realdata
def test_clip_tokens_of_all_flickr8k_captions(simple, ours, real_data):
    images = json.loads((real_data / "f8k" / "dataset_flickr8k.json").read_text())["images"]
    captions = [sentence["raw"] for image in images for sentence in image["sentences"]]
    assert len(captions) == 40000
    actual = ours.encode(captions)
    for caption, ids in zip(captions, actual, strict=True):
        assert ids == [simple.sot_token_id, *simple.encode(caption), simple.eot_token_id], caption


@pytest.mark.parametrize("length", [3, 8, 77])
def test_the_end_token_is_never_truncated(simple, length):
    tokenizer = Tokenizer.from_json(build_clip_tokenizer(length).to_str())
    for sentence in SENTENCES:
        ids = tokenizer.encode([sentence])[0]
        assert ids == open_clip_ids(simple, sentence, length)
        assert ids[0] == simple.sot_token_id and ids[-1] == simple.eot_token_id and len(ids) <= length
    assert tokenizer.vocab_size == simple.vocab_size
    assert tokenizer.unknown_words("zxqy dog") == []


def hub_tokenizer(folder, template):
    """A small word-level tokenizer in the format of the hub: tokenizer.json and tokenizer_config.json."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "runs", "the", "x", "y"]
    rust = RustTokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    rust.normalizer, rust.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    rust.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    folder.mkdir()
    rust.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "unk_token": "[UNK]"}))
    return folder


@pytest.mark.parametrize(
    ("template", "settings"),
    [
        ("[CLS] $A [SEP]", {}),
        ("$A [SEP]", {"clean": "canonicalize"}),
        ("[CLS] $A [SEP]", {"strip_sep_token": True}),
    ],
)
def test_hugging_face_tokenizers_equal_open_clip(tmp_path, template, settings):
    folder = hub_tokenizer(tmp_path / "hub", template)
    config = {"context_length": 7, "hf_tokenizer_name": str(folder), "tokenizer_kwargs": settings}
    actual = build_tokenizer(config, "open_clip/x")
    reference = open_clip.tokenizer.HFTokenizer(str(folder), context_length=7, **settings)
    sentences = ["A dog runs", "the_dog, RUNS.", "", "a dog &amp; the dog runs a dog runs", "x-y’s"]  # noqa: RUF001
    rows = Tokenizer.from_json(actual.json).encode(sentences)
    assert actual.context_length == 7 and actual.pad_id == 0
    assert [row + [0] * (7 - len(row)) for row in rows] == reference(sentences).tolist()


def test_unavailable_tokenizers_raise(tmp_path, offline):
    with pytest.raises(DownloadError, match="tokenizer org/name of open_clip/x") as caught:
        build_tokenizer({"hf_tokenizer_name": "org/name"}, "open_clip/x")
    assert "tokenizer.json of org/name into the Hugging Face cache" in caught.value.hint
    with pytest.raises(ConfigError, match="unsupported settings"):
        build_tokenizer({"tokenizer_kwargs": {"reduction_mask": "random"}}, "open_clip/x")
    with pytest.raises(BadData, match="cannot be read"):
        build_tokenizer({"hf_tokenizer_name": str(tmp_path)}, "open_clip/x")


TOWERS = {
    "plain": {},
    "quick-gelu": {"quick_gelu": True},
    "last-token": {"text_cfg": {"pool_type": "last", "no_causal_mask": True}, "init_logit_bias": -10.0},
    "custom-text": {"custom_text": True},
}


@pytest.mark.parametrize("kind", TOWERS)
def test_text_towers_equal_open_clip(tiny_clip, simple, kind):
    name, network = tiny_clip(kind, TOWERS[kind])
    tower, json_text = text_tower(name)
    tokens, lengths = (torch.from_numpy(a) for a in pad(Tokenizer.from_json(json_text).encode(SENTENCES)))
    with torch.inference_mode():
        expected = network.encode_text(simple(SENTENCES, context_length=network.context_length))
        torch.testing.assert_close(tower(tokens, lengths), expected, atol=1e-5, rtol=1e-5)
        tokens[torch.arange(tokens.shape[1])[None, :] >= lengths[:, None]] = 17  # padding
        torch.testing.assert_close(tower(tokens, lengths), expected, atol=1e-5, rtol=1e-5)
    weights = network.state_dict()
    assert tower.logit_scale == weights["logit_scale"]
    assert tower.logit_bias == weights.get("logit_bias")


def test_image_towers_equal_open_clip(tiny_clip):
    name, network = tiny_clip("vision")
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    with torch.inference_mode():
        expected = network.encode_image((pixels / 255 - mean) / std)
    torch.testing.assert_close(build_backbone(name).encode(pixels), expected, atol=1e-5, rtol=1e-5)
    tower, meta = build_network(name)
    torch.testing.assert_close(tower(pixels), expected, atol=1e-5, rtol=1e-5)
    assert (meta, tower.network) and meta == build_backbone(name).meta == read_matcher_meta(name)[0]


def test_towers_can_be_trained(tiny_clip):
    name, _ = tiny_clip("trained")
    tower, meta = build_network(name)
    text, _ = text_tower(name)
    before = [parameter.detach().clone() for parameter in tower.parameters()]
    optimizer = torch.optim.SGD([*tower.parameters(), *text.parameters()], lr=0.1)
    side = meta.preprocessing["side"]
    images = tower(torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8))
    texts = text(torch.tensor([[49406, 5, 49407], [49406, 49407, 0]]), torch.tensor([3, 2]))
    (images * texts).sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())
    assert text.text.token_embedding.weight.grad.abs().sum() > 0
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, tower.parameters(), strict=True))
    restored, _ = build_network(name)
    restored.load_state_dict(tower.state_dict())  # the state dict contains the trained weights


@pytest.mark.parametrize("kind", ["global", "grid"])
def test_networks_of_other_families_equal_their_backbone(kind):
    tower, meta = build_network("efficientnet-lite2", kind)
    backbone = build_backbone("efficientnet-lite2", kind)
    pixels = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    features = tower(pixels)
    torch.testing.assert_close(features.detach(), backbone.encode(pixels))
    features.sum().backward()
    assert meta == backbone.meta
    assert all(p.grad is not None for p in tower.parameters())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in tower.modules())


def test_wrong_and_missing_weights_raise(tiny_clip, tmp_path):
    name, _ = tiny_clip("wrong")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(BadData, match=r"other\.pt"):
        text_tower(f"{name.partition('@')[0]}@{tmp_path / 'other.pt'}")
    with pytest.raises(MissingData, match=r"nowhere\.pt"):
        text_tower(f"{name.partition('@')[0]}@nowhere.pt")


def test_the_hint_without_network_names_the_file(offline):
    with pytest.raises(DownloadError, match="cannot be reached") as caught:
        text_tower("open_clip/ViT-B-32/laion2b_s34b_b79k")
    assert "open_clip_model.safetensors" in caught.value.hint and "@FILE" in caught.value.hint

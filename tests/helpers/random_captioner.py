"""A captioner file in the format of training, with random weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from xmodal_cli.config import load_config, to_dict
from xmodal_cli.models.assembly import build_captioner
from xmodal_cli.models.model_file import ModelHeader, write_model
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.types import FeatureMeta

WORDS = "a red green blue white dog cat runs sits on the grass near two"


def write_captioner(
    file: Path, meta: FeatureMeta, name: str = "transformer", seed: int = 0, words: str = WORDS
) -> Path:
    """A captioner with random weights, large enough that different photos get different captions."""
    tokenizer = Tokenizer.from_captions([words])
    architecture = {
        "name": name,
        "args": {},
        "embed_dim": 32,
        "image_dim": meta.dim,
        "image_kind": meta.kind,
        "vocab_size": tokenizer.vocab_size,
    }
    torch.manual_seed(seed)
    model = build_captioner(architecture)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    settings = ["decoding.max_length=8", "decoding.beam=3", "decoding.length_penalty=1", "captioning.tag_prob=0.5"]
    config = to_dict(load_config(name, settings))
    header = ModelHeader("captioner", architecture, tokenizer.to_json(), asdict(meta), "", config, {"name": "shapes"})
    write_model(file, header, model.state_dict())
    return file

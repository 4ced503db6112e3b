"""Small taggers: one trained on the planted words, and files with random weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from xmodal_cli.config import load_config, to_dict
from xmodal_cli.models.assembly import build_tagger
from xmodal_cli.models.model_file import ModelHeader, write_model
from xmodal_cli.types import FeatureMeta

SMALL_TAGGER = (
    "features.kind=global",
    "model.embed_dim=32",
    "model.args.dropout=0.1",
    "tagging.min_images=5",
    "training.epochs=8",
    "training.batch_size=16",
    "training.patience=0",
    "training.precision=fp32",
    "training.device=cpu",
    "training.tensorboard=false",
    "optimizer.lr=0.01",
)


def write_tagger(file: Path, meta: FeatureMeta, tags: tuple[str, ...], seed: int = 0) -> Path:
    """A tagger with random weights, large enough that different photos get different tags."""
    sizes = {"image_dim": meta.dim, "image_kind": meta.kind, "vocab_size": len(tags), "embed_dim": 16}
    architecture = {"name": "pooled-mlp", "args": {}, "tags": list(tags), **sizes}
    torch.manual_seed(seed)
    model = build_tagger(architecture)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    config = to_dict(load_config("tagger"))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_model(file, ModelHeader("tagger", architecture, "{}", asdict(meta), "", config, {}), model.state_dict())
    return file


@pytest.fixture(scope="session")
def trained_tagger(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``tagger`` on the planted data. Read-only."""
    from xmodal_cli.recipes.train import train_model

    run = tmp_path_factory.mktemp("runs") / "toy-tagger"
    train_model(load_config("tagger", SMALL_TAGGER), str(planted), run)
    return run

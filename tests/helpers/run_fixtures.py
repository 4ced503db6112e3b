"""A small learnable dataset in the VSE format, and settings that train on it in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from helpers.planted_words import FORMS, SIZES, THINGS

SMALL = (
    "model.embed_dim=32",
    "model.text_encoder=bow",
    "model.text_encoder.args={word_dim=24, dropout=0.1}",
    "training.epochs=4",
    "training.batch_size=32",
    "training.log_every=1",
    "training.tensorboard=false",
    "training.precision=fp32",
    "optimizer.lr=0.01",
)


def write_planted(folder: Path, dim: int = 20, seed: int = 0, sizes: Mapping[str, int] = SIZES) -> Path:
    """Image features that are the sum of the vectors of two things, with three captions per image that name both."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(THINGS), dim))
    for split, size in sizes.items():
        features, captions = [], []
        for _ in range(size):
            pair = rng.choice(len(THINGS), 2, replace=False)
            features.append(vectors[pair].sum(0) + 0.1 * rng.normal(size=dim))
            captions += [form.format(*(THINGS[i] for i in rng.permutation(pair))) for form in FORMS]
        np.save(folder / f"toy_{split}_ims.npy", np.array(features, np.float32))
        (folder / f"toy_{split}_caps.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the dataset."""
    return write_planted(tmp_path_factory.mktemp("planted") / "toy")


@pytest.fixture(scope="session")
def small_settings() -> list[str]:
    """``--set`` options for a training run of a few seconds."""
    return [part for setting in SMALL for part in ("--set", setting)]


@pytest.fixture(scope="session")
def trained(planted: Path, small_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``vse`` on the planted data. Read-only."""
    from xmodal_cli.config import load_config
    from xmodal_cli.recipes.train import train_model

    run = tmp_path_factory.mktemp("runs") / "toy-run"
    train_model(load_config("vse", [*SMALL, "training.device=cpu"]), str(planted), run)
    return run

"""Captions in batches: the same where a batch does not fit in memory, with prompts of different lengths."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from xmodal_cli.batch_size import BatchSizeWarning
from xmodal_cli.device import Compute
from xmodal_cli.inference import captioners
from xmodal_cli.inference.captioners import LoadedCaptioner, caption_features, write_captions
from xmodal_cli.types import Decoding, Hypothesis

CPU = Compute("cpu", "fp32", "torch")
WORDS = SimpleNamespace(special_tokens=None, decode=lambda tokens: " ".join(map(str, tokens)))
PROMPTS = [(5,), (6,), (7,), (), (), (8, 9), (8, 10)]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The most images that fit in memory; a caption is the first feature of its image, its prompt and its index."""
    most = SimpleNamespace(images=10**9)

    def decode(model: Any, features: Any, _: Any, settings: Any, prompt: Any, attention: Any = False, first: int = 0):
        if len(features) > most.images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [
            [Hypothesis((int(row[0]), *map(int, given), first + n), 0.0, 0.0, True)]
            for n, (row, given) in enumerate(zip(features, prompt, strict=True))
        ]

    monkeypatch.setattr(captioners, "decode", decode)
    return most


def test_captions_in_halved_batches(limit: Any) -> None:
    architecture = {"vocab_size": 9, "embed_dim": 2}
    info: Any = SimpleNamespace(header=SimpleNamespace(architecture=architecture, tokenizer=""))
    loaded = LoadedCaptioner(info, CPU, SimpleNamespace(), WORDS)  # type: ignore[arg-type]
    features = np.arange(100, 107, dtype=np.float32)[:, None]
    expected = [f"{100 + n} {' '.join(map(str, (*prompt, 50 + n)))}" for n, prompt in enumerate(PROMPTS)]
    assert [
        n_best[0].text for n_best in caption_features([loaded], [features], Decoding(), PROMPTS, first=50)
    ] == expected
    limit.images = 2
    with pytest.warns(BatchSizeWarning, match="3 images at once do not fit in memory; continuing with 1"):
        halved = caption_features([loaded], [features], Decoding(), PROMPTS, first=50)
    assert [n_best[0].text for n_best in halved] == expected
    caption_features([loaded], [features], Decoding(), PROMPTS)  # without the warning: the size is kept


def test_captions_of_evaluations_in_halved_batches(limit: Any) -> None:
    batches = [torch.arange(100.0, 103)[:, None], torch.arange(103.0, 107)[:, None]]
    captions = write_captions(SimpleNamespace(), WORDS, iter(batches), Decoding(), CPU, PROMPTS)  # type: ignore[arg-type]
    limit.images = 1
    with pytest.warns(BatchSizeWarning):
        halved = write_captions(SimpleNamespace(), WORDS, iter(batches), Decoding(), CPU, PROMPTS)  # type: ignore[arg-type]
    strip = [caption.rsplit(" ", 1)[0] for caption in captions]  # without the index in the batch
    assert [caption.rsplit(" ", 1)[0] for caption in halved] == strip
    assert strip == [" ".join(map(str, (100 + n, *prompt))) for n, prompt in enumerate(PROMPTS)]

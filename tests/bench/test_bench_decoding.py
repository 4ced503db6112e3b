"""Beam search over a batch against one image after another, with the same captioner and the same captions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xmodal_cli import catalog
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.types import Captioner, Decoding, Marks

MARKS = Marks(2, 3, (0, 1, 2))
SETTINGS = Decoding(beam=5)
BATCH, ROUNDS, RATIO = 32, 5, 8.0
SIZES = {"image_dim": 1280, "image_kind": "grid", "vocab_size": 2_990, "embed_dim": 512}
NUM_CELLS = 81

pytestmark = [pytest.mark.bench, pytest.mark.slow]


def plain_beam(captioner: Captioner, image: Tensor, marks: Marks, settings: Decoding) -> tuple[int, ...]:
    """One image, (1, cells, dim): its rows go through the captioner together, all else is lists."""
    state: Any = captioner.start(image)
    live: list[tuple[list[int], float]] = [([], 0.0)]
    finished: list[tuple[float, list[int]]] = []
    tokens = torch.full((1, 1), marks.start, device=image.device)
    for length in range(settings.max_length + 1):
        log_probs, state = captioner.step(state, tokens)
        scores = log_probs[0] + torch.tensor([total for _, total in live], device=image.device)[:, None]
        scores[:, list(marks.never)] = -torch.inf
        if length < settings.min_length:
            scores[:, marks.end] = -torch.inf
        values, places = scores.flatten().topk(2 * settings.beam)
        options = [
            (v, p // scores.shape[1], p % scores.shape[1])
            for v, p in zip(values.tolist(), places.tolist(), strict=True)
        ]
        ends = [(value, row) for value, row, token in options[: settings.beam] if token == marks.end]
        finished += [(value / (length + 1), live[row][0]) for value, row in ends]
        if length == settings.max_length:
            ended = {row for _, row in ends}
            finished += [(t / length, words) for row, (words, t) in enumerate(live) if row not in ended]
            break
        onward = [option for option in options if option[2] != marks.end][: settings.beam]
        if finished and max(finished)[0] >= onward[0][0] / (settings.max_length + 1):
            break
        live = [([*live[row][0], token], value) for value, row, token in onward]
        state = state.select(torch.tensor([[row for _, row, _ in onward]], device=image.device))
        tokens = torch.tensor([[token for _, _, token in onward]], device=image.device)
    return tuple(max(finished)[1])


@pytest.mark.parametrize("name", ["show-attend-tell", "transformer"])
def test_a_batch_at_once_against_image_by_image(name, report, seconds, device):
    torch.manual_seed(0)
    model = catalog.build("captioner", name, {}, **SIZES).eval().to(device)
    for parameter in model.parameters():
        parameter.data *= 1.5  # as they come, all words are much alike
    images = torch.randn(BATCH, NUM_CELLS, SIZES["image_dim"], device=device)
    ours: list[tuple[int, ...]] = []
    theirs: list[tuple[int, ...]] = []

    def batched() -> None:
        ours[:] = [captions[0].tokens for captions in decode(model, images, MARKS, SETTINGS)]

    @torch.no_grad()
    def one_by_one() -> None:
        theirs[:] = [plain_beam(model, image[None], MARKS, SETTINGS) for image in images]

    times = np.array([(seconds(batched), seconds(one_by_one)) for _ in range(ROUNDS)])
    fast, slow = np.median(times, axis=0) / BATCH
    words = np.mean([len(tokens) for tokens in ours])
    report(
        f"beam 5, {name}", f"{1 / fast:.0f} images/s, plain {1 / slow:.1f}: {slow / fast:.1f} times; {words:.0f} words"
    )
    assert ours == theirs
    assert slow / fast >= RATIO

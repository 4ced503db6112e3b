"""Training throughput of a GRU matcher from features in memory, against the peer and against plain arithmetic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bench_device import DEVICE, synchronize
from helpers.bench_peer import CaptionRows, Peer, PeerTraining

from xmodal_cli import catalog
from xmodal_cli.config import TrainingConfig, load_config
from xmodal_cli.device import Compute
from xmodal_cli.models.assembly import Sizes, build_matcher, describe
from xmodal_cli.models.token_batches import padded
from xmodal_cli.models.tokenizer import pad
from xmodal_cli.reporter import SILENT
from xmodal_cli.training.batches import Batch, BatchPlan, CaptionBatches
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.log import RunLog
from xmodal_cli.training.loop import fit
from xmodal_cli.training.optimizer import build_optimizer
from xmodal_cli.training.step import TrainStep
from xmodal_cli.training.task import Task

NUM_IMAGES, IMAGE_DIM, VOCAB, WORD_DIM, EMBED_DIM, BATCH = 6000, 1280, 7400, 300, 1024, 128
ROUNDS = 3
STEPS = 60 if DEVICE == "cuda" else 6
TIMES_FASTER = 5.0 if DEVICE == "cuda" else 1.5
TIMES_FASTER_FP32 = 1.0  # of a CPU without bfloat16, where the matrix products alone allow 1.4

pytestmark = [pytest.mark.bench, pytest.mark.slow]


class Data:
    """Features, and captions as long as those of Flickr8k: 10.8 words on average, with BOS and EOS."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.features = rng.standard_normal((NUM_IMAGES, IMAGE_DIM), dtype=np.float32)
        self.owner = np.repeat(np.arange(NUM_IMAGES), 5)
        lengths = np.clip(np.rint(rng.normal(10.8, 3.8, len(self.owner))), 2, 36).astype(int) + 2
        words = np.minimum(rng.zipf(1.3, (len(self.owner), 38)) + 3, VOCAB - 1)
        self.captions = [row[:length] for row, length in zip(words, lengths, strict=True)]


class Timed:
    """types of a loop's batches: some to warm up, then ``STEPS`` that are timed and counted."""

    def __init__(self, batches: CaptionBatches) -> None:
        self.batches = batches
        self.seconds = self.captions = self.tokens = self.cells = 0.0

    def __len__(self) -> int:
        return STEPS + 2

    def epoch(self, number: int) -> Iterator[Batch]:
        self.captions = self.tokens = self.cells = 0.0
        started = 0.0
        for position, batch in zip(range(len(self)), self.batches.epoch(number), strict=False):
            if position == 2:
                synchronize()
                started = time.perf_counter()
            yield batch
            if position >= 2:
                self.captions += len(batch.lengths)
                self.tokens += int(batch.lengths.sum())
                self.cells += batch.tokens.numel()
        synchronize()
        self.seconds = time.perf_counter() - started


class Ours:
    """The parts that ``xmodal train`` puts together, with nothing to evaluate and nothing to save."""

    def __init__(self, data: Data, preset: str, precision: str, folder: Path) -> None:
        config = load_config(preset)
        self.model = build_matcher(describe(config.model, Sizes(IMAGE_DIM, "global", VOCAB))).to(DEVICE)
        self.optimizer = build_optimizer(self.model.parameters(), "adam", 2e-4, 0.0)
        tokens, lengths = (torch.from_numpy(a) for a in pad([c.tolist() for c in data.captions]))
        features, owner = torch.from_numpy(data.features).half(), torch.from_numpy(data.owner)
        plan = BatchPlan(lengths, owner, BATCH, 0)
        self.batches = Timed(CaptionBatches(features.to(DEVICE), padded(tokens.to(DEVICE)), plan))
        self.compute = Compute(DEVICE, precision).resolve()
        self.dtype = self.compute.dtype
        self.loss = catalog.build("loss", config.loss.name, config.loss.args)
        self.state, self.folder = LoopState(), folder

    def round(self) -> float:
        """Captions per second of one round."""
        config = TrainingConfig(epochs=self.state.epoch + 1)
        task = Task(self.model, self.batches, self._batch_loss, lambda: {"score": 0.0}, "score", lambda metrics: None)
        train_step = TrainStep(task, self.optimizer, lambda step: 1.0, 2.0, self.compute)
        with RunLog(self.folder, tensorboard=False) as log:
            fit(train_step, config, self.state, self.folder, SILENT, log)
        return self.batches.captions / self.batches.seconds

    def _batch_loss(self, batch: Batch) -> torch.Tensor:
        model: Any = self.model
        images = model.encode_image(batch.image_features)
        texts = model.encode_text(batch.tokens, batch.lengths)
        with self.compute.autocast(enabled=False):
            return self.loss(model.similarity(images, texts), batch.positives)


def floor_seconds(tokens: float, captions: float, dtype: torch.dtype, seconds) -> float:
    """The products of a step forward and back, for its real tokens, at the rate that each reaches alone."""
    hidden, gates = EMBED_DIM, 3 * EMBED_DIM
    steps = round(tokens / captions)  # BATCH rows at a time
    total = 0.0
    for rows, inner, columns, times in [
        (BATCH, hidden, gates, steps),  # recurrence forward: needs the step before
        (BATCH, gates, hidden, steps),  # and back
        (gates, BATCH * steps, hidden, 1),  # the gradient of its weights
        (BATCH * steps, WORD_DIM, gates, 1),  # words to gates
        (BATCH * steps, gates, WORD_DIM, 1),  # and back
        (gates, BATCH * steps, WORD_DIM, 1),
        (BATCH, IMAGE_DIM, hidden, 1),  # images
        (hidden, BATCH, IMAGE_DIM, 1),
        (BATCH, hidden, BATCH, 3),  # similarity, there and back
    ]:
        a = torch.randn(rows, inner, device=DEVICE).to(dtype)
        b = torch.randn(columns, inner, device=DEVICE).to(dtype).T
        _ = a @ b
        total += times * float(np.median([seconds(lambda a=a, b=b: a @ b) for _ in range(5)]))
    return total * captions / BATCH


@pytest.fixture(scope="module")
def data() -> Data:
    return Data()


@pytest.mark.parametrize("preset", ["vse", "vsepp"])
def test_training_is_quicker_than_the_published_loop(preset, data, report, seconds, tmp_path):
    torch.manual_seed(0)
    rows = CaptionRows(data.features, data.captions, data.owner)
    model = Peer(IMAGE_DIM, VOCAB, WORD_DIM, EMBED_DIM)
    peer = PeerTraining(rows, model, BATCH, DEVICE, workers=10 if DEVICE == "cuda" else 0)
    ours, plain = Ours(data, preset, "auto", tmp_path / "auto"), Ours(data, preset, "fp32", tmp_path / "fp32")
    hardest = preset == "vsepp"
    peer.steps(2, hardest)
    speeds: dict[str, list[float]] = {"ours": [], "fp32": [], "peer": []}
    floors: dict[torch.dtype, list[float]] = {ours.dtype: [], torch.float32: []}
    for _ in range(ROUNDS):
        speeds["ours"].append(ours.round())
        speeds["peer"].append(STEPS * BATCH / seconds(lambda: peer.steps(STEPS, hardest)))
        speeds["fp32"].append(plain.round())
        for dtype, taken in floors.items():
            taken.append(
                ours.batches.captions / floor_seconds(ours.batches.tokens, ours.batches.captions, dtype, seconds)
            )
    assert np.isfinite(peer.losses).all()
    speed = {name: float(np.median(values)) for name, values in speeds.items()}
    padding = 100 * (1 - ours.batches.tokens / ours.batches.cells)
    name = str(ours.dtype).removeprefix("torch.")
    report(f"training, {preset}, the published loop", f"{speed['peer']:.0f} captions/s")
    report(f"training, {preset}, fp32", f"{speed['fp32']:.0f} captions/s: {speed['fp32'] / speed['peer']:.2f} times")
    report(
        f"training, {preset}, {name} (auto)",
        f"{speed['ours']:.0f} captions/s: {speed['ours'] / speed['peer']:.2f} times; {padding:.0f} % of it padding",
    )
    for dtype, values in floors.items():
        most, kind = float(np.median(values)), "ours" if dtype == ours.dtype else "fp32"
        report(
            f"floor, {str(dtype).removeprefix('torch.')}: its matrix products alone",
            f"{most:.0f} captions/s; training reaches {100 * speed[kind] / most:.0f} %",
        )
    needed = TIMES_FASTER_FP32 if ours.dtype == torch.float32 else TIMES_FASTER
    assert float(np.median(np.divide(speeds["ours"], speeds["peer"]))) >= needed

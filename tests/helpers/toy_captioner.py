"""A captioner that names the colors of the left and right half of an image, and its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.config import Config
from xmodal_cli.config.sections import CaptioningConfig
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadModel
from xmodal_cli.inference import caption_checks, caption_runtime, image_captioning, runtime
from xmodal_cli.inference.caption_types import Caption
from xmodal_cli.regions import REGION_COLUMNS
from xmodal_cli.types import Decoding, FeatureMeta

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def paint(file: Path, left: str, right: str | None = None, size: tuple[int, int] = (40, 20)) -> Path:
    """Write an image with one color per half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, COLORS[left])
    image.paste(COLORS[right or left], (size[0] // 2, 0, *size))
    image.save(file)
    return file


class HalvesBackbone:
    """The mean colors of the four quarters, (images, 4, 3)."""

    weights_file = None

    def __init__(self, name: str = "halves", crops: int = 1, kind: str = "grid") -> None:
        """``kind`` regions: the quarters as boxes, and a row of padding; (images, 5, 10)."""
        self.preprocessing = Preprocessing(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), crops)
        dim = 3 if kind == "grid" else 3 + len(REGION_COLUMNS)
        self.meta = FeatureMeta(name, "0" * 64, kind, dim, self.preprocessing.facts(), crops)
        self.batches: list[int] = []

    def preprocess(self, image: Any) -> torch.Tensor:
        return self.preprocessing.pixels(image)

    def to(self, compute: Compute) -> None:
        pass

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(pixels))
        halves = torch.nn.functional.adaptive_avg_pool2d(pixels.float() / 255, 2)
        cells = halves.flatten(2).transpose(1, 2)
        return cells if self.meta.kind == "grid" else self._regions(cells)

    def _regions(self, cells: torch.Tensor) -> torch.Tensor:
        corners = torch.tensor([[x, y, x + 0.5, y + 0.5] for y in (0, 0.5) for x in (0, 0.5)])
        rest = torch.tensor([0.25, 0.9, 1.0]).expand(4, -1)  # area, score, class
        rows = torch.cat((cells, torch.cat((corners, rest), 1).expand(len(cells), -1, -1)), dim=2)
        return torch.nn.functional.pad(rows, (0, 0, 0, 1))


@dataclass
class ToyInfo:
    """The fields of a ModelInfo that the command uses."""

    name: str
    meta: FeatureMeta
    config: Config
    header: Any = field(default_factory=lambda: SimpleNamespace(architecture={}, features_from=None))


@dataclass
class ToyCaptioner:
    """The fields of a LoadedCaptioner that the command uses."""

    info: ToyInfo
    compute: Compute = Compute("cpu", "fp32")
    tokenizer: Any = None
    attends: bool = True

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def meta(self) -> FeatureMeta:
        return self.info.meta


@dataclass
class Toy:
    """Records the calls (number of models, settings, prompt, attention); has options for the next one."""

    backbones: dict[str, HalvesBackbone] = field(default_factory=dict)
    calls: list[tuple[int, Decoding, tuple[int, ...], bool]] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    first_indices: list[int] = field(default_factory=list)
    decoding: Decoding = Decoding()
    crops: int = 1
    kind: str = "grid"
    attends: bool = True
    stop_after: int = 10**9


def install(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Make every model name a toy captioner, except ``matcher``; ``other...`` uses another backbone."""
    toy = Toy()

    def describe(kind: str, what: str, hint: str) -> ToyInfo:
        if what == "matcher":
            raise BadModel("matcher is a matcher, not a captioner", hint)
        backbone = "other" if what.startswith("other") else "halves"
        toy.backbones.setdefault(backbone, HalvesBackbone(backbone, toy.crops, toy.kind))
        return ToyInfo(
            what, toy.backbones[backbone].meta, Config(decoding=toy.decoding, captioning=CaptioningConfig(tag_prob=0.5))
        )

    def load(info: ToyInfo, compute: Compute) -> ToyCaptioner:
        return ToyCaptioner(info, attends=toy.attends)

    def generate(
        loaded: Sequence[ToyCaptioner],
        features: Sequence[np.ndarray],
        settings: Decoding,
        prompts: Sequence[Sequence[int]] = (),
        attention: bool = False,
        first: int = 0,
    ) -> list[list[Caption]]:
        assert len(features) == len(loaded)
        assert len({len(rows) for rows in features}) == 1
        if len(toy.batch_sizes) >= toy.stop_after:
            raise KeyboardInterrupt
        toy.calls.append((len(loaded), settings, tuple(token for prompt in prompts for token in prompt), attention))
        toy.batch_sizes.append(len(features[0]))
        toy.first_indices.append(first)
        return [_captions(halves, settings.num, attention and loaded[0].attends) for halves in features[0]]

    monkeypatch.setattr(caption_runtime, "load_captioner", load)
    monkeypatch.setattr(runtime, "choose_runtime", lambda compute, num_images: "torch")
    monkeypatch.setattr(image_captioning, "caption_features", generate)
    monkeypatch.setattr(caption_checks, "describe_as", describe)
    monkeypatch.setattr(caption_checks, "check_ensemble", lambda captioners: None)
    monkeypatch.setattr(caption_checks, "read_tokenizer", lambda info: None)
    monkeypatch.setattr(image_captioning, "open_backbone", lambda model: toy.backbones[model.meta.backbone])
    monkeypatch.setattr(caption_checks, "default_model", lambda kind: "/runs/toy")
    return toy


def _captions(cells: np.ndarray, num: int, attention: bool) -> list[Caption]:
    """(views * 4, 3) -> ``left and right``, and ``num - 1`` worse captions."""
    left, right = (_nearest_color(cells[index, :3]) for index in (0, 1))
    words = [left, "and", right]
    maps = np.zeros((3, len(cells)), np.float32)
    maps[0, 0], maps[1], maps[2, 1] = 1, 1 / len(cells), 1
    best = [Caption(" ".join(words), -0.25, words, maps if attention else None)]
    return best + [Caption(f"worse {n}", -0.25 - n, ["worse", str(n)], None) for n in range(1, num)]


def _nearest_color(color: np.ndarray) -> str:
    return min(COLORS, key=lambda name: float(np.abs(np.array(COLORS[name]) / 255 - color).sum()))

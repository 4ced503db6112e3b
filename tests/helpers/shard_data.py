"""The same pairs of photos and captions as files in folders and as members of tar shards, and a small image network."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = ("red", "green", "blue", "white")
NUM = {"train": 16, "val": 4}
PER_SHARD = 4


def pairs(split: str) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of a PNG and of its two captions, one after the other."""
    for n in range(NUM[split]):
        color = np.array([(200, 20, 20), (20, 200, 20), (20, 20, 200), (220, 220, 220)][n % 4], np.uint8)
        pixels = np.tile(color, (20 + n, 24, 1))
        pixels[: n % 9 + 2, : n % 5 + 2] = 100
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        yield f"{n:04d}.png", content.getvalue()
        captions = (f"a {COLORS[n % 4]} photo", f"number {n % 9} is {COLORS[n % 4]}" + " very" * (n % 3))
        yield f"{n:04d}.txt", "\n".join(captions).encode()


def write_folders(root: Path) -> Path:
    """``root/train`` and ``root/val`` with the files."""
    for split in NUM:
        (root / split).mkdir(parents=True)
        for name, content in pairs(split):
            (root / split / name).write_bytes(content)
    return root


def write_shards(root: Path) -> Path:
    """``root/train-000.tar`` and so on, with up to ``PER_SHARD`` images each."""
    root.mkdir(parents=True)
    for split in NUM:
        for n, (name, content) in enumerate(pairs(split)):
            add_member(root / f"{split}-{n // 2 // PER_SHARD:03d}.tar", name, content)
    return root


def add_member(archive: Path, name: str, content: bytes) -> None:
    """Append a member to an archive, which may not exist."""
    with tarfile.open(archive, "a") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def small_backbone(folder: Path) -> str:
    """The name of a small random network of timm, whose weights are in ``folder``."""
    import timm
    import torch

    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), folder / "weights.pth")
    return f"timm/test_vit@{folder / 'weights.pth'}"

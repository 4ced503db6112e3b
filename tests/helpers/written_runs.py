"""Folders of training runs, as ``xmodal train`` writes them."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = (
    'preset = "vse"\n[data]\nname = "f8k"\n[training]\nepochs = 4\npatience = {patience}\n[loss]\nname = "triplet"\n'
)


def write_run(folder: Path, epochs: int, best_epoch: int = 0, patience: int = 0) -> Path:
    """A run after ``epochs`` epochs, which has ended if ``best_epoch`` is given."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG.format(patience=patience), encoding="utf-8")
    records = []
    for epoch in range(1, epochs + 1):
        records.append({"event": "step", "step": epoch * 10, "epoch": epoch, "loss": 2.0 / epoch})
        records.append({"event": "eval", "step": epoch * 10, "epoch": epoch, "rsum": 100.0 + epoch})
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    if best_epoch:
        best = {"epoch": best_epoch, "rsum": 100.0 + best_epoch}
        history = [{"epoch": epoch, "rsum": 100.0 + epoch} for epoch in range(1, epochs + 1)]
        metrics = {"preset": "vse", "epochs": epochs, "best_epoch": best_epoch, "best": best, "history": history}
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder

"""Valid settings, run configurations, logs and dataset registries, and their readers."""

from __future__ import annotations

import json
from pathlib import Path

import tomli_w

from helpers.damage import Kind
from xmodal_cli.config import load_config, to_toml
from xmodal_cli.data import registry
from xmodal_cli.inference.defaults import default_models
from xmodal_cli.paths import config_file
from xmodal_cli.trainers.resume import check_folder
from xmodal_cli.training.log import rewind_log


def make_config(folder: Path) -> Path:
    config_file().write_text(tomli_w.dumps({"defaults": {"matcher": "starter"}}))
    return config_file()


def make_run_config(folder: Path) -> Path:
    (folder / "model.safetensors").touch()  # without a model the run is started again
    (folder / "config.toml").write_text(to_toml(load_config("vse")))
    return folder / "config.toml"


def make_registry(folder: Path) -> Path:
    (folder / "a.jsonl").write_text('{"image": "a.png", "captions": ["x"], "split": "train"}\n')
    registry.add("mine", folder / "a.jsonl", "jsonl")
    return registry.data_dir() / "registry.json"


def read_registry(file: Path) -> None:
    registry.list_registered()
    if file.is_file() and "mine" in registry.list_registered():
        registry.load_dataset("mine")


def make_log(folder: Path) -> Path:
    lines = [
        {"event": "step", "step": 1, "epoch": 1, "loss": 0.5},
        {"event": "eval", "step": 2, "epoch": 1, "rsum": 1.0},
    ]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder / "log.jsonl"


KINDS = {
    "config": Kind(make_config, lambda _: default_models()),
    "run-config": Kind(make_run_config, lambda file: check_folder(file.parent, load_config("vse"), True)),
    "preset": Kind(make_run_config, lambda file: load_config(str(file))),
    "registry": Kind(make_registry, read_registry, "the dataset mine is no longer at"),
    "log": Kind(make_log, lambda file: rewind_log(file.parent, 1)),
}

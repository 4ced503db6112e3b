"""Training from the pixels of tar shards: the runs are those on files in folders, resumed ones and of two processes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers.process_runs import Run, largest_difference, train_by
from helpers.shard_data import NUM, PER_SHARD, small_backbone, write_folders, write_shards
from safetensors.torch import load_file

from xmodal_cli.config import load_config
from xmodal_cli.data import tar
from xmodal_cli.losses.triplet import Triplet
from xmodal_cli.recipes.train import train_model
from xmodal_cli.reporter import SILENT
from xmodal_cli.trainers.job import Job, build_batches
from xmodal_cli.trainers.preparation import prepare
from xmodal_cli.training.distributed import ProcessGroup

SETTINGS = (
    *("training.device=cpu", "training.precision=fp32", "training.tensorboard=false", "training.batch_size=8"),
    *("optimizer.image_tower_lr_scale=0.1", "features.kind=global", "model.embed_dim=16", "training.epochs=2"),
    *("model.text_encoder=bow", "model.text_encoder.args={word_dim=8}", "augmentation.jitter=0.1"),
)
ORDERS = ("training.shuffle_window=0", "training.shuffle_window=8")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    monkeypatch.setattr("xmodal_cli.recipes.train.draw_curves", lambda run: None)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return small_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folders ``folders/pairs`` and ``shards/pairs``: of one name, which is part of a model."""
    root = tmp_path_factory.mktemp("data")
    write_folders(root / "folders" / "pairs")
    write_shards(root / "shards" / "pairs")
    return root


def settings_of(backbone: str, *more: str) -> list[str]:
    return [*SETTINGS, f"features.backbone={backbone}", *more]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "state.safetensors")


def equal_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope="module")
def runs(data, backbone, tmp_path_factory):
    """The runs ``shards-0`` and ``shards-1`` in both orders. Read-only."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xmodal_cli.recipes.train.draw_curves", lambda run: None)
        for n, order in enumerate(ORDERS):
            config = load_config("vse", settings_of(backbone, order))
            train_model(config, str(data / "shards" / "pairs"), folder / f"shards-{n}")
    return folder


@pytest.mark.parametrize("n", range(len(ORDERS)))
def test_a_run_on_shards_is_the_run_on_the_same_files_in_folders(data, backbone, runs, tmp_path, n):
    config = load_config("vse", settings_of(backbone, ORDERS[n]))
    train_model(config, str(data / "folders" / "pairs"), tmp_path / "run")
    assert equal_weights(tmp_path / "run", runs / f"shards-{n}")
    first, second = ((run / "metrics.json").read_text() for run in (tmp_path / "run", runs / f"shards-{n}"))
    assert first == second


def test_the_window_changes_the_order(runs):
    assert not equal_weights(runs / "shards-0", runs / "shards-1")


@pytest.mark.parametrize("n", range(len(ORDERS)))
def test_a_resumed_run_is_the_whole_run_byte_for_byte(data, backbone, runs, tmp_path, n, monkeypatch):
    config, shards = load_config("vse", settings_of(backbone, ORDERS[n])), str(data / "shards" / "pairs")
    count, forward = 0, Triplet.__call__

    def interrupted(self, *args):
        nonlocal count
        count += 1
        if count == 6:  # of 4 steps per epoch
            raise KeyboardInterrupt
        return forward(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Triplet, "__call__", interrupted)
        assert train_model(config, shards, tmp_path / "parts").interrupted
    train_model(config, shards, tmp_path / "parts", resume=True)
    for name in ("metrics.json", "model.safetensors", "last/state.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (runs / f"shards-{n}" / name).read_bytes(), name


# ---------------------------------------------------------------------------- several processes


def job_of(data: Path, backbone: str, folder: Path, group: ProcessGroup, *more: str) -> Job:
    config = load_config("vse", settings_of(backbone, *more))
    return prepare(config, str(data / "shards" / "pairs"), folder, None, SILENT, group=group)


@pytest.mark.parametrize("order", ORDERS)
def test_the_images_of_a_batch_are_divided_among_the_processes(data, backbone, tmp_path, order):
    one, *two = (
        list(build_batches(job_of(data, backbone, tmp_path, group, order)).epoch(1))
        for group in (ProcessGroup(), ProcessGroup(0, 2), ProcessGroup(1, 2))
    )
    trained: list[int] = []
    for whole, first, second in zip(one, *two, strict=True):
        assert torch.equal(torch.cat((first.image_features, second.image_features)), whole.image_features)
        assert torch.equal(torch.cat((first.tokens[:, :3], second.tokens[:, :3])), whole.tokens[:, :3])
        assert abs(len(first.image_features) - len(second.image_features)) <= 1
        trained += whole.captions.tolist()
    assert sorted(trained) == list(range(2 * NUM["train"]))


def test_each_process_reads_its_part_of_the_shards(data, backbone, tmp_path, monkeypatch):
    """The middle ones belong to both."""
    num = -(-NUM["train"] // PER_SHARD)
    for rank, absent in ((0, f"train-{num - 1:03d}.tar"), (1, "train-000.tar")):
        batches = build_batches(job_of(data, backbone, tmp_path, ProcessGroup(rank, 2)))
        opened = set()
        read = tar.read_bytes

        def note(file, member, opened=opened, read=read):
            opened.add(Path(file.name).name)
            return read(file, member)

        with monkeypatch.context() as patch:
            patch.setattr(tar, "read_bytes", note)
            for _ in batches.epoch(0):
                pass
        assert opened and absent not in opened


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="groups of processes are tested on Linux")
def test_gradients_of_two_processes_are_those_of_one(data, backbone, tmp_path):
    adam = ("optimizer.name=adam", "optimizer.weight_decay=0", "optimizer.grad_clip=0", "schedule.name=constant")
    step = ("training.epochs=1", "training.batch_size=100", "model.image_encoder.args.dropout=0")
    text = ("model.text_encoder.args={word_dim=8, dropout=0.0}", "training.shuffle_window=8")
    runs = {"shards": Run("vse", settings_of(backbone, *adam, *step, *text), str(data / "shards" / "pairs"))}
    for num in (1, 2):
        train_by(num, runs, tmp_path)
    assert largest_difference(tmp_path / "1" / "shards", tmp_path / "2" / "shards") < 1e-6


# ---------------------------------------------------------------------------- damaged shards


def test_damaged_members_are_reported_and_left_out(xmodal, data, backbone, tmp_path):
    shards = shutil.copytree(data / "shards" / "pairs", tmp_path / "pairs")
    content = bytearray((shards / "train-001.tar").read_bytes())
    member = tar.index_archive(shards / "train-001.tar").members["0005.png"]
    content[member.offset : member.offset + member.size] = b"x" * member.size
    (shards / "train-001.tar").write_bytes(content)
    cut = shards / "train-003.tar"
    end = tar.index_archive(cut).members["0014.png"].offset + 30
    cut.write_bytes(cut.read_bytes()[:end])
    settings = [part for setting in settings_of(backbone, "training.epochs=1") for part in ("--set", setting)]
    done = xmodal("train", "--model", "vse", "--data", shards, "--out", tmp_path / "run", *settings)
    assert done.code == 0, done.err
    assert "train-003.tar is not a readable tar archive" in done.err
    assert "1 of 14 images cannot be read and are skipped" in done.err and "0005.png" in done.err

"""What is refused in the folder of another run, and that the hints lead out of it."""

from __future__ import annotations

import re
import shlex

import pytest
from helpers.hinted_commands import hinted_commands

from xmodal_cli.config import load_config, to_toml
from xmodal_cli.errors import ConfigError
from xmodal_cli.trainers.resume import check_folder, state_file


@pytest.fixture
def left(tmp_path):
    """Writes the folder of a run with these settings, ``saved`` or failed before its first evaluation."""

    def write(*settings, preset="vse", saved=True):
        (tmp_path / "config.toml").write_text(to_toml(load_config(preset, settings)), encoding="utf-8")
        (tmp_path / "log.jsonl").write_text("", encoding="utf-8")
        if saved:
            (tmp_path / "model.safetensors").write_bytes(b"")
            state_file(tmp_path).parent.mkdir()
            state_file(tmp_path).write_bytes(b"")
        return tmp_path

    return write


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_failed_before_its_first_evaluation_does_not_block_its_folder(left, resume):
    check_folder(left("optimizer.lr=1e30", saved=False), load_config("vse", ["optimizer.lr=1e-3"]), resume)


def test_a_run_is_not_overwritten(left):
    run = left()
    with pytest.raises(ConfigError, match="already contains a training run"):
        check_folder(run, load_config("vse"), False)
    check_folder(run, load_config("vse"), True)


@pytest.mark.parametrize(
    "settings",
    [
        ["training.epochs=4"],
        ["optimizer.lr=0.5"],
        ["optimizer.lr=0.5", "training.epochs=4"],
        ["training.batch_size=9", "optimizer.grad_clip=1.5"],
        ["data.train_splits=train"],
        ["training.group_captions_by_image=true"],
        ["loss.args.margin=0.3"],
        ["training.metric=R@1"],
        ["training.validate_every=3"],
    ],
)
def test_the_hint_of_other_settings_leads_out(left, settings):
    run = left()
    with pytest.raises(ConfigError, match="different settings: ") as caught:
        check_folder(run, load_config("vse", settings), True)
    for setting in settings:
        assert setting.partition("=")[0] in caught.value.message
    advised = shlex.split(re.sub(r" \(the schedule depends on it\)|, or choose.*", "", caught.value.hint))
    again = [word for word in advised[2:] if word != "--set"]
    check_folder(run, load_config("vse", [*settings, *again]), True)


@pytest.mark.parametrize(
    "settings",
    [["training.patience=2"], ["training.device=cpu"], ["training.log_every=3"], ["training.tensorboard=false"]],
)
def test_settings_that_do_not_change_the_steps_may_change(left, settings):
    check_folder(left(), load_config("vse", settings), True)


def test_the_number_of_epochs_may_change_where_the_schedule_does_not_depend_on_it(left):
    run = left("schedule.name=constant")
    check_folder(run, load_config("vse", ["schedule.name=constant", "training.epochs=30"]), True)


def test_the_hint_names_options_where_there_are_some(left):
    run = left()
    with pytest.raises(ConfigError) as caught:
        check_folder(run, load_config("vsepp", ["training.seed=3"]), True)
    (command,) = hinted_commands(caught.value.hint.removesuffix("; or choose another --out"))
    assert command == ["train", "--model", str(run / "config.toml"), "--out", str(run), "--resume"]
    check_folder(run, load_config(command[2]), True)
    with pytest.raises(ConfigError) as caught:
        check_folder(run, load_config("vse", ["training.seed=3", "features.backbone=vgg19"]), True)
    assert "--backbone efficientnet-lite2 --seed 0" in caught.value.hint

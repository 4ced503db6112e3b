"""Warm-ups and moving averages of every preset on a dataset of 20 images."""

from __future__ import annotations

import math

import pytest

from xmodal_cli import catalog
from xmodal_cli.config import load_config
from xmodal_cli.errors import ConfigError
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.trainers import small_data
from xmodal_cli.training.optimizer import build_schedule

PRESETS = catalog.names("preset")


class Recorder(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.mark.parametrize("images", [4, 20, 60])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_small_dataset_reaches_the_learning_rate_and_forgets_its_first_weights(preset, images):
    given = load_config(preset)
    steps = math.ceil(5 * images / given.training.batch_size)
    adapted = small_data.adapt(given, steps)
    config, total = small_data.apply(given, adapted), steps * given.training.epochs
    schedule = config.schedule
    factor = build_schedule(
        schedule.name, steps, given.training.epochs, schedule.warmup_steps, schedule.step_epochs, 0.1
    )
    assert max(factor(step) for step in range(total)) == pytest.approx(1, abs=0.05)
    assert config.training.ema**total <= small_data.START_SHARE or not given.training.ema
    assert (config.training.ema > 0) == (given.training.ema > 0)
    reporter = Recorder()
    small_data.report(given, adapted, steps, reporter)
    assert [name for name in adapted if not any(name in line for line in reporter.warnings)] == []
    assert len(reporter.warnings) == len(adapted)
    if given.training.ema or given.schedule.warmup_steps > total:
        assert adapted


@pytest.mark.parametrize("preset", PRESETS)
def test_flickr8k_and_the_sample_set_are_trained_with_the_settings_of_the_presets(preset):
    config = load_config(preset)
    captions = 30_000 if "demo" not in preset else 3_000
    assert small_data.adapt(config, math.ceil(captions / config.training.batch_size)) == {}


@pytest.mark.parametrize(("epochs", "expected"), [(1, 0), (4, 2), (3, 1), (5, 4)])
def test_the_warmup_loss_is_not_the_loss_of_the_whole_run(epochs, expected):
    config = load_config("vsepp", [f"training.epochs={epochs}"])
    adapted = small_data.apply(config, small_data.adapt(config, 300))
    assert adapted.warmup.epochs == expected < epochs
    assert config.warmup.epochs == 4


def test_a_run_is_not_resumed_with_another_adaptation():
    small_data.check_resumed({"training.ema": 0.9}, {"training.ema": 0.9}, "run")
    with pytest.raises(ConfigError, match="another number of epochs") as caught:
        small_data.check_resumed({"training.ema": 0.9}, {"training.ema": 0.8}, "run")
    assert "training.epochs" in caught.value.hint

"""Settings that a short run cannot use as they are: the warm-ups and the moving average.

On a dataset with few batches, or with few epochs, a warm-up can be longer than the whole run, and a moving average can
still consist of the first weights at its end. They are shortened for such a run; the run's ``config.toml`` keeps the
settings as they were given. All other runs are unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from xmodal_cli.config import Config
from xmodal_cli.errors import ConfigError
from xmodal_cli.reporter import Reporter

WARMUP_SHARE = 0.5  # of the steps of a run; a longer warm-up is shortened to ADAPTED_WARMUP
ADAPTED_WARMUP = 0.2
START_SHARE = (
    0.05  # of the first weights in the average at the end of a run; a larger share is reduced to ADAPTED_START
)
ADAPTED_START = 0.01


def adapt(config: Config, steps_per_epoch: int) -> dict[str, float]:
    """The settings to replace, by name: empty unless the run has too few steps for them."""
    total = steps_per_epoch * config.training.epochs
    adapted: dict[str, float] = {}
    if config.schedule.warmup_steps > WARMUP_SHARE * total:
        adapted["schedule.warmup_steps"] = int(ADAPTED_WARMUP * total)
    if config.training.ema and config.training.ema**total > START_SHARE:
        adapted["training.ema"] = round(ADAPTED_START ** (1 / total), 6)
    if config.warmup.epochs and config.warmup.epochs >= config.training.epochs:
        adapted["warmup.epochs"] = config.training.epochs // 2
    return adapted


def apply(config: Config, adapted: Mapping[str, float]) -> Config:
    """``config`` with the settings of ``adapt``."""
    warmup_steps = int(adapted.get("schedule.warmup_steps", config.schedule.warmup_steps))
    ema = adapted.get("training.ema", config.training.ema)
    warmup = replace(config.warmup, epochs=int(adapted.get("warmup.epochs", config.warmup.epochs)))
    schedule, training = replace(config.schedule, warmup_steps=warmup_steps), replace(config.training, ema=ema)
    return replace(config, schedule=schedule, training=training, warmup=warmup)


def report(config: Config, adapted: Mapping[str, float], steps_per_epoch: int, reporter: Reporter) -> None:
    """Report the changes, one line each."""
    total = steps_per_epoch * config.training.epochs
    given = {
        "schedule.warmup_steps": config.schedule.warmup_steps,
        "training.ema": config.training.ema,
        "warmup.epochs": config.warmup.epochs,
    }
    for name, value in adapted.items():
        length = f"{config.training.epochs} epochs" if name == "warmup.epochs" else f"{total} steps"
        reporter.warn(f"the run has only {length}: {name} is {value:g} instead of {given[name]:g}")


def check_resumed(adapted: Mapping[str, float], saved: Mapping[str, float], run: str) -> None:
    """Raise ConfigError if a resumed run was adapted otherwise, since its steps would not be those of one run."""
    if dict(adapted) != dict(saved):
        raise ConfigError(
            f"{run} was adapted to another number of epochs, since its dataset is small",
            "resume with the original training.epochs, or choose another --out",
        )

"""Matchers without negatives are refused before anything is computed, however the batches come about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xmodal_cli.config import load_config
from xmodal_cli.errors import ConfigError
from xmodal_cli.reporter import SILENT, SilentReporter
from xmodal_cli.trainers import batch_check
from xmodal_cli.trainers.batch_check import check_batches
from xmodal_cli.types import Example, ImageTextDataset


def dataset(*counts: int) -> ImageTextDataset:
    """Images with these numbers of captions."""
    examples = [Example(f"{n}.jpg", None, tuple(f"w {k}" for k in range(c)), "train") for n, c in enumerate(counts)]
    return ImageTextDataset("tiny", "tiny", Path("tiny"), tuple(examples))


GROUPED = "training.group_captions_by_image=true"


@pytest.mark.parametrize(
    ("counts", "settings"),
    [
        ((5,) * 20, ["training.batch_size=1"]),
        ((1,) * 20, ["training.batch_size=1"]),
        ((5,) * 20, ["training.batch_size=5", GROUPED]),
        ((5,) * 20, ["training.batch_size=8", GROUPED]),
        ((5, 3, 5, 4), ["training.batch_size=2", GROUPED]),
        ((1,) * 20, ["training.batch_size=1", GROUPED]),
        ((5,), []),
        ((1,), [GROUPED]),
        ((5,), ["training.batch_size=2"]),
    ],
)
def test_batches_of_one_image_are_refused_and_the_hint_leads_out(counts, settings):
    data = dataset(*counts)
    with pytest.raises(ConfigError, match="negatives") as caught:
        check_batches(load_config("vse", settings), data, "cpu", SILENT)
    advised = re.search(r"--set (training\.batch_size=\d+)", caught.value.hint)
    assert (advised is None) == (len(counts) == 1)  # no batch size helps if there is one image
    if advised:
        check_batches(load_config("vse", [*settings, advised[1]]), data, "cpu", SILENT)


@pytest.mark.parametrize(
    ("counts", "settings"),
    [((5,) * 20, []), ((5, 5), ["training.batch_size=2"]), ((5,) * 20, ["training.batch_size=10", GROUPED])],
)
def test_batches_with_negatives_are_accepted(counts, settings):
    check_batches(load_config("vse", settings), dataset(*counts), "cpu", SILENT)


def test_a_warning_counts_the_batches_train_nothing():
    class Recorder(SilentReporter):
        def warn(self, message: str) -> None:
            warnings.append(message)

    warnings: list[str] = []
    check_batches(
        load_config("vse", ["training.batch_size=8", GROUPED]), dataset(*(8,) * 6, *(1,) * 6), "cpu", Recorder()
    )
    assert len(warnings) == 1
    assert re.match(r"\d+ of \d+ batches have captions of one image only", warnings[0])


def test_the_negatives_of_a_proxy_loss_are_the_proxies_of_other_images():
    settings = ["training.batch_size=1", "loss=metric_learning", "loss.args.loss=ProxyAnchorLoss"]
    check_batches(load_config("vse", settings), dataset(5, 5), "cpu", SILENT)
    with pytest.raises(ConfigError, match="one image only"):
        check_batches(load_config("vse", settings), dataset(5), "cpu", SILENT)


def test_captioners_need_no_negatives():
    check_batches(load_config("transformer", ["training.batch_size=1"]), dataset(5), "cpu", SILENT)


def test_a_batch_that_does_not_fit_in_memory_is_refused_and_the_hint_fits(monkeypatch):
    monkeypatch.setattr(batch_check, "available_bytes", lambda: 10**6)
    data = dataset(*(5,) * 200)
    config = load_config("vse", ["training.batch_size=1000000"])
    with pytest.raises(ConfigError, match=r"a batch of 1,000 captions needs about 24\.0 MB") as caught:
        check_batches(config, data, "cpu", SILENT)
    check_batches(load_config("vse", [caught.value.hint.rpartition("--set ")[2]]), data, "cpu", SILENT)
    chunks = ["training.batch_size=1000000", "training.local_loss=true", "training.chunk_size=40"]
    check_batches(load_config("vse", chunks), data, "cpu", SILENT)
    check_batches(config, data, "cuda", SILENT)  # another memory
    monkeypatch.setattr(batch_check, "available_bytes", lambda: None)
    check_batches(config, data, "cpu", SILENT)

"""Settings, captions and initial models that cannot be trained are refused before image features are extracted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from xmodal_cli.config import load_config
from xmodal_cli.errors import BadData, ConfigError, IncompatibleFeatures, MissingData
from xmodal_cli.features import cache
from xmodal_cli.recipes.train import train_model
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.trainers import early_checks
from xmodal_cli.trainers.early_checks import (
    UNUSED,
    check_sections,
    report_frozen_parts,
    report_shuffle_window,
    report_untrained_start,
    report_val_in_training,
)


class Recorder(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> Path:
    """Four captioned images, whose features must not be extracted."""
    lines = []
    for number in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        split = "train" if number < 3 else "val"
        lines.append({"image": f"{number}.png", "captions": ["a dog runs", f"dog {number}"], "split": split})
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    def fail(*args, **kwargs):
        raise AssertionError("features were extracted before the checks")

    monkeypatch.setattr(cache, "ensure_store", fail)
    return tmp_path / "captions.jsonl"


def train(preset: str, dataset: Path, *settings: str, init_from: str | None = None) -> None:
    config = load_config(preset, [*settings, "training.device=cpu"])
    train_model(config, str(dataset), dataset.parent / "run", init_from=init_from)


@pytest.mark.parametrize(
    ("preset", "settings", "error", "message"),
    [
        ("vse", ("captioning.tag_prob=0.5",), ConfigError, "captioning.tag_prob applies only to captioners"),
        ("vse", ("tagging.num_tags=5",), ConfigError, "tagging.num_tags applies only to taggers"),
        ("transformer", ("text.backbone=minilm",), ConfigError, "text.backbone applies only to matchers"),
        ("tagger", ("decoding.beam=3",), ConfigError, "decoding.beam applies only to captioners"),
        ("tagger", ("training.chunk_size=3",), ConfigError, "training.chunk_size applies only to matchers"),
        ("transformer", ("training.local_loss=true",), ConfigError, "training.local_loss applies only to matchers"),
        (
            "vse",
            ("training.local_loss=true", "loss.name=metric-learning"),
            ConfigError,
            "training.local_loss does not work with metric-learning",
        ),
        ("transformer", ("decoding.num_beam_groups=3",), ConfigError, "a divisor of the beam size"),
        ("transformer", ("decoding.num=9",), ConfigError, "at most the beam size"),
        ("vse", ("data.max_caption_words=1",), BadData, "have more than 1 words"),
        ("vse", ("data.min_word_count=99",), ConfigError, "no word occurs 99 times in the training captions"),
        ("tagger", ("tagging.min_images=99",), BadData, "no content word occurs"),
        ("vse", ("features.backbone=vgg19@absent",), MissingData, "weights file absent does not exist"),
        ("tern", ("features.backbone=bottom-up@absent",), MissingData, "there are no regions at absent"),
        ("two-heads", ("features.kind=regions",), ConfigError, "has global and grid features, not regions"),
        (
            "vse",
            ("model.image_encoder=identity", "data.min_word_count=1"),
            ConfigError,
            "1280-d vectors, but embed_dim",
        ),
        ("two-heads", ("model.text_encoder=identity",), ConfigError, "384-d vectors, but embed_dim"),
    ],
)
def test_settings_and_captions(home, dataset, preset, settings, error, message):
    with pytest.raises(error, match=message):
        train(preset, dataset, *settings)
    assert not (dataset.parent / "run").exists()


@pytest.mark.parametrize(
    ("preset", "model", "settings", "error", "message"),
    [
        ("vse", "starter", (), IncompatibleFeatures, "starter reads trunk-3 features"),
        ("show-attend-tell", "starter-captioner", (), ConfigError, "is a transformer, this preset trains a show-"),
        ("transformer", "starter-captioner", ("features.backbone=efficientnet-lite2",), IncompatibleFeatures, "reads"),
        ("transformer", "starter-captioner", ("features.kind=global",), IncompatibleFeatures, "reads grid features"),
        (
            "transformer",
            "starter-captioner",
            ("model.embed_dim=64",),
            ConfigError,
            "does not fit this preset: .* 64 here",
        ),
    ],
)
def test_initial_models(home, dataset, preset, model, settings, error, message):
    with pytest.raises(error, match=message):
        train(preset, dataset, *settings, init_from=model)


def test_an_initial_model_that_fits_is_accepted(home, dataset):
    with pytest.raises(AssertionError, match="features were extracted"):
        train("transformer", dataset, init_from="starter-captioner")


@pytest.mark.parametrize("content", ["a text about dogs\n", "word\n", ""])
def test_word_vectors_that_are_not(home, dataset, content):
    (dataset.parent / "vectors.txt").write_text(content, encoding="utf-8")
    with pytest.raises(BadData, match="line 1: not a word and its vector"):
        train("vse", dataset, f"text.word_vectors={dataset.parent / 'vectors.txt'}")


def test_the_words_of_a_batch_that_do_not_fit_in_memory(home, dataset, monkeypatch):
    monkeypatch.setattr(early_checks, "available_bytes", lambda: 100)
    with pytest.raises(ConfigError, match="a batch of 6 captions needs about") as caught:
        train("transformer", dataset, "data.min_word_count=1")
    assert "--set training.batch_size=" in caught.value.hint


def test_every_preset_sets_only_what_its_kind_reads():
    from xmodal_cli import catalog

    presets = catalog.names("preset")
    assert len(presets) > 5
    for preset in presets:
        config = load_config(preset)
        assert config.kind in UNUSED
        check_sections(config)


def test_settings_of_frozen_networks_are_reported():
    recorder = Recorder()
    report_frozen_parts(load_config("best-offline"), recorder)
    assert recorder.warnings == []
    report_frozen_parts(load_config("best-offline", ["optimizer.image_tower_lr_scale=0"]), recorder)
    report_frozen_parts(load_config("vse", ["text.tuned_layers=2", "training.gradient_checkpointing=true"]), recorder)
    assert [warning.partition(" has no effect")[0] for warning in recorder.warnings] == [
        "features.tuned_blocks=3",
        "text.tuned_layers=2",
        "training.gradient_checkpointing",
    ]


def test_a_window_without_pixels_is_reported():
    recorder = Recorder()
    pixels = ["optimizer.image_tower_lr_scale=0.1", "training.shuffle_window=100"]
    report_shuffle_window(load_config("vse", pixels), recorder)
    assert recorder.warnings == []
    for settings in (pixels[1:], [*pixels, "features.tuned_blocks=1"]):
        report_shuffle_window(load_config("vse", settings), recorder)
    assert len(recorder.warnings) == 2 and "training.shuffle_window=100 has no effect" in recorder.warnings[0]


def test_a_val_split_that_is_trained_on_is_reported():
    recorder = Recorder()
    report_val_in_training(load_config("vse"), recorder)
    assert recorder.warnings == []
    report_val_in_training(load_config("vse", ["data.train_splits=train,dev"]), recorder)
    assert "the split val is trained on and evaluated" in recorder.warnings[0]


@pytest.mark.parametrize(
    ("settings", "init_from", "warns"),
    [
        (["loss.name=self-critical"], None, True),
        (["loss.name=self-critical"], "transformer-f8k", False),
        ([], None, False),
    ],
)
def test_self_critical_training_from_random_weights_is_reported(settings, init_from, warns):
    reporter = Recorder()
    report_untrained_start(load_config("transformer", settings), init_from, reporter)
    assert bool(reporter.warnings) == warns
    assert not warns or "--init-from RUN" in reporter.warnings[0]

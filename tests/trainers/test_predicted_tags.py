"""Captioners that are trained with the tags of a tagger: prompts of training and val, and what the file records."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tag_fixtures import SMALL_TAGGER

from xmodal_cli.config import load_config
from xmodal_cli.errors import BadModel, ConfigError, IncompatibleFeatures, MissingData, UnknownName
from xmodal_cli.inference.taggers import load_tagger
from xmodal_cli.models.model_file import read_header
from xmodal_cli.recipes import train as recipe
from xmodal_cli.recipes.evaluate_captions import score_captioners
from xmodal_cli.recipes.train import train_model
from xmodal_cli.reporter import SILENT
from xmodal_cli.trainers.preparation import prepare

SMALL = (
    "features.kind=global",
    "model.embed_dim=64",
    "data.min_word_count=1",
    "training.epochs=2",
    "training.batch_size=48",
    "training.ema=0",
    "training.patience=0",
    "training.precision=fp32",
    "training.device=cpu",
    "training.tensorboard=false",
    "optimizer.lr=0.003",
    "schedule.warmup_steps=0",
    "decoding.beam=2",
    "decoding.max_length=10",
    "captioning.num_tags=3",
)


@pytest.fixture(autouse=True)
def no_curves_and_no_java(monkeypatch):
    monkeypatch.setattr(recipe, "draw_curves", lambda run: None)
    monkeypatch.setenv("PATH", "")


def settings_for(tagger: Path, *more: str) -> list[str]:
    return [*SMALL, f"captioning.tagger={tagger}", "captioning.tag_prob=1", *more]


def test_the_prompts_are_the_best_tags_of_each_image(planted, trained_tagger, tmp_path):
    job = prepare(load_config("transformer", settings_for(trained_tagger)), str(planted), tmp_path, None, SILENT)
    tagger, ids = load_tagger(str(trained_tagger)), job.tokenizer.word_ids()
    for split in (job.train, job.val):
        probabilities = tagger.probabilities(split.images.features)
        image_of_caption = split.images.dataset.image_of_caption
        assert set(split.prompt_lengths.tolist()) == {4}
        for caption, image in enumerate(image_of_caption[:30]):
            best = [ids[tagger.tags[n]] for n in (-probabilities[image]).argsort(kind="stable")[:3]]
            expected = [*best, job.tokenizer.special_tokens.bos]
            row = split.gather_tokens(split.lengths.new_tensor([caption]), 30)[0].tolist()
            assert row[1:5] == expected == split.prompts[image]


def test_the_file_records_the_tagger_and_eval_uses_it(planted, trained_tagger, tmp_path):
    run = tmp_path / "run"
    result = train_model(load_config("transformer", settings_for(trained_tagger)), str(planted), run)
    record = read_header(result.model).architecture["tagger"]
    assert record == {"name": trained_tagger.name, "fingerprint": load_tagger(str(trained_tagger)).info.fingerprint}
    metrics = score_captioners([str(run)], str(planted), "val", {"beam": 1}).result
    assert metrics.tagger == trained_tagger.name
    assert metrics.scores["cider"] == pytest.approx(
        result.metrics["cider"], abs=1e-6
    )  # with the same tags as in training


def test_another_version_of_the_tagger_is_refused(planted, trained_tagger, tmp_path, home):
    short = ("training.epochs=1",)
    first = home / "runs" / "words"
    train_model(load_config("tagger", [*SMALL_TAGGER, *short]), str(planted), first)
    config = load_config("transformer", [*settings_for(Path("words")), *short])
    train_model(config, str(planted), tmp_path / "run")
    other = train_model(load_config("tagger", [*SMALL_TAGGER, *short, "training.seed=9"]), str(planted), tmp_path / "o")
    (first / "model.safetensors").write_bytes(other.model.read_bytes())
    with pytest.raises(IncompatibleFeatures, match="another version of the tagger words"):
        score_captioners([str(tmp_path / "run")], str(planted), "test")
    (first / "model.safetensors").unlink()
    with pytest.raises(MissingData, match="trained with the tagger words, which does not exist"):
        score_captioners([str(tmp_path / "run")], str(planted), "test")


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        (("captioning.tag_prob=0",), ConfigError, "tag_prob is 0"),
        (("loss.name=self-critical",), ConfigError, "without tags"),
        (("captioning.tagger=nothing",), UnknownName, "nothing"),
        (("captioning.tagger=starter",), BadModel, "starter is a matcher, not a tagger"),
    ],
)
def test_settings_that_cannot_be_trained(planted, trained_tagger, tmp_path, changes, error, match):
    with pytest.raises(error, match=match):
        train_model(load_config("transformer", settings_for(trained_tagger, *changes)), str(planted), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_a_tagger_tags_are_words_of_the_caption(planted, tmp_path):
    config = load_config("transformer", [*SMALL, "captioning.tag_prob=1"])
    job = prepare(config, str(planted), tmp_path, None, SILENT)
    assert job.train.prompts == () and "tagger" not in job.header.architecture
    words = {n: word for word, n in job.tokenizer.word_ids().items()}
    captions = job.train.images.dataset.captions
    for caption in range(20):
        row = job.train.gather_tokens(job.train.lengths.new_tensor([caption]), 30)[0].tolist()
        tags = row[1 : 1 + int(job.train.prompt_lengths[caption]) - 1]
        assert tags and {words[tag] for tag in tags} <= set(captions[caption].split())

"""Each file on docs/extending.md is all that its component needs: written into a copy of the package and used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.extended_package import Ran, page_files, run_lines, write_color_pairs, write_gpt2, write_package

from xmodal_cli import catalog

SMALL = ["model.embed_dim=32", "model.text_encoder=bow", "training.epochs=8", "training.batch_size=16"]
SMALL += ["optimizer.lr=0.01", "training.precision=fp32", "training.tensorboard=false", "data.min_word_count=1"]
CAPTIONER = """
kind = "captioner"
model = { name = "one-prefix", embed_dim = 64 }
loss = { name = "cross-entropy" }
features = { kind = "global" }
data = { min_word_count = 1 }
optimizer = { lr = 0.001 }
training = { epochs = 1, batch_size = 32, tensorboard = false, precision = "fp32" }
"""
METRICS = ["R@1", "R@5", "R@10", "median_rank", "mean_rank", "mrr"]
CHANCE = 2 * 100 * (1 + 5 + 10) / 20  # rsum of 20 images ranked at random
SIDES = ("image_to_text", "text_to_image")


def settings(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


def chebyshev_file(folder: Path) -> Path:
    """Vectors with many ties: 12 images, two texts each."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(12), 2)
    images = rng.integers(0, 4, (12, 3)).astype(np.float32)
    texts = images[owner] + rng.integers(-1, 2, (24, 3)).astype(np.float32)
    np.savez(folder / "ties.npz", images=images, texts=texts, image_of_caption=owner, similarity=np.array("chebyshev"))
    return folder / "ties.npz"


def results_file(folder: Path, data: Path) -> Path:
    """One caption per test image, every other one a reference."""
    lines = [line.split("\t") for line in data.read_text().splitlines()][::2]
    test = [(name, caption) for name, split, caption in lines if split == "test"]
    entries = [{"image_id": name, "caption": text if n % 2 else "no"} for n, (name, text) in enumerate(test)]
    (folder / "results.json").write_text(json.dumps(entries))
    return folder / "results.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package, the data and the results are."""
    return tmp_path_factory.mktemp("extending")


@pytest.fixture(scope="module")
def ran(folder: Path) -> dict[str, Ran]:
    """Name -> what that command line gave; all in one process, in this order."""
    package = write_package(folder / "package")
    data = write_color_pairs(folder / "colors")
    gpt2, ties = write_gpt2(folder / "gpt2"), chebyshev_file(folder)
    regions = folder / "regions"
    regions.mkdir()
    for image in sorted(data.parent.glob("*.png")):
        np.save(regions / f"{image.stem}.regions.npy", np.full((2, 5), int(image.stem[-2:]), np.float32))
    run, captioner, base = str(folder / "run"), str(folder / "captioner"), ["--backbone", "color-grid"]
    (folder / "prefix.toml").write_text(CAPTIONER)
    train = ["train", "--data", str(data), *base]
    train_captioner = [*train, "--model", str(folder / "prefix.toml"), "--set", f"captioning.language_model={gpt2}"]
    matcher = [*SMALL, "model.similarity=l1", "loss.name=unified", "loss.args.scale=20"]
    lines = {
        "help": ["--help"],
        "command": ["longest", str(data), "--json"],
        "info": ["data", "info", str(data), "--json"],
        "no-file": ["data", "info", "missing.tsv"],
        "ties": ["eval", str(ties), "--json"],
        "features": ["features", str(data), *base, "--kind", "grid", "--json"],
        "regions": ["features", str(data), "--backbone", f"own-detector@{regions}", "--kind", "regions", "--json"],
        "train": [*train, "--model", "vse", "--out", run, "--json", *settings(*matcher)],
        "setting": [*train, "--model", "vse", *settings("loss.name=unified", "loss.args.scael=20")],
        "eval": ["eval", run, "--data", str(data), "--bootstrap", "20", "--json"],
        "vectors": ["features", str(data), "--model", run, "--split", "test", "--out", str(folder / "v.npz"), "--json"],
        "table": ["eval", run, "--data", str(data)],
        "index": ["index", str(data.parent), "--model", run, "--index", "colors", "--json"],
        "search": ["search", "red beside blue", "--index", "colors", "-k", "9", "--json"],
        "search-image": ["search", str(data.parent / "test-03.png"), "--index", "colors", "-k", "3", "--json"],
        "results": ["eval", str(results_file(folder, data)), "--data", str(data), "--json"],
        "results-table": ["eval", str(results_file(folder, data)), "--data", str(data)],
        "captioner": [*train_captioner, "--out", captioner, "--json"],
        "grid": [*train_captioner, *settings("features.kind=grid")],
        "caption": ["caption", str(data.parent / "test-03.png"), "--model", captioner, "--json"],
    }
    done = run_lines(package, folder / "home", list(lines.values()))
    return dict(zip(lines, done, strict=True))


def test_the_page_shows_a_file_of_each_kind() -> None:
    kinds = {str(Path(path).parent.relative_to("xmodal_cli")) for path in page_files()}
    shown = ("similarity", "retrieval_metric", "caption_metric", "captioner", "format", "region_format")
    assert kinds >= {catalog.KINDS[kind][0] for kind in (*shown, "image_backbone", "loss")} | {"cli"}


def test_a_command_is_listed_and_runs(ran: dict[str, Ran]) -> None:
    assert "longest caption of a dataset" in ran["help"].out
    assert ran["command"].json["caption"].count(" on the left of ") == 1


def test_a_dataset_format_is_recognized_and_its_suffix_means_a_path(ran: dict[str, Ran]) -> None:
    info = ran["info"].json
    assert info["format"] == "tsv"
    assert ran["no-file"].code == 1
    assert "there is no dataset at missing.tsv" in ran["no-file"].err


def test_a_backbone_family_makes_features(ran: dict[str, Ran]) -> None:
    assert ran["features"].code == 0, ran["features"].err
    assert "color-grid" in ran["features"].out


def test_a_region_format_and_a_family_from_files(ran: dict[str, Ran]) -> None:
    assert ran["regions"].code == 0, ran["regions"].err
    assert "own-detector" in ran["regions"].out


def expected_ranks(scores: np.ndarray, owner: np.ndarray) -> dict[str, np.ndarray]:
    """By the definition: 1 + the wrong items that score at least as high as the best right one."""
    scores = np.round(scores, 9)
    right = owner[None] == np.arange(len(scores))[:, None]
    best = np.where(right, scores, -np.inf).max(1, keepdims=True)
    own = scores[owner, np.arange(len(owner))]
    return {
        "image_to_text": 1 + ((scores >= best) & ~right).sum(1),
        "text_to_image": 1 + ((scores >= own) & ~right).sum(0),
    }


def check_metrics(result: dict, ranks: dict[str, np.ndarray]) -> None:
    for side in SIDES:
        assert list(result[side])[: len(METRICS)] == METRICS
        assert result[side]["mean_rank"] == pytest.approx(ranks[side].mean())
        assert result[side]["mrr"] == pytest.approx((100 / ranks[side]).mean())


def test_a_similarity_with_arrays_is_ranked_with_ties(ran: dict[str, Ran], folder: Path) -> None:
    arrays = np.load(folder / "ties.npz")
    scores = -np.abs(arrays["images"][:, None] - arrays["texts"]).max(-1)
    assert len(np.unique(scores)) < 8  # there are ties
    check_metrics(ran["ties"].json, expected_ranks(scores, arrays["image_of_caption"]))


def test_a_similarity_of_two_methods_is_trained_and_ranked_exactly(ran: dict[str, Ran], folder: Path) -> None:
    assert ran["train"].json["val"]["rsum"] > 1.2 * CHANCE
    assert ran["vectors"].code == 0, ran["vectors"].err
    arrays = np.load(folder / "v.npz")
    assert str(arrays["similarity"]) == "l1"
    images, texts = (arrays[name].astype(np.float64) for name in ("images", "texts"))
    check_metrics(
        ran["eval"].json, expected_ranks(-np.abs(images[:, None] - texts).sum(-1), arrays["image_of_caption"])
    )


def test_a_similarity_of_two_methods_is_searched(ran: dict[str, Ran]) -> None:
    assert ran["index"].code == 0, ran["index"].err
    hits = ran["search"].json["hits"]
    scores = [hit["score"] for hit in hits]
    assert len(hits) == 9
    assert scores == sorted(scores, reverse=True)
    assert all(score < 0 for score in scores)
    best = ran["search-image"].json["hits"][0]
    assert Path(best["path"]).name == "test-03.png"
    assert best["score"] == pytest.approx(0, abs=1e-4)


def test_a_retrieval_metric_is_in_the_json_the_table_val_and_the_intervals(ran: dict[str, Ran]) -> None:
    assert "i2t MRR" in ran["table"].out
    assert "t2i MRR" in ran["table"].out
    result = ran["eval"].json
    for side in SIDES:
        low, high = result["confidence"][side]["mrr"]
        assert low <= result[side]["mrr"] <= high
        assert "mrr" in ran["train"].json["val"][side]


def test_a_misspelled_setting_of_a_loss_gets_a_hint(ran: dict[str, Ran]) -> None:
    assert ran["setting"].code == 1
    assert "did you mean 'scale'?" in ran["setting"].err


def test_a_caption_metric_is_in_the_json_and_the_table(ran: dict[str, Ran]) -> None:
    assert ran["results"].json["exact_match"] == 0.5
    head, row = (line for line in ran["results-table"].out.splitlines() if "exact" in line or "results.json" in line)
    assert "exact" in head
    assert row.split()[-1] == "50.0"


def test_a_captioner_with_a_language_model_is_trained_and_captions(ran: dict[str, Ran]) -> None:
    assert ran["captioner"].code == 0, ran["captioner"].err
    assert ran["caption"].json[0]["captions"][0]["text"] is not None


def test_what_a_captioner_refuses_is_a_sentence(ran: dict[str, Ran]) -> None:
    assert ran["grid"].code == 1
    assert "it needs global features, not grid" in ran["grid"].err

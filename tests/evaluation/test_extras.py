"""``xmodal eval`` with ensembles, intervals, NDCG, rank files and reports, on embeddings of a small dataset."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import subprocess
import sys
from html import unescape

import numpy as np
import pytest
from helpers.html_pages import read_page
from PIL import Image

from xmodal_cli.evaluation.embeddings import read_embeddings
from xmodal_cli.evaluation.extras import Extras
from xmodal_cli.evaluation.scoring import rank_folds
from xmodal_cli.recipes.evaluate import evaluate

SIDES = ("image_to_text", "text_to_image")
METRICS = ["R@1", "R@5", "R@10", "median_rank", "mean_rank"]


def test_the_ensemble_comes_last(xmodal, eval_set):
    results = xmodal("eval", *eval_set.files, "--data", eval_set.data, "--ensemble", "--json").json
    assert [r["model"] for r in results] == ["one.npz", "two.npz", "one.npz + two.npz"]
    single = xmodal("eval", *eval_set.files, "--data", eval_set.data, "--json").json
    assert results[:2] == single
    assert list(results[2]) == list(single[0])
    arrays = [read_embeddings(file) for file in eval_set.files]
    mean = np.mean([a.images.astype(float) @ a.texts.T for a in arrays], axis=0)
    positive = mean[eval_set.image_of_caption, np.arange(len(eval_set.image_of_caption))]
    ranks = 1 + ((mean >= positive) & (np.arange(len(mean))[:, None] != eval_set.image_of_caption)).sum(0)
    assert results[2]["text_to_image"]["mean_rank"] == pytest.approx(ranks.mean())
    table = xmodal("eval", *eval_set.files, "--ensemble").out
    assert len(re.findall(r"\d+\.\d\s*$", table, flags=re.M)) == 3


def test_an_ensemble_of_one_model_is_an_error(xmodal, eval_set):
    done = xmodal("eval", eval_set.files[0], "--ensemble")
    assert (done.code, done.out) == (1, "")
    assert "one.npz needs another model" in done.err


def test_intervals_in_json_and_table(xmodal, eval_set):
    result = xmodal("eval", eval_set.files[0], "--bootstrap", 100, "--json").json
    assert list(result)[-2:] == ["confidence", "bootstrap"]
    assert result["bootstrap"] == 100
    assert set(result["confidence"]) == {*SIDES, "rsum"}
    for side in SIDES:
        assert list(result["confidence"][side]) == METRICS
        for name, (low, high) in result["confidence"][side].items():
            assert low <= result[side][name] <= high
    assert result == xmodal("eval", eval_set.files[0], "--bootstrap", 100, "--json").json
    table = xmodal("eval", eval_set.files[0], "--bootstrap", 100).out.splitlines()
    low, high = result["confidence"]["rsum"]
    assert table[-1].split()[0] == "95%"
    assert table[-1].split()[-1] == f"+-{(high - low) / 2:.1f}"


def test_ndcg_has_columns_only_with_its_option(xmodal, eval_set):
    result = xmodal("eval", eval_set.files[0], "--data", eval_set.data, "--ndcg", "--bootstrap", 50, "--json").json
    for side in SIDES:
        assert list(result[side]) == [*METRICS, "NDCG@25"] == list(result["confidence"][side])
        assert 0.3 < result[side]["NDCG@25"] < 1
    table = xmodal("eval", eval_set.files[0], "--data", eval_set.data, "--ndcg").out
    assert "t2i NDCG@25" in table
    assert f"{result['text_to_image']['NDCG@25']:.3f}" in table
    assert "NDCG" not in xmodal("eval", eval_set.files[0], "--data", eval_set.data).out


@pytest.mark.parametrize("option", [["--ndcg"], ["--report", "somewhere"]])
def test_options_that_need_captions_need_data(xmodal, eval_set, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = xmodal("eval", eval_set.files[0], *option)
    assert (done.code, done.out) == (1, "")
    assert option[0] in done.err
    assert "--data" in done.err
    assert not list(tmp_path.iterdir())


def test_captions_in_another_order_are_an_error(xmodal, eval_set, tmp_path):
    file = tmp_path / "reversed.npz"
    with np.load(eval_set.files[0]) as arrays:
        np.savez(file, **{**arrays, "image_of_caption": arrays["image_of_caption"][::-1]})
    assert xmodal("eval", file, "--data", eval_set.data).code == 0
    done = xmodal("eval", file, "--data", eval_set.data, "--ndcg")
    assert done.code == 1
    assert "does not have the captions of the dataset in order" in done.err


def check_rows(rows, result, eval_set, embeddings, folds=1):
    """Check the ranks against the evaluation, and the top results against a sort of all scores."""
    by_side = {side: [r for r in rows if r["direction"] == side] for side in SIDES}
    for side in SIDES:
        ranks = np.array([int(r["rank"]) for r in by_side[side]])
        assert result[side]["mean_rank"] == pytest.approx(ranks.mean()) or folds > 1
    ranked = rank_folds(embeddings, folds)
    expected = np.concatenate([fold.ranks.text_to_image for fold in ranked]).tolist()
    assert [int(r["rank"]) for r in by_side["text_to_image"]] == expected
    queries = np.concatenate([fold.captions for fold in ranked])
    assert [r["caption"] for r in by_side["text_to_image"]] == [eval_set.captions[c] for c in queries]
    assert [r["image_id"] for r in by_side["text_to_image"]] == [
        eval_set.ids[eval_set.image_of_caption[c]] for c in queries
    ]
    assert len(by_side["image_to_text"]) == len(eval_set.ids) // folds * folds
    for fold in ranked:
        scores = embeddings.images.astype(float) @ embeddings.texts.astype(float).T
        fold_scores = scores[np.ix_(fold.images, fold.captions)]
        for position, caption in enumerate(fold.captions):
            row = by_side["text_to_image"][queries.tolist().index(caption)]
            best = fold.images[np.argsort(-fold_scores[:, position])][:5]
            assert row["top_image_ids"] == [eval_set.ids[i] for i in best]
        for position, image in enumerate(fold.images):
            row = next(r for r in by_side["image_to_text"] if r["image_id"] == eval_set.ids[image])
            best = fold.captions[np.argsort(-fold_scores[position])][:5]
            assert row["top_captions"] == [eval_set.captions[c] for c in best]
            assert row["top_image_ids"] == [eval_set.ids[eval_set.image_of_caption[c]] for c in best]


@pytest.mark.parametrize("folds", [1, 3])
def test_ranks_as_json_lines(xmodal, eval_set, tmp_path, folds):
    file = tmp_path / "new" / "ranks.jsonl"
    result = xmodal(
        "eval", eval_set.files[0], "--data", eval_set.data, "--folds", folds, "--ranks", file, "--json"
    ).json
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {r["model"] for r in rows} == {"one.npz"}
    check_rows(rows, result, eval_set, read_embeddings(eval_set.files[0]), folds)


def test_ranks_of_several_models_as_csv(xmodal, eval_set, tmp_path):
    file = tmp_path / "ranks.csv"
    results = xmodal("eval", *eval_set.files, "--data", eval_set.data, "--ensemble", "--ranks", file, "--json").json
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert len(rows) == 3 * (len(eval_set.ids) + len(eval_set.captions))
    for row in rows:
        row["top_image_ids"], row["top_captions"] = json.loads(row["top_image_ids"]), json.loads(row["top_captions"])
    for result, file in zip(results[:2], eval_set.files, strict=True):
        model_rows = [row for row in rows if row["model"] == result["model"]]
        check_rows(model_rows, result, eval_set, read_embeddings(file))


def test_ranks_without_data_have_row_indices(xmodal, eval_set, tmp_path):
    file = tmp_path / "ranks.jsonl"
    assert xmodal("eval", eval_set.files[0], "--ranks", file).code == 0
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [r["caption"] for r in rows if r["caption"] is not None] == list(range(len(eval_set.captions)))
    assert [r["image_id"] for r in rows if r["caption"] is not None] == eval_set.image_of_caption.tolist()


@pytest.mark.parametrize("name", ["ranks.txt", "ranks"])
def test_an_unknown_extension_of_a_rank_file_is_an_error(xmodal, eval_set, tmp_path, name):
    done = xmodal("eval", eval_set.files[0], "--ranks", tmp_path / name)
    assert done.code == 1
    assert "use the extension .jsonl or .csv" in done.err
    assert not (tmp_path / name).exists()


def images_in(page):
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in re.findall(r"base64,([^\"]+)", page)]


def test_the_report(xmodal, eval_set, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "mine.txt").write_text("stays", encoding="utf-8")
    done = xmodal("eval", eval_set.files[0], "--data", eval_set.data, "--report", folder)
    assert done.code == 0, done.err
    assert sorted(p.name for p in folder.iterdir()) == ["grid.png", "index.html", "mine.txt"]
    read_page((folder / "index.html").read_bytes())
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<b>bold" not in page  # captions are escaped
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)|url\(|@import|<script", page)
    assert page.count("<h2>") == 1 + 5
    assert {image.size for image in images_in(page)} == {(40, 30)}
    assert '<div class="blank" title="images/13.png">images/13.png</div>' in page  # the file of this image is missing
    with Image.open(folder / "grid.png") as grid:
        assert grid.size == (10 + 5 * 154, 10 + 8 * 180)
        colors = {color for _, color in grid.convert("RGB").getcolors(10**6)}
    assert (0x1A, 0x9C, 0x4B) in colors
    assert (0xC6, 0x35, 0x2B) in colors
    again = tmp_path / "again"
    xmodal("eval", eval_set.files[0], "--data", eval_set.data, "--report", again)
    assert (again / "index.html").read_bytes() == (folder / "index.html").read_bytes()


def test_the_ranks_and_frames_of_the_report_are_correct(eval_set, tmp_path):
    evaluate([str(eval_set.files[0])], str(eval_set.data), extras=Extras(report=tmp_path))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    embeddings = read_embeddings(eval_set.files[0])
    (fold,) = rank_folds(embeddings)
    scores = embeddings.images.astype(float) @ embeddings.texts.astype(float).T
    worst_part = page.split("<h2>")[3]
    assert worst_part.startswith("Text to image: worst ranks")
    case = r"<h3[^>]*><bdi>(.*?)</bdi> <span class=\"dim\">rank (\d+)</span></h3>\n<ol[^>]*>(.*?)</ol>"
    cases = re.findall(case, worst_part, flags=re.S)
    assert cases
    ranks = [int(rank) for _, rank, _ in cases]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] == fold.ranks.text_to_image.max()
    for caption, rank, strip in cases:
        items = re.findall(r"<li class=\"(right|wrong)\">.*?title=\"(.*?)\".*?</li>", strip, flags=re.S)
        texts = [c for c, text in enumerate(eval_set.captions) if text == unescape(caption)]
        query = next(c for c in texts if fold.ranks.text_to_image[c] == int(rank))
        order = [eval_set.ids[i] for i in np.argsort(-scores[:, query])]
        own = eval_set.ids[eval_set.image_of_caption[query]]
        expected = order[:10] + ([] if own in order[:10] else [own])
        assert items == [("right" if name == own else "wrong", name) for name in expected]
    worst_images = page.split("<h2>")[4]
    pair = r"<figcaption class=\"dim\">rank (\d+)</figcaption></figure>\n<ol[^>]*>(.*?)</ol>"
    first = re.findall(pair, worst_images, flags=re.S)[0]
    assert int(first[0]) == fold.ranks.image_to_text.max()
    assert first[1].count('class="right"') >= 1


@pytest.mark.parametrize("folds", [2, 3])
def test_a_report_over_folds(xmodal, eval_set, tmp_path, folds):
    assert (
        xmodal("eval", eval_set.files[0], "--data", eval_set.data, "--folds", folds, "--report", tmp_path / "r").code
        == 0
    )


def test_a_report_is_for_one_model(xmodal, eval_set, tmp_path):
    done = xmodal("eval", *eval_set.files, "--data", eval_set.data, "--report", tmp_path / "r")
    assert (done.code, done.out) == (1, "")
    assert "a report is for one model" in done.err
    done = xmodal("eval", *eval_set.files, "--data", eval_set.data, "--report", tmp_path / "r", "--ensemble", "--ndcg")
    assert done.code == 0, done.err
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    assert "one.npz + two.npz" in page
    assert "NDCG@25" in page


def test_a_report_with_the_path_of_a_file_is_an_error(xmodal, eval_set, tmp_path):
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    done = xmodal("eval", eval_set.files[0], "--data", eval_set.data, "--report", tmp_path / "taken")
    assert done.code == 1
    assert "a report is a folder" in done.err
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"


def test_an_evaluation_without_options_imports_no_extras(eval_set):
    code = (
        "import sys\n"
        "from xmodal_cli.__main__ import main\n"
        f"assert main(['eval', {str(eval_set.files[0])!r}, '--json']) == 0\n"
        "ours = [m for m in sys.modules if m.startswith('xmodal_cli.')]\n"
        "print(*[m for m in (*ours, 'PIL', 'matplotlib', 'torch', 'jinja2') if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr.split()
    assert "xmodal_cli.evaluation.scoring" in loaded
    names = (
        *(f"evaluation.{name}" for name in ("rouge_ndcg", "bootstrap", "rank_file")),
        *(f"reports.{name}" for name in ("retrieval_report", "retrieval_page", "contact_sheet", "pages")),
        "metrics.rouge_kernel",
    )
    for extra in (*(f"xmodal_cli.{name}" for name in names), "matplotlib", "torch", "jinja2"):
        assert extra not in loaded

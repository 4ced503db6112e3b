"""``xmodal eval results.json``: the table and JSON of caption results files, and invalid files."""

from __future__ import annotations

import gzip
import json

import pytest
from PIL import Image

WORDS = ("red", "green", "blue", "grey")
METRICS = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider", "spice"]


@pytest.fixture(autouse=True)
def without_java(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def data(tmp_path):
    """A dataset of twelve images with integer ids, four per split, and one image without captions."""
    images = []
    (tmp_path / "images").mkdir()
    for number in range(13):
        split, word = ("train", "val", "test")[number % 3], WORDS[number % 4]
        name = f"pic_{number}.png"
        Image.new("RGB", (8, 8), word).save(tmp_path / "images" / name)
        raws = [f"A {word} square.", f"the {word} one {number}"] if number < 12 else []
        sentences = [{"raw": raw, "tokens": raw.split()} for raw in raws]
        images.append({"filename": name, "cocoid": number, "split": split, "sentences": sentences})
    file = tmp_path / "dataset_small.json"
    file.write_text(json.dumps({"images": images}), encoding="utf-8")
    return file


def entries(**changes):
    """A correct caption for each test image, by id or by file name."""
    captions = {n: changes.get(f"c{n}", f"a {WORDS[n % 4]} square") for n in (2, 5, 8, 11)}
    return [
        {"image_id": n if n % 2 else f"pic_{n}.png", "caption": caption, "more": 1} for n, caption in captions.items()
    ]


@pytest.fixture
def results(tmp_path):
    def write(content, name="results.json"):
        file = tmp_path / name
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return file

    return write


def test_the_json(xmodal, data, results):
    result = xmodal("eval", results(entries()), "--data", data, "--split", "test", "--json").json
    assert list(result)[:12] == ["model", "data", "split", "images", *METRICS]
    assert (result["model"], result["data"], result["split"], result["images"]) == (
        "results.json",
        str(data),
        "test",
        4,
    )
    assert result["bleu_3"] == pytest.approx(1)
    assert result["rouge_l"] == pytest.approx(1)
    assert result["meteor"] is None
    assert "Java" in result["unavailable"]["meteor"]
    assert result["seen_in_training"] == 1  # every color is in the training set
    assert result["signature"].startswith("xmodal:")


def test_several_files_make_a_table(xmodal, data, results):
    worse = results(entries(c2="a cat", c5="dogs"), "worse.json")
    done = xmodal("eval", results(entries()), worse, worse, "--data", data)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert "test: 4 images" in done.out
    header = next(line for line in lines if "BLEU-4" in line)
    assert header.split()[:9] == ["model", *(f"BLEU-{n}" for n in range(1, 5)), "METEOR", "ROUGE-L", "CIDEr", "SPICE"]
    rows = [line.split() for line in lines if ".json" in line and line.lstrip()[0] in "rw"]
    assert rows[0][:4] == ["results.json", "100.0", "100.0", "100.0"]
    assert rows[0][5] == "-"
    assert [row[0] for row in rows] == ["results.json", "worse.json", "worse.json"]
    assert float(rows[1][1]) < 100
    assert any(line.startswith("METEOR: Java is not installed") for line in lines)
    both = xmodal("eval", results(entries()), worse, "--data", data, "--json").json
    assert [r["model"] for r in both] == ["results.json", "worse.json"]
    assert both[0]["cider"] > both[1]["cider"]


def test_files_with_equal_names_have_different_names_in_the_results(xmodal, data, tmp_path):
    for folder, content in (("a", entries()), ("b", entries(c2="dogs"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "results.json").write_text(json.dumps(content), encoding="utf-8")
    files = [tmp_path / folder / "results.json" for folder in "ab"]
    both = xmodal("eval", *files, "--data", data, "--json").json
    assert [r["model"] for r in both] == ["a/results.json", "b/results.json"]
    assert both[0]["cider"] > both[1]["cider"]
    table = xmodal("eval", *files, "--data", data).out
    assert "a/results.json" in table and "b/results.json" in table


@pytest.mark.parametrize("suffix", [".jsonl", ".json.gz", ".jsonl.gz"])
def test_json_lines_and_gzipped_files(xmodal, data, results, tmp_path, suffix):
    lines = ("\n\n".join(map(json.dumps, entries())) + "\n") if "jsonl" in suffix else json.dumps(entries())
    content = lines.encode()
    file = tmp_path / f"results{suffix}"
    file.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    expected = xmodal("eval", results(entries()), "--data", data, "--json").json
    done = xmodal("eval", file, "--data", data, "--json")
    assert done.code == 0, done.err
    assert done.json == expected | {"model": file.name}


def test_a_bad_line_is_named(xmodal, data, results):
    good = json.dumps(entries()[0])
    for line, reason in (("{", "line 3 is not valid JSON"), ('{"image_id": 3}', "line 3 has no 'caption'")):
        file = results(f"{good}\n\n{line}\n", "results.jsonl")
        check_error(xmodal("eval", file, "--data", data), file, reason)
    check_error(xmodal("eval", results("\n", "empty.jsonl"), "--data", data), "is not a list of captions")
    file = results("not gzip", "results.json.gz")
    check_error(xmodal("eval", file, "--data", data), file)


def check_error(done, *named):
    assert (done.code, done.out) == (1, ""), done
    error, hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert len(hint) > len("hint: ") + 5
    for thing in named:
        assert str(thing) in error


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"image_id": 5,', "is not valid JSON"),
        ('{"annotations": []}', "is not a list of captions"),
        ("[]", "is not a list of captions"),
        ([{"image_id": 5}], "entry 1 has no 'caption'"),
        ([{"image_id": 5, "caption": 3}], "entry 1 has '3' as 'caption'"),
        ([{"image_id": [5], "caption": "a"}], "entry 1 has '[5]' as 'image_id'"),
        ([5], "entry 1 has no 'image_id'"),
        ([{"image_id": 99, "caption": "a"}], "99 is not an image of"),
        ([{"image_id": "pic_1.png", "caption": "a"}], "pic_1.png is in the split val, but the split test is evaluated"),
        ([*entries(), {"image_id": 2, "caption": "a"}], "has two captions for 2"),
        (entries()[:3], "has no caption for 1 of the 4 images of test: 11"),
    ],
)
def test_files_that_cannot_be_scored(xmodal, data, results, content, reason):
    file = results(content)
    check_error(xmodal("eval", file, "--data", data), file, reason)


def test_captions_for_images_without_references_are_ignored(xmodal, data, results):
    content = [{"image_id": n, "caption": f"a {WORDS[n % 4]} square"} for n in (0, 3, 6, 9, 12)]
    assert xmodal("eval", results(content), "--data", data, "--split", "train", "--json").json["images"] == 4


def test_invalid_combinations(xmodal, data, results, tmp_path):
    file = results(entries())
    check_error(xmodal("eval", tmp_path / "no.json", "--data", data), "no.json")
    check_error(xmodal("eval", file), "scored against a dataset")
    check_error(xmodal("eval", file, "--data", data, "--split", "tst"), "tst")
    check_error(xmodal("eval", file, "--data", data, "--ndcg"), "--ndcg applies only to matchers")
    check_error(xmodal("eval", file, "--data", data, "--folds", 5), "--folds")
    check_error(xmodal("eval", file, file, "--data", data, "--ensemble"), "an ensemble needs at least two captioners")
    vectors = tmp_path / "vectors.npz"
    vectors.touch()
    check_error(xmodal("eval", vectors, file, "--data", data), file, vectors)
    check_error(xmodal("eval", vectors, "--beam", 3), "--beam applies only to captioners")


def write(file, **changes):
    file.write_text(json.dumps(entries(**changes)), encoding="utf-8")
    return file


def test_a_report_has_the_captions_by_their_cider(xmodal, data, tmp_path):
    file = write(tmp_path / "results.json", c5="a grey square", c8="<b>nothing</b> here")
    done = xmodal("eval", file, "--data", data, "--report", tmp_path / "report", "--json")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert done.code == 0 and f"<title>results.json on {data} test</title>" in page
    lowest, sample, highest = page.split("<h2>")[2:5]
    assert lowest.startswith("Lowest CIDEr") and highest.startswith("Highest CIDEr")
    for section in (lowest, sample, highest):
        assert section.count("<article") == section.count('src="data:image/jpeg') == 4
    assert "&lt;b&gt;nothing&lt;/b&gt; here" in "".join(lowest.split("</article>")[:2])  # both score 0
    assert "<b>" not in page
    assert "A grey square." in page and "the grey one 11" in page  # references
    scores = [float(text.partition("<")[0]) for text in lowest.split("CIDEr ")[2:]]
    assert scores == sorted(scores) and scores[0] == 0 < scores[-1]
    assert abs(sum(scores) / 4 - done.json["cider"]) < 0.01
    again = xmodal("eval", file, "--data", data, "--report", tmp_path / "report")
    assert again.code == 0  # replaces its own page


def test_a_report_is_refused_early(xmodal, data, tmp_path):
    file = write(tmp_path / "results.json")
    other = write(tmp_path / "other.json")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "index.html").write_text("mine", encoding="utf-8")
    check_error(xmodal("eval", file, "--data", data, "--report", tmp_path / "taken"), "index.html")
    assert (tmp_path / "taken" / "index.html").read_text(encoding="utf-8") == "mine"
    check_error(xmodal("eval", file, other, "--data", data, "--report", tmp_path / "r"), "a report is for one model")
    check_error(xmodal("eval", file, "--data", data, "--report", file), "is a file, but a report is a folder")
    assert not (tmp_path / "r").exists()

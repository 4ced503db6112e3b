"""All region formats are read exactly from small files; errors have the file, the line and the reason."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
from helpers.small_regions import DIM, HEIGHT, WIDTH, WRITERS, Made, b64, bottom_up_line, label_line, vinvl_line

from xmodal_cli import catalog
from xmodal_cli.data.region_reading import open_regions, plain_name
from xmodal_cli.data.region_records import UNIT_SIZE, Regions, region_rows
from xmodal_cli.data.regions import _lines
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.regions import SMALLEST_SIDE


def expected_rows(made: Made, num_rows: int, has_scores: bool, has_classes: bool) -> np.ndarray:
    """A naive ``region_rows`` in float64."""
    rows = []
    for i in range(len(made.features)):
        x1, y1, x2, y2 = (float(v) for v in made.boxes[i])
        box = [x1 / WIDTH, y1 / HEIGHT, x2 / WIDTH, y2 / HEIGHT]
        score, label = float(made.scores[i]) if has_scores else 1.0, int(made.classes[i]) if has_classes else 0
        area = (x2 - x1) * (y2 - y1) / (WIDTH * HEIGHT)
        rows.append([*made.features[i].tolist(), *box, area, score, label])
    if has_scores:
        rows.sort(key=lambda row: -row[-2])
    return np.array((rows + [[0.0] * (DIM + 7)] * num_rows)[:num_rows])


@pytest.mark.parametrize("name", WRITERS)
def test_regions_are_read_exactly(tmp_path, region_files, name):
    format, write, has_scores, has_classes = WRITERS[name]
    write(tmp_path, region_files)
    source = open_regions(tmp_path)
    assert (source.format, source.width(), len(source)) == (format, DIM, len(region_files))
    assert source.num_bytes == sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    for image_id, made in region_files.items():
        regions = source.read(source.find((image_id,)))
        assert regions.lacks_size == (name == "npz and npy in folders")
        if regions.lacks_size:
            regions = Regions(regions.where, regions.features, regions.boxes, (WIDTH, HEIGHT))
        rows = region_rows(regions, 36)
        assert rows.dtype == np.float32
        expected = expected_rows(made, 36, has_scores, has_classes)
        np.testing.assert_array_equal(rows[:, :DIM], expected[:, :DIM].astype(np.float32))
        np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_each_format_follows_the_contract():
    assert {entry[0] for entry in WRITERS.values()} | {"stacked"} == set(catalog.names("region_format"))
    for name in catalog.names("region_format"):
        module = catalog.load("region_format", name)
        assert module.__doc__ and all(callable(getattr(module, f)) for f in ("matches", "files", "locations", "read"))


def test_a_file_is_read_as_well_as_its_folder(tmp_path, region_files):
    file = tmp_path / "any name"
    file.write_text("".join(bottom_up_line(n, m) for n, m in region_files.items()), newline="")
    assert open_regions(file).format == "bottom-up-tsv" and len(open_regions(file)) == 4
    file.write_text("".join(vinvl_line(n, m) for n, m in region_files.items()))
    assert open_regions(file).format == "vinvl-tsv"


def stack(folder, region_files, names=("pic0", "pic3"), **arrays):
    ims = np.stack([np.resize(region_files[n].features, (36, DIM)) for n in names])
    np.save(folder / "test_ims.npy", ims)
    for suffix, values in arrays.items():
        np.save(folder / f"test_{suffix}.npy", values)
    (folder / "test_ids.txt").write_text("".join(f"{n}\n" for n in names))
    return ims


def test_stacked_arrays_with_names(tmp_path, region_files):
    ims = stack(tmp_path, region_files)
    source = open_regions(tmp_path)
    assert source.format == "stacked" and source.width() == DIM
    rows = region_rows(source.read("pic3"), 36)
    np.testing.assert_array_equal(rows[:, :DIM], ims[1])
    np.testing.assert_array_equal(rows[:, DIM:], np.tile([0, 0, 1, 1, 1, 1, 0], (36, 1)))  # the full image
    assert open_regions(tmp_path / "test_ims.npy").find(("pic3",)) == "pic3"


def test_stacked_arrays_with_boxes_sizes_repeated_names_and_a_mapping(tmp_path, region_files):
    boxes = np.stack([np.resize(region_files[n].boxes, (36, 4)) for n in ("pic0", "pic3")])
    stack(tmp_path, region_files, boxes=boxes, img_sizes=np.array([[WIDTH, HEIGHT], [2 * WIDTH, HEIGHT]]))
    (tmp_path / "test_ids.txt").write_text("7\n7\n7\n9\n9\n9\n")
    (tmp_path / "id_mapping.json").write_text(json.dumps({"7": "x/first.jpg", "9": "second.jpg", "11": "third.jpg"}))
    source = open_regions(tmp_path)
    rows = region_rows(source.read(source.find(("nowhere", "second.jpg"))), 36)
    expected = boxes[1] / (2 * WIDTH, HEIGHT, 2 * WIDTH, HEIGHT)
    np.testing.assert_allclose(rows[:, DIM : DIM + 4], expected, atol=1e-6)
    assert source.find(("7",)) == "7" and source.find(("third",)) is None


def test_stacked_arrays_that_do_not_match(tmp_path, region_files):
    stack(tmp_path, region_files, ims_bbx=np.zeros((5, 36, 4), np.float32))
    with pytest.raises(BadData, match=r"test_ims_bbx\.npy does not have the 2 rows"):
        open_regions(tmp_path).find(("pic0",))
    (tmp_path / "test_ims_bbx.npy").unlink()
    (tmp_path / "test_ids.txt").write_text("pic0\n")
    with pytest.raises(BadData, match=r"test_ids\.txt has 1 names and test_ims\.npy has 2 rows"):
        open_regions(tmp_path).find(("pic0",))
    (tmp_path / "test_ids.txt").unlink()
    with pytest.raises(MissingData, match=r"needs test_ids\.txt"):
        open_regions(tmp_path).find(("pic0",))
    np.save(tmp_path / "test_ims.npy", np.zeros((2, 5), np.float32))
    (tmp_path / "test_ids.txt").write_text("a\nb\n")
    with pytest.raises(BadData, match="2 x 5, not images x regions x dim"):
        open_regions(tmp_path).find(("a",))
    (tmp_path / "test_ims.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(BadData, match=r"test_ims\.npy: it cannot be read"):
        open_regions(tmp_path).find(("a",))


def test_boxes_in_a_folder_next_to_the_feature_folder(tmp_path, region_files):
    (tmp_path / "bu_att").mkdir()
    (tmp_path / "bu_box").mkdir()
    np.savez(tmp_path / "bu_att" / "pic0.npz", feat=region_files["pic0"].features)
    np.save(tmp_path / "bu_box" / "pic0.npy", region_files["pic0"].fractions)
    regions = open_regions(tmp_path / "bu_att").read("pic0")
    np.testing.assert_array_equal(regions.boxes, region_files["pic0"].fractions)


def test_exact_names_take_precedence_over_plain_names(tmp_path, region_files):
    names = ("COCO_val2014_000000000042", "042", "42.jpg", "x/y.png")
    assert [plain_name(n) for n in names] == ["42", "42", "42", "y"]
    assert plain_name("000") == "0" and plain_name("a_01.tar") == "a_01.tar"
    file = tmp_path / "r.tsv"
    file.write_text("".join(bottom_up_line(n, region_files["pic0"]) for n in ("42", "pic.0.jpg", "042")))
    source = open_regions(file)
    assert source.find(("042", "42")) == "042" and source.find(("COCO_train2014_000000000042.jpg",)) == "42"
    assert source.find(("pic.0",)) == "pic.0.jpg" and source.find(("pic",)) is None


def test_the_last_line_of_a_repeated_name_is_used(tmp_path, region_files):
    file = tmp_path / "r.tsv"
    file.write_text(
        bottom_up_line("a", region_files["pic0"]) + "\n" + bottom_up_line("a", region_files["pic1"]), newline=""
    )
    np.testing.assert_array_equal(open_regions(file).read("a").features, region_files["pic1"].features)


def test_fields_written_as_the_repr_of_bytes(tmp_path, region_files):
    line = bottom_up_line("a", region_files["pic0"]).rstrip().split("\t")
    (tmp_path / "r.tsv").write_text("\t".join([*line[:4], f"b'{line[4]}'", f"b'{line[5]}'"]))
    np.testing.assert_array_equal(open_regions(tmp_path).read("a").boxes, region_files["pic0"].boxes)


def test_boxes_are_clipped_to_the_image_and_have_a_smallest_side():
    boxes = np.array([[-0.5, 10, 20, 10], [200, 100, 201, 100.5], [0, 0, 200, 100], [50, 50, 50, 50]], np.float32)
    rows = region_rows(Regions("here", np.ones((4, 2), np.float32), boxes, (200, 100)), 5)
    assert (rows[:4, 2:6] >= 0).all() and (rows[:4, 2:6] <= 1).all()
    assert ((rows[:4, 4:6] - rows[:4, 2:4]) > 0.99 * SMALLEST_SIDE).all()
    assert (rows.astype(np.float16)[:4, 6] > 0).all()
    np.testing.assert_array_equal(rows[2, 2:7], [0, 0, 1, 1, 1])
    assert not rows[4].any()


def test_regions_with_the_highest_scores_are_kept():
    scores = np.array([0.1, 0.9, 0.5, 0.9], np.float32)
    features = np.arange(4, dtype=np.float32)[:, None]
    rows = region_rows(Regions("here", features, None, None, scores, np.array([3, 4, 5, 6])), 3)
    np.testing.assert_array_equal(rows[:, 0], [1, 3, 2])
    np.testing.assert_allclose(rows[:, -2:], [[0.9, 4], [0.9, 6], [0.5, 5]], rtol=1e-6)


WRONG = {
    "x1 > x2 or y1 > y2": {"boxes": np.array([[5, 5, 1, 9]], np.float32)},
    "outside its image of 10 x 10": {"boxes": np.array([[0, 0, 20, 5]], np.float32)},
    "not all finite": {"features": np.array([[1, np.nan]], np.float32)},
    "its features are not all finite": {"features": np.array([[1e300]])},
    "its boxes are not all finite": {"boxes": np.array([[0, 0, np.inf, 5]], np.float32)},
    "1 regions and 2 boxes": {"boxes": np.zeros((2, 4), np.float32)},
    "1 regions and 3 scores": {"scores": np.zeros(3, np.float32)},
    "its boxes are float32 1 x 5": {"boxes": np.zeros((1, 5), np.float32)},
    "its features are <U1 1 x 1": {"features": np.array([["a"]])},
    "its features are float32 2": {"features": np.zeros(2, np.float32)},
    "no regions": {"features": np.zeros((0, 3), np.float32)},
    "0 x 10": {"boxes": np.array([[0, 0, 5, 5]], np.float32), "size": (0, 10)},
}


@pytest.mark.parametrize("reason", WRONG)
def test_invalid_regions_are_errors(reason):
    fields = {"features": np.ones((1, 2), np.float32), "size": (10, 10), **WRONG[reason]}
    with pytest.raises(BadData, match=f"^here: .*{reason}"):
        region_rows(Regions("here", **fields), 3)


def test_boxes_that_are_fractions_need_no_size():
    boxes = np.array([[0, 0, 0.5, 1]], np.float32)
    for size in (None, UNIT_SIZE, (640, 480)):
        regions = Regions("here", np.ones((1, 1), np.float32), boxes, size)
        assert not regions.lacks_size
        np.testing.assert_array_equal(region_rows(regions, 1)[0, 1:6], [0, 0, 0.5, 1, 0.5])


def change_field(line: str, column: int, change) -> str:
    fields = line.rstrip("\r\n").split("\t")
    fields[column] = change(fields[column])
    return "\t".join(fields) + "\n"


DAMAGED_TSV = {
    "3 columns": lambda line: "\t".join(line.split("\t")[:3]) + "\n",
    "features are not base64": lambda line: change_field(line, 5, lambda text: text[:-3] + "***"),
    r"\d+ bytes of features are not 3 rows": lambda line: change_field(line, 5, lambda text: text[:-4]),
    r"\d+ bytes of boxes are not 3 rows": lambda line: change_field(line, 4, lambda text: text[:8]),
    "num_boxes is b'three'": lambda line: change_field(line, 3, lambda text: "three"),
    "image_w is b'wide'": lambda line: change_field(line, 1, lambda text: "wide"),
    "it has no regions": lambda line: change_field(line, 3, lambda text: "0"),
}


@pytest.mark.parametrize("reason", DAMAGED_TSV)
def test_errors_have_the_line(tmp_path, region_files, reason):
    file = tmp_path / "r.tsv"
    good = bottom_up_line("pic0", region_files["pic0"])
    file.write_text(good + DAMAGED_TSV[reason](bottom_up_line("pic1", region_files["pic1"])), newline="")
    source = open_regions(file)
    assert len(source.read("pic0").features) == 2
    with pytest.raises(BadData, match=rf"r\.tsv line 2: .*{reason}"):
        source.read("pic1")


def test_lines_without_a_valid_name(tmp_path, region_files, monkeypatch):
    file = tmp_path / "r.tsv"
    good = bottom_up_line("pic0", region_files["pic0"])
    for bad, reason in (("12", "no tab"), ("\udcff\t1\n", "UTF-8")):
        file.write_bytes((good + bad).encode(errors="surrogateescape"))
        with pytest.raises(BadData, match=f"line 2: .*{reason}"):
            open_regions(file).find(("pic0",))
    file.write_text(good * 2 + "x\t" + "y" * 5000, newline="")
    monkeypatch.setattr(_lines, "MAX_LINE_BYTES", 4000)
    with pytest.raises(BadData, match="line 3: it is longer"):
        open_regions(file).find(("pic0",))


def test_damaged_vinvl_lines(tmp_path, region_files):
    file = tmp_path / "features.tsv"
    good = vinvl_line("pic0", region_files["pic0"])
    entries = ["not json", '{"num_boxes": 2}', '{"num_boxes": "x", "features": ""}', "[1]", '{"objects": 3}', "null"]
    bad = [f"bad{n}\t{text}\n" for n, text in enumerate(entries)]
    file.write_text(good + "".join(bad) + "cut\n"[:-1] + "\tx\ty\tz\n")
    source = open_regions(file)
    np.testing.assert_array_equal(source.read("pic0").features, region_files["pic0"].features)
    for n in range(len(bad)):
        with pytest.raises(BadData, match=rf"features\.tsv line {n + 2}: .*JSON"):
            source.read(f"bad{n}")
    with pytest.raises(BadData, match="4 columns"):
        source.read("cut")
    (tmp_path / "labels.tsv").write_text('pic0\t[{"conf": "high", "rect": 4}]\n')
    with pytest.raises(BadData, match=r"labels\.tsv line 1"):
        open_regions(tmp_path).read("pic0")


def test_vinvl_rows_without_geometry_take_boxes_and_scores_from_the_labels(tmp_path, region_files):
    regions = region_files["pic1"]
    entry = json.dumps({"num_boxes": 3, "features": b64(regions.features)})
    (tmp_path / "test.feature.tsv").write_text(f"pic1\t{entry}\n")
    (tmp_path / "test.label.tsv").write_text(label_line("pic1", regions))
    read = open_regions(tmp_path).read("pic1")
    np.testing.assert_allclose(read.boxes, regions.boxes, rtol=1e-6)
    np.testing.assert_allclose(read.scores, regions.scores, rtol=1e-6)
    assert read.lacks_size and read.features.shape == (3, DIM)


def test_damaged_array_files(tmp_path, region_files):
    np.savez(tmp_path / "good.npz", features=region_files["pic0"].features)
    content = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.npy").write_bytes(b"")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "pickled.npz", features=np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    np.savez(tmp_path / "size.npz", x=np.zeros((1, 2)), image_w=np.zeros(2), image_h=3)
    source = open_regions(tmp_path)
    assert source.width() == 5
    for name, reason in (
        ("cut", ""),
        ("empty", ""),
        ("objects", ""),
        ("pickled", "allow_pickle"),
        ("other", "no array"),
    ):
        with pytest.raises(BadData, match=rf"{name}\.np.: .*{reason}"):
            source.read(name)
    with pytest.raises(BadData, match="size is not a number"):
        source.read("size")
    (tmp_path / "good.npz").unlink()
    (tmp_path / "size.npz").unlink()
    with pytest.raises(BadData, match="has no readable regions, for example"):
        open_regions(tmp_path).width()


def test_missing_files_and_unknown_formats(tmp_path):
    with pytest.raises(MissingData, match="nowhere"):
        open_regions(tmp_path / "nowhere")
    for content in ("", "hello\n", "a\tb\n"):
        (tmp_path / "x.tsv").write_text(content)
        with pytest.raises(BadData, match="known"):
            open_regions(tmp_path / "x.tsv")
    with pytest.raises(BadData) as caught:
        open_regions(tmp_path)
    assert all(name in caught.value.hint for name in catalog.names("region_format"))


def test_the_fingerprint_depends_on_names_sizes_and_times(tmp_path, region_files):
    WRITERS["npz"][1](tmp_path, region_files)
    before = open_regions(tmp_path).fingerprint
    assert open_regions(tmp_path).fingerprint == before
    file = tmp_path / "pic0.npz"
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    touched = open_regions(tmp_path).fingerprint
    file.rename(tmp_path / "pic9.npz")
    assert len({before, touched, open_regions(tmp_path).fingerprint}) == 3

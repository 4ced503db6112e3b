"""Embeddings files know their rows: another split, dataset or other captions are refused, alone and in ensembles."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest


@pytest.fixture(scope="module")
def written(trained, planted, tmp_path_factory):
    """Files of the vectors of each split, by split and format."""
    from xmodal_cli.data.selection import load_split
    from xmodal_cli.recipes.vectors import dataset_vectors

    folder = tmp_path_factory.mktemp("vectors")
    for split in ("val", "test"):
        for suffix in ("npz", "safetensors"):
            part = load_split(str(planted), split)
            dataset_vectors(str(trained), part, folder / f"{split}.{suffix}")
    return folder


def same_size(planted, folder):
    """The data with a val split of the size of the test split, as val and test of Flickr8k have."""
    shutil.copytree(planted, folder)
    rows = np.load(folder / "toy_test_ims.npy")
    captions = (folder / "toy_test_caps.txt").read_text(encoding="utf-8").splitlines()
    np.save(folder / "toy_dev_ims.npy", rows[::-1])
    groups = [captions[3 * n : 3 * n + 3] for n in range(len(rows))][::-1]
    lines = [line for group in groups for line in group]
    (folder / "toy_dev_caps.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_the_vectors_of_another_split_are_refused_and_the_hint_leads_out(xmodal, written, planted, suffix):
    file = written / f"test.{suffix}"
    done = xmodal("eval", file, "--data", planted, "--split", "val", "--json")
    assert (done.code, done.out) == (1, "")
    assert "has the vectors of test of " in done.err.splitlines()[0]
    assert "--split test" in done.err.splitlines()[1]
    assert xmodal("eval", file, "--data", planted, "--split", "test", "--json").code == 0


def test_a_split_of_the_same_size_is_another_split(xmodal, written, planted, tmp_path):
    data = same_size(planted, tmp_path / "same")
    done = xmodal("eval", written / "test.npz", "--data", data, "--split", "val", "--ranks", tmp_path / "r.jsonl")
    assert done.code == 1
    assert "of test of" in done.err
    assert not (tmp_path / "r.jsonl").exists()


def test_other_captions_of_the_same_images_are_refused(xmodal, written, planted, tmp_path):
    data = tmp_path / "other"
    shutil.copytree(planted, data)
    file = data / "toy_test_caps.txt"
    first, *others = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join(["another caption", *others]) + "\n", encoding="utf-8")
    done = xmodal("eval", written / "test.npz", "--data", data)
    assert done.code == 1
    assert "with other captions than test of" in done.err
    assert first != "another caption"


def test_an_ensemble_of_two_splits_is_refused_without_the_dataset_too(xmodal, written, trained, planted, tmp_path):
    from xmodal_cli.data.selection import load_split
    from xmodal_cli.recipes.vectors import dataset_vectors

    data = same_size(planted, tmp_path / "same")
    for split in ("val", "test"):
        dataset_vectors(str(trained), load_split(str(data), split), tmp_path / f"{split}.npz")
    done = xmodal("eval", tmp_path / "val.npz", tmp_path / "test.npz", "--ensemble")
    assert done.code == 1
    assert "different images or captions" in done.err
    assert xmodal("eval", tmp_path / "test.npz", written / "test.safetensors").code == 0


def test_the_files_carry_ids_split_and_fingerprint(written, planted):
    from safetensors import safe_open

    from xmodal_cli.data.fingerprint import fingerprint
    from xmodal_cli.data.selection import load_split

    part = load_split(str(planted), "test")
    with np.load(written / "test.npz", allow_pickle=False) as arrays:
        assert str(arrays["split"]) == "test"
        assert tuple(arrays["image_ids"]) == part.ids
        assert str(arrays["fingerprint"]) == fingerprint(part)
    with safe_open(written / "test.safetensors", framework="np") as opened:
        metadata = opened.metadata()
    assert (metadata["split"], tuple(json.loads(metadata["image_ids"]))) == ("test", part.ids)


def test_a_file_without_them_is_evaluated_with_a_warning(xmodal, written, planted, tmp_path):
    with np.load(written / "test.npz", allow_pickle=False) as arrays:
        old = {name: arrays[name] for name in ("images", "texts", "image_of_caption", "similarity")}
    np.savez(tmp_path / "old.npz", **old)
    done = xmodal("eval", tmp_path / "old.npz", "--data", planted, "--json")
    assert done.code == 0
    assert "does not record its images" in done.err
    new = xmodal("eval", written / "test.npz", "--data", planted, "--json")
    assert new.json["rsum"] == done.json["rsum"]
    assert "does not record" not in new.err


def test_image_ids_that_do_not_fit_the_vectors_are_an_error(xmodal, written, tmp_path):
    with np.load(written / "test.npz", allow_pickle=False) as arrays:
        broken = {name: arrays[name] for name in arrays.files}
    broken["image_ids"] = broken["image_ids"][:-1]
    np.savez(tmp_path / "broken.npz", **broken)
    done = xmodal("eval", tmp_path / "broken.npz")
    assert done.code == 1
    assert "44 image ids for 45 image vectors" in done.err

"""Valid embeddings files, features, results files, sentences and regions, and their readers."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from helpers.damage import Kind
from helpers.small_regions import HEIGHT, WIDTH, WRITERS, make_regions, write_stacked
from xmodal_cli.data import region_reading
from xmodal_cli.data.npy_files import map_features
from xmodal_cli.data.region_records import region_rows
from xmodal_cli.data.sentences import read_sentences
from xmodal_cli.evaluation.embeddings import is_embeddings, read_embeddings
from xmodal_cli.evaluation.results_file import read_results
from xmodal_cli.evaluation.scoring import score_embeddings
from xmodal_cli.features import shards, store
from xmodal_cli.types import FeatureMeta

META = FeatureMeta("toy-backbone", "e" * 64, "global", 8)


def make_npz(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {"images": rng.normal(size=(4, 3)), "texts": rng.normal(size=(4, 3)), "image_of_caption": np.arange(4)}
    np.savez(folder / "vectors.npz", **arrays, similarity=np.array("cosine"))
    return folder / "vectors.npz"


def make_vectors(folder: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    arrays = {"images": rows, "texts": rows, "image_of_caption": np.arange(4)}
    save_file(arrays, folder / "vectors.safetensors", {"similarity": "cosine"})
    return folder / "vectors.safetensors"


def read_vectors(file: Path) -> None:
    is_embeddings(str(file))
    score_embeddings(read_embeddings(file))


def make_npy(folder: Path) -> Path:
    np.save(folder / "ims.npy", np.ones((4, 3), np.float32))
    return folder / "ims.npy"


def make_summary(folder: Path) -> Path:
    metadata = shards.ShardMetadata("plan", ("a", "b"), (("c", "c.png", "damaged"),))
    shards.write_shard(shards.shard_path(folder, 0), [np.ones(8), np.zeros(8)], metadata)
    skipped = (store.Skipped("c", "c.png", "damaged"),)
    store.write_summary(
        folder, store.StoreSummary(META, ("a", "b"), skipped, (2,), "digest", store.FileStamp("w", 1, 2))
    )
    return folder / store.SUMMARY


def read_store(file: Path) -> None:
    opened = store.open_store(file.parent)
    opened.load()
    opened.meta.key()
    shards.read_shard_metadata(shards.shard_path(file.parent, 0))


def make_shard(folder: Path) -> Path:
    make_summary(folder)
    return shards.shard_path(folder, 0)


def make_results(folder: Path) -> Path:
    (folder / "results.json").write_text(
        json.dumps([{"image_id": 1, "caption": "a dog"}, {"image_id": "b", "caption": ""}])
    )
    return folder / "results.json"


def make_sentences(folder: Path) -> Path:
    (folder / "sentences.txt").write_text("one\ntwo\n")
    return folder / "sentences.txt"


REGION_FILES = {  # the name of a writer -> the files that are damaged
    "npz": ("pic0.npz",),
    "npz and npy in folders": ("bu_att/pic0.npz", "bu_box/pic0.npy"),
    "npy": ("pic0.npy", "pic0_box.npy"),
    "bottom-up": ("a.tsv",),
    "lxmert": ("obj36.tsv",),
    "vinvl": ("features.tsv",),
    "vinvl with labels": ("features.tsv", "labels.tsv"),
    "vinvl in columns": ("train.feature.tsv",),
    "predictions": ("predictions.tsv",),
    "stacked": ("train_ims.npy", "train_ids.txt", "train_boxes.npy", "train_img_sizes.npy", "id_mapping.json"),
}


def make_region_file(writer: str, name: str, folder: Path) -> Path:
    """A folder with the regions of three images; its file ``name`` is returned."""
    write = write_stacked if writer == "stacked" else WRITERS[writer][1]
    (folder / "regions").mkdir()
    write(folder / "regions", make_regions((2, 2, 2)))
    return folder / "regions" / name


def read_region_folder(name: str, file: Path) -> None:
    """All regions of the folder in which ``file`` has the name ``name``."""
    region_reading._read_locations.cache_clear()  # damages may keep size and time
    source = region_reading.open_regions(file.parents[name.count("/")])
    source.width()
    for image in ("pic0", "pic1", "pic2"):
        found = source.find((image,))
        if found is not None:
            regions = source.read(found)
            region_rows(replace(regions, size=regions.size or (WIDTH, HEIGHT)), 36)


def _region_kinds() -> dict[str, Kind]:
    return {
        f"{writer}: {name}": Kind(
            partial(make_region_file, writer, name), partial(read_region_folder, name), "/regions"
        )
        for writer, names in REGION_FILES.items()
        for name in names
    }


REGION_KINDS = _region_kinds()
KINDS = {
    "npz": Kind(make_npz, read_vectors),
    "vectors": Kind(make_vectors, read_vectors),
    "npy": Kind(make_npy, map_features),
    "summary": Kind(make_summary, read_store),
    "shard": Kind(make_shard, read_store),
    "results": Kind(make_results, read_results),
    "sentences": Kind(make_sentences, read_sentences),
    **REGION_KINDS,
}

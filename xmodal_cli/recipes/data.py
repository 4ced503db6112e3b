"""``xmodal data``: list, describe, register, generate and download datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from xmodal_cli.data import registry
from xmodal_cli.data.archives import extract
from xmodal_cli.data.download import fetch
from xmodal_cli.data.images import image_size
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.data.sources import SOURCES, Source
from xmodal_cli.errors import BadData, DownloadError, UnknownName, XmodalError
from xmodal_cli.file_lock import folder_lock
from xmodal_cli.paths import data_dir
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import ImageTextDataset, Unreadable


def list_datasets() -> list[dict[str, Any]]:
    """Every name that ``--data`` accepts: registered datasets, ``shapes``, and datasets that can be downloaded."""
    registered = registry.list_registered()
    entries: list[dict[str, Any]] = [
        {"name": name, "state": "present" if path.exists() else "missing", "path": str(path), "about": ""}
        for name, path in registered.items()
    ]
    if registry.SHAPES not in registered:
        about = "generated images of colored shapes, created at first use"
        entries.append({"name": registry.SHAPES, "state": "built in", "path": None, "about": about})
    for name, source in SOURCES.items():
        if name not in registered:
            entries.append({"name": name, "state": "to fetch", "path": None, "about": source.title})
    return sorted(entries, key=lambda entry: str(entry["name"]))


def dataset_info(what: str, format: str | None = None, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Counts per split, captions per image, image sizes, unreadable images. Raises the errors of ``load_dataset``."""
    dataset = registry.load_dataset(what, format)
    sizes, unreadable = _read_sizes(dataset, reporter)
    captions = [len(example.captions) for example in dataset.examples]
    words = [len(caption.split()) for caption in dataset.captions]
    return {
        **_summary(dataset),
        "captions_per_image": _spread(captions),
        "words_per_caption": _spread(words),
        "image_sizes": [{"size": f"{w}x{h}", "images": count} for (w, h), count in sizes.most_common(5)],
        "distinct_sizes": len(sizes),
        "precomputed": any(example.feature is not None for example in dataset.examples),
        "unreadable": [{"path": str(image.path), "reason": image.reason} for image in unreadable],
    }


def add_dataset(name: str, path: Path, format: str | None = None) -> dict[str, Any]:
    """Register a dataset folder or file under a name. Raises the errors of reading it."""
    return _summary(registry.add(name, path, format))


def make_sample(out: Path, seed: int = 0) -> dict[str, Any]:
    """Generate the ``shapes`` dataset in a folder. Raises ConfigError if the folder is not empty."""
    make_shapes(out, seed)
    return _summary(registry.load_dataset(str(out)))


def get_dataset(name: str, out: Path | None = None, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Download, verify, unpack and register a public dataset. Existing files are not downloaded again.

    Raises UnknownName, DownloadError (its hint lists the URL and target path of every file), StorageError.
    """
    if name not in SOURCES:
        raise UnknownName.of("public dataset", name, SOURCES)
    source, folder = SOURCES[name], (out or data_dir() / name).expanduser().absolute()
    reporter.info(f"{source.title} ({source.terms})")
    with folder_lock(folder, f"the dataset {folder}", reporter):
        _fetch_files(source, folder, reporter)
    return _register(name, source, folder)


def _fetch_files(source: Source, folder: Path, reporter: Reporter) -> None:
    for remote in source.files:
        if remote.only and all((folder / member).is_file() for member in remote.only):
            continue
        try:
            archive = fetch(remote, folder, reporter)
        except DownloadError as error:
            raise DownloadError(error.message, _manual_steps(source, folder)) from error
        extract(archive, folder, remote.only, reporter)


def _register(name: str, source: Source, folder: Path) -> dict[str, Any]:
    try:
        dataset = read_dataset(folder, name=name)
    except XmodalError as error:
        hint = _manual_steps(source, folder)
        raise BadData(f"{folder} was downloaded but cannot be read: {error.message}", hint) from error
    first = dataset.examples[0].path
    if source.manual_download and (first is None or not first.exists()):
        raise DownloadError(f"the captions of {name} are in {folder}, the images are not", source.manual_download)
    return _summary(registry.add(name, folder))


def _manual_steps(source: Source, folder: Path) -> str:
    files = ", ".join(f"{remote.url} as {folder / remote.name}" for remote in source.files)
    manual = f"; {source.manual_download}" if source.manual_download else ""
    return f"run the command again to resume; or download {files}{manual}; then run the command again"


def _summary(dataset: ImageTextDataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "format": dataset.format,
        "path": str(dataset.source),
        "images": len(dataset.examples),
        "captions": len(dataset.captions),
        "splits": dataset.splits,
    }


def _read_sizes(dataset: ImageTextDataset, reporter: Reporter) -> tuple[Counter[tuple[int, int]], list[Unreadable]]:
    """The number of images per (width, height), and the unreadable images. Reads only image headers, in parallel."""
    paths = [example.path for example in dataset.examples if example.path is not None]
    sizes: Counter[tuple[int, int]] = Counter()
    unreadable: list[Unreadable] = []
    with ThreadPoolExecutor(8) as pool, reporter.task("reading image sizes", len(paths), "images") as task:
        for size in pool.map(_read_size, paths):
            if isinstance(size, Unreadable):
                unreadable.append(size)
            else:
                sizes[size] += 1
            task.advance()
    return sizes, unreadable


def _read_size(path: Path) -> tuple[int, int] | Unreadable:
    try:
        return image_size(path)
    except BadData as error:
        return Unreadable.of(path, error)


def _spread(counts: Sequence[int]) -> dict[str, float]:
    if not counts:
        return {"min": 0, "mean": 0.0, "max": 0}
    return {"min": min(counts), "mean": round(sum(counts) / len(counts), 2), "max": max(counts)}

"""``xmodal data``: what is known and present, what a path holds, downloads, names, the generated set."""

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
from xmodal_cli.paths import data_dir
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import ImageTextDataset, Unreadable


def list_datasets() -> list[dict[str, Any]]:
    """Every name that ``--data`` takes: registered ones, ``shapes``, and those that can be fetched."""
    registered = registry.list_registered()
    entries: list[dict[str, Any]] = [
        {"name": name, "state": "present" if path.exists() else "missing", "path": str(path), "about": ""}
        for name, path in registered.items()
    ]
    if registry.SHAPES not in registered:
        about = "generated pictures of coloured shapes, made at first use"
        entries.append({"name": registry.SHAPES, "state": "built in", "path": None, "about": about})
    for name, source in SOURCES.items():
        if name not in registered:
            entries.append({"name": name, "state": "to fetch", "path": None, "about": source.title})
    return sorted(entries, key=lambda entry: str(entry["name"]))


def dataset_info(what: str, format: str | None = None, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Counts per split, captions per image, sizes, and which images are missing or unreadable. Raises as reading."""
    dataset = registry.load_dataset(what, format)
    sizes, bad = _look_at_pictures(dataset, reporter)
    captions = [len(example.captions) for example in dataset.examples]
    words = [len(caption.split()) for caption in dataset.captions]
    return {
        **_summary(dataset),
        "captions_per_image": _spread(captions),
        "words_per_caption": _spread(words),
        "image_sizes": [{"size": f"{w}x{h}", "images": count} for (w, h), count in sizes.most_common(5)],
        "distinct_sizes": len(sizes),
        "precomputed": any(example.feature is not None for example in dataset.examples),
        "unreadable": [{"path": str(one.path), "reason": one.reason} for one in bad],
    }


def add_dataset(name: str, path: Path, format: str | None = None) -> dict[str, Any]:
    """Register a folder or file under a name. Raises what reading raises."""
    return _summary(registry.add(name, path, format))


def make_sample(out: Path, seed: int = 0) -> dict[str, Any]:
    """Generate the ``shapes`` set into a folder. Raises ConfigError where the folder is in use."""
    make_shapes(out, seed)
    return _summary(registry.load_dataset(str(out)))


def get_dataset(name: str, out: Path | None = None, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Fetch, check and unpack a public dataset, and register it. What is there already is not fetched again.

    Raises UnknownName, DownloadError (offline, it lists every file and where to place it), StorageError.
    """
    if name not in SOURCES:
        raise UnknownName.of("dataset to fetch", name, SOURCES)
    source, folder = SOURCES[name], (out or data_dir() / name).expanduser().absolute()
    reporter.info(f"{source.title} ({source.terms})")
    for remote in source.files:
        if remote.only and all((folder / wanted).is_file() for wanted in remote.only):
            continue
        try:
            archive = fetch(remote, folder, reporter)
        except DownloadError as error:
            raise DownloadError(error.message, _placing(source, folder)) from error
        extract(archive, folder, remote.only, reporter)
    return _register(name, source, folder)


def _register(name: str, source: Source, folder: Path) -> dict[str, Any]:
    try:
        dataset = read_dataset(folder, name=name)
    except XmodalError as error:
        raise BadData(f"{folder} is fetched and cannot be read: {error.message}", _placing(source, folder)) from error
    first = dataset.examples[0].path
    if source.manual_download and (first is None or not first.exists()):
        raise DownloadError(f"{name}: captions are at {folder}, the photos are not", source.manual_download)
    return _summary(registry.add(name, folder))


def _placing(source: Source, folder: Path) -> str:
    files = ", ".join(f"{remote.url} as {folder / remote.name}" for remote in source.files)
    manual = f"; {source.manual_download}" if source.manual_download else ""
    return f"run it again to go on; or place by hand: {files}{manual}; then run the same command"


def _summary(dataset: ImageTextDataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "format": dataset.format,
        "path": str(dataset.source),
        "images": len(dataset.examples),
        "captions": len(dataset.captions),
        "splits": dataset.splits,
    }


def _look_at_pictures(
    dataset: ImageTextDataset, reporter: Reporter
) -> tuple[Counter[tuple[int, int]], list[Unreadable]]:
    """How many pictures have which size, and those that cannot be opened; headers only, several at once."""
    paths = [example.path for example in dataset.examples if example.path is not None]
    sizes: Counter[tuple[int, int]] = Counter()
    bad: list[Unreadable] = []
    with ThreadPoolExecutor(8) as pool, reporter.task("looking at pictures", len(paths), "pictures") as task:
        for found in pool.map(_size, paths):
            if isinstance(found, Unreadable):
                bad.append(found)
            else:
                sizes[found] += 1
            task.advance()
    return sizes, bad


def _size(path: Path) -> tuple[int, int] | Unreadable:
    try:
        return image_size(path)
    except BadData as error:
        return Unreadable(path, error.message)


def _spread(counts: Sequence[int]) -> dict[str, float]:
    if not counts:
        return {"min": 0, "mean": 0.0, "max": 0}
    return {"min": min(counts), "mean": round(sum(counts) / len(counts), 2), "max": max(counts)}

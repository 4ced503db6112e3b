"""``xmodal data``: list, describe, register, generate and download datasets."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from xmodal_cli.data import registry
from xmodal_cli.data.archives import extract
from xmodal_cli.data.download import fetch
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.data.sources import SOURCES, Source
from xmodal_cli.data.summary import DatasetInfo, DatasetSummary, describe_dataset, summarize
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, DownloadError, UnknownName, XmodalError
from xmodal_cli.features.feature_source import declare_source
from xmodal_cli.features.precision import bad_feature_files
from xmodal_cli.file_lock import folder_lock
from xmodal_cli.paths import data_dir, expand_home
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import FeatureSource


def dataset_info(
    what: str, format: str | None = None, reporter: Reporter = SILENT, decode: bool = False
) -> DatasetInfo:
    """``describe_dataset`` of a name or path. Raises the errors of ``load_dataset``."""
    dataset = registry.load_dataset(what, format)
    return describe_dataset(replace(dataset, notes=dataset.notes + bad_feature_files(dataset)), reporter, decode)


def add_dataset(
    name: str,
    path: Path,
    format: str | None = None,
    features_from: FeatureSource | None = None,
    check_photos: Path | None = None,
    reporter: Reporter = SILENT,
) -> DatasetSummary:
    """Register a dataset folder or file under a name.

    ``features_from`` is the backbone of its precomputed features, ``check_photos`` a folder of photos to check it on.
    Raises the errors of reading it and of ``declare_source``.
    """
    if features_from is None:
        return summarize(registry.add(name, path, format))
    declare = partial(declare_source, source=features_from, photos=check_photos, compute=Compute(), reporter=reporter)
    return summarize(registry.add(name, path, format, declare))


def make_sample(out: Path, seed: int = 0) -> DatasetSummary:
    """Generate the ``shapes`` dataset in a folder. Raises ConfigError if the folder is not empty."""
    make_shapes(out, seed)
    return summarize(registry.load_dataset(str(out)))


def get_dataset(name: str, out: Path | None = None, reporter: Reporter = SILENT) -> DatasetSummary:
    """Download, verify, unpack and register a public dataset. Existing files are not downloaded again.

    Raises UnknownName, DownloadError (its hint lists the URL and target path of every file), StorageError.
    """
    if name not in SOURCES:
        raise UnknownName.of("public dataset", name, SOURCES)
    source, folder = SOURCES[name], expand_home(out or data_dir() / name).absolute()
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


def _register(name: str, source: Source, folder: Path) -> DatasetSummary:
    try:
        dataset = read_dataset(folder, name=name)
    except XmodalError as error:
        hint = _manual_steps(source, folder)
        raise BadData(f"{folder} was downloaded but cannot be read: {error.message}", hint) from error
    first = dataset.examples[0].path
    if source.manual_download and (first is None or not first.exists()):
        raise DownloadError(f"the captions of {name} are in {folder}, the images are not", source.manual_download)
    return summarize(registry.add(name, folder))


def _manual_steps(source: Source, folder: Path) -> str:
    files = ", ".join(f"{remote.url} as {folder / remote.name}" for remote in source.files)
    manual = f"; {source.manual_download}" if source.manual_download else ""
    return f"run the command again to resume; or download {files}{manual}; then run the command again"

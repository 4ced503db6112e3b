"""The demo on the user's photos: index, captions and searches by the default models."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.photo_files import find_photos
from xmodal_cli.demo.captions import captioned_photo
from xmodal_cli.demo.index import find, make_index
from xmodal_cli.demo.results import Captioned, OwnPhotos
from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.file_identity import reason_not_folder
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.paths import absolute_path, expand_home, indexes_dir, numbered_names
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.index import is_index
from xmodal_cli.retrieval.report import IndexReport
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.types import Unreadable

MAX_PHOTOS = 300  # of a folder; `xmodal index` takes all
NUM_CAPTIONS, NUM_OWN_QUERIES = 6, 3
GENERAL = ("people outdoors", "a dog")


@dataclass(frozen=True)
class OwnFolder:
    """A folder, the number of photos below it, and the sample that the demo uses."""

    folder: Path
    num_found: int
    sample: Sequence[Path]


def find_own_photos(folder: Path) -> OwnFolder:
    """The photos below ``folder``: all, or a sample that does not depend on the other files.

    Raises MissingData for a folder that does not exist or has no photos.
    """
    root = absolute_path(expand_home(folder))
    if problem := reason_not_folder(root):
        raise MissingData(f"{folder} {problem}", "give a folder of photos: xmodal demo ~/Pictures")
    photos = [photo.path for photo in find_photos([root]) if photo.problem is None]
    if not photos:
        raise MissingData(f"{folder} has no photos", "give a folder of photos: xmodal demo ~/Pictures")
    sample = sorted(photos, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
    return OwnFolder(root, len(photos), sample[:MAX_PHOTOS])


def index_and_caption(
    photos: OwnFolder, step: Callable[[str], AbstractContextManager[None]], reporter: Reporter
) -> OwnPhotos:
    """Index the photos, caption some of them, and search for these captions. Raises XmodalError."""
    with step("your photos: index"):
        indexed = _index(photos, reporter)
    with step("your photos: captions and searches"):
        unreadable = {entry.path for entry in indexed.unreadable}
        readable = [path for path in photos.sample if str(path) not in unreadable]
        captioner, captions = _caption(readable[:NUM_CAPTIONS])
        sentences = list(dict.fromkeys(caption.text for caption in captions if caption.text))
        queries = [*sentences[:NUM_OWN_QUERIES], *GENERAL]
        photo_of_sentence = {caption.text: caption.photo for caption in reversed(captions)}
        searches = [find(query, indexed.folder, photo_of_sentence.get(query)) for query in queries]
    problems = [f"{entry.path}: {entry.reason}" for entry in indexed.unreadable]
    return OwnPhotos(photos.folder, photos.num_found, indexed, captioner, searches, captions, problems)


def _index(photos: OwnFolder, reporter: Reporter) -> IndexReport:
    roots = [photos.folder] if len(photos.sample) == photos.num_found else list(photos.sample)
    return make_index(roots, _index_name(photos.folder), default_model("matcher"), reporter)


def _index_name(folder: Path) -> str:
    """``demo-holiday``, with a number if an index of that name has photos of other folders."""
    stem = f"demo-{folder.name}" if folder.name.isprintable() and folder.name else "demo-photos"
    return next(name for name in numbered_names(stem) if _is_free_for(indexes_dir() / name, folder))


def _is_free_for(index_folder: Path, folder: Path) -> bool:
    if not is_index(index_folder):
        return not os.path.lexists(index_folder)
    return all(Path(root).is_relative_to(folder) for root in read_metadata(index_folder).roots)


def _caption(photos: Sequence[Path]) -> tuple[str, list[Captioned]]:
    """The captioner's name, and captions of the readable photos, with attention maps if it has attention weights."""
    from xmodal_cli.inference import image_captioning

    try:
        generator = image_captioning.load_generator(CaptionRequest(attention=Path()))  # the folder is not used
    except ConfigError:
        generator = image_captioning.load_generator(CaptionRequest())
    results = generator.captions(photos)
    return generator.name, [
        captioned_photo(path, captions[0], views=generator.views)
        for path, captions in results
        if not isinstance(captions, Unreadable)
    ]

"""The demo on somebody's own photos: the default matcher and captioner, a few captions, a few searches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data.photo_files import find_photos
from xmodal_cli.demo.captions import captioned_photo
from xmodal_cli.demo.index import find, make_index
from xmodal_cli.demo.results import Captioned, OwnPhotos
from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.paths import absolute_path, indexes_dir, numbered_names
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.index import is_index, read_metadata
from xmodal_cli.types import Unreadable

MOST = 300  # photos of a folder that the demo looks at; `xmodal index` takes all
NUM_CAPTIONS, NUM_OWN_QUERIES = 6, 3
GENERAL = ("people outdoors", "a dog")


@dataclass(frozen=True)
class OwnFolder:
    """A folder, how many pictures are below it, and those that the demo takes."""

    folder: Path
    num_found: int
    taken: Sequence[Path]


def find_own_photos(folder: Path) -> OwnFolder:
    """The pictures below ``folder``: all, or a sample that stays the same while others come and go.

    Raises MissingData where there is no folder, or no picture in it.
    """
    place = absolute_path(folder.expanduser())
    if not place.is_dir():
        raise MissingData(f"there is no folder {folder}", "give a folder of photos: xmodal demo ~/Pictures")
    found = [photo.path for photo in find_photos([place]) if photo.problem is None]
    if not found:
        raise MissingData(f"there are no pictures in {folder}", "give a folder of photos: xmodal demo ~/Pictures")
    drawn = sorted(found, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
    return OwnFolder(place, len(found), drawn[:MOST])


def look_at_photos(
    photos: OwnFolder, step: Callable[[str], AbstractContextManager[None]], reporter: Reporter
) -> OwnPhotos:
    """Index the photos, caption some, and search for what was said of them. Raises XmodalError kinds."""
    with step("your photos: index"):
        indexed = _index(photos, reporter)
    with step("your photos: captions and searches"):
        unreadable = {entry["path"] for entry in indexed["unreadable"]}
        good = [path for path in photos.taken if str(path) not in unreadable]
        captioner, captions = _caption(good[:NUM_CAPTIONS])
        own = list(dict.fromkeys(caption.text for caption in captions if caption.text))
        queries = [*own[:NUM_OWN_QUERIES], *GENERAL]
        written_about = {caption.text: caption.photo for caption in reversed(captions)}
        searches = [find(query, indexed["folder"], written_about.get(query)) for query in queries]
    problems = [f"{entry['path']}: {entry['reason']}" for entry in indexed["unreadable"]]
    return OwnPhotos(photos.folder, photos.num_found, indexed, captioner, searches, captions, problems)


def _index(photos: OwnFolder, reporter: Reporter) -> dict[str, Any]:
    roots = [photos.folder] if len(photos.taken) == photos.num_found else list(photos.taken)
    return make_index(roots, _index_name(photos.folder), default_model("matcher"), reporter)


def _index_name(folder: Path) -> str:
    """``demo-Pictures``, numbered where an index of that name is of photos elsewhere."""
    stem = f"demo-{folder.name}" if folder.name.isprintable() and folder.name else "demo-photos"
    return next(name for name in numbered_names(stem) if _is_free_for(indexes_dir() / name, folder))


def _is_free_for(place: Path, folder: Path) -> bool:
    if not is_index(place):
        return not os.path.lexists(place)
    return all(Path(root).is_relative_to(folder) for root in read_metadata(place).roots)


def _caption(photos: Sequence[Path]) -> tuple[str, list[Captioned]]:
    """The captioner's name, and captions of photos that can be read, with maps where it can tell what it looked at."""
    from xmodal_cli.inference import image_captioning

    try:
        generator = image_captioning.load_generator(
            CaptionRequest(attention=Path())
        )  # the folder of the maps is not used here
    except ConfigError:
        generator = image_captioning.load_generator(CaptionRequest())
    answers = generator.captions(photos)
    return generator.name, [
        captioned_photo(path, answer[0], views=generator.views)
        for path, answer in answers
        if not isinstance(answer, Unreadable)
    ]

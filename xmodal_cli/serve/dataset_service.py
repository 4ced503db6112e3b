"""The datasets of this machine by name: their counts, and pages of their images. For one thread.

Only names that are registered are accepted, and ``shapes`` once it was generated. A dataset is read when it is first
needed, and again when its files have changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data import registry
from xmodal_cli.data.known_datasets import KnownDataset, list_datasets
from xmodal_cli.data.source_state import source_state
from xmodal_cli.errors import MissingData, UnknownName, XmodalError
from xmodal_cli.serve.browsed_dataset import BrowsedDataset, BrowsedImage, BrowsedPage, DatasetFacts
from xmodal_cli.serve.dataset_request import BrowseRequest
from xmodal_cli.shell_commands import xmodal_command

MAX_LOADED = 3  # datasets; one of the size of MS COCO takes 0.4 GB
CHECK_SECONDS = 1.0  # of the check of files, per request
PRESENT = "present"

State = tuple[str, Any]


@dataclass(frozen=True)
class ListedDataset:
    """A name that ``--data`` accepts; with its facts if it is ``present``, or the ``error`` of reading it."""

    known: KnownDataset
    facts: DatasetFacts | None = None
    error: str = ""
    hint: str = ""


class DatasetService:
    """Keeps the datasets that were used last, and the counts of all that were read."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[State, BrowsedDataset]] = {}
        self._facts: dict[str, tuple[State, DatasetFacts]] = {}

    def known(self) -> list[KnownDataset]:
        """The names that ``--data`` accepts; ``present`` are those that can be browsed. Raises BadData."""
        return [
            KnownDataset(one.name, PRESENT, Path(entry["path"]), one.about)
            if one.name == registry.SHAPES and (entry := registry.find_entry(one.name))
            else one
            for one in list_datasets()
        ]

    def describe(self, one: KnownDataset) -> ListedDataset:
        """A known dataset; reads it if it is present, unless that was done before."""
        if one.state != PRESENT:
            return ListedDataset(one)
        try:
            state, facts = self._facts.get(one.name, (None, None))
            is_current = facts is not None and state == _state(one.name)
            return ListedDataset(one, facts if is_current else self._dataset(one.name).facts)
        except XmodalError as error:
            return ListedDataset(one, None, error.message, error.hint)

    def browse(self, name: str, request: BrowseRequest) -> BrowsedPage:
        """``BrowsedDataset.browse``. Raises the errors of reading the dataset, and of a request."""
        return self._dataset(name).browse(request, CHECK_SECONDS)

    def image(self, name: str, position: int) -> tuple[DatasetFacts, BrowsedImage]:
        """An image, and its dataset. Raises the errors of reading the dataset, and MissingData."""
        browsed = self._dataset(name)
        return browsed.facts, browsed.image(position)

    def file(self, name: str, position: int) -> tuple[Path, str]:
        """The file of an image, and its version; of a dataset that is loaded, as it was read. Raises MissingData."""
        loaded = self._loaded.get(name)
        return (loaded[1] if loaded else self._dataset(name)).file(position)

    def _dataset(self, name: str) -> BrowsedDataset:
        state = _state(name)
        before, browsed = self._loaded.pop(name, (None, None))
        if browsed is None or before != state:
            del browsed  # two versions of a large dataset may not fit in memory
            browsed = BrowsedDataset(registry.load_dataset(name))
            self._facts[name] = state, browsed.facts
        self._loaded[name] = state, browsed  # the last used one is the last
        while len(self._loaded) > MAX_LOADED:
            del self._loaded[next(iter(self._loaded))]
        return browsed


def _state(name: str) -> State:
    """The entry of a dataset, and the state of its files. Raises MissingData, UnknownName, BadData."""
    entry = registry.find_entry(name)
    if entry is None:
        raise _absent(name)
    try:
        return json.dumps(entry), source_state(Path(entry["path"]))
    except OSError:  # ``load_dataset`` raises the error for what cannot be read
        return json.dumps(entry), ()


def _absent(name: str) -> XmodalError:
    known = {one.name: one.state for one in list_datasets()}
    if name not in known:
        return UnknownName.of("dataset", name[:100], known)
    if name == registry.SHAPES:
        return MissingData("the dataset shapes was not generated yet", "generate it: xmodal data info shapes")
    add = xmodal_command("data", "add", name, "PATH")
    hint = f"fetch it: {xmodal_command('data', 'get', name)}, or register a copy: {add}"
    return MissingData(f"the dataset {name} is not on this machine", hint)

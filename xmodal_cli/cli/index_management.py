"""The options of ``xmodal index`` that list and change indexes without reading photos."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.cli import output
from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.paths import expand_home

if TYPE_CHECKING:
    from xmodal_cli.retrieval.listing import ListedIndex
    from xmodal_cli.retrieval.metadata import Calibration

LISTED = 20  # folders and photos per index without --json


@dataclass(frozen=True)
class Edits:
    """The options; at most one is set."""

    show: bool
    remove: Path | None
    rename: tuple[str, str] | None
    delete: str | None
    check: bool

    def requested(self) -> list[str]:
        """The options that are set."""
        values = {
            "--list": self.show,
            "--remove": self.remove,
            "--rename": self.rename,
            "--delete": self.delete,
            "--check": self.check,
        }
        return [option for option, value in values.items() if value is not None and value is not False]


def run(edits: Edits, index: str | None, has_paths: bool, json: bool) -> None:
    """Run the requested option. Raises ConfigError for several, and what it raises."""
    options = edits.requested()
    if len(options) > 1 or has_paths:
        raise ConfigError(f"{' and '.join(options)}: give one of them, without PATH", "see xmodal index --help")
    if edits.show:
        _show_list(index, json)
    elif edits.remove is not None:
        _remove(edits.remove, index, json)
    elif edits.rename is not None:
        _rename(*edits.rename, index, json)
    elif edits.delete is not None:
        _delete(edits.delete, json)
    else:
        _check(index, json)


def _show_list(index: str | None, json: bool) -> None:
    from xmodal_cli.retrieval.listing import list_indexes

    entries = list_indexes(index)
    if json:
        output.print_json(entries)
    elif not entries:
        output.print_line("there are no indexes yet; create one: xmodal index PATH")
    for entry in [] if json else entries:
        _show_index(entry)


def _show_index(entry: ListedIndex) -> None:
    name = f"{entry.index}{' (default)' if entry.is_default else ''}"
    if entry.error:
        output.print_line(f"{name}: {entry.error}")
        return
    updated = entry.updated[:16].replace("T", " ")
    output.print_line(f"{name}: {entry.photos:,} photos, model {entry.model}, updated {updated} UTC")
    if entry.calibration is not None:
        output.print_line(f"  {describe_calibration(entry.calibration)}")
    for root in entry.roots[:LISTED]:
        state = "" if root.state == "ok" else f", {root.state}"
        output.print_line(f"  {root.path} ({root.photos:,} photos{state})")
    if len(entry.roots) > LISTED:
        output.print_line(f"  and {len(entry.roots) - LISTED:,} more (use --json to list all)")
    for pattern in entry.exclude:
        output.print_line(f"  excluded: {pattern}")


def describe_calibration(found: Calibration) -> str:
    """The measured recall, on one line."""
    recall = f"recall@10 {found.recall_at_10:.3f} on {found.num_queries} {found.queries}"
    return f"approximate search: {recall}; {found.fraction:.2%} of the cells are searched"


def _remove(path: Path, index: str | None, json: bool) -> None:
    from xmodal_cli.paths import absolute_path
    from xmodal_cli.retrieval.edits import remove_root

    root = str(absolute_path(expand_home(path)))
    folder = _folder_with(root, index)
    count = remove_root(folder, root)
    facts = {"index": folder.name, "folder": str(folder), "removed_root": root, "removed": count}
    _print(
        facts, f"index {folder.name}: the folder {root} and its {count} photos were removed; the files are kept", json
    )


def _rename(old: str, new: str, index: str | None, json: bool) -> None:
    from xmodal_cli.paths import absolute_path
    from xmodal_cli.retrieval import registry
    from xmodal_cli.retrieval.edits import rename_index, rename_root

    root, target = (str(absolute_path(expand_home(word))) for word in (old, new))
    if index is not None or registry.find_with_root(root):
        folder = _folder_with(root, index)
        count = rename_root(folder, root, target)
        facts = {"index": folder.name, "folder": str(folder), "old": root, "new": target, "moved": count}
        _print(facts, f"index {folder.name}: {count} photos of {root} are now in {target}", json)
        return
    folder = rename_index(registry.find_index(old), new)
    facts = {"index": folder.name, "folder": str(folder), "old": old, "new": folder.name}
    _print(facts, f"the index {old} is now called {folder.name}", json)


def _delete(name: str, json: bool) -> None:
    from xmodal_cli.retrieval import registry
    from xmodal_cli.retrieval.edits import delete_index

    folder = registry.find_index(name)
    delete_index(folder)
    facts = {"index": folder.name, "folder": str(folder), "deleted": True}
    _print(facts, f"the index {folder.name} was deleted; the photos are kept", json)


def _check(name: str | None, json: bool) -> None:
    from dataclasses import asdict

    from xmodal_cli.retrieval import registry
    from xmodal_cli.retrieval.integrity import check_index

    checked = check_index(registry.find_index(name), output.TerminalReporter())
    size = f"{checked.num_bytes / 1e6:,.1f} MB"
    _print(asdict(checked), f"index {checked.index}: {checked.num_photos:,} photos, no damage in {size}", json)


def _folder_with(root: str, index: str | None) -> Path:
    """The index ``index``, or the only one that has the folder ``root``. Raises MissingData, ConfigError."""
    from xmodal_cli.retrieval import registry
    from xmodal_cli.retrieval.hints import index_name

    if index is not None:
        return registry.find_index(index)
    folders = registry.find_with_root(root) or [f for f in [registry.find_covering([root])] if f is not None]
    if not folders:
        raise MissingData(f"no index has the folder {root}", "see the folders of all indexes: xmodal index --list")
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        hint = f"add one of them: --index {shlex.quote(index_name(folders[0]))}"
        raise ConfigError(f"several indexes have the folder {root}: {names}", hint)
    return folders[0]


def _print(facts: dict[str, object], text: str, json: bool) -> None:
    if json:
        output.print_json(facts)
    else:
        output.print_line(text)

"""Finds caption files that no format reads, so that their images are not taken for images without captions."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.caption_columns import CAPTION_COLUMNS, EXPECTED, normalize_name
from xmodal_cli.data.caption_tables import find_layout, header_of, is_table
from xmodal_cli.data.json_starts import is_caption_object, is_coco, is_karpathy, list_keys
from xmodal_cli.errors import BadData
from xmodal_cli.shell_commands import xmodal_command

_TABLES = (".csv", ".tsv")
_WORDS = ("caption", "comment", "annotation", "result", "token", "sentence", "label", "metadata")  # in names of .txt
_UNKNOWN = "has captions, and is not in a known format"
_RESULTS = "is a results file: a list of image_id and caption without images"
_RESULT_KEYS = {"image_id", "caption"}  # of generated captions, which are not a dataset


def unread_captions(path: Path) -> BadData | None:
    """The error for a table or JSON list in ``path``, a file or a folder, whose columns or keys are unknown."""
    files = [path] if path.is_file() else sorted(file for file in path.glob("*.*") if file.is_file())
    for file in files:
        if file.name.startswith("."):
            continue
        problem = _table_problem(file) or _json_problem(file, given=path.is_file())
        if problem:
            return BadData(f"{file} {problem}", _hint(path, problem))
    return None


def _hint(path: Path, problem: str) -> str:
    if problem == _RESULTS:
        return f"score its captions: {xmodal_command('eval', path, '--data', 'DATA')}"
    return EXPECTED if path.is_file() else f"{EXPECTED}; --format folder reads the images without captions"


def _table_problem(file: Path) -> str:
    name = file.name.lower().removesuffix(".gz")
    is_text = name.endswith(".txt") and any(word in name for word in _WORDS) and is_table(file)
    if not (name.endswith(_TABLES) or is_text) or find_layout(file) is not None:
        return ""
    header = header_of(file)
    return f"has an unknown header: {header!r}" if header else ""


def _json_problem(file: Path, given: bool) -> str:
    if not file.name.lower().removesuffix(".gz").endswith(".json"):
        return ""
    if not given and is_caption_object(file):
        is_known = is_coco(file) or is_karpathy(file)
        return "has captions under another name than its format has: give the file" if is_known else _UNKNOWN
    keys = list_keys(file)
    names = {normalize_name(key) for key in keys}
    has_captions = not names.isdisjoint(CAPTION_COLUMNS)
    if not keys or (not given and (not has_captions or names == _RESULT_KEYS)):
        return ""
    if names == _RESULT_KEYS:
        return _RESULTS
    return f"is a list of entries with the keys {', '.join(keys[:8])}, without an image or a caption"

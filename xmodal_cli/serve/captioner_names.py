"""The captioners of this machine by name: runs, model files, the bundled one, and the default one, which may be a file.

A request names one of them; a path is an unknown name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from xmodal_cli.backbones.hugging_face_names import PREFIX, is_hugging_face_name
from xmodal_cli.errors import UnknownName, XmodalError
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.inference.model_reports import list_model
from xmodal_cli.inference.models import find_model, model_names
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.result_json import OPTIONAL

KIND = "captioner"


@dataclass(frozen=True)
class ListedCaptioner:
    """A captioner; ``data`` and ``cider`` (on val) are those of its training, ``error`` is why it cannot be read."""

    name: str
    default: bool
    backbone: str | None = None
    data: str | None = None
    cider: float | None = None
    error: str | None = field(default=None, metadata=OPTIONAL)


def list_captioners() -> list[ListedCaptioner]:
    """All captioners, the default one first, others by name. Raises BadData for an invalid settings file."""
    found = []
    for position, (name, what) in enumerate(_names().items()):
        if position == 0 and is_hugging_face_name(what):
            found.append(ListedCaptioner(name, True, what))
            continue
        model = list_model(what, position == 0)
        if model.kind == KIND or position == 0:
            found.append(ListedCaptioner(name, position == 0, model.backbone, model.data, model.cider, model.error))
    return found


def resolve_captioner(name: str | None) -> str:
    """What the commands take for the model ``name``, None for the default captioner. Raises UnknownName, BadData."""
    names = _names()
    if name is None:
        return next(iter(names.values()))
    if name not in names:
        raise UnknownName.of(KIND, name[:100], [captioner.name for captioner in list_captioners()])
    return names[name]


def captioner_state(what: str) -> object:
    """Size and modification time of the file of a model. Raises MissingData, UnknownName."""
    return None if is_hugging_face_name(what) else size_and_mtime(find_model(what))


def _names() -> dict[str, str]:
    """Name -> what the commands take, of models of all kinds; the default captioner is the first."""
    default, names = default_model(KIND), model_names()
    first = default if default in names or default.startswith(PREFIX) else _name_of_file(default, names)
    return {first: default, **{name: name for name in names if name != first}}


def _name_of_file(default: str, names: list[str]) -> str:
    """The name of a default captioner that was set by its path."""
    file = Path(default)
    name = file.parent.name if file.name == MODEL_FILE else file.stem
    return name if name not in names or _is_same(default, name) else f"{name} (default)"


def _is_same(default: str, name: str) -> bool:
    try:
        return find_model(default).resolve() == find_model(name).resolve()
    except XmodalError:
        return False

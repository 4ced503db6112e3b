"""``xmodal models``: list, describe, and set the default."""

from __future__ import annotations

from typing import Any

import tomli_w

from xmodal_cli import paths, starter
from xmodal_cli.errors import UnknownName, XmodalError
from xmodal_cli.inference.defaults import SECTION, default_models, read_settings
from xmodal_cli.inference.models import describe_model, model_names


def set_default(what: str) -> tuple[str, str]:
    """Make the model ``what`` the default of its kind; gives (kind, name). Raises as ``describe_model``, BadData."""
    found = describe_model(what)
    if found.kind not in starter.NAMES:
        raise UnknownName.of("kind of model", found.kind, list(starter.NAMES))
    settings = read_settings()
    chosen = dict(settings.get(SECTION, {}))
    name = what if what == found.name else found.source
    chosen[found.kind] = name
    if name == starter.NAMES[found.kind]:
        del chosen[found.kind]  # what a newer xmodal ships is then the default again
    paths.write_text(paths.config_file(), tomli_w.dumps({**settings, SECTION: chosen}))
    return found.kind, name


def list_models() -> list[dict[str, Any]]:
    """A few facts about every model by name; one that cannot be read carries its ``error``. Raises BadData."""
    defaults = default_models().values()
    entries: list[dict[str, Any]] = []
    for name in model_names():
        try:
            facts = model_info(name)
        except XmodalError as error:
            blank = dict.fromkeys(("similarity", "backbone", "data", "rsum", "cider"))
            entries.append({"name": name, "kind": "unreadable", **blank, "default": False, "error": error.message})
            continue
        short = {key: facts[key] for key in ("name", "path", "kind", "similarity", "backbone", "data")}
        scores = {score: facts["metrics"].get(score) for score in ("rsum", "cider")}
        entries.append({**short, **scores, "default": name in defaults})
    return entries


def model_info(what: str) -> dict[str, Any]:
    """All that the header says, ready for JSON; the tokenizer is given by its size. Raises as ``describe_model``."""
    info = describe_model(what)
    header = info.header
    return {
        "name": info.name,
        "path": str(info.path),
        "kind": info.kind,
        "similarity": info.similarity,
        "embed_dim": info.embed_dim,
        "backbone": info.meta.backbone,
        "features": header.backbone,
        "architecture": header.architecture,
        "vocabulary": header.architecture["vocab_size"],
        "data": header.dataset.get("name"),
        "dataset": header.dataset,
        "training": header.training,
        "metrics": header.metrics,
        "fingerprint": info.fingerprint,
        "xmodal": header.version,
    }

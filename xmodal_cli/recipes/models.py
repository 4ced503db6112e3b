"""``xmodal models``: list and describe models, and set the defaults."""

from __future__ import annotations

from typing import Any

import tomli_w

from xmodal_cli import paths, starter
from xmodal_cli.errors import UnknownName, XmodalError
from xmodal_cli.file_lock import write_lock
from xmodal_cli.inference.defaults import SECTION, TAGGER, default_models, read_settings
from xmodal_cli.inference.models import describe_model, model_names

LOCK_SECONDS = 60.0  # another process writes the settings in milliseconds
SCORES = ("rsum", "cider", "map")  # of matchers, captioners and taggers


def set_default(what: str) -> tuple[str, str]:
    """Set the default model of its kind; returns (kind, name). Raises the errors of ``describe_model``, and BadData."""
    info = describe_model(what)
    if info.kind not in (*starter.NAMES, TAGGER):
        raise UnknownName.of("kind of model", info.kind, [*starter.NAMES, TAGGER])
    name, file = what if what == info.name else info.source, paths.config_file()
    with write_lock(file.with_name(f".{file.name}.lock"), str(file), wait_seconds=LOCK_SECONDS):
        settings = read_settings()
        defaults = dict(settings.get(SECTION, {}))
        defaults[info.kind] = name
        if name == starter.NAMES.get(info.kind):
            del defaults[info.kind]  # a later version of xmodal may bundle another model
        paths.write_text(file, tomli_w.dumps({**settings, SECTION: defaults}))
    return info.kind, name


def list_models() -> list[dict[str, Any]]:
    """A summary of every model; an unreadable model has an ``error``. Raises BadData."""
    defaults = default_models().values()
    entries: list[dict[str, Any]] = []
    for name in model_names():
        try:
            facts = model_info(name)
        except XmodalError as error:
            empty = dict.fromkeys(("similarity", "backbone", "data", *SCORES))
            entries.append({"name": name, "kind": "unreadable", **empty, "default": False, "error": error.message})
            continue
        summary = {key: facts[key] for key in ("name", "path", "kind", "similarity", "backbone", "data")}
        scores = {score: facts["metrics"].get(score) for score in SCORES}
        entries.append({**summary, **scores, "default": name in defaults})
    return entries


def model_info(what: str) -> dict[str, Any]:
    """The header of a model as JSON, with the vocabulary size for the tokenizer. Raises as ``describe_model``."""
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
        "vocabulary": header.architecture["vocab_size"],  # of a tagger: the number of tags
        "data": header.dataset.get("name"),
        "dataset": header.dataset,
        "training": header.training,
        "metrics": header.metrics,
        "fingerprint": info.fingerprint,
        "xmodal": header.version,
    }

"""``xmodal models``: list models, and set the defaults."""

from __future__ import annotations

import tomli_w

from xmodal_cli import paths, starter
from xmodal_cli.errors import UnknownName
from xmodal_cli.file_lock import write_lock
from xmodal_cli.inference.defaults import SECTION, TAGGER, default_models, read_settings
from xmodal_cli.inference.model_reports import ListedModel, list_model
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


def list_models() -> list[ListedModel]:
    """A summary of every model; an unreadable model has an ``error``. Raises BadData."""
    defaults = default_models().values()
    return [list_model(name, name in defaults) for name in model_names()]

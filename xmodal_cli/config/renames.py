"""Settings and components that have been renamed, and the upgrade of configurations with the old names.

Everything that is read from a file is upgraded: presets and TOML files, a run's ``config.toml``, the header of a
model file. Old names on the command line are errors whose hint gives the new name.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from xmodal_cli.catalog import canonical

# old path of a setting or of a component's argument -> its new name, in the same section
RENAMED: dict[str, str] = {
    "optimizer.image_tower": "image_tower_lr_scale",
    "optimizer.text_tower": "text_tower_lr_scale",
    "training.keep_start": "eval_initial",
    "training.whole_images": "group_captions_by_image",
    "captioning.tags": "tag_prob",
    "captioning.one_caption": "one_caption_per_image",
    "decoding.no_repeat": "no_repeat_ngram_size",
    "decoding.groups": "num_beam_groups",
    "decoding.diversity": "diversity_penalty",
    "loss.args.count_end": "count_eos",
    "model.image_encoder.args.drop_cells": "cell_dropout",
    "model.text_encoder.args.drop_words": "word_dropout",
}

# path of a component's name, or of an argument that selects a variant -> old name -> new name
RENAMED_COMPONENTS: dict[str, dict[str, str]] = {
    "model.name": {"quick-transformer": "standardized-transformer"},
    "model.args.attention": {"hard": "gumbel"},
}

# path of a component -> what the hint adds to the new name
NOTES: dict[str, str] = {"model.args.attention": ", and the hard attention of the paper is 'stochastic'"}


def upgrade(tables: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``tables`` with the old names of settings and components replaced by the new ones.

    A setting that has both keeps the value of the new name. The architecture of a model file is upgraded as
    ``upgrade({"model": architecture})["model"]``.
    """
    return _replace(tables, RENAMED, RENAMED_COMPONENTS)


def first_names(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``upgrade``: every name as it was in the first version.

    For digests of configurations, which must stay the same when names change.
    """
    settings = {f"{path.rpartition('.')[0]}.{new}": path.rpartition(".")[2] for path, new in RENAMED.items()}
    components = {path: {new: old for old, new in names.items()} for path, names in RENAMED_COMPONENTS.items()}
    return _replace(tables, settings, components)


def new_name(path: str) -> str | None:
    """The new path of a renamed setting, None for every other path."""
    return f"{path.rpartition('.')[0]}.{RENAMED[path]}" if path in RENAMED else None


def new_component_name(path: str, name: str) -> str | None:
    """The new name of a renamed component, None for every other name."""
    return RENAMED_COMPONENTS.get(path, {}).get(canonical(name))


def _replace(
    tables: Mapping[str, Any], settings: Mapping[str, str], components: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    replaced = copy.deepcopy(dict(tables))
    for path, new in settings.items():
        section, _, old = path.rpartition(".")
        table = _table(replaced, section)
        if table is not None and old in table:
            replaced_table = {new if key == old else key: value for key, value in table.items() if key != new}
            if new in table:
                replaced_table[new] = table[new]
            table.clear()
            table.update(replaced_table)
    for path, names in components.items():
        section, _, key = path.rpartition(".")
        table = _table(replaced, section)
        if table is not None and isinstance(table.get(key), str):
            table[key] = names.get(canonical(table[key]), table[key])
    return replaced


def _table(tables: dict[str, Any], section: str) -> dict[str, Any] | None:
    """The table of a section such as ``model.image_encoder.args``, None where there is none."""
    found: Any = tables
    for key in section.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None

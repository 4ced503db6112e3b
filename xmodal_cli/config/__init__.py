"""Settings of a training run: frozen dataclasses, presets as TOML, ``--set section.key=value``. Knows no component.

Precedence: the dataclasses' defaults < a preset or TOML file < ``--set`` < explicit flags. Unknown names are errors
that name the nearest right one. Arguments of a component, its ``args``, are checked by its ``build``.
"""

from xmodal_cli.config.loading import data_argument, flatten, from_dict, load_config, to_dict, with_data, with_settings
from xmodal_cli.config.renames import first_names, upgrade
from xmodal_cli.config.sections import MODEL_KINDS, Component, Config, FeaturesConfig, ModelConfig, TrainingConfig
from xmodal_cli.config.toml_text import to_toml

__all__ = [
    "MODEL_KINDS",
    "Component",
    "Config",
    "FeaturesConfig",
    "ModelConfig",
    "TrainingConfig",
    "data_argument",
    "first_names",
    "flatten",
    "from_dict",
    "load_config",
    "to_dict",
    "to_toml",
    "upgrade",
    "with_data",
    "with_settings",
]

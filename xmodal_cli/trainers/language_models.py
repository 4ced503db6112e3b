"""A pretrained language model under a captioner: found by its name, and the settings that follow from its sizes."""

from __future__ import annotations

from dataclasses import replace

from xmodal_cli import catalog
from xmodal_cli.backbones.language_models import build_language_model
from xmodal_cli.config import Config
from xmodal_cli.errors import ConfigError
from xmodal_cli.types import LanguageModel


def language_model(config: Config) -> LanguageModel | None:
    """The one that the settings name, if any. Raises UnknownName, ConfigError, MissingData, BadData, DownloadError."""
    name = config.captioning.language_model
    if not name:
        return None
    able = [other for other in catalog.names("captioner") if _has_language_model(other)]
    if config.kind != "captioner" or catalog.canonical(config.model.name) not in able:
        hint = f"use it with {' or '.join(able)}, or set captioning.language_model to nothing"
        raise ConfigError(f"{config.model.name} has no language model to be pretrained", hint)
    return build_language_model(name)


def _has_language_model(captioner: str) -> bool:
    return getattr(catalog.load("captioner", captioner), "LANGUAGE_MODEL", False)


def adopt_language_model_sizes(config: Config, language: LanguageModel | None) -> Config:
    """The settings with the width and depth of ``language``, which the captioner takes over."""
    if language is None:
        return config
    args = {**config.model.args, "num_layers": language.sizes["num_layers"]}
    return replace(config, model=replace(config.model, embed_dim=language.sizes["embed_dim"], args=args))

"""Pretrained language models for captioners: one file per family, found by ``language_models.build_language_model``.

A family module has no heavy imports and defines

- ``known() -> list[str]``: the names it accepts; parts in capitals are placeholders;
- ``supports(name) -> bool``;
- ``build(name) -> types.LanguageModel``. Raises MissingData, BadData, DownloadError.
"""

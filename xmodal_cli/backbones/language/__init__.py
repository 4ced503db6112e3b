"""Pretrained language models that captioners build on: one file = one family, found by
``language_models.build_language_model``.

A family module imports nothing heavy and has

- ``known() -> list[str]``: the names it answers to, with capitals for what the user fills in;
- ``supports(name) -> bool``;
- ``build(name) -> types.LanguageModel``. Raises MissingData, BadData, DownloadError.
"""

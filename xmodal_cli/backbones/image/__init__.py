"""Pretrained networks: one file = one family, found by ``image_backbones.build_backbone``.

A family module imports nothing heavy and has

- ``known() -> list[str]``: the names it answers to, with capitals for what the user fills in;
- ``supports(name) -> bool``;
- ``KINDS``, where its kinds of features are other than ``global`` and ``grid``;
- ``build(name, kind, crops, weights) -> types.ImageBackbone``: ``weights`` is the local file of
  ``NAME@FILE``, or None for the published weights. Raises MissingData, BadData, DownloadError,
  ConfigError for a kind the family does not have.
"""

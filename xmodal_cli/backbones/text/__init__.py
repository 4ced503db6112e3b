"""Pretrained sentence encoders: one file per family, found by ``text_backbones.build_text_backbone``.

A family module has no heavy imports and defines

- ``known() -> list[str]``: the names it accepts; parts in capitals are placeholders;
- ``supports(name) -> bool``;
- ``build(name, tuned_layers) -> types.TextBackbone``: its last ``tuned_layers`` are split off as ``upper``, if not 0.
  Raises MissingData, BadData, DownloadError, and ConfigError for an invalid number of layers.
"""

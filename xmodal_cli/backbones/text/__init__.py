"""Pretrained sentence encoders: one file = one family, found by ``text_backbones.build_text_backbone``.

A family module imports nothing heavy and has

- ``known() -> list[str]``: the names it answers to, with capitals for what the user fills in;
- ``supports(name) -> bool``;
- ``build(name, tuned_layers) -> types.TextBackbone``: its last ``tuned_layers`` apart, as ``upper``, if not 0. Raises
  MissingData, BadData, DownloadError, and ConfigError where it has no such layers.
"""

"""Pretrained networks: one file = one family.

A family module has ``claims(name) -> bool`` (no heavy import), ``known() -> list[str]`` and
``build(name, kind) -> ImageBackbone``."""

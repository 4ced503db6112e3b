"""Pretrained networks: one file = one family, found by ``image_backbones.build_backbone``.

A family module imports nothing heavy and has

- ``known() -> list[str]``: the names it answers to, with capitals for what the user fills in;
- ``supports(name) -> bool``;
- ``build(name, kind, crops, weights) -> types.ImageBackbone``: ``crops`` is the number of views of an image whose
  features are averaged, 1, 2 or 10; ``weights`` is the local file of ``NAME@FILE``, or None for the published weights.
  Raises MissingData, BadData, DownloadError;
- ``KINDS``, where its kinds of features are other than ``global`` and ``grid``: others are refused before ``build``;
- ``MAX_TUNED_BLOCKS`` and ``build_upper(kind, num_blocks, weights)``, where its last blocks can be trained apart: kind
  ``trunk-N`` of ``build`` are then the features before the last N blocks;
- ``FROM_FILES = True``, where ``NAME@PATH`` are regions that a detector elsewhere made, in a format of
  ``data/regions``: ``build`` is called for new images only, and raises IncompatibleFeatures.

What families share is one folder up: ``preprocessing`` (images to pixels), ``weights`` (files), ``network`` (a module
as a backbone).
"""

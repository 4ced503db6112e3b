"""Pretrained image networks: one file per family, found by ``image_backbones.build_backbone``.

A family module has no heavy imports and defines

- ``known() -> list[str]``: the names it accepts; parts in capitals are placeholders;
- ``supports(name) -> bool``;
- ``build(name, kind, crops, weights) -> types.ImageBackbone``: ``crops`` is the number of views of an image whose
  features are averaged, 1, 2 or 10; ``weights`` is the local file of ``NAME@FILE``, or None for the published weights.
  Raises MissingData, BadData, DownloadError;
- ``KINDS``, if its kinds of features are not ``global`` and ``grid``; other kinds raise an error before ``build``;
- ``FACTS``, if its features depend on settings that may change with a version: the entries of
  ``FeatureMeta.preprocessing`` that are known without the weights. Cached features with other values are extracted
  again;
- ``MAX_TUNED_BLOCKS`` and ``build_upper(kind, num_blocks, weights)``, if it splits its network itself, to fine-tune the
  last blocks: the kind ``trunk-N`` is then the feature map before the last N blocks. Networks of other families are
  split by ``splitting``;
- ``FROM_FILES = True``, if ``NAME@PATH`` are regions of an external detector in a format of ``data/regions``:
  ``build`` is called for new images only, and raises IncompatibleFeatures.

Shared modules are in the parent package: ``preprocessing`` (images to pixels), ``weights`` (files), ``network`` (a
module as a backbone), ``splitting`` (a trunk and its last blocks).
"""

"""Captioners: one file per architecture; ``build(...)`` returns a ``types.Captioner`` that is an ``nn.Module``.

Besides the user's arguments, ``build`` receives those of the following that it accepts:

- ``image_dim``: the last axis of image features;
- ``image_kind``: ``global``, features (images, image_dim); ``grid``, (images, cells, image_dim); ``regions``, (images,
  regions, image_dim) whose last columns are ``regions.REGION_COLUMNS`` and whose padding has an area of 0. ``build``
  raises ValueError for an unsupported kind; ``models.sequences.scaled_cells`` converts all three to one layout;
- ``vocab_size`` and ``embed_dim``.

Features are often float16, as they are stored: cast them before the first layer.

``step`` returns log-probabilities in float32 whatever dtype it computes in. A state is immutable: ``step`` and
``select`` return new states, and the old one can be used again.

A module with ``LANGUAGE_MODEL = True`` can be initialized from a pretrained GPT-2 (``captioning.language_model``): its
captioner has an attribute ``language_model``, a ``models.captioners._gpt2.GPT2`` of width ``embed_dim``, and its
``build`` has an argument ``num_layers``. The pretrained weights are loaded into ``language_model``.
"""

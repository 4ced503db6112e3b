"""Captioners: one file = one architecture; ``build(...)`` gives a ``types.Captioner`` that is an ``nn.Module``.

Passed to ``build`` besides the user's arguments, where it takes them:

- ``image_dim``: the last axis of image features;
- ``image_kind``: ``global``, features (images, image_dim); ``grid``, (images, cells, image_dim); ``regions``, (images,
  regions, image_dim) whose last columns are ``regions.REGION_COLUMNS`` and whose padding has an area of 0. ``build``
  raises ValueError for a kind that it cannot use; ``models.sequences.scaled_cells`` brings all three into one form;
- ``vocab_size`` and ``embed_dim``.

Features are often float16, as they are stored: cast them before they meet weights.

``step`` gives log-probabilities in float32 whatever it computes in. A state is immutable: ``step`` and ``select``
return new ones, and the old one can be used again.

A module with ``LANGUAGE_MODEL = True`` can start from a pretrained GPT-2 (``captioning.language_model``): its captioner
has a ``language_model``, a ``models.captioners._gpt2.GPT2`` of width ``embed_dim``, and its ``build`` a setting
``num_layers``, the number of its layers. The pretrained weights are loaded into it.
"""

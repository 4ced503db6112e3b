"""Captioners: one file = one architecture; ``build(...)`` gives a ``types.Captioner`` that is an ``nn.Module``.

Given besides the user's arguments: ``image_dim``, ``image_kind``, ``vocab_size``, ``embed_dim``.
"""

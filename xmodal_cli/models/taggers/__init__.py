"""Taggers: one file per architecture; ``build(...)`` returns a ``types.Tagger`` that is an ``nn.Module``.

Besides the user's arguments, ``build`` receives ``image_dim``, ``image_kind`` and ``embed_dim``, as captioners do, and
``vocab_size``, the number of tags.
"""

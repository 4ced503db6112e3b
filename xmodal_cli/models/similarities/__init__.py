"""Similarities: one file per similarity; ``build()`` returns a ``types.Similarity``. It has no settings and no weights:
indexes and vector files store only its ``name``, which is the file name with dashes.

``prepare`` maps projections to the vectors that are stored and compared; applied twice, it changes nothing.

A module may have ``arrays() -> models.array_similarity.ArraySimilarity``, the same scores in numpy for ranks and
search; it must then import torch inside functions only. ``GenericArrays(exact)`` builds one from a float64 function.
Without ``arrays`` the torch scores are used in float64: the same results, but slower, and search imports torch.
"""

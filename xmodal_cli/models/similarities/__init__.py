"""Similarities: one file = one similarity; ``build()`` gives a ``types.Similarity``. It has no settings and no weights:
indexes and files of vectors store its name alone. The ``name`` of what it builds is the file's name with dashes.

``prepare`` maps projections to the vectors that are stored and compared, and leaves prepared vectors as they are.

A module may have ``arrays() -> models.array_similarity.ArraySimilarity``, the same scores in numpy for ranks and
search; then it imports torch inside functions only. ``GenericArrays(exact)`` makes all of it from one float64 function.
Without ``arrays`` the torch scores are used in float64: the same results, slower, and search has to import torch.
"""

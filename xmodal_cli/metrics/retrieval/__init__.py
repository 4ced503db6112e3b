"""Retrieval metrics: one file = one metric; ``build(...)`` gives a ``types.RetrievalMetric``, ranks -> float.

All of them are in the table and the JSON of ``xmodal eval`` and in the metrics on val. A module may have

- ``ORDER``: an int, the smallest comes first; metrics without it come last, by name;
- ``SCORES``: name in the JSON -> arguments of ``build``, by default the file's name without arguments;
- ``LABELS``: name in the JSON -> column of the table, by default the same;
- ``DIGITS``: digits after the point in the table, by default 1;
- ``WHOLE = True``: the mean over folds is an int where it is a whole number;
- ``per_query(ranks, ...) -> values``: (queries,) values whose mean is the metric; bootstrapping is then faster.
"""

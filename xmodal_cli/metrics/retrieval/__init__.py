"""Retrieval metrics, one file per metric; ``build(...)`` returns a ``types.RetrievalMetric``, ranks -> float.

All of them are in the table and the JSON of ``xmodal eval`` and in the val metrics. A module may define

- ``ORDER``: an int, the sort key of the columns; metrics without it come last, by name;
- ``SCORES``: name in the JSON -> arguments of ``build``, by default one score named like the file;
- ``LABELS``: name in the JSON -> column of the table, by default the same name;
- ``DIGITS``: number of decimals in the table, by default 1;
- ``WHOLE = True``: a mean over folds without a fractional part is an int;
- ``per_query(ranks, ...) -> values``: (queries,) values whose mean is the metric; bootstrapping is then faster.
"""

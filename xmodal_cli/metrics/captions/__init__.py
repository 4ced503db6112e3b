"""Caption metrics, one file per metric; ``build(...)`` returns a ``types.CaptionMetric``.

``build`` may have the parameters ``training``, the captions of the training set as tuples of words, and ``max_length``,
the maximum length of decoding in words. They are not passed if they are unknown. All scores are in the JSON of
``xmodal eval``. A module may define

- ``ORDER``: an int, the sort key of the columns; metrics without it come last, by name;
- ``LABELS``: score -> column of the table, by default one score and column named like the file. Scores that are not in
  it are in the JSON only. They are null if the metric raises Unavailable;
- ``PERCENT = True``: the table has 100 times the score with one decimal; by default, the score with three decimals;
- ``JSON_ONLY``: scores that are not in ``LABELS`` and null if the metric raises Unavailable;
- ``LOWER_IS_BETTER = True``: ``training.metric`` keeps the model with the lowest score;
- ``COUNTS``: scores that are integers;
- ``FROM_TRAINING``: scores that are null if the captions of the training set are unknown.
"""

"""Caption metrics: one file = one metric; ``build(...)`` gives a ``types.CaptionMetric``.

Passed to ``build``, where it takes it: ``training``, the captions of the training set as tuples of words, or nothing.
All metrics are in the JSON of ``xmodal eval``. A module may have

- ``ORDER``: an int, the smallest comes first; metrics without it come last, by name;
- ``LABELS``: score -> column of the table, by default the file's name for the score of that name. A score that is not
  in it is in the JSON only. Where the metric raises Unavailable, these scores are null;
- ``PERCENT = True``: the table shows 100 times the score with one digit, else the score with three;
- ``COUNTS``: scores that are whole numbers;
- ``FROM_TRAINING``: scores that are null where the captions of the training set are not known.
"""

"""One file = one metric; ``build()`` gives a ``types.RetrievalMetric``."""

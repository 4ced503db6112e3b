"""One file = one caption metric; ``build()`` gives a ``types.CaptionMetric``."""

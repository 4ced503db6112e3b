"""Training objectives: one file = one loss; ``build(...)`` gives a ``types.Loss``."""

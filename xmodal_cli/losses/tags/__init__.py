"""Losses of taggers, one per file; ``build(...)`` returns a ``types.TagLoss``."""

"""Objectives of captioners: one file = one loss; ``build(...)`` gives a ``types.CaptionLoss``."""

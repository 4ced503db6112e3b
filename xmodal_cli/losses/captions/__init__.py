"""Losses of captioners, one per file; ``build(...)`` returns a ``types.CaptionLoss`` or a ``SelfCritical``."""

"""Losses, one per file; ``build(...)`` gives a ``types.Loss``, an ``nn.Module`` if it has parameters."""

"""Training objectives: one file = one loss; ``build(...)`` gives a ``types.Loss``, an ``nn.Module`` if it learns."""

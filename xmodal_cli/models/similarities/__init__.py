"""How a matcher compares: ``build(...)`` gives a ``types.Similarity``."""

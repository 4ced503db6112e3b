"""Language models that captioners build on: one file = one family; ``build(...)``."""

"""Text sides of a matcher.

``build(vocab_size, embed_dim, ...)`` gives a module (tokens, lengths) -> (captions, embed_dim).
"""

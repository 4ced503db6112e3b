"""Text sides of a matcher: one file = one encoder.

``build(vocab_size, text_dim, embed_dim, ...)`` gives a module (tokens, lengths) -> (captions, embed_dim). ``text_dim``
is the width of a pretrained sentence encoder's states, which then come in place of tokens, or 0.
"""

"""Text encoders of matchers: one file per encoder.

``build(vocab_size, text_dim, embed_dim, ...)`` returns a module: tokens, lengths -> (captions, embed_dim). If
``text_dim`` is not 0, the input is not token ids but the states of a pretrained sentence encoder of that dimension.
"""

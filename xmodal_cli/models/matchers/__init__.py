"""Matchers: one file per architecture; ``build(image_encoder, text_encoder, similarity, embed_dim, ...)``."""

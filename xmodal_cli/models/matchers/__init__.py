"""Image-text matchers: one file = one architecture; build(image_encoder, text_encoder, similarity, embed_dim, ...)."""

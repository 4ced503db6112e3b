"""Image sides of a matcher.

``build(image_dim, embed_dim, ...)`` gives a module (images, image_dim) -> (images, embed_dim).
"""

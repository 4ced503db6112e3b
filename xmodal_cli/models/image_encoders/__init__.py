"""Image sides of a matcher: one file = one encoder.

``build(image_dim, image_kind, embed_dim, ...)`` gives a module features -> (images, embed_dim). Features are (images,
image_dim), or (images, cells, image_dim) where ``image_kind`` is ``grid`` or ``regions``, not ``global``.
"""

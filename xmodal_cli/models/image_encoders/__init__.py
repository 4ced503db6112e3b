"""Image encoders of matchers: one file per encoder.

``build(image_dim, image_kind, embed_dim, ...)`` returns a module: features -> (images, embed_dim). Features are
(images, image_dim) if ``image_kind`` is ``global``, (images, cells, image_dim) if it is ``grid`` or ``regions``.
"""

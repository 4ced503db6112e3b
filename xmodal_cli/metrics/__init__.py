"""Metrics: of retrieval in ``retrieval``, of captions in ``captions``, one file per metric; and their kernels."""

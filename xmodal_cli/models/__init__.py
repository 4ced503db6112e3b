"""Architectures: one file = one architecture, assembled from parts that are passed in."""

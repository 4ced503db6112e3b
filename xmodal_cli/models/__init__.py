"""Architectures: one file per architecture, assembled from parts that are passed in."""

"""Datasets: formats, the registry of names, downloads, image decoding, precomputed regions, generated ``shapes``."""

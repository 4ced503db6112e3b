"""Decoding of captions: beam search, sampling, ensembles, tags."""

"""Decoding and clean-up of captions."""

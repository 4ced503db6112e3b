"""Ranks, scoring, the index on disk, and queries against it."""

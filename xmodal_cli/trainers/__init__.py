"""Objectives of training, the matcher's and the captioner's, and the preparation of a run."""

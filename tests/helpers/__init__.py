"""Datasets, models and slow reference implementations that tests share, and their fixtures."""

"""Evaluation of embeddings and of captions by the metrics of the papers. Loads no model."""

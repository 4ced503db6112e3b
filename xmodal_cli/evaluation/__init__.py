"""From embeddings or captions to the metrics the papers print. Loads no model."""

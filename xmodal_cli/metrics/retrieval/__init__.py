"""One file = one retrieval metric; build() gives a types.RetrievalMetric."""

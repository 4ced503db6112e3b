"""HTML pages and contact sheets. Computes no metric."""

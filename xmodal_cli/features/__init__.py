"""Feature extraction, and the feature store on disk."""

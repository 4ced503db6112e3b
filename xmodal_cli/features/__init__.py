"""Feature extraction, and the store that keeps features on disk."""

"""The training loop and what it needs: batches, optimiser, checkpoint, log."""

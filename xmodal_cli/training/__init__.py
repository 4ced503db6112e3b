"""The training loop and its parts: batches, optimizer, training step, checkpoint, log."""

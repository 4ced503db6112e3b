"""What a model file holds: weights, header, tokenizer."""

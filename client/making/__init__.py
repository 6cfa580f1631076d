"""Converts rows to what the training loop receives: samples, batches, tensors and token formats."""

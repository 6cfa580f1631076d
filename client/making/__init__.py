"""From rows to what the training loop gets: samples, batches, tensors and token formats."""

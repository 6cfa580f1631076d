"""Readers of samples, from a local home or from servers."""

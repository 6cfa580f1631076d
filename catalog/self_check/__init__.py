"""Compares a sample of the stored rows with what other code reads from the source."""

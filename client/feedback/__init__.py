"""Feedback from training to a dataset: losses, bans and changes of the mix."""

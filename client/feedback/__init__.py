"""What training tells a dataset: losses, bans, changes of the mix, and figures of what was read."""

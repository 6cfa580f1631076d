"""Columns of samples: Arrow helpers, gathered columns, and the IPC messages that they become."""

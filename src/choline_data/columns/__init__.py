"""Columns of samples: Arrow helpers, gathered columns, and their encoding as IPC messages."""

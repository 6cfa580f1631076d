"""Columns of samples: helpers for Arrow arrays, code that picks rows from many blocks, and encoding as Arrow IPC
messages.
"""

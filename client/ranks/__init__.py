"""Finds which rank and worker this process is, and which share of the stream it reads."""

"""Reads what the files beside media say about each medium: transcripts, captions, objects, classes."""

"""Reads the samples at given positions of a stream, renders them as text, and encodes them for the wire."""

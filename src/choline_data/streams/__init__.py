"""Turns positions into rows: reads the samples, renders them as text and encodes them for the wire."""

"""Filters: the language of `where`, and the rows that a filter keeps."""

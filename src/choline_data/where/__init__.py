"""Filters: the `where` language, and the selection of the rows that a filter keeps."""
